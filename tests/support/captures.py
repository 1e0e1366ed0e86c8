"""Builds capture files byte by byte, in both byte orders: what the readers' tests and the fuzzer start from.

Independent of the writer under test.
"""

import struct
from collections.abc import Callable, Iterable

from scapy.all import IP, UDP, Raw

SECTION_HEADER, INTERFACE, OBSOLETE, SIMPLE, NAMES, STATISTICS, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6
MICRO, NANO = 0xA1B2C3D4, 0xA1B23C4D
PAYLOAD = b"\x80hello"
PACKET = bytes(IP(src="203.0.113.9", dst="192.0.2.1") / UDP(sport=5000, dport=3478) / Raw(PAYLOAD))


def pcap(*records: bytes, order: str = "<", magic: int = MICRO, link: int = 101) -> bytes:
    """A file: header and records."""
    return struct.pack(order + "IHHiIII", magic, 2, 4, 0, 0, 65535, link) + b"".join(records)


def record(
    data: bytes = PACKET,
    *,
    order: str = "<",
    seconds: int = 1,
    fraction: int = 0,
    captured: int | None = None,
    original: int | None = None,
) -> bytes:
    """A frame of a pcap; `captured` and `original` may lie."""
    lengths = (
        len(data) if captured is None else captured,
        len(data) if original is None else original,
    )
    return struct.pack(order + "IIII", seconds, fraction, *lengths) + data


def block(kind: int, body: bytes, *, order: str = "<", total: int | None = None) -> bytes:
    """A block of a pcapng; `total` may lie."""
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body) if total is None else total)
    return struct.pack(order + "I", kind) + length + body + length


def option(code: int, value: bytes, *, order: str = "<", length: int | None = None) -> bytes:
    """An option of a block; `length` may lie."""
    size = len(value) if length is None else length
    return struct.pack(order + "HH", code, size) + value + bytes(-len(value) % 4)


def section(order: str = "<", *, major: int = 1, minor: int = 0) -> bytes:
    """A section header, its length not told."""
    return block(SECTION_HEADER, struct.pack(order + "IHHq", 0x1A2B3C4D, major, minor, -1), order=order)


def interface(link: int = 101, *, snaplen: int = 0, options: bytes = b"", order: str = "<") -> bytes:
    """An interface description."""
    return block(INTERFACE, struct.pack(order + "HHI", link, 0, snaplen) + options, order=order)


def enhanced(
    data: bytes = PACKET,
    *,
    stamp: int = 0,
    number: int = 0,
    captured: int | None = None,
    original: int | None = None,
    options: bytes = b"",
    order: str = "<",
) -> bytes:
    """An enhanced packet block; `captured` and `original` may lie."""
    lengths = (
        len(data) if captured is None else captured,
        len(data) if original is None else original,
    )
    head = struct.pack(order + "IIIII", number, stamp >> 32, stamp & 0xFFFFFFFF, *lengths)
    return block(ENHANCED, head + data + bytes(-len(data) % 4) + options, order=order)


def pieces(chunks: Iterable[bytes]) -> Callable[[int], bytes]:
    """A `read` that gives these chunks, never joined: a file of any size, or a pipe with short reads."""
    source = iter(chunks)
    held = memoryview(b"")

    def read(count: int) -> bytes:
        nonlocal held
        while not held:
            chunk = next(source, None)
            if chunk is None:
                return b""
            held = memoryview(chunk)
        taken, held = held[:count], held[count:]
        return bytes(taken)

    return read
