"""What may be read out of a run's samples: medians, ratios inside a round, and what is no figure at all.

Pure: the result's plain values in (bench/record.py says which), numbers out.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

from pyfastpath.tools.bench.figures import HEADROOM, RATE_HELD

LOSS_MAX = 0.001  # a paced run that lost more was not carried; below, the cost of a datagram is the same
CARRIED = (
    0.95  # of a schedule: a relay that brought less was saturated, and batches as it would not otherwise
)
CORE_FULL = 0.95  # of a whole core: its cost a datagram is whatever there is divided by what arrived
DISTURBED = 0.1  # of the relay's CPU, used by others
NOBODY = "no relay"
Result = dict[str, Any]
Sample = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One contestant's workload in one topology: a sample a round."""

    topology: str
    contestant: str
    workload: str
    scenario: str = "relays"
    flows: int = 1000

    def own(self) -> Cell:
        """The same workload without a relay."""
        return replace(self, contestant=NOBODY, scenario="own", flows=1000)


@dataclass(frozen=True)
class Ratio:
    """Ours over theirs, one value a round in which both are valid; `why` there is none."""

    values: tuple[float, ...] = ()
    why: str = ""

    @property
    def median(self) -> float | None:
        return median(self.values) if self.values else None


def samples(result: Result, cell: Cell) -> dict[int, Sample]:
    """By round; also those that are not valid."""
    return {
        each["round"]: each
        for each in result["samples"]
        if (each["topology"], each["contestant"], each["workload"], each["scenario"], each["flows"])
        == (cell.topology, cell.contestant, cell.workload, cell.scenario, cell.flows)
    }


def faults(sample: Sample) -> list[str]:
    """Why this measurement is no figure; empty when it is one."""
    found = [f"{what} {sample[what]}" for what in ("duplicates", "misrouted") if sample[what]]
    if sample["lost"] > LOSS_MAX * max(1, sample["sent"]):
        found.append(f"lost {sample['lost'] / max(1, sample['sent']):.1%}")
    if sample["rate_pps"] and sample["sent_pps"] < RATE_HELD * sample["rate_pps"]:
        found.append("the generator could not hold its rate")
    if not sample["forwarded"]:
        return [*found, "nothing arrived"]
    if sample["rate_pps"] and sample["forwarded_pps"] < CARRIED * sample["rate_pps"] * (1 + sample["echo"]):
        found.append(f"it carried {sample['forwarded_pps'] / 1000:,.0f} k/s")
    if sample["others_share"] is None and sample["cpu_ns"] > CORE_FULL * 1e9 * sample["seconds"]:
        found.append("the core was full")
    return found


def valid(result: Result, cell: Cell) -> dict[int, Sample]:
    """By round: the samples without a fault."""
    return {number: each for number, each in samples(result, cell).items() if not faults(each)}


def middle(found: Iterable[Sample], key: str) -> float | None:
    """Median of one figure over the rounds."""
    values = [each[key] for each in found if each[key] is not None]
    return median(values) if values else None


def generator_bound(result: Result, cell: Cell) -> bool:
    """A flood without headroom: the relay was not the narrow place. Schedules are never that."""
    found = list(samples(result, cell).values())
    if not found or found[0]["rate_pps"]:
        return False
    own = middle(samples(result, cell.own()).values(), "sent_pps")
    reached = middle(found, "sent_pps")
    return own is None or reached is None or reached > HEADROOM * own


def cost_ratio(result: Result, ours: Cell, theirs: Cell) -> Ratio:
    """CPU a forwarded datagram, ours over theirs, round by round."""
    for cell in (ours, theirs):
        if not samples(result, cell):
            return Ratio(why=f"{cell.contestant} was not measured")
        if generator_bound(result, cell):
            return Ratio(why=f"{cell.contestant} reached over {HEADROOM:.0%} of the generator's own rate")
    one, other = valid(result, ours), valid(result, theirs)
    both = sorted(one.keys() & other.keys())
    if not both:
        bad = ours if not one else theirs
        reasons = sorted({fault for each in samples(result, bad).values() for fault in faults(each)})
        return Ratio(why=f"{bad.contestant}: {', '.join(reasons) or 'no round in common'}")
    return Ratio(tuple(one[n]["ns_per_datagram"] / other[n]["ns_per_datagram"] for n in both))


def added_us(result: Result, cell: Cell, key: str = "p50_us") -> Ratio:
    """Latency beyond that without a relay, microseconds, one value a round."""
    with_relay, without = valid(result, cell), samples(result, cell.own())
    both = sorted(with_relay.keys() & without.keys())
    if not both:
        return Ratio(why=f"{cell.contestant} was not measured, or not validly")
    return Ratio(tuple(with_relay[n][key] - without[n][key] for n in both))


def overloaded(result: Result) -> list[str]:
    """Where the generator, without any relay, could not hold a schedule; and a run that measured nothing."""
    found: dict[tuple[str, str], list[Sample]] = {}
    for each in result["samples"]:
        if each["contestant"] == NOBODY and each["rate_pps"]:
            found.setdefault((each["topology"], each["workload"]), []).append(each)
    reasons = [
        f"{topology}, {workload}: the generator sent {sent:,.0f} of {several[0]['rate_pps']:,} a second"
        for (topology, workload), several in found.items()
        if (sent := median(each["sent_pps"] for each in several)) < RATE_HELD * several[0]["rate_pps"]
    ]
    if all(each["contestant"] == NOBODY for each in result["samples"]):
        reasons.append("no relay was measured")
    return reasons
