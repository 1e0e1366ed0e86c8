"""Builds capture files byte by byte, in both byte orders: what the readers' tests and the fuzzer start from.

Independent of the writer under test.
"""

import struct
from collections.abc import Callable, Iterable

from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.packet import Raw

SECTION_HEADER, INTERFACE, OBSOLETE, SIMPLE, NAMES, STATISTICS, ENHANCED = 0x0A0D0D0A, 1, 2, 3, 4, 5, 6
MICRO, NANO = 0xA1B2C3D4, 0xA1B23C4D
PAYLOAD = b"\x80hello"
PACKET = bytes(IP(src="203.0.113.9", dst="192.0.2.1") / UDP(sport=5000, dport=3478) / Raw(PAYLOAD))
PACKET6 = bytes(
    IPv6(src="2001:db8::5", dst="2001:db8::1")
    / IPv6ExtHdrHopByHop(nh=51)
    / Raw(b"\x11\x04" + bytes(22))  # an authentication header
    / UDP(sport=5000, dport=3478)
    / Raw(PAYLOAD)
)
ON_A_LINK = {  # link type: a frame
    0: b"\x02\0\0\0" + PACKET,
    1: bytes(12) + b"\x88\xa8\0\x07\x81\0\0\x09\x86\xdd" + PACKET6,
    101: PACKET6,
    108: b"\0\0\0\x18" + PACKET6,
    113: bytes(14) + b"\x08\0" + PACKET,
    276: b"\x86\xdd" + bytes(18) + PACKET6,
}


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


def everything(order: str = "<") -> bytes:
    """A pcapng with each kind of block that is read, and some that are not."""
    cut = struct.pack(order + "I", len(PACKET)) + PACKET[:30]
    old = struct.pack(order + "HHIIII", 0, 9, 0, 5_000_000, len(PACKET), 200) + PACKET
    comment = option(1, b"a comment", order=order) + option(0, b"", order=order)
    resolution = option(9, b"\x09", order=order) + option(14, bytes(8), order=order)
    return b"".join(
        [
            section(order),
            interface(snaplen=30, options=resolution, order=order),
            interface(1, options=option(9, b"\x8a", order=order), order=order),
            enhanced(stamp=1_700_000_000_000_000_000, options=comment, order=order),
            enhanced(bytes(12) + b"\x08\0" + PACKET, number=1, stamp=3000, order=order),
            block(NAMES, bytes(8), order=order),
            block(SIMPLE, cut, order=order),
            block(OBSOLETE, old, order=order),
            block(STATISTICS, bytes(12), order=order),
            block(0xBAD, b"custom", order=order),
            section(">"),
            interface(228, order=">"),
            enhanced(order=">"),
        ]
    )


_HUGE = 0xFFFF_FFFC
_TOO_MANY = interface() * 4097
_OPENED = section() + interface()
_AT = len(_OPENED)

# What a hostile or damaged file looks like: name -> (its bytes, what the error says).
HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "no-capture": (b"GET / HTTP/1.1\r\n\r\n" * 9, "no pcap and no pcapng"),
    "gzip": (b"\x1f\x8b\x08\0" + bytes(99), "compressed with gzip"),
    "wifi": (pcap(record(), link=105), "a link of type 105"),
    "wifi-ng": (section() + interface(105) + enhanced() * 3, "a link of type 105"),
    "cut-file-header": (pcap()[:23], "inside the file header at byte 0: 23 of 24"),
    "cut-record-header": (
        pcap(record(), record())[: -len(record()) + 9],
        "header of a frame at byte 74: 9 of",
    ),
    "cut-frame": (pcap(record(), record())[:-1], "inside a frame at byte 90: 33 of 34"),
    "frame-of-4-gb": (pcap(record(captured=_HUGE)), "at byte 24 says that it has 4294967292 bytes"),
    "frame-of-1-mb": (pcap(record(captured=1 << 20)), "inside a frame at byte 40: 34 of 1048576"),
    "no-byte-order": (section()[:8] + bytes(20), "section header at byte 0 has no byte-order magic"),
    "cut-section": (section()[:10], "section header at byte 0 has no byte-order magic"),
    "short-section": (section()[:4] + b"\x18\0\0\0" + section()[8:], "cannot be 24 bytes long"),
    "section-of-4-gb": (section()[:4] + b"\xfc\xff\xff\xff" + section()[8:], "it is 4294967292 bytes long"),
    "version-2": (section(major=2), "is pcapng 2.0"),
    "no-interface": (section() + enhanced(), "names interface 0, and 0 are described"),
    "another-interface": (_OPENED + enhanced(number=7), "names interface 7, and 1 are described"),
    "too-many-interfaces": (section() + _TOO_MANY, "is one more than 4096"),
    "block-of-4-gb": (
        _OPENED + block(ENHANCED, bytes(40), total=_HUGE),
        f"type 6 at byte {_AT} says that it is 4294967292 bytes long",
    ),
    "unknown-block-of-4-gb": (
        _OPENED + block(0xBAD, bytes(40), total=_HUGE),
        f"type 2989 at byte {_AT}: 52 of 4294967288",
    ),
    "block-of-0": (_OPENED + block(0xBAD, b"", total=0), f"at byte {_AT} cannot be 0 bytes long"),
    "odd-block": (_OPENED + block(0xBAD, b"", total=13), f"at byte {_AT} cannot be 13 bytes long"),
    "cut-block": (_OPENED + enhanced()[:-5], f"the block of type 6 at byte {_AT}"),
    "cut-block-header": (_OPENED + enhanced()[:7], f"inside a block's header at byte {_AT}: 7 of 8"),
    "another-trailer": (
        _OPENED + enhanced()[:-4] + b"\1\0\0\0",
        f"at byte {_AT} says another length at its end",
    ),
    "captured-4-gb": (_OPENED + enhanced(captured=_HUGE), "says 4294967292 bytes, and its block holds 36"),
    "captured-beyond": (_OPENED + enhanced(captured=37), "says 37 bytes, and its block holds 36"),
    "simple-beyond": (_OPENED + block(SIMPLE, b"\xff\xff\xff\xff1234"), "says 4294967295 bytes, and"),
    "option-beyond": (
        section() + interface(options=option(9, b"\x09", length=0xFFFF)),
        "An option at byte 44 says 65535 bytes, and 4 are left",
    ),
    "year-2554": (
        section() + interface(options=option(9, b"\x09")) + enhanced(stamp=(1 << 64) - 1),
        "not in the years 1970 to 2262",
    ),
    "before-1970": (
        section() + interface(options=option(14, struct.pack("<q", -9))) + enhanced(),
        "not in the years 1970 to 2262",
    ),
}
