"""A smoke run's result as Markdown: medians, spread, ratios, and what may not be compared.

Pure: the result's plain values in, text out (tests/bench/test_report.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

HEADROOM = 0.8  # a flood nearer to the generator's own rate than this was limited by the generator
PACE_KEPT = 0.99  # a schedule that was missed by more is no schedule
DISTURBED = 0.1  # of the relay's CPU, used by others
OWN = {"flood up": "own up", "flood echo": "own echo"}
OURS = ("fastpath trunk", "fastpath plain")
Rows = list[dict[str, Any]]


def report(result: dict[str, Any]) -> str:
    """The whole document."""
    parts = [
        f"# bench-smoke, {result['date']}, commit {result['commit']}\n",
        _machine(result["machine"]),
        "\n".join(f"* {line}" for line in _settings(result)) + "\n",
        "## Ratios (forwarded datagrams per CPU second of the relay, ours / theirs)\n",
        _table(("workload", "relay", "against", "median", "least-most", "taken from"), _ratios(result)),
        "## Every relay\n",
        _table(
            (
                "workload",
                "relay",
                "CPU ns a datagram",
                "least-most",
                "k/s forwarded",
                "p50 µs",
                "p99 µs",
                "remarks",
            ),
            _relays(result),
        ),
        "p50 and p99 count from the intended send time and hold the sleeps of generator and sink: compare, "
        "do not quote.\n",
        "## Leaves and tables (pytest-benchmark)\n",
        _table(("operation", "median ns", "least ns", "a second"), _micro(result["micro"])),
    ]
    return "\n".join(parts)


def limited_by_generator(result: dict[str, Any], workload: str, samples: Rows) -> bool:
    """A flood without headroom: the relay was not the narrow place."""
    if workload not in OWN:
        return False
    own: float = median(each["sent_pps"] for each in result["own"][OWN[workload]])
    reached: float = median(each["sent_pps"] for each in samples)
    return reached > HEADROOM * own


def faults(result: dict[str, Any], workload: str, samples: Rows) -> list[str]:
    """Why a relay's samples of a workload are not valid; empty when they are."""
    rate = next(each["rate_pps"] for each in result["workloads"] if each["name"] == workload)
    found = [
        f"{what} {sum(each[what] for each in samples)}"
        for what in ("lost", "duplicates", "misrouted")
        if any(each[what] for each in samples)
    ]
    if rate and median(each["sent_pps"] for each in samples) < PACE_KEPT * rate:
        found.append("the generator could not hold its rate")
    return found


def ratios(result: dict[str, Any], workload: str, ours: str, theirs: str) -> list[float]:
    """Per round: CPU a datagram of theirs over ours, hence our datagrams per CPU second over theirs."""
    pairs = zip(result["relays"][theirs][workload], result["relays"][ours][workload], strict=True)
    return [b["ns_per_datagram"] / a["ns_per_datagram"] for b, a in pairs]


def _ratios(result: dict[str, Any]) -> Iterable[Sequence[str]]:
    for ours in OURS:
        for direction in ("up", "echo"):
            for theirs in result["relays"]:
                if theirs in OURS:
                    continue
                for kind, source in (("paced", "fixed rate"), ("flood", "flood")):
                    workload = f"{kind} {direction}"
                    both = [result["relays"][relay][workload] for relay in (ours, theirs)]
                    if kind == "flood" and any(limited_by_generator(result, workload, each) for each in both):
                        continue
                    if any(faults(result, workload, each) for each in both):
                        yield direction, ours, theirs, "invalid", "", source
                        continue
                    found = ratios(result, workload, ours, theirs)
                    spread = f"{min(found):.2f}-{max(found):.2f}"
                    yield direction, ours, theirs, f"**{median(found):.2f}**", spread, source


def _relays(result: dict[str, Any]) -> Iterable[Sequence[str]]:
    for name, samples in result["own"].items():
        yield (
            name,
            "no relay",
            "",
            "",
            _of(samples, "forwarded_pps", _kilo),
            "",
            "",
            "the generator's own limit",
        )
    for shape in result["workloads"]:
        for relay, workloads in result["relays"].items():
            samples = workloads[shape["name"]]
            remarks = faults(result, shape["name"], samples)
            speed = _of(samples, "forwarded_pps", _kilo)
            if limited_by_generator(result, shape["name"], samples):
                speed, remarks = f"≥ {speed}", [*remarks, "generator-bound: no figure for a ratio"]
            elif shape["rate_pps"]:
                remarks = [*remarks, f"{shape['rate_pps'] / 1000:.0f} k/s sent by schedule"]
            others = median(each["others_share"] for each in samples)
            if others > DISTURBED:
                remarks = [*remarks, f"disturbed: others used {others:.0%} of the relay's CPU"]
            costs = [each["ns_per_datagram"] for each in samples]
            yield (
                shape["name"],
                relay,
                f"{median(costs):,.0f}",
                f"{min(costs):,.0f}-{max(costs):,.0f}",
                speed,
                _of(samples, "p50_us", "{:,.0f}".format),
                _of(samples, "p99_us", "{:,.0f}".format),
                "; ".join(remarks),
            )


def _micro(rows: Rows) -> Iterable[Sequence[str]]:
    for row in rows:
        yield row["name"], f"{row['median_ns']:.1f}", f"{row['min_ns']:.1f}", f"{1e9 / row['median_ns']:,.0f}"


def _machine(machine: dict[str, Any]) -> str:
    return _table(("machine", ""), ((key, _plain(value)) for key, value in machine.items()))


def _plain(value: Any) -> str:
    return (
        "; ".join(f"{key} {item}" for key, item in value.items()) if isinstance(value, dict) else str(value)
    )


def _settings(result: dict[str, Any]) -> list[str]:
    settings = result["settings"]
    return [
        f"{settings['flows']:,} flows, datagrams of {settings['size_bytes']} bytes",
        f"{settings['rounds']} rounds, floods with at most {settings['window']} in flight",
        "one worker each; the relay alone on CPU 0, generator and sink together on CPU 1; loopback",
        "echo counts a datagram in each direction; CPU is schedstat of all threads of the relay",
        *result["left_out"],
    ]


def _of(samples: Rows, key: str, form: Callable[[float], str]) -> str:
    return form(median(each[key] for each in samples))


def _kilo(value: float) -> str:
    return f"{value / 1000:,.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
