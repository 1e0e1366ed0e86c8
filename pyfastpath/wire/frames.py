"""From recorded frames to UDP datagrams: links, IP headers, and why a frame holds no datagram."""

from collections import Counter
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Final, NamedTuple

from pyfastpath.types import Endpoint

# LINKTYPE_* of tcpdump.org/linktypes.html
LINK_NULL: Final = 0
LINK_ETHERNET: Final = 1
LINK_RAW: Final = 101
LINK_LOOP: Final = 108
LINK_COOKED: Final = 113
LINK_IPV4: Final = 228
LINK_IPV6: Final = 229
LINK_COOKED2: Final = 276


class Frame(NamedTuple):
    """One recorded frame. A tuple, as a capture has millions."""

    time_ns: int  # since 1970
    link_type: int
    data: bytes
    original_bytes: int  # on the wire; more than len(data) when cut by a snap length
    offset: int  # of its record or block in the file
    interface: int  # number inside its section; 0 in a pcap


class Datagram(NamedTuple):
    """One UDP datagram."""

    time_ns: int  # since 1970
    source: Endpoint
    target: Endpoint
    payload: bytes
    original_bytes: int  # of payload on the wire; more than len(payload) when cut by a snap length
    offset: int  # of its record or block in the file


class Skip(StrEnum):
    """Why a frame gave no datagram."""

    LINK_TYPE = "link_type"  # recorded on a link that is none of ours
    NOT_IP = "not_ip"
    NOT_UDP = "not_udp"
    FRAGMENT = "fragment"
    CUT = "cut"  # by a snap length, inside the headers
    DAMAGED = "damaged"  # lengths that contradict each other


class Datagrams:
    """The UDP datagrams in a stream of frames, with the counts of what went by. Iterate once.

    `frames`: seen; `datagrams`: given; `skipped`: the rest, by reason; `last_offset`: of the last frame.
    """

    def __init__(self, frames: Iterable[Frame]) -> None:
        self._source = frames
        self.frames = 0
        self.datagrams = 0
        self.skipped: Counter[Skip] = Counter()

    def __iter__(self) -> Iterator[Datagram]:
        """PcapError: damaged file, or no frame of a link type that can be read."""
        raise NotImplementedError
