"""pcapng (draft-ietf-opsawg-pcapng): a writer of one section, and a streaming reader of any file.

    block   type u32 | total length u32 | body, padded to 4 | total length u32 again
    option  code u16 | length u16 | value, padded to 4; code 0 ends the list

The byte order is the section's: its magic number tells. The writer uses little endian and nanoseconds.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import gcd
from typing import Final

from pyfastpath.errors import PcapError
from pyfastpath.wire.bytestream import ByteStream
from pyfastpath.wire.frames import Frame

FRAME_BYTES_MAX: Final = 1 << 20  # no link carries more: a larger length is damage

SECTION_HEADER: Final = 0x0A0D0D0A  # the same in both byte orders
INTERFACE: Final = 1
PACKET_OBSOLETE: Final = 2
SIMPLE_PACKET: Final = 3
STATISTICS: Final = 5
ENHANCED_PACKET: Final = 6

_ORDER_MAGIC: Final = 0x1A2B3C4D
_ORDERS: Final = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_LENGTH_UNKNOWN: Final = -1  # of a section: blocks until the next one or the end

_COMMENT, _IF_NAME, _IF_TSRESOL, _IF_TSOFFSET = 1, 2, 9, 14
_EPB_FLAGS, _SHB_USERAPPL, _ISB_IFRECV, _ISB_IFDROP = 2, 4, 4, 5
_INBOUND, _OUTBOUND = 1, 2
_OPTION_BYTES_MAX: Final = 0xFFFF
_NANOSECONDS: Final = b"\x09"  # if_tsresol: 10^-9
_SECOND_NS: Final = 10**9
_TIME_NS_END: Final = 1 << 63  # the year 2262; what programs in C hold

_BLOCK_OVERHEAD_BYTES: Final = 12
_BLOCK_BYTES_MAX: Final = 2 * FRAME_BYTES_MAX  # of a block that is held: a frame and its options
_INTERFACES_MAX: Final = 4096  # of a section: they are held
_SMALLEST: Final = {  # bytes of a block without options and data
    SECTION_HEADER: 28,
    INTERFACE: 20,
    PACKET_OBSOLETE: 32,
    SIMPLE_PACKET: 16,
    ENHANCED_PACKET: 32,
}


class PcapngWriter:
    """Builds the bytes of one section, block by block; the caller writes them, in this order: section
    header, interfaces, packets and statistics."""

    def __init__(self) -> None:
        self._last_ns = 0

    def section_header(self, application: str = "pyfastpath") -> bytes:
        """The first block."""
        body = struct.pack("<IHHq", _ORDER_MAGIC, 1, 0, _LENGTH_UNKNOWN)
        return _block(SECTION_HEADER, body, _text(_SHB_USERAPPL, application))

    def interface(self, link_type: int, snaplen: int = 0, name: str = "") -> bytes:
        """Describes the next interface: the first is number 0. `snaplen` 0: frames are whole."""
        body = struct.pack("<HHI", link_type, 0, snaplen)
        return _block(INTERFACE, body, _text(_IF_NAME, name), _option(_IF_TSRESOL, _NANOSECONDS))

    def packet(
        self,
        time_ns: int,
        data: bytes,
        original_bytes: int,
        *,
        inbound: bool | None = None,
        comment: str = "",
        interface: int = 0,
    ) -> bytes:
        """A frame, at `time_ns` since 1970: `data` is kept of `original_bytes`. `inbound` None: unsaid."""
        self._last_ns = time_ns
        body = struct.pack(
            "<IIIII",
            interface,
            time_ns >> 32,
            time_ns & 0xFFFFFFFF,
            len(data),
            max(original_bytes, len(data)),
        )
        flags = (
            b""
            if inbound is None
            else _option(_EPB_FLAGS, struct.pack("<I", _INBOUND if inbound else _OUTBOUND))
        )
        return _block(ENHANCED_PACKET, body + _padded(data), _text(_COMMENT, comment), flags)

    def statistics(
        self, received: int, dropped: int, *, time_ns: int | None = None, interface: int = 0
    ) -> bytes:
        """Frames seen, and of these those not written for want of room. `time_ns` None: of the last frame."""
        stamp = self._last_ns if time_ns is None else time_ns
        body = struct.pack("<III", interface, stamp >> 32, stamp & 0xFFFFFFFF)
        counts = (
            _option(_ISB_IFRECV, struct.pack("<Q", received)),
            _option(_ISB_IFDROP, struct.pack("<Q", dropped)),
        )
        return _block(STATISTICS, body, *counts)


def _block(kind: int, body: bytes, *options: bytes) -> bytes:
    listed = b"".join(options)
    if listed:
        listed += _option(0, b"")
    total = struct.pack("<I", 12 + len(body) + len(listed))
    return struct.pack("<I", kind) + total + body + listed + total


def _text(code: int, text: str) -> bytes:
    """An option of UTF-8, cut to what an option holds; nothing at all when it is empty."""
    value = text.encode()[:_OPTION_BYTES_MAX].decode(errors="ignore").encode()
    return _option(code, value) if value else b""


def _option(code: int, value: bytes) -> bytes:
    return struct.pack("<HH", code, len(value)) + _padded(value)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def pcapng_frames(stream: ByteStream) -> Iterator[Frame]:
    """The frames of all sections, in order. PcapError: damaged or cut off."""
    section = _Section("<", -1)
    while head := stream.peek(_BLOCK_OVERHEAD_BYTES):
        offset = stream.offset
        if int.from_bytes(head[:4], "little") == SECTION_HEADER:
            section = _Section(_order(head, offset), offset)
        elif section.offset < 0:
            raise PcapError("No section header opens the pcapng", offset=offset)
        kind, block = _take_block(stream, section.order)
        if kind == SECTION_HEADER:
            section.open(block)
        elif kind == INTERFACE:
            section.add_interface(block, offset)
        elif kind == SIMPLE_PACKET:
            yield section.simple(block, offset)
        elif block:
            yield section.frame(kind, block, offset)


def _order(head: bytes, offset: int) -> str:
    """Byte order of the section whose header starts with these bytes."""
    order = _ORDERS.get(head[8:12])
    if order is None:
        raise _damaged("The section header", offset, "has no byte-order magic")
    return order


def _take_block(stream: ByteStream, order: str) -> tuple[int, bytes]:
    """Type and bytes of the next block, trailer checked; no bytes for a block without a frame, which is
    passed over: it may be of any size."""
    offset = stream.offset
    kind, total = struct.unpack(order + "II", _front(stream, 8))
    name = f"the block of type {kind}"
    if total % 4 or total < _SMALLEST.get(kind, _BLOCK_OVERHEAD_BYTES):
        raise _damaged(name.capitalize(), offset, f"cannot be {total} bytes long")
    if kind not in _SMALLEST:
        stream.skip(total - 4, name)
        block, trailer = b"", stream.take(4, name)
    elif total > _BLOCK_BYTES_MAX:
        raise _damaged(name.capitalize(), offset, f"says that it is {total} bytes long")
    else:
        block = stream.take(total, name)
        trailer = block[-4:]
    if trailer != struct.pack(order + "I", total):
        raise _damaged(name.capitalize(), offset, "says another length at its end than at its start")
    return kind, block


def _front(stream: ByteStream, count: int) -> bytes:
    """The next bytes, left in the stream. PcapError when there are fewer."""
    front = stream.peek(count)
    return front if len(front) == count else stream.take(count, "a block's header")


def _damaged(what: str, offset: int, sentence: str) -> PcapError:
    return PcapError(
        f"{what} at byte {offset} {sentence}",
        "The capture is damaged; record or copy it again.",
        offset=offset,
    )


@dataclass(frozen=True, slots=True)
class _Interface:
    link_type: int
    snaplen: int  # 0: none
    multiplier: int = 1000  # nanoseconds = stamp * multiplier // divisor + offset_ns
    divisor: int = 1
    offset_ns: int = 0


class _Section:
    """What holds from a section header to the next: byte order, interfaces, time of the last frame."""

    def __init__(self, order: str, offset: int) -> None:
        self.order = order
        self.offset = offset
        self._interfaces: list[_Interface] = []
        self._last_ns = 0

    def open(self, block: bytes) -> None:
        """Check the section header itself."""
        major, minor = struct.unpack_from(self.order + "HH", block, 12)
        if major != 1:
            raise PcapError(
                f"The section at byte {self.offset} is pcapng {major}.{minor}",
                "Version 1 is read: convert it with a newer editcap.",
                offset=self.offset,
            )

    def add_interface(self, block: bytes, offset: int) -> None:
        """The next number belongs to it."""
        if len(self._interfaces) == _INTERFACES_MAX:
            raise _damaged("The interface", offset, f"is one more than {_INTERFACES_MAX}")
        link_type, snaplen = struct.unpack_from(self.order + "HxxI", block, 8)
        multiplier, divisor, offset_ns = 1000, 1, 0
        for code, value in self._options(block, 16, offset):
            if code == _IF_TSRESOL and len(value) == 1:
                units = (2 if value[0] & 0x80 else 10) ** (value[0] & 0x7F)  # a second has so many
                shared = gcd(_SECOND_NS, units)
                multiplier, divisor = _SECOND_NS // shared, units // shared
            elif code == _IF_TSOFFSET and len(value) == 8:
                offset_ns = struct.unpack(self.order + "q", value)[0] * _SECOND_NS
        self._interfaces.append(_Interface(link_type, snaplen, multiplier, divisor, offset_ns))

    def frame(self, kind: int, block: bytes, offset: int) -> Frame:
        """Of an enhanced packet block, or of the obsolete one, whose number shares its word with a count."""
        number, high, low, captured, original = struct.unpack_from(self.order + "IIIII", block, 8)
        if kind == PACKET_OBSOLETE:
            number = struct.unpack_from(self.order + "H", block, 8)[0]
        interface = self._interface(number, offset)
        self._check_captured(captured, len(block) - 32, offset)
        stamp = (high << 32 | low) * interface.multiplier // interface.divisor + interface.offset_ns
        if not 0 <= stamp < _TIME_NS_END:
            raise _damaged(
                "The frame", offset, "is stamped with a time that is not in the years 1970 to 2262"
            )
        self._last_ns = stamp
        data = block[28 : 28 + captured]
        return Frame(stamp, interface.link_type, data, max(original, captured), offset, number)

    def simple(self, block: bytes, offset: int) -> Frame:
        """Of a simple packet block: from interface 0, without a time of its own."""
        interface = self._interface(0, offset)
        original = struct.unpack_from(self.order + "I", block, 8)[0]
        captured = min(original, interface.snaplen) if interface.snaplen else original
        self._check_captured(captured, len(block) - 16, offset)
        return Frame(self._last_ns, interface.link_type, block[12 : 12 + captured], original, offset, 0)

    def _interface(self, number: int, offset: int) -> _Interface:
        if number >= len(self._interfaces):
            raise _damaged(
                "The frame", offset, f"names interface {number}, and {len(self._interfaces)} are described"
            )
        return self._interfaces[number]

    def _check_captured(self, captured: int, room: int, offset: int) -> None:
        if captured > min(room, FRAME_BYTES_MAX):
            raise _damaged("The frame", offset, f"says {captured} bytes, and its block holds {room}")

    def _options(self, block: bytes, at: int, offset: int) -> Iterator[tuple[int, bytes]]:
        end = len(block) - 4
        while at + 4 <= end:
            code, length = struct.unpack_from(self.order + "HH", block, at)
            if code == 0:
                return
            if at + 4 + length > end:
                raise _damaged("An option", offset + at, f"says {length} bytes, and {end - at - 4} are left")
            yield code, block[at + 4 : at + 4 + length]
            at += 4 + length + -length % 4
