"""How often one client may ask: a token bucket an address, in bounded memory."""

from math import ceil
from typing import Final

from pyfastpath.access import client_key

CLIENTS_MAX: Final = 65_536
_SWEEP: Final = 64  # buckets looked at for each one that is made


class RateLimit:
    """`per_minute` requests a client on average, and as many at once. 0: no limit."""

    def __init__(self, per_minute: int, clients_max: int = CLIENTS_MAX) -> None:
        self._per_s = per_minute / 60
        self._burst = float(per_minute)
        self._clients_max = clients_max
        self._buckets: dict[str, tuple[float, float]] = {}  # client -> (tokens, when counted); oldest first

    def __len__(self) -> int:
        """Clients remembered."""
        return len(self._buckets)

    def take(self, client: str, now: float) -> int:
        """0 when the request may go on, else the whole seconds after which one may."""
        if not self._burst:
            return 0
        key = client_key(client)
        tokens, counted = self._buckets.pop(key, (self._burst, now))
        tokens = min(self._burst, tokens + max(0.0, now - counted) * self._per_s)
        granted = tokens >= 1
        self._make_room(now)
        self._buckets[key] = (tokens - granted, now)
        return 0 if granted else max(1, ceil((1 - tokens) / self._per_s))

    def _make_room(self, now: float) -> None:
        """Forget who has a full bucket again; in need, whoever came longest ago."""
        full_after_s = self._burst / self._per_s
        for _ in range(_SWEEP):
            oldest = next(iter(self._buckets), None)
            if oldest is None or now - self._buckets[oldest][1] < full_after_s:
                break
            del self._buckets[oldest]
        while len(self._buckets) >= self._clients_max:
            del self._buckets[next(iter(self._buckets))]
