"""Two readings of a relay's counters become rates. Pure.

A reading is what /v1/counters said at one moment; `between` is what happened from one to the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import msgspec

from pyfastpath.types import DIRECTIONS


class Flow(msgspec.Struct, frozen=True):
    """One direction of one shard: totals since the keeper started."""

    received: int
    received_bytes: int
    forwarded: int
    forwarded_bytes: int
    punted: int
    dropped: dict[str, int]
    batches: list[int]
    residence: list[int]


class Shard(msgspec.Struct, frozen=True):
    """One shard. worker: None while no worker serves it."""

    shard: int
    worker: int | None
    flows: int
    kernel_dropped: int
    loops: int
    naps: int
    blocks: int
    up: Flow
    down: Flow

    def directions(self) -> dict[str, Flow]:
        """By name."""
        return {"up": self.up, "down": self.down}


class Reading(msgspec.Struct, frozen=True):
    """All shards. time_s: the relay's own monotonic clock."""

    time_s: float
    residence_ends_s: list[float]
    shards: list[Shard]


class Way(msgspec.Struct, frozen=True):
    """One direction of the whole relay between two readings; rates a second, residence in seconds.

    residence: how many datagrams left within each bucket of `Changes.residence_ends_s`.
    """

    received_pps: float
    forwarded_pps: float
    dropped_pps: float
    megabits_s: float
    forwarded: int
    dropped: int
    residence: list[int]


class Drop(msgspec.Struct, frozen=True):
    """One drop reason in one direction. total: since the keeper started."""

    reason: str
    direction: str
    pps: float
    total: int


class Work(msgspec.Struct, frozen=True):
    """One worker between two readings. batch: datagrams a receive, on average; 0 when nothing came."""

    worker: int | None
    shards: list[int]
    flows: int
    received_pps: float
    batch: float
    naps_s: float


class Changes(msgspec.Struct, frozen=True):
    """What happened between two readings."""

    ways: dict[str, Way]
    drops: list[Drop]
    workers: list[Work]
    kernel_dropped: int
    kernel_dropped_pps: float
    residence_ends_s: list[float]


def parse_reading(body: object) -> Reading:
    """The body of /v1/counters. msgspec.ValidationError when it is something else."""
    return msgspec.convert(body, Reading)


def restarted(before: Reading, after: Reading) -> bool:
    """Did the counters begin anew, or the shards change? Then nothing lies between the two."""
    if len(before.shards) != len(after.shards) or after.time_s <= before.time_s:
        return True
    pairs = zip(before.shards, after.shards, strict=True)
    return any(b.loops < a.loops for a, b in pairs)


def between(before: Reading, after: Reading) -> Changes:
    """The rates from one reading to the next of the same relay; zeros when it was restarted."""
    if restarted(before, after):
        before = after
    seconds = after.time_s - before.time_s
    per_s = 1 / seconds if seconds > 0 else 0.0
    kernel = sum(shard.kernel_dropped for shard in after.shards)
    kernel_before = sum(shard.kernel_dropped for shard in before.shards)
    return Changes(
        ways={name: _way(before, after, name, per_s) for name in DIRECTIONS},
        drops=_drops(before, after, per_s),
        workers=_workers(before, after, per_s),
        kernel_dropped=kernel,
        kernel_dropped_pps=(kernel - kernel_before) * per_s,
        residence_ends_s=after.residence_ends_s,
    )


def quantile_s(counts: Sequence[int], ends_s: Sequence[float], share: float) -> float | None:
    """The bucket end below which `share` (0 to 1) of all lie; None when none do, inf beyond the last end."""
    total, seen = sum(counts), 0
    for count, end in zip(counts, [*ends_s, float("inf")], strict=False):
        seen += count
        if seen and seen >= share * total:
            return end
    return None


def octaves(counts: Sequence[int], ends_s: Sequence[float], first_s: float, number: int) -> list[int]:
    """`number` sums over factors of two: up to first_s, up to twice that …, the last one all the rest."""
    sums = [0] * number
    for count, end in zip(counts, [*ends_s, float("inf")], strict=False):
        place = 0
        while place < number - 1 and end > first_s * 2**place * 1.0001:
            place += 1
        sums[place] += count
    return sums


def _way(before: Reading, after: Reading, name: str, per_s: float) -> Way:
    old = [shard.directions()[name] for shard in before.shards]
    new = [shard.directions()[name] for shard in after.shards]

    def rose(field: str) -> int:
        return sum(int(getattr(way, field)) for way in new) - sum(int(getattr(way, field)) for way in old)

    dropped = sum(sum(way.dropped.values()) for way in new)
    dropped_before = sum(sum(way.dropped.values()) for way in old)
    return Way(
        received_pps=rose("received") * per_s,
        forwarded_pps=rose("forwarded") * per_s,
        dropped_pps=(dropped - dropped_before) * per_s,
        megabits_s=rose("forwarded_bytes") * 8e-6 * per_s,
        forwarded=sum(way.forwarded for way in new),
        dropped=dropped,
        residence=_difference([way.residence for way in old], [way.residence for way in new]),
    )


def _difference(old: Iterable[list[int]], new: Iterable[list[int]]) -> list[int]:
    was = [sum(column) for column in zip(*old, strict=True)]
    now = [sum(column) for column in zip(*new, strict=True)]
    return [b - a for a, b in zip(was, now, strict=True)]


def _drops(before: Reading, after: Reading, per_s: float) -> list[Drop]:
    """Every reason that ever occurred, the busiest first."""
    old, new = _dropped(before), _dropped(after)
    rows = [
        Drop(reason, direction, (total - old[reason, direction]) * per_s, total)
        for (reason, direction), total in new.items()
    ]
    return sorted(rows, key=lambda row: (-row.pps, -row.total, row.reason, row.direction))


def _dropped(reading: Reading) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for shard in reading.shards:
        for name, way in shard.directions().items():
            for reason, count in way.dropped.items():
                found[reason, name] += count
    return found


def _workers(before: Reading, after: Reading, per_s: float) -> list[Work]:
    old = {shard.shard: shard for shard in before.shards}
    found: dict[int | None, list[Shard]] = {}
    for shard in after.shards:
        found.setdefault(shard.worker, []).append(shard)
    rows = []
    for worker, shards in found.items():
        received = sum(_received(one) - _received(old[one.shard]) for one in shards)
        batches = sum(_batches(one) - _batches(old[one.shard]) for one in shards)
        naps = sum(one.naps - old[one.shard].naps for one in shards)
        rows.append(
            Work(
                worker=worker,
                shards=[one.shard for one in shards],
                flows=sum(one.flows for one in shards),
                received_pps=received * per_s,
                batch=received / batches if batches else 0.0,
                naps_s=naps * per_s,
            )
        )
    return sorted(rows, key=lambda row: (row.worker is None, row.worker or 0))


def _received(shard: Shard) -> int:
    return shard.up.received + shard.down.received


def _batches(shard: Shard) -> int:
    return sum(shard.up.batches) + sum(shard.down.batches)
