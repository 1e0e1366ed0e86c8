"""Reads the captures in tests/pcaps: Ethernet + IPv4 + UDP, one call or several on one server port."""

import json
import struct
from dataclasses import dataclass
from pathlib import Path

MAGIC_MICROSECONDS = 0xA1B2C3D4
LINK_ETHERNET = 1
ETHERTYPE_IPV4 = b"\x08\x00"
PROTOCOL_UDP = 17

Address = tuple[str, int]


@dataclass(frozen=True)
class Datagram:
    """One UDP payload. `client` is the client's address in the capture, whichever way it went."""

    time_us: int
    client: Address
    upstream: bool
    payload: bytes


@dataclass(frozen=True)
class Session:
    """The credentials of one captured call, as the .jsonl beside the capture has them."""

    server_ufrag: str
    server_pwd: str
    client_ufrag: str
    client_pwd: str


@dataclass(frozen=True)
class Capture:
    """A whole capture: every datagram in capture order, and its sessions."""

    name: str
    datagrams: tuple[Datagram, ...]
    sessions: tuple[Session, ...]


def read_capture(path: Path, server_port: int) -> Capture:
    """Read `path` (.pcap) and the .jsonl beside it; `server_port` tells which way a datagram went.

    Raises ValueError with the byte offset when the file is not a whole little-endian microsecond pcap.
    """
    datagrams = tuple(_datagrams(path.read_bytes(), path.name, server_port))
    lines = path.with_suffix(".jsonl").read_text().splitlines()
    fields = Session.__dataclass_fields__
    sessions = tuple(Session(**{key: json.loads(line)[key] for key in fields}) for line in lines)
    return Capture(path.stem, datagrams, sessions)


def _datagrams(data: bytes, name: str, server_port: int) -> list[Datagram]:
    magic, _, _, _, _, _, link = struct.unpack_from("<IHHiIII", data)
    if magic != MAGIC_MICROSECONDS or link != LINK_ETHERNET:
        raise ValueError(f"{name}: not a little-endian microsecond pcap of Ethernet frames")
    found, offset = [], 24
    while offset < len(data):
        if offset + 16 > len(data):
            raise ValueError(f"{name}: record header cut off at byte {offset}")
        seconds, microseconds, captured, original = struct.unpack_from("<IIII", data, offset)
        frame = data[offset + 16 : offset + 16 + captured]
        if captured != original or len(frame) != captured:
            raise ValueError(f"{name}: frame at byte {offset} was captured in part")
        found.append(_parse_frame(frame, seconds * 1_000_000 + microseconds, server_port))
        offset += 16 + captured
    return found


def _parse_frame(frame: bytes, time_us: int, server_port: int) -> Datagram:
    packet = frame[14:]
    header_bytes = (packet[0] & 15) * 4
    if frame[12:14] != ETHERTYPE_IPV4 or packet[9] != PROTOCOL_UDP:
        raise ValueError("a frame that is not UDP over IPv4")
    source_port, target_port, length, _ = struct.unpack_from("!HHHH", packet, header_bytes)
    payload = packet[header_bytes + 8 : header_bytes + length]
    source, target = (".".join(map(str, packet[at : at + 4])) for at in (12, 16))
    upstream = target_port == server_port
    return Datagram(time_us, (source, source_port) if upstream else (target, target_port), upstream, payload)
