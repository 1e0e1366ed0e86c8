"""The data plane reads and builds FT1 as the twin does: the vector, all near to it, random datagrams."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastpath._testing import leaves
from pyfastpath.errors import WireError
from pyfastpath.types import Endpoint
from pyfastpath.wire import trunk as twin
from tests.vectors import trunk as vectors
from tests.vectors.mutations import neighbourhood

Client = tuple[bytes, int, int, int]
TAGGED = twin.build_datagram(
    twin.Header(2, 3, tagged=True, key_id=2),
    [twin.Record(b"\x80media", Endpoint.parse("198.51.100.1:5000"), ingress=7, ecn=1)],
    vectors.KEY,
)


def header_by_twin(datagram: bytes) -> tuple[bool, int, int, int] | None:
    try:
        header = twin.parse_header(datagram)
    except WireError:
        return None
    return header.tagged, header.key_id, header.epoch, header.sequence


def records_by_twin(datagram: bytes) -> list[tuple[int, Client, bytes] | None]:
    return [as_leaf(each) if isinstance(each, twin.Record) else None for each in twin.parse_records(datagram)]


def as_leaf(record: twin.Record) -> tuple[int, Client, bytes]:
    flags = record.ecn | (4 if record.client.family == 6 else 0) | 8 * record.confirmed | 16 * record.control
    client = (record.client.address16, record.client.port, record.ingress, record.client.family)
    return flags, client, record.payload


def seen_by_twin(datagram: bytes) -> object:
    header = header_by_twin(datagram)
    if header is None:
        return None
    holds = twin.tag_holds(vectors.KEY, datagram)
    return header, holds, records_by_twin(datagram[:-16] if header[0] else datagram)


def seen_by_leaf(datagram: bytes) -> object:
    header = leaves.trunk_header_of(datagram)
    if header is None:
        return None
    holds = leaves.trunk_tag_holds(vectors.KEY, datagram)
    return header, holds, leaves.trunk_records(datagram[:-16] if header[0] else datagram)


def test_the_vector() -> None:
    assert leaves.trunk_header_of(vectors.UNTAGGED) == (False, 0, 1, 7)
    assert leaves.trunk_records(vectors.UNTAGGED) == [
        (2, (bytes([203, 0, 113, 9]) + bytes(12), 54321, 1, 4), b"\x80\x00hello"),
        (12, (bytes.fromhex("20010db8000000000000000000000005"), 443, 0, 6), b"\x16\xfe\xfd"),
    ]


@pytest.mark.parametrize("vector", [vectors.UNTAGGED, TAGGED], ids=["untagged", "tagged"])
def test_every_truncation_and_every_changed_byte(vector: bytes) -> None:
    for datagram in neighbourhood(vector):
        assert seen_by_leaf(datagram) == seen_by_twin(datagram), datagram.hex()


def test_no_changed_byte_passes_the_tag() -> None:
    passed = [each for each in neighbourhood(TAGGED) if leaves.trunk_tag_holds(vectors.KEY, each)]
    assert passed == [TAGGED]


@pytest.mark.parametrize("name", vectors.BAD_HEADERS)
def test_bad_headers(name: str) -> None:
    assert leaves.trunk_header_of(vectors.BAD_HEADERS[name]) is None


@pytest.mark.parametrize("name", vectors.RECORDS)
def test_good_and_bad_records(name: str) -> None:
    datagram, good = vectors.RECORDS[name]
    assert [each is not None for each in leaves.trunk_records(datagram)] == good
    assert leaves.trunk_records(datagram) == records_by_twin(datagram)


@given(st.binary(max_size=200))
def test_random_bytes_behind_a_header(body: bytes) -> None:
    assert seen_by_leaf(vectors.HEADER + body) == seen_by_twin(vectors.HEADER + body)


PREFIXES = st.sampled_from(["", "00000000000000000000ffff", "0064ff9b0000000000000000", "fe80", "fec0"])
IPV6 = st.builds(
    lambda start, rest: (bytes.fromhex(start) + rest)[:16], PREFIXES, st.binary(min_size=16, max_size=16)
)
IPV4 = st.binary(min_size=4, max_size=4)
CLIENTS = st.one_of(
    st.builds(
        lambda a, p, i: (a.ljust(16, b"\0"), p, i, 4), IPV4, st.integers(0, 65535), st.integers(0, 255)
    ),
    st.builds(lambda a, p, i: (a, p, i, 6), IPV6, st.integers(0, 65535), st.integers(0, 255)),
)


@given(st.lists(st.tuples(CLIENTS, st.integers(0, 31), st.binary(min_size=1, max_size=50)), max_size=6))
def test_what_one_builds_the_other_reads(items: list[tuple[Client, int, bytes]]) -> None:
    built = b"".join(leaves.build_trunk_record(flags, client, payload) for client, flags, payload in items)
    datagram = leaves.build_trunk_header(False, 0, 9, 10) + built
    assert leaves.trunk_records(datagram) == records_by_twin(datagram)
    good = [each for each in twin.parse_records(datagram) if isinstance(each, twin.Record)]
    again = leaves.trunk_records(twin.build_datagram(twin.Header(9, 10), good))
    assert again == [each for each in leaves.trunk_records(datagram) if each is not None]


@given(st.booleans(), st.integers(0, 3), st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_headers(tagged: bool, key_id: int, epoch: int, sequence: int) -> None:
    built = leaves.build_trunk_header(tagged, key_id, epoch, sequence)
    assert built == twin.build_header(twin.Header(epoch, sequence, tagged, key_id))


@given(st.binary(min_size=16, max_size=16), st.binary(max_size=300), st.integers(0, 315), st.integers(1, 255))
def test_tags(key: bytes, before: bytes, at: int, change: int) -> None:
    tag = leaves.trunk_tag(key, before)
    assert tag == twin.tag(key, before)
    whole = bytearray(before + tag)
    assert leaves.trunk_tag_holds(key, bytes(whole))
    whole[at % len(whole)] ^= change
    assert not leaves.trunk_tag_holds(key, bytes(whole))
