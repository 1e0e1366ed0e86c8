"""DTLS records: what is cut off, what is packed together."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.transceiver.records import APPLICATION_DATA, HANDSHAKE, HEADER_BYTES, Record, cut, pack


def record(kind: int = HANDSHAKE, fragment: bytes = b"fragment", *, epoch: int = 0) -> bytes:
    header = bytes([kind, 0xFE, 0xFD]) + epoch.to_bytes(2, "big") + bytes(6)
    return header + len(fragment).to_bytes(2, "big") + fragment


def test_the_records_of_a_datagram() -> None:
    first, second = record(), record(APPLICATION_DATA, b"", epoch=1)
    assert list(cut(first + second)) == [
        Record(HANDSHAKE, 0, first),
        Record(APPLICATION_DATA, 1, second),
    ]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        record()[:12],
        record()[:-1],
        record(19),
        record(24),  # heartbeat
        record(255),
        record().replace(b"\xfe\xfd", b"\x03\x03"),  # TLS
        record().replace(b"\xfe\xfd", b"\xfe\xfc"),  # DTLS 1.3 never says so on the outside
        b"\x00\x01" + bytes(30),
    ],
    ids=["empty", "short", "truncated", "19", "24", "255", "tls", "1.3", "stun"],
)
def test_what_is_no_whole_record_is_cut_off(bad: bytes) -> None:
    assert list(cut(bad)) == []
    assert [found.data for found in cut(record() + bad + record())][:1] == [record()]
    assert len(list(cut(record() + bad))) == 1


def test_a_record_of_version_1_0_is_one() -> None:
    """A first ClientHello says so."""
    assert len(list(cut(record().replace(b"\xfe\xfd", b"\xfe\xff")))) == 1


def test_which_message_a_record_carries() -> None:
    hello = b"\1" + b"\0\1\0" + b"\0\7" + b"\0\0\x20" + b"\0\0\x40" + bytes(64)
    [found] = cut(record(fragment=hello))
    assert found.message == (1, 7, 0x20)
    [encrypted] = cut(record(fragment=hello, epoch=1))
    assert encrypted.message is None
    [data] = cut(record(APPLICATION_DATA, hello))
    assert data.message is None
    [short] = cut(record(fragment=hello[:11]))
    assert short.message is None


def test_how_long_the_messages_are_that_a_record_has_parts_of() -> None:
    part = b"\x0b" + b"\0\1\0" + b"\0\7" + b"\0\0\x20" + b"\0\0\x04" + bytes(4)
    longer = b"\x0b" + b"\1\0\0" + b"\0\7" + bytes(6)
    for fragment, longest in (
        (part, 0x100),
        (part + longer, 0x10000),
        (longer + part, 0x10000),
        (part[:11], 0),
    ):
        [found] = cut(record(fragment=fragment))
        assert found.longest_message_bytes == longest
    [encrypted] = cut(record(fragment=longer, epoch=1))
    assert encrypted.longest_message_bytes == 0
    [alert] = cut(record(21, longer))
    assert alert.longest_message_bytes == 0


@given(st.binary(max_size=200))
def test_cutting_anything_gives_a_prefix(datagram: bytes) -> None:
    assert datagram.startswith(b"".join(found.data for found in cut(datagram)))


@given(st.lists(st.integers(0, 400), max_size=20))
def test_packing_loses_nothing_and_keeps_the_mtu(sizes: list[int]) -> None:
    stream = [record(fragment=bytes(size)) for size in sizes]
    datagrams = pack(b"".join(stream), 300)
    assert b"".join(datagrams) == b"".join(stream)
    for datagram in datagrams:
        assert len(datagram) <= 300 or len(list(cut(datagram))) == 1
    for left, right in pairwise(datagrams):
        assert len(left) + len(next(cut(right)).data) > 300


def test_the_header_is_13_bytes() -> None:
    assert len(record(fragment=b"")) == HEADER_BYTES
