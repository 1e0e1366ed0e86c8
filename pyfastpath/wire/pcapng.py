"""pcapng (draft-ietf-opsawg-pcapng): a writer of one section, and a streaming reader of any file.

    block   type u32 | total length u32 | body, padded to 4 | total length u32 again
    option  code u16 | length u16 | value, padded to 4; code 0 ends the list

The byte order is the section's: its magic number tells. The writer uses little endian and nanoseconds.
"""

import struct
from collections.abc import Iterator
from typing import Final

from pyfastpath.wire.bytestream import ByteStream
from pyfastpath.wire.frames import Frame

SECTION_HEADER: Final = 0x0A0D0D0A  # the same in both byte orders
INTERFACE: Final = 1
PACKET_OBSOLETE: Final = 2
SIMPLE_PACKET: Final = 3
STATISTICS: Final = 5
ENHANCED_PACKET: Final = 6

_ORDER_MAGIC: Final = 0x1A2B3C4D
_LENGTH_UNKNOWN: Final = -1  # of a section: blocks until the next one or the end

_COMMENT, _IF_NAME, _IF_TSRESOL, _IF_TSOFFSET = 1, 2, 9, 14
_EPB_FLAGS, _SHB_USERAPPL, _ISB_IFRECV, _ISB_IFDROP = 2, 4, 4, 5
_INBOUND, _OUTBOUND = 1, 2
_OPTION_BYTES_MAX: Final = 0xFFFF
_NANOSECONDS: Final = b"\x09"  # if_tsresol: 10^-9


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
        """A frame. `time_ns`: since 1970; `data`: what is kept of `original_bytes`; `inbound` None: not told."""
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
    """The frames of all sections, in order. PcapError: damaged."""
    raise NotImplementedError
