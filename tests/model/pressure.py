"""A worker's pressure in plain words, with a clock that never wraps: what fastpath/pressure must equal."""

from dataclasses import dataclass

NOTHING, UNKNOWN, NEW, BULK, VIDEO, RTCP, VOICE = range(7)
STANDS_MS = 5
LOOK_MS = 20
RISE_MS = 100
FALL_MS = 10
RELAPSE_MS = 1000


@dataclass(frozen=True)
class Evidence:
    """Since the last look: dropped by the kernel, received, forwarded; and what waits now."""

    waiting_bytes: int = 0
    dropped: int = 0
    received: int = 0
    forwarded: int = 0


class Pressure:
    """`turn` after each turn; where it says so, `look`."""

    def __init__(self) -> None:
        self.level = NOTHING
        self._stands_since_ms: int | None = None
        self._last_look_ms = 0
        self._calm_since_ms = 0
        self._smallest: tuple[int, int] | None = (
            None  # when the queue was last smaller than ever since, how small
        )
        self._last_fall: tuple[int, int] | None = None  # when, from which level

    def turn(self, now_ms: int, full: bool) -> bool:
        if not full:
            self._stands_since_ms = None
            while self.level > NOTHING and now_ms - self._calm_since_ms >= FALL_MS:
                self._last_fall = (now_ms, self.level)
                self.level -= 1
                self._calm_since_ms += FALL_MS
            return False
        if self._stands_since_ms is None:
            self._stands_since_ms = self._last_look_ms = now_ms
            self._smallest = None
        if now_ms - self._stands_since_ms >= STANDS_MS:
            self._calm_since_ms = now_ms
        return now_ms - self._last_look_ms >= LOOK_MS

    def look(self, now_ms: int, seen: Evidence) -> None:
        self._last_look_ms = now_ms
        if self._smallest is None or seen.waiting_bytes < self._smallest[1]:
            self._smallest = (now_ms, seen.waiting_bytes)
        if self._is_overload(now_ms, seen, grows_since_ms=self._smallest[0]):
            self.level += 1
            self._calm_since_ms = now_ms
            self._smallest = (now_ms, seen.waiting_bytes)

    def _is_overload(self, now_ms: int, seen: Evidence, grows_since_ms: int) -> bool:
        next_step = self.level + 1
        if next_step > VOICE:
            return False
        hurts_live_calls = next_step >= BULK
        if hurts_live_calls and 4 * seen.forwarded < seen.received:
            return False
        if seen.dropped > 0 or self._relapsed(now_ms):
            return True
        return next_step <= VIDEO and now_ms - grows_since_ms >= RISE_MS

    def _relapsed(self, now_ms: int) -> bool:
        if self._last_fall is None:
            return False
        when_ms, level = self._last_fall
        return self.level < level and now_ms - when_ms < RELAPSE_MS
