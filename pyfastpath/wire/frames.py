"""From recorded frames to UDP datagrams: links, IP headers, and why a frame holds no datagram.

A frame cut by a snap length still gives its datagram when the UDP header is there: a capture of headers
only is a capture. Fragments are not put together: WebRTC sends none, and a relay forwards none.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address
from typing import Final, NamedTuple

from pyfastpath.errors import PcapError
from pyfastpath.types import Endpoint, canonical

# LINKTYPE_* of tcpdump.org/linktypes.html
LINK_NULL: Final = 0
LINK_ETHERNET: Final = 1
LINK_RAW: Final = 101
LINK_LOOP: Final = 108
LINK_COOKED: Final = 113
LINK_IPV4: Final = 228
LINK_IPV6: Final = 229
LINK_COOKED2: Final = 276
_RAW_OF_BSD: Final = (12, 14)  # DLT_RAW, which some programs wrote instead of 101

_IPV4, _IPV6 = 0x0800, 0x86DD
_VERSION_OF: Final = {_IPV4: 4, _IPV6: 6}
_VLAN: Final = frozenset({0x8100, 0x88A8, 0x9100})
_VLAN_TAGS_MAX: Final = 4
_FAMILIES: Final = {2: 4, 10: 6, 23: 6, 24: 6, 28: 6, 30: 6}  # AF_INET; AF_INET6 of Linux, Windows, the BSDs

_UDP: Final = 17
_UDP_HEADER_BYTES: Final = 8
_FRAGMENT: Final = 44
_AUTHENTICATION: Final = 51  # the only extension header whose length counts in words of 4 bytes
_EXTENSIONS: Final = frozenset({0, 43, _FRAGMENT, _AUTHENTICATION, 60, 135, 139, 140})  # RFC 7045, 2.3
_EXTENSIONS_MAX: Final = 16
_ENDPOINTS_KEPT: Final = 1 << 14


class Frame(NamedTuple):
    """One recorded frame. A tuple, as a capture has millions."""

    time_ns: int  # since 1970, below 2^63
    link_type: int
    data: bytes
    original_bytes: int  # on the wire; more than len(data) when cut by a snap length
    offset: int  # of its record or block in the file
    interface: int  # number inside its section; 0 in a pcap


class Datagram(NamedTuple):
    """One UDP datagram."""

    time_ns: int  # since 1970, below 2^63
    source: Endpoint
    target: Endpoint
    payload: bytes
    original_bytes: int  # of payload on the wire; more than len(payload) when cut by a snap length
    offset: int  # of its record or block in the file


class Skip(StrEnum):
    """Why a frame gives no datagram."""

    LINK_TYPE = "link_type"  # recorded on a link that is none of `LINKS`
    NOT_IP = "not_ip"
    NOT_UDP = "not_udp"
    FRAGMENT = "fragment"
    CUT = "cut"  # by a snap length, before the end of the UDP header
    DAMAGED = "damaged"  # lengths that contradict each other


class Datagrams:
    """The UDP datagrams in a stream of frames, and counts of what went by. Iterate once.

    `frames`: seen, so while iterating the number of the datagram's frame (Wireshark counts so too, but for
    blocks of a pcapng that it does not know);
    `skipped`: those without a datagram, by reason.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._source = frames
        self.frames = 0
        self.skipped: Counter[Skip] = Counter()

    def __iter__(self) -> Iterator[Datagram]:
        """PcapError: a damaged file, or one of which no frame's link type can be read."""
        first: Frame | None = None
        for frame in self._source:
            self.frames += 1
            first = first or frame
            found = dissect(frame)
            if isinstance(found, Skip):
                self.skipped[found] += 1
            else:
                yield found
        if first and self.skipped[Skip.LINK_TYPE] == self.frames:
            raise wrong_link(first.link_type, first.offset)

    @property
    def datagrams(self) -> int:
        """Given so far."""
        return self.frames - self.skipped.total()


def wrong_link(link_type: int, offset: int) -> PcapError:
    """Nothing can be read from such frames."""
    return PcapError(
        f"The frames at byte {offset} and behind it were recorded on a link of type {link_type}",
        "Ethernet, Linux cooked, raw IP and loopback captures work.",
        offset=offset,
    )


def dissect(frame: Frame) -> Datagram | Skip:
    """The datagram in a frame, or why there is none."""
    link = LINKS.get(frame.link_type)
    if link is None:
        return Skip.LINK_TYPE
    data = frame.data
    version, at = link(data)
    if at >= len(data):
        return _short(frame)
    if version == 0:
        return Skip.NOT_IP
    if data[at] >> 4 != version:
        return Skip.DAMAGED
    if version == 4:
        return _ipv4(frame, at)
    return _ipv6(frame, at)


