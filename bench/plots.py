"""The plots of a run as SVG: throughput, latency, cost against flows, cost against the coalescing budget.

matplotlib is in the extra `bench`. A plot whose scenario was not measured is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.figures import NOBODY, Cell, Result, generator_bound, middle, samples, valid
from bench.load import CURVE
from bench.report import budget_of

OURS, THEIRS, LIMIT = "#0b7285", "#adb5bd", "#e8590c"  # ours; other relays; the C forwarders
INK = "#343a40"
SIZE = (8.4, 4.6)
# One colour and, after ten, another line for each curve.
TEN = (
    "#0b7285",
    "#e8590c",
    "#5f3dc4",
    "#2b8a3e",
    "#c2255c",
    "#1864ab",
    "#a61e4d",
    "#868e96",
    "#f08c00",
    "#3bc9db",
)
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fastpath",  # the same figures give the same file
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": "#868e96",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e9ecef",
    "axes.axisbelow": True,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}
Draw = Callable[[Any, Result], bool]


def draw_all(result: Result, base: Path) -> list[Path]:
    """Writes BASE-throughput.svg and so on; the files written. ImportError without matplotlib."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    written = []
    with matplotlib.rc_context(STYLE):
        for name, draw in PLOTS.items():
            figure, axes = pyplot.subplots(figsize=SIZE, layout="constrained")
            if draw(axes, result):
                path = base.with_name(f"{base.name}-{name}.svg")
                figure.savefig(path, metadata={"Date": None})
                written.append(path)
            pyplot.close(figure)
    return written


def colour_of(contestant: str) -> str:
    """By whose it is."""
    if contestant.startswith("fastpath"):
        return OURS
    return LIMIT if contestant.startswith("C ") else THEIRS


def throughput(axes: Any, result: Result) -> bool:
    """Datagrams per CPU second on schedules, the figure ratios are taken from; both directions."""
    names = list(dict.fromkeys(e["contestant"] for e in result["samples"] if e["scenario"] == "relays"))
    rows = []
    for who in names:
        up, both = (_per_cpu_second(result, who, workload) for workload in ("paced up", "paced echo"))
        if up or both:
            rows.append((who, up or 0.0, both or 0.0))
    rows.sort(key=lambda row: row[1])
    for index, (who, up, both) in enumerate(rows):
        colour = colour_of(who)
        for offset, value, alpha in ((0.2, up, 1.0), (-0.2, both, 0.5)):
            axes.barh(index + offset, value / 1000, 0.38, color=colour, alpha=alpha)
            text = _reached(result, who, "flood up" if offset > 0 else "flood echo")
            axes.annotate(
                text, (value / 1000, index + offset), (4, 0), textcoords="offset points", va="center", size=7
            )
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.18)
    axes.set_xlabel(
        "thousand forwarded datagrams per CPU second, loopback, on a schedule (dark: up, light: both ways);\n"
        "beside the bars: k/s reached in a flood, ≥ where the generator was the limit"
    )
    return bool(rows)


def latency(axes: Any, result: Result) -> bool:
    """Distribution of the latency at 50,000/s, from the intended send time."""
    here = [
        e for e in result["samples"] if e["workload"] == "latency up" and e["scenario"] in ("own", "latency")
    ]
    for number, who in enumerate(dict.fromkeys(each["contestant"] for each in here)):
        found = [e for e in here if e["contestant"] == who and e["topology"] == "loopback" and e["curve_us"]]
        if not found:
            continue
        curve = [
            sorted(values)[len(values) // 2] for values in zip(*(e["curve_us"] for e in found), strict=True)
        ]
        style = {"color": TEN[number % len(TEN)], "linestyle": "--" if number >= len(TEN) else "-"}
        if who == NOBODY:
            style = {"color": INK, "linestyle": ":"}
        axes.plot(curve, CURVE, label=who, linewidth=1.6 if who.startswith("fastpath") else 0.9, **style)
    if here:
        axes.set_xscale("log")
        axes.set_xlabel("µs from the intended send time to the arrival, 50,000/s up, loopback")
        axes.set_ylabel("share that arrived")
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    return bool(here)


def flows(axes: Any, result: Result) -> bool:
    """CPU a datagram against the number of flows."""
    here = [each for each in result["samples"] if each["scenario"] == "scale"]
    counts = sorted({each["flows"] for each in here})
    for who in dict.fromkeys(each["contestant"] for each in here):
        cells = [valid(result, Cell("loopback", who, "scale up", "scale", count)) for count in counts]
        costs = [middle(each.values(), "ns_per_datagram") for each in cells]
        points = [(x, y) for x, y in zip(counts, costs, strict=True) if y is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=who, color=TEN[len(axes.lines)])
    if here:
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("flows")
        axes.set_ylabel("CPU ns a datagram, up, loopback")
        axes.legend(fontsize=8, frameon=False)
    return bool(here)


def coalescing(axes: Any, result: Result) -> bool:
    """CPU a datagram against the coalescing budget, at voice rates."""
    here = [each for each in result["samples"] if each["scenario"] == "coalescing"]
    found: dict[str, list[tuple[int, float]]] = {}
    for who in dict.fromkeys(each["contestant"] for each in here):
        base, budget_us = budget_of(who)
        cost = middle(
            valid(result, Cell("loopback", who, "voice up", "coalescing")).values(), "ns_per_datagram"
        )
        if cost is not None:
            found.setdefault(base, []).append((budget_us, cost))
    for base, points in found.items():
        axes.plot(*zip(*sorted(points), strict=True), marker="o", color=colour_of(base), label=base)
    if found:
        axes.set_ylim(bottom=0)
        axes.set_xlabel("coalescing budget, µs")
        axes.set_ylabel("CPU ns a datagram, 50/s × 1,000 up, loopback")
        axes.legend(fontsize=8, frameon=False)
    return bool(found)


def _per_cpu_second(result: Result, who: str, workload: str) -> float | None:
    cost = middle(valid(result, Cell("loopback", who, workload)).values(), "ns_per_datagram")
    return 1e9 / cost if cost else None


def _reached(result: Result, who: str, workload: str) -> str:
    cell = Cell("loopback", who, workload)
    speed = middle(samples(result, cell).values(), "forwarded_pps")
    return "" if speed is None else f"{'≥ ' if generator_bound(result, cell) else ''}{speed / 1000:,.0f}"


PLOTS: dict[str, Draw] = {
    "throughput": throughput,
    "latency": latency,
    "flows": flows,
    "coalescing": coalescing,
}
