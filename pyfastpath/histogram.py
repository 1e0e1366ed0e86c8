"""Counts by upper bound, as Prometheus has them: what processes that count in Python share. Pure."""

from __future__ import annotations

from bisect import bisect_left


class Histogram:
    """Values counted by upper bound; the last bucket has none. In the unit of the bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """A value of exactly a bound counts into its bucket."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were observed."""
        return sum(self.counts)

    def cumulative(self) -> list[tuple[str, float]]:
        """Buckets as prometheus_client wants them: (upper bound, values up to it), "+Inf" last."""
        total, buckets = 0.0, []
        for bound, count in zip((*map(repr, self.bounds), "+Inf"), self.counts, strict=True):
            total += count
            buckets.append((bound, total))
        return buckets
