"""The targets: ratios of CPU a datagram, latency, scale; each evaluated against a run's samples.

Pure. A target is met, missed, reported (it has no limit) or not measurable, and then it says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bench.figures import Cell, Ratio, added_us, cost_ratio, middle, valid

TRUNK, PLAIN = "fastpath trunk", "fastpath plain"
SHARED, FLOW, SAME = "C mmsg, one socket", "C mmsg, socket a flow", "C trunk, 500 µs"
UP, BOTH = ("flood up", "paced up"), ("flood echo", "paced echo")  # the flood, where all had headroom
VOICE, BOTH_25K = ("voice up",), ("voice both ways",)
TITLES = {UP: "up", BOTH: "both ways", VOICE: "50/s × 1,000 up", BOTH_25K: "25k + 25k both ways"}
SCALE_FLOWS = (1000, 100_000)


@dataclass(frozen=True)
class Target:
    """CPU a datagram of ours over theirs must not exceed the limit. prototype: what a C prototype reached."""

    ours: str
    theirs: str
    workloads: tuple[str, ...]
    topology: str
    limit: float | None
    prototype: float | None = None


@dataclass(frozen=True)
class Verdict:
    """One line of the table of targets."""

    what: str
    against: str
    topology: str
    limit: str
    values: tuple[float, ...]
    state: str
    remark: str


TARGETS = (
    Target(PLAIN, FLOW, UP, "loopback", 1.15),
    Target(PLAIN, "coturn", UP, "loopback", 0.90),
    Target(PLAIN, "Go relay", UP, "loopback", 0.90),
    Target(PLAIN, "nginx stream", UP, "loopback", 0.80),
    Target(TRUNK, SHARED, UP, "loopback", 0.25, 0.20),
    Target(TRUNK, "coturn", UP, "loopback", 0.17, 0.14),
    Target(TRUNK, "Go relay", UP, "loopback", 0.18, 0.15),
    Target(TRUNK, "nginx stream", UP, "loopback", 0.18, 0.14),
    Target(TRUNK, SHARED, BOTH, "loopback", 0.55, 0.53),
    Target(TRUNK, "coturn", BOTH, "loopback", 0.38, 0.34),
    Target(TRUNK, "Go relay", BOTH, "loopback", 0.45, 0.44),
    Target(TRUNK, "nginx stream", BOTH, "loopback", 0.40, 0.37),
    Target(TRUNK, SHARED, VOICE, "loopback", 0.22, 0.20),
    Target(TRUNK, "coturn", VOICE, "loopback", 0.17, 0.14),
    Target(TRUNK, "Go relay", VOICE, "loopback", 0.12, 0.11),
    Target(TRUNK, "nginx stream", VOICE, "loopback", 0.18, 0.15),
    Target(TRUNK, SHARED, BOTH_25K, "loopback", 0.50, 0.49),
    Target(TRUNK, "Go relay", BOTH_25K, "loopback", 0.25, 0.24),
    Target(TRUNK, f"{SHARED}, 500 µs", VOICE, "loopback", None, 0.32),
    Target(TRUNK, SHARED, UP, "rps", 0.38, 0.33),
    Target(TRUNK, SHARED, BOTH, "rps", 0.42, 0.38),
    Target(TRUNK, SHARED, VOICE, "rps", 0.38, 0.35),
    Target(TRUNK, SHARED, UP, "inline", None, 0.61),
    Target(TRUNK, SHARED, BOTH, "inline", None, 0.56),
    *(
        Target(TRUNK, SAME, workloads, topology, 1.10)
        for topology in ("loopback", "inline", "rps")
        for workloads in (UP, BOTH, VOICE, BOTH_25K)
    ),
)
# Leaves and tables: the name of the micro benchmark, the most nanoseconds an operation may take, what it is.
LEAVES = (
    ("route_lookup_at_a_million", 60.0, "route look-up at 1 M, batches of 64"),
    ("routes_installed_from_python", 5000.0, "a route installed from Python (200,000/s)"),
    ("new_flow_under_a_valid_token", 2000.0, "a first datagram, from STUN to forwarded"),
)
NEW_FLOWS_LEAST = 300_000  # a second on a core, everything the kernel does for them included
REFUSED_LEAST = 0.9  # forged tokens, of the rate at which datagrams can be received at all


def verdicts(result: dict[str, Any]) -> list[Verdict]:
    """Every target, in the order of the tables."""
    return [
        *(_judged(result, each) for each in TARGETS),
        *_sizes(result),
        *_latency(result),
        *_scale(result),
        *_leaves(result),
        *_newcomers(result),
    ]


def _judged(result: dict[str, Any], target: Target) -> Verdict:
    """The first of the workloads that gives a ratio: a flood's only where both had headroom."""
    reasons, found, source = [], Ratio(), ""
    for workload in target.workloads:
        cells = (Cell(target.topology, who, workload) for who in (target.ours, target.theirs))
        found = cost_ratio(result, *cells)
        source = workload
        if found.values:
            break
        reasons.append(f"{workload}: {found.why}")
    limit = "–" if target.limit is None else f"≤ {target.limit:.2f}"
    if target.prototype is not None:
        limit += f" ({target.prototype:.2f})"
    return Verdict(
        f"{target.ours}, {TITLES[target.workloads]}",
        target.theirs,
        target.topology,
        limit,
        found.values,
        _state(found.median, target.limit),
        f"from {source}" if found.values else "; ".join(dict.fromkeys(reasons)),
    )


