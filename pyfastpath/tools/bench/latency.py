"""What a latency histogram says, and the text file HDR tools read. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

TICKS: Final = 5  # lines of a percentile file for each halving of the distance to 100 %
STEPS: Final = 32  # buckets a power of two (fastpath/load/histogram.pxd): a value is right within 3.2 %


@dataclass(frozen=True, slots=True)
class Latency:
    """Counts by value: (nanoseconds, how many), ascending; the values are a histogram's buckets."""

    buckets: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, buckets: Iterable[tuple[int, int]]) -> Latency:
        """From a histogram of the data plane's load tools."""
        return cls(tuple((int(value_ns), int(count)) for value_ns, count in buckets))

    @classmethod
    def merged(cls, parts: Iterable[Latency]) -> Latency:
        """All parts as one."""
        total: Counter[int] = Counter()
        for part in parts:
            total.update(dict(part.buckets))
        return cls(tuple(sorted(total.items())))

    def minus(self, earlier: Latency) -> Latency:
        """What was noted since `earlier`, a histogram of the same."""
        left = Counter(dict(self.buckets))
        left.subtract(dict(earlier.buckets))
        return Latency(tuple(sorted((value, count) for value, count in left.items() if count > 0)))

    @property
    def count(self) -> int:
        """How many were noted."""
        return sum(count for _, count in self.buckets)

    def quantile_us(self, share: float) -> float | None:
        """The least value that `share` (0 to 1) of all do not exceed, in microseconds; None without any."""
        wanted, below = max(1, math.ceil(share * self.count)), 0
        for value_ns, count in self.buckets:
            below += count
            if below >= wanted:
                return value_ns / 1000
        return None

    @property
    def mean_us(self) -> float:
        """The mean, 0 without any."""
        return sum(value * count for value, count in self.buckets) / max(1, self.count) / 1000

    @property
    def deviation_us(self) -> float:
        """The standard deviation, 0 without any."""
        mean_ns = self.mean_us * 1000
        squares = sum(count * (value - mean_ns) ** 2 for value, count in self.buckets)
        return math.sqrt(squares / max(1, self.count)) / 1000


def hgrm(latency: Latency) -> str:
    """Percentiles in the text form of HdrHistogram (`.hgrm`), values in microseconds, for its plotters."""
    lines = ["       Value     Percentile TotalCount 1/(1-Percentile)", ""]
    total, below, wanted = latency.count, 0, 0.0
    for value_ns, count in latency.buckets:
        below += count
        if below < wanted * total and below < total:
            continue
        reached = below / total
        inverse = "inf" if below == total else f"{1 / (1 - reached):.2f}"
        lines.append(f"{value_ns / 1000:12.3f} {reached:14.12f} {below:10d} {inverse:>16}")
        while wanted <= reached < 1:
            wanted += _step(wanted)
    longest_us = latency.buckets[-1][0] / 1000 if latency.buckets else 0.0
    lines += [
        f"#[Mean    = {latency.mean_us:12.3f}, StdDeviation   = {latency.deviation_us:12.3f}]",
        f"#[Max     = {longest_us:12.3f}, Total count    = {total:12d}]",
        f"#[Buckets = {len(latency.buckets):12d}, SubBuckets     = {STEPS:12d}]",
    ]
    return "\n".join(lines) + "\n"


def _step(share: float) -> float:
    """From one percentile of the file to the next: finer with each halving of the distance to 100 %."""
    return 1 / (TICKS * 2.0 ** (math.floor(math.log2(1 / (1 - share))) + 1))
