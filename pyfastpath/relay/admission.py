"""How many new flows a network may open: the slow twin of fastpath.admission, which forgets nobody."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Final

from pyfastpath.types import IPAddress

FLOW: Final = 1000  # tokens of one flow, so that a rate per second is tokens per millisecond
Network = IPv4Network | IPv6Network


def network_of(address: IPAddress) -> Network:
    """The /24 of an IPv4 address, the /56 of an IPv6 one."""
    if isinstance(address, IPv4Address):
        return IPv4Network((address, 24), strict=False)
    return IPv6Network((address, 56), strict=False)


class Admission:
    """A token bucket a network; `flows_per_s` 0: no limit. Both numbers may change at any time."""

    def __init__(self, flows_per_s: int = 0, burst: int = 1) -> None:
        self.flows_per_s, self.burst = flows_per_s, burst
        self._buckets: dict[Network, tuple[int, int]] = {}  # tokens, when_ms

    def take(self, address: IPAddress, now_ms: int) -> bool:
        """One flow more for this network, if it has one left."""
        if self.flows_per_s == 0:
            return True
        network, full = network_of(address), self.burst * FLOW
        tokens, when_ms = self._buckets.get(network, (full, now_ms))
        tokens = min(full, tokens + (now_ms - when_ms) * self.flows_per_s)
        admitted = tokens >= FLOW
        self._buckets[network] = (tokens - FLOW if admitted else tokens, now_ms)
        return admitted
