"""From what was counted to what is said: rates, loss, CPU a datagram, latency, and what makes a run invalid.

Pure. In echo a datagram counts as forwarded in each direction; loss is of whole round trips.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median, stdev
from typing import Any, Final

from pyfastpath.tools.bench.latency import Latency

HEADROOM: Final = 0.8  # nearer to the generator's own rate than this, and the generator was measured
RATE_HELD: Final = 0.99  # a schedule missed by more is no schedule
LATE_SHARE_MAX: Final = 0.05  # more datagrams than this 1 ms behind: their latency is the generator's
# Student's t for a 95 % interval, by degrees of freedom; from 30 on the normal value is close enough.
_T95: Final = (
    *(math.inf, 12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13),
    *(2.12, 2.11, 2.10, 2.09, 2.09, 2.08, 2.07, 2.07, 2.06, 2.06, 2.06, 2.05, 2.05, 2.05),
)


@dataclass(frozen=True, slots=True)
class Interval:
    """A slice of a measurement. cpu_ns: the relay's, None when nobody can see it."""

    seconds: float
    sent: int
    forwarded: int
    cpu_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement, warm-up left out. rate_pps: what was asked for, 0 for a flood. In mode setup a
    datagram is a session: sent are requests' sessions, forwarded those that were confirmed."""

    rate_pps: int
    seconds: float
    sent: int
    forwarded: int
    lost: int
    duplicates: int = 0
    misrouted: int = 0
    reordered: int = 0
    late: int = 0
    late_max_us: float = 0.0
    retried: int = 0
    cpu_ns: int | None = None
    latency: Latency = field(default_factory=Latency)
    intervals: tuple[Interval, ...] = ()

    @property
    def sent_pps(self) -> float:
        """Datagrams the generator sent a second."""
        return self.sent / self.seconds

    @property
    def forwarded_pps(self) -> float:
        """Datagrams forwarded a second, both directions of an echo."""
        return self.forwarded / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table. path: no relay, plain, trunk, or the address of a relay that was named.

    floods       where its throughput comes from; empty when only a schedule was run
    paced        where CPU and loss come from; empty when only a flood was run
    timed        where latency comes from, when that was measured apart
    own_pps      what the generator sends a second without a relay, None for that row itself
    drops        what the relay says it dropped, by reason
    """

    path: str
    mode: str
    floods: tuple[Sample, ...] = ()
    paced: tuple[Sample, ...] = ()
    timed: tuple[Sample, ...] = ()
    own_pps: float | None = None
    drops: tuple[tuple[str, int], ...] = ()

    @property
    def judged(self) -> tuple[Sample, ...]:
        """The samples that CPU and what was lost, doubled or late are taken from."""
        return self.paced or self.floods

    @property
    def latency(self) -> Latency:
        """All latencies of the samples they are taken from."""
        return Latency.merged(sample.latency for sample in self.timed or self.judged)

    @property
    def label(self) -> str:
        """For messages: `trunk echo`."""
        return f"{self.path} {self.mode}"

    @property
    def generator_bound(self) -> bool:
        """Was the flood so near to the generator's own rate that the relay was not the narrow place?"""
        if self.own_pps is None or not self.floods:
            return False
        return median(sample.sent_pps for sample in self.floods) > HEADROOM * self.own_pps


def figures(row: Row) -> dict[str, float | None]:
    """Every figure a gate can name; None for what was not measured."""
    samples = row.judged
    latency = row.latency
    cpu_ns, _ = cpu(samples)
    sent = sum(sample.sent for sample in samples)
    return {
        "loss": sum(sample.lost for sample in samples) / sent if sent else None,
        **{name: _sum(samples, name) for name in ("lost", "duplicates", "misrouted", "reordered")},
        "p50_us": latency.quantile_us(0.5),
        "p90_us": latency.quantile_us(0.9),
        "p99_us": latency.quantile_us(0.99),
        "p999_us": latency.quantile_us(0.999),
        "max_us": latency.quantile_us(1),
        "pps": throughput(row)[0],
        "cpu_ns": cpu_ns,
        "late": _sum(samples, "late"),
    }


