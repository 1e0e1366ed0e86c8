"""What a relay under pressure does not forward: the slow twin of fastpath.shedding."""

from typing import Final

from pyfastpath.types import TRAFFIC_CLASSES

UNKNOWN, NEW, BULK, VIDEO, RTCP, VOICE = range(1, 7)
"""By level of pressure: what it sheds beside what the levels below it shed."""

SEARCHES_PER_MS: Final = 16  # media without a flow for which a shard asks its siblings in a millisecond


def is_rtcp(datagram: bytes) -> bool:
    """RTCP among RTP: packet types 192 to 223 (RFC 5761, section 4)."""
    return len(datagram) > 1 and 192 <= datagram[1] <= 223


class Shedder:
    """One shard's memory of what it shed."""

    def __init__(self) -> None:
        self._rtcp_packets = 0
        self._searches: tuple[int, int] = (0, 0)  # millisecond, searches in it

    def reason(self, level: int, traffic_class: int, version: int, datagram: bytes) -> str:
        """Why this RTP or RTCP packet of a flow is shed, or "none". `version` is the flow's."""
        name = TRAFFIC_CLASSES[traffic_class]
        if name == "bulk" and level >= BULK:
            return "shed_bulk"
        if name == "video" and level >= VIDEO:
            return "shed_video"
        if is_rtcp(datagram) and level >= RTCP:
            self._rtcp_packets += 1
            return "shed_rtcp" if self._rtcp_packets % 2 else "none"
        if not is_rtcp(datagram) and level >= VOICE and version % 2:
            return "shed_voice"
        return "none"

    def may_search(self, now_ms: int) -> bool:
        """May the siblings be asked for a flow that is not here?"""
        when_ms, searches = self._searches
        self._searches = (now_ms, searches + 1 if when_ms == now_ms else 1)
        return self._searches[1] <= SEARCHES_PER_MS
