"""What is measured, and what is seen of it while it runs: slices for a confidence interval, glances to watch.

A meter asks a `Reading` for totals; it does not know whether datagrams are sent or sessions opened.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pyfastpath.tools.bench.figures import Interval
from pyfastpath.tools.bench.latency import Latency

INTERVALS: Final = 10
WATCH_S: Final = 0.2  # as often as a line can be read


@dataclass(frozen=True, slots=True)
class Glance:
    """What a run looks like while it goes on. p99_us: None before anything arrived."""

    seconds: float
    sent: int
    forwarded: int
    p99_us: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What to do. rate_pps 0: a flood. cpu_ns: reads the relay's CPU time; watch: called while it runs."""

    way: str
    rate_pps: int
    seconds: float
    warmup_s: float = 0.0
    cpu_ns: Callable[[], int] | None = None
    watch: Callable[[Glance], None] | None = None


@dataclass(frozen=True, slots=True)
class Reading:
    """Totals so far, read while threads count: (sent, forwarded), and the latencies of the measurement."""

    totals: Callable[[], tuple[int, int]]
    latency: Callable[[], Latency]


class Meter:
    """From the moment it is made until `end`: CPU time, and slices whose spread says how sure a mean is."""

    def __init__(self, work: Work, reading: Reading) -> None:
        self.intervals: list[Interval] = []
        self._work, self._reading = work, reading
        self._first = self._last = reading.totals()
        self._first_cpu_ns = self._last_cpu_ns = self._cpu_ns()
        self._began_s = self._last_s = self._watched_s = time.monotonic()

    def tick(self) -> None:
        """Now and then during the run."""
        now_s = time.monotonic()
        if self._work.watch is not None and now_s - self._watched_s >= WATCH_S:
            self._watched_s = now_s
            sent, forwarded = self._reading.totals()
            p99_us = self._reading.latency().quantile_us(0.99)
            seconds = now_s - self._began_s
            self._work.watch(Glance(seconds, sent - self._first[0], forwarded - self._first[1], p99_us))
        on_schedule = now_s <= self._began_s + self._work.seconds  # what drains afterwards is in no slice
        if on_schedule and now_s - self._last_s >= self._work.seconds / INTERVALS:
            self._close_slice(now_s)

    def end(self) -> int | None:
        """The relay's CPU time of the whole measurement, in nanoseconds; None when it cannot be seen."""
        return _difference(self._first_cpu_ns, self._cpu_ns())

    def _close_slice(self, now_s: float) -> None:
        (sent, forwarded), cpu_ns = self._reading.totals(), self._cpu_ns()
        self.intervals.append(
            Interval(
                now_s - self._last_s,
                sent - self._last[0],
                forwarded - self._last[1],
                _difference(self._last_cpu_ns, cpu_ns),
            )
        )
        self._last, self._last_s, self._last_cpu_ns = (sent, forwarded), now_s, cpu_ns

    def _cpu_ns(self) -> int | None:
        return None if self._work.cpu_ns is None else self._work.cpu_ns()


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before
