"""The frames of a capture file, pcap or pcapng, as a stream in constant memory.

    pcap    header 24 bytes: magic u32 | version u16 u16 | zone, accuracy | snaplen u32 | link type u32
    record  seconds u32 | fraction u32 | bytes kept u32 | bytes on the wire u32 | frame

The magic tells byte order and whether the fraction counts micro- or nanoseconds.
"""

import struct
from collections.abc import Iterator
from typing import Final

from pyfastpath.errors import PcapError
from pyfastpath.wire.bytestream import ByteStream, Read
from pyfastpath.wire.frames import LINKS, Frame, wrong_link
from pyfastpath.wire.pcapng import FRAME_BYTES_MAX, SECTION_HEADER, pcapng_frames

_FORMATS: Final = {  # first four bytes: (byte order, nanoseconds in a unit of the fraction)
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
_HEADER_BYTES: Final = 24
_RECORD_BYTES: Final = 16
_LINK_MASK: Final = 0x03FFFFFF  # the bits above tell about check sums behind the frame

_COMPRESSED: Final = {  # first bytes: (name, command)
    b"\x1f\x8b": ("gzip", "gunzip -k FILE"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd FILE"),
    b"\xfd7zXZ": ("xz", "unxz -k FILE"),
    b"BZh": ("bzip2", "bunzip2 -k FILE"),
    b"PK\x03\x04": ("zip", "unzip FILE"),
}


def read_frames(read: Read) -> Iterator[Frame]:
    """Frame after frame of a pcap or a pcapng; its first bytes tell which.

    `read(n)` gives up to n bytes, none at the end. PcapError, at once: no capture at all, or of a link that
    cannot be read; while iterating: damaged or cut off.
    """
    stream = ByteStream(read)
    magic = stream.peek(8)
    if magic[:4] == SECTION_HEADER.to_bytes(4, "big"):
        return pcapng_frames(stream)
    if magic[:4] not in _FORMATS:
        raise _no_capture(magic)
    order, unit_ns = _FORMATS[magic[:4]]
    header = stream.take(_HEADER_BYTES, "the file header")
    major, minor = struct.unpack_from(order + "HH", header, 4)
    link_type = struct.unpack_from(order + "I", header, 20)[0] & _LINK_MASK
    if (major, minor) < (2, 3) or major > 2:  # before 2.3 the two lengths of a record were swapped
        raise PcapError(
            f"The capture is pcap {major}.{minor}", "Version 2.4 is read: convert it with editcap."
        )
    if link_type not in LINKS:
        raise wrong_link(link_type, _HEADER_BYTES)
    return _pcap_frames(stream, order, unit_ns, link_type)


def _pcap_frames(stream: ByteStream, order: str, unit_ns: int, link_type: int) -> Iterator[Frame]:
    record = struct.Struct(order + "IIII")
    while stream.peek(1):
        offset = stream.offset
        head = stream.take(_RECORD_BYTES, "the header of a frame")
        seconds, fraction, captured, original = record.unpack(head)
        if captured > FRAME_BYTES_MAX:
            raise PcapError(
                f"The frame at byte {offset} says that it has {captured} bytes, more than any link carries",
                "The capture is damaged from there on; record or copy it again.",
                offset=offset,
            )
        data = stream.take(captured, "a frame")
        time_ns = seconds * 10**9 + fraction * unit_ns
        yield Frame(time_ns, link_type, data, max(original, captured), offset, 0)


def _no_capture(start: bytes) -> PcapError:
    if not start:
        return PcapError(
            "The capture is empty", "Not even a file header is there: was it recorded to the end?"
        )
    for magic, (name, command) in _COMPRESSED.items():
        if start.startswith(magic):
            return PcapError(f"This is no capture, it is compressed with {name}", f"First: {command}")
    return PcapError(
        f"This is no pcap and no pcapng: it starts with {start[:4].hex(' ')}",
        "Record one: tcpdump -w FILE.pcap udp; another program's format: editcap -F pcapng OTHER FILE.pcapng",
    )
