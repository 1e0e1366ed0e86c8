"""The data plane's SipHash: the reference's outputs, and the twin's on everything else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._testing import leaves
from pyfastpath.wire import siphash as twin
from tests.vectors.siphash import KEY, SIP64, SIP128


@pytest.mark.parametrize("length", SIP64)
def test_64_bits(length: int) -> None:
    assert leaves.siphash(KEY, bytes(range(length))).to_bytes(8, "little").hex() == SIP64[length]


@pytest.mark.parametrize("length", SIP128)
def test_128_bits(length: int) -> None:
    assert leaves.siphash128(KEY, bytes(range(length))).hex() == SIP128[length]


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=600))
def test_equals_the_twin(key: bytes, data: bytes) -> None:
    assert leaves.siphash(key, data) == twin.siphash(key, data)
    assert leaves.siphash13(key, data) == twin.siphash13(key, data)
    assert leaves.siphash128(key, data) == twin.siphash128(key, data)
