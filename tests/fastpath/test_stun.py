"""The data plane reads STUN as the twin does: vectors, all that is near to them, random messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._testing import leaves
from pyfastpath.errors import WireError
from pyfastpath.wire import stun as twin
from tests.vectors import stun as vectors
from tests.vectors.mutations import neighbourhood

Seen = tuple[int, bytes, bytes | None, bool, bool] | None


def seen_by_twin(datagram: bytes) -> Seen:
    try:
        message = twin.parse_message(datagram)
    except WireError:
        return None
    holds = twin_fingerprint_holds(datagram)
    return message.type, message.transaction, message.ufrag, message.has_fingerprint, holds


def twin_fingerprint_holds(datagram: bytes) -> bool:
    try:
        return twin.fingerprint_holds(datagram)
    except WireError:
        return False


def seen_by_leaf(datagram: bytes) -> Seen:
    parsed = leaves.stun_parse(datagram)
    return None if parsed is None else (*parsed, leaves.stun_fingerprint_holds(datagram))


def test_rfc5769() -> None:
    assert leaves.stun_parse(vectors.REQUEST) == (0x0001, vectors.TRANSACTION, b"evtj", True)
    assert leaves.stun_parse(vectors.RESPONSE_IPV4) == (0x0101, vectors.TRANSACTION, None, True)
    assert leaves.stun_parse(vectors.RESPONSE_IPV6) == (0x0101, vectors.TRANSACTION, None, True)
    assert leaves.stun_parse(vectors.REQUEST_LONG_TERM) is None  # no ICE username
    for sample in vectors.SAMPLES.values():
        if leaves.stun_parse(sample):
            assert leaves.stun_fingerprint_holds(sample)


@pytest.mark.parametrize("name", vectors.GOOD)
def test_good(name: str) -> None:
    assert leaves.stun_parse(vectors.GOOD[name]) is not None
    assert seen_by_leaf(vectors.GOOD[name]) == seen_by_twin(vectors.GOOD[name])


@pytest.mark.parametrize("name", vectors.BAD)
def test_each_defect_is_refused(name: str) -> None:
    assert leaves.stun_parse(vectors.BAD[name]) is None


@pytest.mark.parametrize("name", vectors.SAMPLES)
def test_every_truncation_and_every_changed_byte(name: str) -> None:
    verdicts = set()
    for datagram in neighbourhood(vectors.SAMPLES[name]):
        seen = seen_by_leaf(datagram)
        assert seen == seen_by_twin(datagram), datagram.hex()
        verdicts.add(seen is None)
    assert True in verdicts


@pytest.mark.parametrize("name", [*vectors.GOOD, *vectors.BAD])
def test_every_truncation_of_the_odd_ones(name: str) -> None:
    """The header's length is put right, so that the attributes are what is judged."""
    vector = (vectors.GOOD | vectors.BAD)[name]
    for length in range(20, len(vector), 4):
        datagram = vector[:2] + (length - 20).to_bytes(2, "big") + vector[4:length]
        assert seen_by_leaf(datagram) == seen_by_twin(datagram), datagram.hex()


ATTRIBUTE_TYPES = st.sampled_from([0x0006, 0x0006, 0x0008, 0x001C, 0x0024, 0x8028, 0x8029, 0xC070, 0x0000])
VALUES = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"serv:clnt", b"a+/9:x", b"abc:d", b"noco", b"x" * 256 + b":", b"y" * 509, b"z" * 510]),
)
ATTRIBUTES = st.builds(
    lambda kind, value, error: vectors.attribute(kind, value, length=max(0, len(value) + error)),
    ATTRIBUTE_TYPES,
    VALUES,
    st.sampled_from([0] * 12 + [-1, 1, 4, 300]),
)
MESSAGES = st.builds(
    lambda attributes, kind, error: vectors.message(
        *attributes, kind=kind, length=max(0, sum(map(len, attributes)) + error)
    ),
    st.lists(ATTRIBUTES, max_size=40),
    st.sampled_from([0x0001, 0x0001, 0x0101, 0x0111, 0x0011, 0x0003, 0x8001]),
    st.sampled_from([0] * 20 + [4, -4, 1]),
)


@given(MESSAGES)
def test_random_attributes(datagram: bytes) -> None:
    assert seen_by_leaf(datagram) == seen_by_twin(datagram)


@given(st.binary(max_size=200))
def test_random_bytes_behind_a_right_header(body: bytes) -> None:
    datagram = vectors.message(body, length=len(body))
    assert seen_by_leaf(datagram) == seen_by_twin(datagram)


@given(st.lists(ATTRIBUTES, max_size=6), st.binary(min_size=4, max_size=4), st.booleans())
def test_fingerprints(attributes: list[bytes], wrong: bytes, right: bool) -> None:
    before = vectors.message(*attributes, length=sum(map(len, attributes)) + 8)
    expected = (twin.zlib.crc32(before) ^ 0x5354554E).to_bytes(4, "big")
    datagram = before + vectors.attribute(vectors.FINGERPRINT, expected if right else wrong)
    assert seen_by_leaf(datagram) == seen_by_twin(datagram)


@given(st.one_of(st.binary(max_size=300), st.from_regex(rb"\A[A-Za-z0-9+/]{0,260}\Z")))
def test_ufrags(ufrag: bytes) -> None:
    assert leaves.ufrag_is_valid(ufrag) == twin.is_ufrag(ufrag)
