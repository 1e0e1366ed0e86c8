"""A drain from its announcement to its end. Pure: `now_s` is the monotonic clock.

    announced ── notice ──> refusing new flows ── the last live flow ends, or the deadline passes ──> over

While it is only announced the relay says that it is not ready and still takes new flows: whoever asks for
readiness now and then has time to send them elsewhere.
"""

from __future__ import annotations

import msgspec


class Drain(msgspec.Struct, frozen=True):
    """refuses_s: when new flows are refused from. deadline_s: when nobody waits any longer; None: never.
    ends: the process ends when the drain is over (SIGTERM)."""

    refuses_s: float
    deadline_s: float | None = None
    ends: bool = False

    def refuses(self, now_s: float) -> bool:
        """Is the notice over?"""
        return now_s >= self.refuses_s

    def is_done(self, now_s: float, live: int) -> bool:
        """No live flow is left, and none can come."""
        return self.refuses(now_s) and live == 0

    def is_over(self, now_s: float, live: int) -> bool:
        """Done, or nobody waits any longer."""
        return self.is_done(now_s, live) or (self.deadline_s is not None and now_s >= self.deadline_s)

    def left_s(self, now_s: float) -> float | None:
        """Until the deadline; None without one."""
        return None if self.deadline_s is None else max(0.0, self.deadline_s - now_s)


def begun(old: Drain | None, now_s: float, *, notice_s: float = 0.0, wait_s: float | None = None) -> Drain:
    """An operator's drain. One that runs already refuses no later than it would have; the newest deadline
    holds. Without one, a process that was told to end keeps its own: it waits for nobody for ever."""
    refuses_s = now_s + notice_s if old is None else min(old.refuses_s, now_s + notice_s)
    ends = old is not None and old.ends
    deadline_s = old.deadline_s if old is not None and ends else None
    if wait_s is not None:
        deadline_s = now_s + wait_s
    return Drain(refuses_s, deadline_s, ends)


def ending(old: Drain | None, now_s: float, wait_s: float) -> Drain:
    """The drain of a process that was told to end: it refuses at once, and no earlier deadline is put off."""
    deadline_s = now_s + wait_s
    if old is not None and old.deadline_s is not None:
        deadline_s = min(deadline_s, old.deadline_s)
    return Drain(now_s, deadline_s, ends=True)
