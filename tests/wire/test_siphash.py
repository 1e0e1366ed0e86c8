"""SipHash in plain Python gives the reference's outputs."""

import pytest

from pyfastpath.wire.siphash import siphash, siphash13, siphash128
from tests.vectors.siphash import KEY, SIP13, SIP64, SIP128


@pytest.mark.parametrize("length", SIP64)
def test_64_bits(length: int) -> None:
    assert siphash(KEY, bytes(range(length))).to_bytes(8, "little").hex() == SIP64[length]


@pytest.mark.parametrize("length", SIP13)
def test_fewer_rounds(length: int) -> None:
    assert siphash13(KEY, bytes(range(length))).to_bytes(8, "little").hex() == SIP13[length]


@pytest.mark.parametrize("length", SIP128)
def test_128_bits(length: int) -> None:
    assert siphash128(KEY, bytes(range(length))).hex() == SIP128[length]


@pytest.mark.parametrize("length", [0, 15, 17])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        siphash(bytes(length), b"")
