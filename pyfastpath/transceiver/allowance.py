"""How much one session may ask of the process that serves a thousand others. Pure."""

from __future__ import annotations

from math import inf


class Allowance:
    """`per_s` on average, `burst` at once. What was saved up is reckoned only when all is spent, so that a
    grant costs a subtraction; at most two bursts come together."""

    __slots__ = ("_burst", "_left", "_per_s", "_reckoned_s")

    def __init__(self, per_s: int, burst: int) -> None:
        self._per_s = per_s
        self._burst = burst
        self._left = 0
        self._reckoned_s = -inf  # the first one asked for finds a whole burst

    def take(self, now: float) -> bool:
        """One more, if it may be."""
        if not self._left:
            earned = int(min(self._burst, (now - self._reckoned_s) * self._per_s))
            if earned <= 0:
                return False
            self._left = earned
            self._reckoned_s = now if earned == self._burst else self._reckoned_s + earned / self._per_s
        self._left -= 1
        return True
