"""HMAC-SHA1 as the generator signs with, against Python's."""

import hmac

import pytest
from fastpath._testing.load import hmac_sha1
from hypothesis import given
from hypothesis import strategies as st


@given(st.binary(max_size=64), st.binary(max_size=400))
def test_it_is_hmac_sha1(secret, message):
    assert hmac_sha1(secret, message) == hmac.digest(secret, message, "sha1")


@pytest.mark.parametrize("length", [0, 55, 56, 63, 64, 119, 120, 128])
def test_padding_at_its_edges(length):
    assert hmac_sha1(b"password", b"m" * length) == hmac.digest(b"password", b"m" * length, "sha1")
