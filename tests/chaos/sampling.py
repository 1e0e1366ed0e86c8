"""A relay's memory and books, once a second for as long as a soak lasts, and what can be told from them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any, Final

import numpy as np

from tests.chaos import processes
from tests.chaos.rig import ChaosRig

SAMPLE_S: Final = 1.0
BUCKET_S: Final = 5.0  # a process that starts or ends is no trend: the median of so many seconds is
DIRECTIONS: Final = ("up", "down")


@dataclass(frozen=True, slots=True)
class Sample:
    """Private memory of the keeper alone, and of all processes of the relay."""

    at_s: float
    keeper_bytes: int
    tree_bytes: int


def growth_bytes(points: Sequence[tuple[float, float]]) -> float:
    """How much grew over all points, by a straight line through the medians of every five seconds. 0 of fewer
    than two."""
    medians = [
        (median(at_s for at_s, _ in bucket), median(value for _, value in bucket))
        for bucket in (
            list(group) for _, group in groupby(sorted(points), key=lambda point: point[0] // BUCKET_S)
        )
    ]
    if len(medians) < 2:
        return 0.0
    at_s, values = np.array(medians).T
    per_s = np.polyfit(at_s - at_s[0], values, 1)[0]
    return float(per_s * (at_s[-1] - at_s[0]))


def unaccounted(counters: dict[str, Any]) -> list[str]:
    """Where a snapshot of /v1/counters does not add up: received = forwarded + punted + dropped."""
    wrong = []
    for shard in counters["shards"]:
        for direction in DIRECTIONS:
            row = shard[direction]
            rest = row["received"] - row["forwarded"] - row["punted"] - sum(row["dropped"].values())
            if rest:
                wrong.append(f"shard {shard['shard']} {direction}: {rest}")
    return wrong


class Sampler:
    """A thread. `snapshots` counts the books it looked at, `wrong` names those that did not add up."""

    def __init__(self, rig: ChaosRig) -> None:
        self.samples: list[Sample] = []
        self.snapshots = 0
        self.wrong: list[str] = []
        self._rig = rig
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-sampler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def growth_mib(self, from_s: float) -> tuple[float, float]:
        """Of keeper and of all processes, since this moment of the monotonic clock."""
        late = [sample for sample in self.samples if sample.at_s >= from_s]
        keeper = growth_bytes([(sample.at_s, sample.keeper_bytes) for sample in late])
        return keeper / (1 << 20), growth_bytes([(sample.at_s, sample.tree_bytes) for sample in late]) / (
            1 << 20
        )

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            pids = processes.tree(self._rig.keeper_pid)
            keeper, tree = (processes.private_bytes(some) for some in (pids[:1], pids))
            self.samples.append(Sample(time.monotonic(), keeper, tree))
            self._rig.memory_mib()
            try:
                counters = self._rig.ask("GET", "/v1/counters")
            except OSError:  # no engine at this moment
                continue
            self.snapshots += 1
            self.wrong += unaccounted(counters)
