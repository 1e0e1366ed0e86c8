"""Captures made by hand: a pcapng of raw IPv4 with the datagrams a test wants in it."""

from pathlib import Path

from pyfastpath.types import Endpoint
from pyfastpath.wire.frames import LINK_RAW
from pyfastpath.wire.pcapng import PcapngWriter


def packet(source: Endpoint, target: Endpoint, payload: bytes) -> bytes:
    """Raw IPv4 with UDP."""
    udp = b"".join(number.to_bytes(2, "big") for number in (source.port, target.port, 8 + len(payload), 0))
    head = bytes([0x45, 0]) + (28 + len(payload)).to_bytes(2, "big") + bytes([0, 0, 0, 0, 64, 17, 0, 0])
    return head + source.address.packed + target.address.packed + udp + payload


def write(file: Path, *datagrams: tuple[Endpoint, Endpoint, bytes], keep: int = 65_535) -> Path:
    """A capture with a datagram each millisecond, of which `keep` bytes from the IP header on are kept."""
    writer = PcapngWriter()
    data = writer.section_header() + writer.interface(LINK_RAW)
    for number, (source, target, payload) in enumerate(datagrams):
        frame = packet(source, target, payload)
        data += writer.packet(10**18 + number * 10**6, frame[:keep], len(frame))
    file.write_bytes(data)
    return file
