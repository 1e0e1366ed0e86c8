"""RTP packets (RFC 3550, section 5.1) with header extensions (RFC 8285) and audio levels (RFC 6464).

`parse_packet` and `build_header` are on the road of every packet: the fixed header in one struct call,
extensions only when somebody asks for them. What is inside an extension cannot make a packet malformed:
reading stops at the first element that does not fit, as RFC 8285 wants.
"""

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Final

import msgspec

from pyfastpath.errors import WireError

HEADER_BYTES: Final = 12
ONE_BYTE_PROFILE: Final = 0xBEDE  # RFC 8285, section 4.2
TWO_BYTE_PROFILE: Final = 0x1000  # and 0x1001 … 0x100f: the low four bits are the application's (4.3)
SILENCE_DBOV: Final = -127  # RFC 6464: the quietest level there is

_HEADER: Final = Struct("!BBHII")
_EXTENSION_HEADER: Final = Struct("!HH")
_VERSION: Final = 0x80
_PADDING: Final = 0x20
_EXTENSION: Final = 0x10

_unpack_header = _HEADER.unpack_from
_pack_header = _HEADER.pack


class RtpPacket(msgspec.Struct, gc=False):
    """One packet, without its padding. `timestamp` counts at the payload's clock."""

    payload_type: int  # 0..127
    marker: bool
    sequence: int  # 0..65535
    timestamp: int  # 32 bits
    ssrc: int  # 32 bits
    payload: bytes
    extension_profile: int = 0
    extension_data: bytes = b""
    csrcs: tuple[int, ...] = ()

    @property
    def extensions(self) -> dict[int, bytes]:
        """All elements by id, read anew at each use."""
        return parse_extensions(self.extension_profile, self.extension_data) if self.extension_data else {}

    def extension(self, identifier: int | None) -> bytes | None:
        """The element of one id; None without it, or when no id was negotiated. Faster than `extensions`."""
        data = self.extension_data
        if not data or identifier is None:
            return None
        if self.extension_profile == ONE_BYTE_PROFILE:
            return _find_one_byte(data, identifier)
        return parse_extensions(self.extension_profile, data).get(identifier)


def parse_packet(data: bytes) -> RtpPacket:
    """Read a packet. WireError: not version 2, or CSRCs, extension or padding reach past its end."""
    if len(data) < HEADER_BYTES:
        raise WireError(f"An RTP packet has at least {HEADER_BYTES} bytes, not {len(data)}.")
    first, second, sequence, timestamp, ssrc = _unpack_header(data)
    if first == _VERSION:  # neither padding, nor extension, nor CSRCs
        return RtpPacket(second & 0x7F, second > 0x7F, sequence, timestamp, ssrc, data[HEADER_BYTES:])
    if first >> 6 != 2:
        raise WireError(f"This is no RTP packet: its version is {first >> 6}, not 2.")
    begin = HEADER_BYTES + 4 * (first & 0x0F)
    profile, extension = 0, b""
    if first & _EXTENSION:
        if begin + 4 > len(data):
            raise WireError("This RTP packet ends before its extension.")
        profile, words = _EXTENSION_HEADER.unpack_from(data, begin)
        extension = data[begin + 4 : begin + 4 + 4 * words]
        begin += 4 + 4 * words
    end = len(data) - data[-1] if first & _PADDING else len(data)
    if begin > end or (first & _PADDING and not data[-1]):
        raise WireError("The CSRCs, extension or padding of this RTP packet do not fit into it.")
    return RtpPacket(
        second & 0x7F,
        second > 0x7F,
        sequence,
        timestamp,
        ssrc,
        data[begin:end],
        profile,
        extension,
        _parse_csrcs(data, first & 0x0F) if first & 0x0F else (),
    )


def _parse_csrcs(data: bytes, count: int) -> tuple[int, ...]:
    return Struct(f"!{count}I").unpack_from(data, HEADER_BYTES)


def parse_extensions(profile: int, data: bytes) -> dict[int, bytes]:
    """Elements by id, of the one-byte or the two-byte form; first of an id. None of an unknown profile."""
    if profile == ONE_BYTE_PROFILE:
        return _parse_one_byte(data)
    return _parse_two_byte(data) if profile & 0xFFF0 == TWO_BYTE_PROFILE else {}


