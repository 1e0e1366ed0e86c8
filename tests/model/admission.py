"""Admission buckets in sets of four, as lists: what fastpath/admission must equal, place for place."""

from collections.abc import Callable

from pyfastpath.relay.admission import FLOW, Network, network_of
from pyfastpath.types import IPAddress

WAYS = 4


class AdmissionTable:
    """`place`: which set a network belongs to. A bucket is (network, tokens, when_ms)."""

    def __init__(self, place: Callable[[IPAddress], int]) -> None:
        self._place = place
        self._sets: dict[int, list[tuple[Network, int, int]]] = {}

    def take(self, address: IPAddress, flows_per_s: int, burst: int, now_ms: int) -> bool:
        if flows_per_s == 0:
            return True
        network, full = network_of(address), burst * FLOW
        ways = self._sets.setdefault(self._place(address), [])

        def tokens_in(way: int) -> int:
            _, tokens, when_ms = ways[way]
            return min(full, tokens + (now_ms - when_ms) * flows_per_s)

        known = [way for way in range(len(ways)) if ways[way][0] == network]
        if known:
            way, tokens = known[0], tokens_in(known[0])
        elif len(ways) < WAYS:
            ways.append((network, full, now_ms))
            way, tokens = len(ways) - 1, full
        else:
            way, tokens = max(range(WAYS), key=tokens_in), full
        admitted = tokens >= FLOW
        ways[way] = (network, tokens - FLOW if admitted else tokens, now_ms)
        return admitted