def _short(frame: Frame) -> Skip:
    return Skip.CUT if frame.original_bytes > len(frame.data) else Skip.DAMAGED


# ---- links: (IP version or 0, where its header starts) ----------------------------------------------


def _ethernet(data: bytes) -> tuple[int, int]:
    return _tagged(data, 12)


def _cooked(data: bytes) -> tuple[int, int]:
    return _tagged(data, 14)


def _cooked2(data: bytes) -> tuple[int, int]:
    return _VERSION_OF.get(int.from_bytes(data[:2], "big"), 0), 20


def _tagged(data: bytes, at: int) -> tuple[int, int]:
    """`at`: of the EtherType, or of the first VLAN tag (802.1Q, 802.1ad)."""
    for _ in range(_VLAN_TAGS_MAX + 1):
        kind = int.from_bytes(data[at : at + 2], "big")
        if kind not in _VLAN:
            break
        at += 4
    return _VERSION_OF.get(kind, 0), at + 2


def _null(data: bytes) -> tuple[int, int]:
    """The address family in the byte order of the machine that recorded."""
    little, big = int.from_bytes(data[:4], "little"), int.from_bytes(data[:4], "big")
    return _FAMILIES.get(little) or _FAMILIES.get(big, 0), 4


def _raw(data: bytes) -> tuple[int, int]:
    version = data[0] >> 4 if data else 0
    return version if version in {4, 6} else 0, 0


LINKS: Final[dict[int, Callable[[bytes], tuple[int, int]]]] = {
    LINK_NULL: _null,
    LINK_LOOP: _null,
    LINK_ETHERNET: _ethernet,
    LINK_COOKED: _cooked,
    LINK_COOKED2: _cooked2,
    **dict.fromkeys((LINK_RAW, LINK_IPV4, LINK_IPV6, *_RAW_OF_BSD), _raw),
}


# ---- IP and UDP -------------------------------------------------------------------------------------


def _ipv4(frame: Frame, at: int) -> Datagram | Skip:
    data = frame.data
    if len(data) < at + 20:
        return _short(frame)
    header_bytes = (data[at] & 15) * 4
    total_bytes = data[at + 2] << 8 | data[at + 3]
    if header_bytes < 20 or total_bytes < header_bytes:
        return Skip.DAMAGED
    if data[at + 9] != _UDP:
        return Skip.NOT_UDP
    if data[at + 6] & 0x3F or data[at + 7]:  # more fragments, or not the first one
        return Skip.FRAGMENT
    start = at + header_bytes
    return _udp(frame, start, at + total_bytes, data[at + 12 : at + 16], data[at + 16 : at + 20])


def _ipv6(frame: Frame, at: int) -> Datagram | Skip:
    data = frame.data
    if len(data) < at + 40:
        return _short(frame)
    end = at + 40 + (data[at + 4] << 8 | data[at + 5])
    protocol, start = data[at + 6], at + 40
    for _ in range(_EXTENSIONS_MAX):
        if protocol not in _EXTENSIONS:
            break
        if start + 8 > end:
            return Skip.DAMAGED
        if start + 8 > len(data):
            return _short(frame)
        length_bytes = 8 + 8 * data[start + 1]
        if protocol == _FRAGMENT:
            if data[start + 2] or data[start + 3] & 0xF9:  # an offset, or more fragments
                return Skip.FRAGMENT
            length_bytes = 8
        elif protocol == _AUTHENTICATION:
            length_bytes = 8 + 4 * data[start + 1]
        protocol = data[start]
        start += length_bytes
    if protocol != _UDP:
        return Skip.NOT_UDP
    return _udp(frame, start, end, data[at + 8 : at + 24], data[at + 24 : at + 40])


def _udp(frame: Frame, start: int, end: int, source: bytes, target: bytes) -> Datagram | Skip:
    """`start`: of the UDP header; `end`: of the IP packet, whether it is all there or not."""
    data = frame.data
    behind = start + _UDP_HEADER_BYTES
    if behind > end:
        return Skip.DAMAGED
    if behind > len(data):
        return _short(frame)
    length = data[start + 4] << 8 | data[start + 5]
    if not _UDP_HEADER_BYTES <= length <= min(end, frame.original_bytes) - start:
        return Skip.DAMAGED
    return Datagram(
        frame.time_ns,
        _endpoint(source, data[start] << 8 | data[start + 1]),
        _endpoint(target, data[start + 2] << 8 | data[start + 3]),
        data[behind : start + length],
        length - _UDP_HEADER_BYTES,
        frame.offset,
    )


@lru_cache(_ENDPOINTS_KEPT)  # a capture names few addresses, each of them a million times
def _endpoint(packed: bytes, port: int) -> Endpoint:
    return Endpoint(canonical(ip_address(packed)), port)
