"""Upstream ports as a dict: what fastpath/ports must equal, but for which free port it chooses."""

from dataclasses import dataclass

QUARANTINE_MS = 60_000


@dataclass
class Pair:
    """One (port, backend address). `holder` None: it rests since `since_ms`."""

    backend: int
    state: int
    holder: int | None
    since_ms: int = 0


class PortTable:
    """pools: {family: port numbers}; addresses: those of the backends, by index."""

    def __init__(self, pools: dict[int, range], addresses: list[tuple[bytes, int, int]]) -> None:
        self.pools, self.addresses = pools, addresses
        self.pairs: dict[tuple[int, tuple], Pair] = {}

    def free(self, backend: int) -> set[int]:
        """Ports that may serve one more flow to this backend's address."""
        address = self.addresses[backend]
        return {port for port in self.pools[address[2]] if (port, address) not in self.pairs}

    def expire(self, now_ms: int) -> None:
        for key, pair in list(self.pairs.items()):
            if pair.holder is None and now_ms - pair.since_ms >= QUARANTINE_MS:
                del self.pairs[key]

    def rest_all(self, now_ms: int) -> None:
        """A writer died: whoever holds flows will enter them again."""
        for pair in self.pairs.values():
            if pair.holder is not None:
                pair.holder, pair.since_ms = None, now_ms
