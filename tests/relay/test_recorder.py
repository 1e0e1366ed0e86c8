"""The pcapng of a capture as scapy reads it: addresses, lengths, order, comments, counts, bounds."""

import io

import pytest
from fastpath.counters import DROP_REASONS
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6

from pyfastpath.relay.recorder import FLOWS_NAMED_MAX, Note, Recorder
from pyfastpath.types import Endpoint
from pyfastpath.wire.frames import LINK_RAW, Datagram, dissect
from pyfastpath.wire.pcap import read_frames
from tests.support.rig import address16

UP, DOWN = 0, 1
INGRESS = {4: Endpoint.parse("203.0.113.9:3478"), 6: Endpoint.parse("[2001:db8::9]:3478")}
CLIENT = {4: Endpoint.parse("198.51.100.7:50000"), 6: Endpoint.parse("[2001:db8::7]:50000")}
REASON = {name: number for number, (name, _) in enumerate(DROP_REASONS)}
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def recorder(*, label: str = "", bytes_max: int = 1 << 20, family: int = 4) -> Recorder:
    return Recorder(
        ingress_of=lambda index: INGRESS[family],
        backend_of=lambda index: f"b{index}",
        label=label,
        snap_bytes=2048,
        bytes_max=bytes_max,
    )


def note(
    time_ns: int,
    data: bytes = b"\x80data",
    *,
    direction: int = UP,
    length: int | None = None,
    reason: str = "none",
    backend: int | None = 3,
    family: int = 4,
    port: int = 50000,
) -> Note:
    size = len(data) if length is None else length
    client = CLIENT[family]
    return Note(time_ns, direction, REASON[reason], backend, client.address16, port, family, 1, size, data)


def read(pcapng: bytes) -> list[Datagram]:
    frames = list(read_frames(io.BytesIO(pcapng).read))
    assert {frame.link_type for frame in frames} <= {LINK_RAW}
    found = [dissect(frame) for frame in frames]
    assert all(isinstance(item, Datagram) for item in found), found
    return found  # type: ignore[return-value]


@FAMILIES
def test_addresses_ports_times_and_lengths_are_true(family: int) -> None:
    tape = recorder(family=family)
    begun = tape.begin()
    up, down = b"\x80" + bytes(range(99)), b"\x80down"
    tape.add([note(5, up, family=family), note(6, down, direction=DOWN, length=172, family=family)])
    first, second = read(begun + tape.take(10) + tape.end(2))
    assert (first.source, first.target) == (CLIENT[family], INGRESS[family])
    assert (second.source, second.target) == (INGRESS[family], CLIENT[family])
    assert (first.time_ns, second.time_ns) == (5, 6)
    assert (first.payload, first.original_bytes) == (up, 100)
    assert (second.payload, second.original_bytes) == (down, 172)


@FAMILIES
@pytest.mark.parametrize("size", [0, 1, 2, 171, 172, 1472])
def test_checksums_are_those_that_scapy_computes(family: int, size: int) -> None:
    tape = recorder(family=family)
    begun = tape.begin()
    tape.add([note(1, bytes((7 * n) & 0xFF for n in range(size)), family=family)])
    (frame,) = read_frames(io.BytesIO(begun + tape.take(1)).read)
    packet = (IP if family == 4 else IPv6)(frame.data)
    again = packet.copy()
    if family == 4:
        del again[IP].chksum, again[IP].len, again[UDP].len
        assert packet[UDP].chksum == 0  # none, as RFC 768 allows
    else:
        del again[UDP].chksum, again[IPv6].plen, again[UDP].len
    again = type(packet)(bytes(again))
    if family == 4:
        assert (packet[IP].chksum, packet[IP].len) == (again[IP].chksum, again[IP].len)
    else:
        assert (packet[UDP].chksum, packet[IPv6].plen) == (again[UDP].chksum, again[IPv6].plen)
    assert packet[UDP].len == again[UDP].len == 8 + size


def test_a_cut_datagram_over_ipv6_has_a_checksum_though_nobody_can_check_it() -> None:
    tape = recorder(family=6)
    begun = tape.begin()
    tape.add([note(1, b"\x80", length=100, family=6)])
    (frame,) = read_frames(io.BytesIO(begun + tape.take(1)).read)
    assert IPv6(frame.data)[UDP].chksum == 0xFFFF


def test_shards_are_merged_by_time_and_what_is_too_new_waits() -> None:
    tape = recorder()
    file = tape.begin()
    tape.add([note(10), note(30), note(50)])
    tape.add([note(20), note(40)])
    file += tape.take(35)
    assert tape.written == 3
    tape.add([note(35)])
    file += tape.take(100)
    assert [datagram.time_ns for datagram in read(file)] == [10, 20, 30, 35, 40, 50]


def comments(pcapng: bytes) -> list[str]:
    """The comment of each packet, "" for none: option 1 of enhanced packet blocks."""
    found, at = [], 0
    while at < len(pcapng):
        kind, size = (int.from_bytes(pcapng[at + place : at + place + 4], "little") for place in (0, 4))
        if kind == 6:
            captured = int.from_bytes(pcapng[at + 20 : at + 24], "little")
            options = at + 28 + (captured + 3) // 4 * 4
            code, length = (
                int.from_bytes(pcapng[options + place : options + place + 2], "little") for place in (0, 2)
            )
            found.append(pcapng[options + 4 : options + 4 + length].decode() if code == 1 else "")
        at += size
    return found


def test_a_flows_first_packet_says_whose_it_is_and_a_dropped_one_why() -> None:
    tape = recorder(label="session call-17")
    tape.begin()
    tape.add(
        [
            note(1, reason="unknown_flow", backend=None),
            note(2),
            note(3, direction=DOWN),
            note(4, port=50001, reason="provisional"),
            note(5, reason="send_blocked"),
        ]
    )
    assert comments(tape.take(9)) == [
        "dropped: unknown_flow",
        "backend b3, session call-17",
        "",
        "backend b3, session call-17, dropped: provisional",
        "dropped: send_blocked",
    ]


def test_the_comments_memory_is_bounded() -> None:
    tape = recorder(bytes_max=1 << 40)
    tape.begin()
    for port in range(FLOWS_NAMED_MAX):
        tape.add([note(1, port=port)])
    assert set(comments(tape.take(1))) == {"backend b3"}
    other = note(2)._replace(address=address16("198.51.100.8"))
    tape.add([other])
    assert comments(tape.take(2)) == [""]


def test_what_came_to_no_ingress_of_ours_has_no_address_to_show() -> None:
    tape = recorder()
    file = tape.begin()
    tape.add([note(1, reason="unknown_ingress")])
    (datagram,) = read(file + tape.take(1))
    assert str(datagram.target) == "0.0.0.0:0"


def test_the_file_never_grows_beyond_its_bound() -> None:
    for bytes_max in range(4096, 4200):
        tape = recorder(bytes_max=bytes_max)
        file = tape.begin()
        tape.add([note(number, b"\x80" * (number % 90)) for number in range(1, 100)])
        file += tape.take(1000)
        assert tape.is_full
        file += tape.end(99)
        assert bytes_max - 250 < len(file) <= bytes_max
        assert len(read(file)) == tape.written < 99


def test_the_last_block_counts_what_is_not_in_the_file() -> None:
    tape = recorder()
    tape.begin()
    tape.add([note(1), note(2)])
    tape.take(9)
    last = tape.end(7)
    assert last[:4] == (5).to_bytes(4, "little")
    assert (7).to_bytes(8, "little") in last
    assert (7 - 2).to_bytes(8, "little") in last