def _parse_one_byte(data: bytes) -> dict[int, bytes]:
    """RFC 8285, section 4.2: id 15 ends the reading."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at < end:
        head = data[at]
        at += 1
        if head < 0x10:  # padding; id 0 with a length is to be skipped like it
            at += head + 1 if head else 0
            continue
        after = at + (head & 0x0F) + 1
        if head >= 0xF0 or after > end:
            break
        found.setdefault(head >> 4, data[at:after])
        at = after
    return found


def _find_one_byte(data: bytes, identifier: int) -> bytes | None:
    """What `_parse_one_byte` finds under this id, without the dict."""
    at, end = 0, len(data)
    while at < end:
        head = data[at]
        after = at + (head & 0x0F) + 2
        if head < 0x10:
            at = after if head else at + 1
            continue
        if head >= 0xF0 or after > end:
            return None
        if head >> 4 == identifier:
            return data[at + 1 : after]
        at = after
    return None


def _parse_two_byte(data: bytes) -> dict[int, bytes]:
    """RFC 8285, section 4.3."""
    found: dict[int, bytes] = {}
    at, end = 0, len(data)
    while at < end:
        identifier = data[at]
        if not identifier:
            at += 1
            continue
        if at + 2 > end or at + 2 + data[at + 1] > end:
            break
        found.setdefault(identifier, data[at + 2 : at + 2 + data[at + 1]])
        at += 2 + data[at + 1]
    return found


def build_header(payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int) -> bytes:
    """The twelve bytes before a payload that has neither extension nor CSRCs."""
    return _pack_header(_VERSION, payload_type | 0x80 if marker else payload_type, sequence, timestamp, ssrc)


def build_packet(
    payload_type: int,
    marker: bool,
    sequence: int,
    timestamp: int,
    ssrc: int,
    payload: bytes,
    *,
    extensions: Mapping[int, bytes] | None = None,
    csrcs: Sequence[int] = (),
    padding_bytes: int = 0,
) -> bytes:
    """A whole packet. Extensions take the one-byte form when all of them fit it.

    ValueError: what no packet can carry (an id outside 1..255, a value of more than 255 bytes, 16 CSRCs).
    """
    if len(csrcs) > 15 or not 0 <= padding_bytes <= 255:
        raise ValueError("an RTP packet has at most 15 CSRCs and 255 bytes of padding")
    first = _VERSION | len(csrcs)
    first |= _EXTENSION if extensions else 0
    first |= _PADDING if padding_bytes else 0
    second = payload_type | 0x80 if marker else payload_type
    parts = [_pack_header(first, second, sequence, timestamp, ssrc)]
    parts += [csrc.to_bytes(4, "big") for csrc in csrcs]
    if extensions:
        parts.append(_build_extensions(extensions))
    parts.append(payload)
    if padding_bytes:
        parts.append(bytes(padding_bytes - 1) + bytes([padding_bytes]))
    return b"".join(parts)


def _build_extensions(extensions: Mapping[int, bytes]) -> bytes:
    if not all(1 <= identifier <= 255 and len(value) <= 255 for identifier, value in extensions.items()):
        raise ValueError("a header extension has an id of 1..255 and at most 255 bytes")
    if all(identifier <= 14 and 1 <= len(value) <= 16 for identifier, value in extensions.items()):
        profile = ONE_BYTE_PROFILE
        data = b"".join(bytes([id_ << 4 | len(value) - 1]) + value for id_, value in extensions.items())
    else:
        profile = TWO_BYTE_PROFILE
        data = b"".join(bytes([id_, len(value)]) + value for id_, value in extensions.items())
    words = (len(data) + 3) // 4
    return _EXTENSION_HEADER.pack(profile, words) + data.ljust(4 * words, b"\0")


def is_rtcp(data: bytes) -> bool:
    """Which of the two shares the port (RFC 5761, section 4): RTCP has 192..223 where RTP has marker and
    payload type, so no RTP payload type may be 64..95."""
    return len(data) > 1 and 192 <= data[1] <= 223


def audio_level(value: bytes) -> tuple[bool, int]:
    """(voice, level_dbov) of an ssrc-audio-level element (RFC 6464): 0 is the loudest, -127 silence.
    An element of another length than the RFC's says silence."""
    if not value or len(value) > 2:  # the two-byte form may carry one byte of padding
        return False, SILENCE_DBOV
    return value[0] > 0x7F, -(value[0] & 0x7F)


def build_audio_level(voice: bool, level_dbov: int) -> bytes:
    """The element for a level of 0 … -127 dBov."""
    return bytes([(0x80 if voice else 0) | -level_dbov])