def throughput(row: Row) -> tuple[float, float]:
    """Datagrams forwarded a second, and half of its 95 % confidence interval."""
    samples = row.floods or row.paced
    rates = [each.forwarded / each.seconds for sample in samples for each in sample.intervals if each.seconds]
    return median(sample.forwarded_pps for sample in samples), half_interval(rates)


def cpu(samples: Sequence[Sample]) -> tuple[float | None, float]:
    """Nanoseconds of relay CPU a forwarded datagram, and half of its 95 % confidence interval."""
    known = [sample for sample in samples if sample.cpu_ns is not None and sample.forwarded]
    if not known:
        return None, math.nan
    slices = [
        each.cpu_ns / each.forwarded
        for sample in known
        for each in sample.intervals
        if each.cpu_ns is not None and each.forwarded
    ]
    total = sum(sample.cpu_ns or 0 for sample in known)
    return total / sum(sample.forwarded for sample in known), half_interval(slices)


def half_interval(values: Sequence[float]) -> float:
    """Half of the 95 % confidence interval of the mean; NaN from fewer than two values."""
    if len(values) < 2:
        return math.nan
    t = _T95[len(values) - 1] if len(values) <= len(_T95) else 1.96
    return t * stdev(values) / math.sqrt(len(values))


def invalid(row: Row) -> list[str]:
    """Why what was measured is no measurement of the relay; empty when it is one."""
    if not row.paced:
        return []
    asked = row.paced[0].rate_pps
    sent = fmean(sample.sent_pps for sample in row.paced)
    late, count = _sum(row.paced, "late"), _sum(row.paced, "sent")
    found = []
    if sent < RATE_HELD * asked:
        found.append(f"the generator held {sent / 1000:,.1f} k/s of the {asked / 1000:,.1f} k/s asked for")
    elif late > LATE_SHARE_MAX * count:
        longest = max(sample.late_max_us for sample in row.paced)
        found.append(
            f"{late / count:.0%} of the datagrams left more than 1 ms late, up to {longest / 1000:,.1f} ms"
        )
    if row.own_pps is not None and asked > HEADROOM * row.own_pps:
        found.append(
            f"{asked / 1000:,.1f} k/s leave the generator no headroom: its own rate here is "
            f"{row.own_pps / 1000:,.1f} k/s, and more than {HEADROOM:.0%} of it measures the generator"
        )
    return [f"{row.label}: {reason}" for reason in found]


def row_json(row: Row) -> dict[str, Any]:
    """Everything that is known of a row, for the JSON file."""
    _, pps_half = throughput(row)
    _, cpu_half = cpu(row.judged)
    return {
        "path": row.path,
        "mode": row.mode,
        "generator_bound": row.generator_bound,
        "own_pps": row.own_pps,
        "asked_pps": row.paced[0].rate_pps if row.paced else None,
        "sent_pps": median(sample.sent_pps for sample in row.judged),
        "figures": figures(row),
        "pps_95": _finite(pps_half),
        "cpu_ns_95": _finite(cpu_half),
        "retried": _sum(row.judged, "retried"),
        "relay_dropped": dict(row.drops),
        "invalid": invalid(row),
        "samples": [
            {"kind": kind, **_sample_json(sample)}
            for kind, samples in (("flood", row.floods), ("paced", row.paced), ("timed", row.timed))
            for sample in samples
        ],
        "latency_ns": [list(bucket) for bucket in row.latency.buckets],
    }


def _sample_json(sample: Sample) -> dict[str, Any]:
    names = ("rate_pps", "seconds", "sent", "forwarded", "lost", "duplicates", "misrouted", "reordered")
    return {name: getattr(sample, name) for name in (*names, "late", "late_max_us", "retried", "cpu_ns")} | {
        "intervals": [[each.seconds, each.sent, each.forwarded, each.cpu_ns] for each in sample.intervals]
    }


def _sum(samples: Iterable[Sample], name: str) -> int:
    return sum(getattr(sample, name) for sample in samples)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
