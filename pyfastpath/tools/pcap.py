"""A small reader of pcap files: the UDP datagrams in them, in order.

Ethernet (with VLAN tags), Linux cooked, raw IP and loopback captures; IPv4 and IPv6 without extension
headers. Frames that are no whole UDP datagram (other protocols, fragments, cut by a snap length) are skipped
and counted. A file that is damaged gives WireError with the byte where.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from pyfastpath.errors import WireError
from pyfastpath.types import Endpoint, canonical

_MAGIC: Final = {  # first four bytes: (byte order, units of the second time field in a second)
    b"\xd4\xc3\xb2\xa1": ("<", 10**6),
    b"\xa1\xb2\xc3\xd4": (">", 10**6),
    b"\x4d\x3c\xb2\xa1": ("<", 10**9),
    b"\xa1\xb2\x3c\x4d": (">", 10**9),
}
_PCAPNG: Final = b"\x0a\x0d\x0d\x0a"
_FILE_HEADER_BYTES: Final = 24
_RECORD_HEADER_BYTES: Final = 16
_FRAME_BYTES_MAX: Final = 1 << 20  # no link carries more; a larger length is damage

_ETHERNET, _COOKED, _COOKED2 = 1, 113, 276  # LINKTYPE_* of tcpdump.org/linktypes.html
_RAW: Final = frozenset({12, 14, 101, 228, 229})
_LOOPBACK: Final = frozenset({0, 108})
_IPV4, _IPV6, _VLAN = 0x0800, 0x86DD, frozenset({0x8100, 0x88A8})
_UDP: Final = 17


@dataclass(frozen=True, slots=True)
class Datagram:
    """One UDP datagram: when (ns since the first frame), from where, to where, what."""

    time_ns: int
    source: Endpoint
    target: Endpoint
    payload: bytes


@dataclass(slots=True)
class Capture:
    """What a file holds. `skipped` counts frames that are no whole UDP datagram."""

    datagrams: list[Datagram] = field(default_factory=list)
    skipped: int = 0


def read_pcap(file: Path) -> Capture:
    """Read a whole file. WireError: not a pcap, or damaged; OSError: cannot be read."""
    data = file.read_bytes()
    if data.startswith(_PCAPNG):
        raise WireError(f"{file} is a pcapng file", f"Convert it: editcap -F pcap {file} {file.stem}.pcap")
    if data[:4] not in _MAGIC or len(data) < _FILE_HEADER_BYTES:
        raise WireError(f"{file} is no pcap file", "Record one: tcpdump -w FILE.pcap udp")
    order, units = _MAGIC[data[:4]]
    link = struct.unpack_from(order + "I", data, 20)[0] & 0x0FFFFFFF
    capture = Capture()
    first_ns: int | None = None
    for time_ns, frame in _frames(data, order, units, file):
        first_ns = time_ns if first_ns is None else first_ns
        found = _datagram(_packet(frame, link, file))
        if found is None:
            capture.skipped += 1
        else:
            source, target, payload = found
            capture.datagrams.append(Datagram(time_ns - first_ns, source, target, payload))
    return capture


def _frames(data: bytes, order: str, units: int, file: Path) -> Iterator[tuple[int, bytes]]:
    offset = _FILE_HEADER_BYTES
    while offset < len(data):
        if offset + _RECORD_HEADER_BYTES > len(data):
            raise WireError(f"{file} ends inside the record header at byte {offset}", "It was cut off.")
        seconds, fraction, captured, _ = struct.unpack_from(order + "IIII", data, offset)
        end = offset + _RECORD_HEADER_BYTES + captured
        if captured > _FRAME_BYTES_MAX or end > len(data):
            raise WireError(f"{file} ends inside the frame at byte {offset}", "It was cut off or damaged.")
        yield seconds * 10**9 + fraction * (10**9 // units), data[offset + _RECORD_HEADER_BYTES : end]
        offset = end


def _packet(frame: bytes, link: int, file: Path) -> bytes:
    """The IP packet of a frame; empty when it carries none."""
    if link in _RAW:
        return frame
    if link in _LOOPBACK:
        return frame[4:]
    if link == _COOKED:
        return frame[16:] if int.from_bytes(frame[14:16], "big") in {_IPV4, _IPV6} else b""
    if link == _COOKED2:
        return frame[20:] if int.from_bytes(frame[:2], "big") in {_IPV4, _IPV6} else b""
    if link != _ETHERNET:
        raise WireError(
            f"{file} was recorded on a link of type {link}", "Ethernet, cooked, raw and loopback work."
        )
    start = 12
    while int.from_bytes(frame[start : start + 2], "big") in _VLAN:
        start += 4
    return frame[start + 2 :] if int.from_bytes(frame[start : start + 2], "big") in {_IPV4, _IPV6} else b""


def _datagram(packet: bytes) -> tuple[Endpoint, Endpoint, bytes] | None:
    """Addresses and payload of a whole UDP datagram; None for anything else."""
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        header_bytes = (packet[0] & 15) * 4
        fragment = int.from_bytes(packet[6:8], "big") & 0x3FFF
        if packet[9] != _UDP or fragment or header_bytes < 20:
            return None
        return _udp(packet[header_bytes:], IPv4Address(packet[12:16]), IPv4Address(packet[16:20]))
    if len(packet) >= 40 and packet[0] >> 4 == 6 and packet[6] == _UDP:
        return _udp(packet[40:], IPv6Address(packet[8:24]), IPv6Address(packet[24:40]))
    return None


def _udp(
    segment: bytes, source: IPv4Address | IPv6Address, target: IPv4Address | IPv6Address
) -> tuple[Endpoint, Endpoint, bytes] | None:
    if len(segment) < 8:
        return None
    source_port, target_port, length = struct.unpack_from("!HHH", segment)
    if not 8 <= length <= len(segment):
        return None
    return (
        Endpoint(canonical(source), source_port),
        Endpoint(canonical(target), target_port),
        segment[8:length],
    )
