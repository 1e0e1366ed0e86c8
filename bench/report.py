"""A run's result as Markdown: targets, ratios, every relay, and what may not be compared.

Pure: the result's plain values in, text out (tests/bench/test_report.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median
from typing import Any

from bench.figures import (
    DISTURBED,
    NOBODY,
    Cell,
    Result,
    added_us,
    cost_ratio,
    faults,
    generator_bound,
    middle,
    samples,
    valid,
)
from bench.targets import BOTH, BOTH_25K, PLAIN, TITLES, TRUNK, UP, VOICE, verdicts

TOPOLOGIES = ("loopback", "inline", "rps")
RIVALS = ("nginx stream", "coturn", "rtpengine", "Go relay", "uvloop relay")
MEANING = {
    "loopback": "everything on lo; the sender's CPU pays for the receiver's softirq",
    "inline": "three namespaces and two veth pairs; softirq on the sender's CPU",
    "rps": "the same, each end's receive softirq on its owner's core; CPU is the relay's whole core",
}
TARGET_HEAD = ("what", "against", "topology", "target (prototype)", "median", "least-most", "", "remark")
RELAY_HEAD = ("workload", "relay", "CPU ns a datagram", "least-most", "k/s", "p50 µs", "p99 µs", "remarks")
Row = Sequence[str]


def report(result: Result, plots: Sequence[str] = ()) -> str:
    """The whole document. plots: file names beside it."""
    sections = (
        ("The headline: forwarded datagrams per CPU second of the relay, ours over theirs", headline(result)),
        ("Targets: CPU a datagram, ours over theirs", table(TARGET_HEAD, _targets(result))),
        *((f"Every relay: {name}", _relays(result, name)) for name in result["topologies"]),
        (
            "Latency added at 50,000 datagrams/s, loopback, nobody naps (µs)",
            table(("relay", "p50", "p99", "p99.9"), _latency(result)),
        ),
        (
            "Cost against the number of flows (CPU ns a datagram, loopback)",
            _grid(result, "scale", "scale up"),
        ),
        (
            "Cost and latency against the coalescing budget (50/s × 1,000 up, loopback)",
            table(("relay", "CPU ns a datagram", "p50 added µs"), _coalescing(result)),
        ),
        (
            "Sizes that vary by ± 24 bytes (CPU ns a datagram, loopback)",
            _grid(result, "sizes", "spread up"),
        ),
        (
            "Newcomers (CPU of the relay a client, loopback)",
            table(("who", "ns", "least-most"), _newcomers(result.get("newcomers", []))),
        ),
        (
            "Leaves and tables (pytest-benchmark)",
            table(("operation", "median ns", "least ns", "a second"), _micro(result["micro"])),
        ),
    )
    machine = ((key, _plain(value)) for key, value in result["machine"].items())
    parts = [
        f"# {result['kind']}, {result['date']}, commit {result['commit']}\n",
        "" if result["finished"] else "**This run did not come to its end: what follows is a part.**\n",
        *(f"## {title}\n\n{text}" for title, text in sections[:1] if text),
        "".join(f"![{name.rpartition('-')[2].removesuffix('.svg')}]({name})\n" for name in plots),
        *(f"## {title}\n\n{text}" for title, text in sections[1:] if text),
        "## The run\n\n" + "".join(f"* {line}\n" for line in _settings(result)),
        table(("machine", ""), machine),
    ]
    return "\n".join(part for part in parts if part)


def headline(result: Result) -> str:
    """Ratios of our two modes against every rival, as a range over the topologies of the run."""
    rows = []
    for ours, workloads in (
        (TRUNK, UP),
        (TRUNK, VOICE),
        (TRUNK, BOTH),
        (TRUNK, BOTH_25K),
        (PLAIN, UP),
        (PLAIN, BOTH),
    ):
        cells = [_range(result, ours, theirs, workloads) for theirs in RIVALS]
        if any(cells):
            rows.append(
                [f"{ours.removeprefix('fastpath ')}, {TITLES[workloads]}", *(cell or "–" for cell in cells)]
            )
    return table(("", *RIVALS), rows)


def table(head: Row, rows: Iterable[Row]) -> str:
    """A Markdown table; nothing when it has no row."""
    found = list(rows)
    if not found:
        return ""
    lines = [head, ["---"] * len(head), *found]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _range(result: Result, ours: str, theirs: str, workloads: Sequence[str]) -> str:
    """Least to most over the topologies, each the median of its rounds, from the schedules alone: there
    everybody does the same work."""
    found = [
        1 / ratio.median
        for topology in TOPOLOGIES
        if (
            ratio := cost_ratio(result, *(Cell(topology, who, workloads[-1]) for who in (ours, theirs)))
        ).median
    ]
    if not found:
        return ""
    low, high = f"{min(found):.1f}", f"{max(found):.1f}"
    return f"{low} ×" if low == high else f"{low}–{high} ×"


def _targets(result: Result) -> Iterator[Row]:
    for each in verdicts(result):
        if result["kind"] != "bench" and not each.values:
            continue  # a short run measures few of them, on purpose
        middle_value = f"**{_figure(median(each.values))}**" if each.values else ""
        spread = f"{_figure(min(each.values))}-{_figure(max(each.values))}" if len(each.values) > 1 else ""
        yield (
            each.what,
            each.against,
            each.topology,
            each.limit,
            middle_value,
            spread,
            each.state,
            each.remark,
        )


def _figure(value: float) -> str:
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.0f}"


def _relays(result: Result, topology: str) -> str:
    """Every relay, every workload of one topology."""
    rows = list(_cells(result, topology))
    meaning = MEANING[topology]
    return f"{meaning[0].upper()}{meaning[1:]}.\n\n{table(RELAY_HEAD, rows)}" if rows else ""


def _cells(result: Result, topology: str) -> Iterator[Row]:
    here = [each for each in result["samples"] if each["topology"] == topology]
    workloads = dict.fromkeys(each["workload"] for each in here if each["scenario"] == "relays")
    for workload in workloads:
        own = samples(result, Cell(topology, NOBODY, workload, "own"))
        if own:
            speed = _kilo(middle(own.values(), "forwarded_pps"))
            yield workload, NOBODY, "", "", speed, *_latencies(own), "the generator's own"
        for who in dict.fromkeys(each["contestant"] for each in here if each["scenario"] == "relays"):
            cell = Cell(topology, who, workload)
            if samples(result, cell):
                yield _row(result, cell)


def _row(result: Result, cell: Cell) -> Row:
    everything, good = samples(result, cell), valid(result, cell)
    shown = good or everything
    costs = [each["ns_per_datagram"] for each in shown.values() if each["ns_per_datagram"] is not None]
    speed = _kilo(middle(shown.values(), "forwarded_pps"))
    remarks = list(dict.fromkeys(fault for each in everything.values() for fault in faults(each)))
    if remarks:
        remarks.append(f"{len(good)} of {len(everything)} rounds valid")
    if generator_bound(result, cell):
        speed = f"≥ {speed}"
        remarks.append("generator-bound")
    others = middle(shown.values(), "others_share")
    if others is None:  # the whole core is counted: what it did before anybody sent anything was others' work
        others = middle((each for each in result["quiet"] if each["topology"] == cell.topology), "share")
    if others is not None and others > DISTURBED:
        remarks.append(f"disturbed: others used {others:.0%} of the relay's CPU")
    name = cell.contestant if good else f"~~{cell.contestant}~~"
    cost, spread = (f"{median(costs):,.0f}", f"{min(costs):,.0f}-{max(costs):,.0f}") if costs else ("", "")
    return cell.workload, name, cost, spread, speed, *_latencies(shown), "; ".join(remarks)


def _latencies(found: dict[int, dict[str, Any]]) -> tuple[str, str]:
    p50, p99 = (middle(found.values(), key) for key in ("p50_us", "p99_us"))
    return f"{p50:,.0f}", f"{p99:,.0f}"


def _latency(result: Result) -> Iterator[Row]:
    keys = ("p50_us", "p99_us", "p999_us")
    own = samples(result, Cell("loopback", NOBODY, "latency up", "own")).values()
    here = [each for each in result["samples"] if each["scenario"] == "latency"]
    if here and own:
        yield f"{NOBODY}: not added, but in all of them", *(f"{middle(own, key):,.1f}" for key in keys)
    for who in dict.fromkeys(each["contestant"] for each in here):
        cell = Cell("loopback", who, "latency up", "latency")
        found = [added_us(result, cell, key).median for key in keys]
        yield who, *("invalid" if value is None else f"{value:,.1f}" for value in found)


def _coalescing(result: Result) -> Iterator[Row]:
    here = [each for each in result["samples"] if each["scenario"] == "coalescing"]
    for who in sorted(dict.fromkeys(each["contestant"] for each in here), key=budget_of):
        costs = valid(result, Cell("loopback", who, "voice up", "coalescing"))
        added = added_us(result, Cell("loopback", who, "latency up", "coalescing")).median
        cost = middle(costs.values(), "ns_per_datagram")
        yield who, "" if cost is None else f"{cost:,.0f}", "" if added is None else f"{added:,.0f}"


def budget_of(name: str) -> tuple[str, int]:
    """The relay and its coalescing budget in µs, from its name."""
    base, separator, rest = name.rpartition(", ")
    return (base, int(rest.removesuffix(" µs"))) if separator and rest.endswith(" µs") else (name, 0)


def _grid(result: Result, scenario: str, workload: str) -> str:
    """Contestants down, numbers of flows across."""
    here = [each for each in result["samples"] if each["scenario"] == scenario]
    counts = sorted({each["flows"] for each in here})
    rows = []
    for who in dict.fromkeys(each["contestant"] for each in here):
        found = (valid(result, Cell("loopback", who, workload, scenario, flows)) for flows in counts)
        costs = [middle(each.values(), "ns_per_datagram") for each in found]
        rows.append([who, *("invalid" if cost is None else f"{cost:,.0f}" for cost in costs)])
    return table(("relay", *(f"{flows:,} flows" for flows in counts)), rows)


def _newcomers(rows: list[dict[str, Any]]) -> Iterator[Row]:
    for row in rows:
        yield row["name"], f"{median(row['ns']):,.0f}", f"{min(row['ns']):,.0f}-{max(row['ns']):,.0f}"


def _micro(rows: list[dict[str, Any]]) -> Iterator[Row]:
    for row in rows:
        yield row["name"], f"{row['median_ns']:.1f}", f"{row['min_ns']:.1f}", f"{1e9 / row['median_ns']:,.0f}"


def _settings(result: Result) -> Iterator[str]:
    settings = result["settings"]
    yield "1,000 flows and datagrams of 172 bytes where nothing else is said"
    yield (
        f"{settings['rounds']} rounds; every workload {settings['warmup_s']} s to warm up, "
        f"{settings['measure_s']} s measured; floods with at most {settings['window']} in flight"
    )
    yield "one worker each; the relay on CPU 0, generator and sink together on CPU 1"
    yield "both ways count a datagram in each direction; ratios are taken inside a round, then the median"
    yield "a relay's CPU: the clocks of its processes; in rps the whole core, wall − idle − iowait − steal"
    for topology, rates in result["own_pps"].items():
        known = ", ".join(f"{workload} {rate / 1000:,.0f} k/s" for workload, rate in rates.items())
        quiet = [each["share"] for each in result["quiet"] if each["topology"] == topology]
        idle = f"; the relay's core without load: {median(quiet):.1%} busy" if quiet else ""
        yield f"{topology}: {MEANING[topology]}; the generator alone sends {known}{idle}"
    yield from (f"left out: {reason}" for reason in result["left_out"])
    for each in result["failures"]:
        where = f"{each['scenario']}, {each['topology']}, round {each['round'] + 1}"
        yield f"failed: {each['contestant']} ({where}): {each['error'].splitlines()[0]}"


def _plain(value: Any) -> str:
    return (
        "; ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
    )


def _kilo(value: float | None) -> str:
    return "" if value is None else f"{value / 1000:,.0f}"