def _state(value: float | None, limit: float | None) -> str:
    if value is None:
        return "not measurable"
    if limit is None:
        return "reported"
    return "met" if value <= limit else "missed"


def _sizes(result: dict[str, Any]) -> Iterator[Verdict]:
    """Sizes that vary must keep the gain of bundling: beside bare GSO, whose runs they break."""
    for theirs, limit, prototype in ((SHARED, None, None), ("C trunk, GSO alone, 500 µs", None, 0.68)):
        cells = (Cell("loopback", who, "spread up", "sizes") for who in (TRUNK, theirs))
        found = cost_ratio(result, *cells)
        yield Verdict(
            "fastpath trunk, up, sizes ± 24 bytes",
            theirs,
            "loopback",
            "–" if prototype is None else f"– ({prototype:.2f})",
            found.values,
            _state(found.median, limit),
            found.why,
        )


def _latency(result: dict[str, Any]) -> Iterator[Verdict]:
    """What the relay adds at 50,000/s; the percentiles beyond the median are shown, never judged."""
    budgets = [(f"fastpath trunk, {us} µs", "coalescing", 0.5 * us + 80) for us in (0, 100, 200, 500, 1000)]
    for who, scenario, limit_us in [("fastpath plain, spin", "latency", 6.0), *budgets]:
        found = added_us(result, Cell("loopback", who, "latency up", scenario))
        yield Verdict(
            f"{who}: p50 added at 50,000/s, µs",
            "no relay",
            "loopback",
            f"≤ {limit_us:.0f}",
            found.values,
            _state(found.median, limit_us),
            found.why,
        )


def _scale(result: dict[str, Any]) -> Iterator[Verdict]:
    few, many = (valid(result, Cell("loopback", TRUNK, "scale up", "scale", flows)) for flows in SCALE_FLOWS)
    both = sorted(few.keys() & many.keys())
    values = tuple(many[n]["ns_per_datagram"] / few[n]["ns_per_datagram"] for n in both)
    yield Verdict(
        "fastpath trunk at 100,000 flows",
        "itself at 1,000",
        "loopback",
        "≤ 1.25",
        values,
        _state(Ratio(values).median, 1.25),
        "" if values else "no round in which both were valid",
    )


def _newcomers(result: dict[str, Any]) -> Iterator[Verdict]:
    """Rates are inverse costs: what one core could carry if it did nothing else."""
    ns = {each["name"]: each["ns"] for each in result.get("newcomers", [])}
    opened = tuple(1e9 / one for one in ns.get("new flow", ()))
    pairs = zip(ns.get("stranger", ()), ns.get("forged", ()), strict=True)
    refused = tuple(bare / forged for bare, forged in pairs)
    for what, values, least, form in (
        ("new flows a second under valid tokens", opened, NEW_FLOWS_LEAST, f"≥ {NEW_FLOWS_LEAST:,}"),
        ("forged tokens refused, of the bare receive rate", refused, REFUSED_LEAST, f"≥ {REFUSED_LEAST}"),
    ):
        middle_value = Ratio(values).median
        state = _state(None if middle_value is None else -middle_value, -least)
        yield Verdict(what, "–", "loopback", form, values, state, "" if values else "not measured")


def _leaves(result: dict[str, Any]) -> Iterator[Verdict]:
    for name, limit_ns, what in LEAVES:
        found = [each for each in result["micro"] if each["name"] == name]
        value = middle(found, "median_ns")
        yield Verdict(
            f"{what}, ns",
            "–",
            "micro",
            f"≤ {limit_ns:,.0f}",
            () if value is None else (value,),
            _state(value, limit_ns),
            "" if found else "the micro benchmark did not run",
        )
