"""The memory of transaction ids as lists: what fastpath/transactions must equal."""

WAYS = 4
MEMORY_MS = 60_000


class TransactionTable:
    """`sets` lists of at most four (id, flow, seen_ms)."""

    def __init__(self, sets: int) -> None:
        self.sets: list[list[tuple[int, int, int]]] = [[] for _ in range(sets)]

    def _fresh(self, name: int, now_ms: int) -> list[tuple[int, int, int]]:
        held = self.sets[(name >> 1) % len(self.sets)]
        return [entry for entry in held if entry[0] == name and now_ms - entry[2] < MEMORY_MS]

    def known(self, name: int, now_ms: int) -> bool:
        return bool(self._fresh(name, now_ms))

    def first_from(self, name: int, flow: int, now_ms: int) -> bool:
        return any(entry[1] == flow for entry in self._fresh(name, now_ms))

    def remember(self, name: int, flow: int, now_ms: int) -> bool:
        """Note an id that is not known. True when a fresh one had to go."""
        held = self.sets[(name >> 1) % len(self.sets)]
        if len(held) < WAYS:
            held.append((name, flow, now_ms))
            return False
        oldest = min(range(WAYS), key=lambda way: held[way][2])
        evicted = now_ms - held[oldest][2] < MEMORY_MS
        held[oldest] = (name, flow, now_ms)
        return evicted
