"""A relay's memory and books, once a second for as long as a soak lasts, and what can be told from them."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from itertools import groupby
from statistics import median
from typing import Any, Final

import numpy as np

from tests.chaos import processes
from tests.chaos.rig import ChaosRig

SAMPLE_S: Final = 1.0
BUCKET: Final = 5  # samples; a process that starts or ends is no trend: the median of so many is
DIRECTIONS: Final = ("up", "down")


@dataclass(frozen=True, slots=True)
class Sample:
    """Private memory of the keeper alone, and of all processes of the relay."""

    at_s: float
    keeper_bytes: int
    tree_bytes: int


def growth_bytes(points: Sequence[tuple[float, float]], bucket_s: float) -> float | None:
    """How much grew over all points, by a straight line through the medians of every so many seconds. None of
    fewer than two: that was not measured."""
    medians = [
        (median(at_s for at_s, _ in bucket), median(value for _, value in bucket))
        for bucket in (
            list(group) for _, group in groupby(sorted(points), key=lambda point: point[0] // bucket_s)
        )
    ]
    if len(medians) < 2:
        return None
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

    def __init__(self, rig: ChaosRig, sample_s: float = SAMPLE_S) -> None:
        self.samples: list[Sample] = []
        self.snapshots = 0
        self.wrong: list[str] = []
        self._rig, self._sample_s = rig, sample_s
        self.error: BaseException | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-sampler", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread. It raises what ended it before: books that nobody looks at are never wrong."""
        self._over.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def growth_mib(self, from_s: float) -> tuple[float | None, float | None]:
        """Of keeper and of all processes, since this moment of the monotonic clock; None: not measured."""
        late = [sample for sample in self.samples if sample.at_s >= from_s]
        return (
            self._growth_mib([(sample.at_s, sample.keeper_bytes) for sample in late]),
            self._growth_mib([(sample.at_s, sample.tree_bytes) for sample in late]),
        )

    def _growth_mib(self, points: Sequence[tuple[float, float]]) -> float | None:
        grown = growth_bytes(points, BUCKET * self._sample_s)
        return None if grown is None else grown / (1 << 20)

    def _run(self) -> None:
        try:
            self._look()
        except BaseException as error:  # told by whoever waits for the end
            self.error = error

    def _look(self) -> None:
        while not self._over.wait(self._sample_s):
            pids = processes.tree(self._rig.keeper_pid)
            keeper, tree = (processes.private_bytes(some) for some in (pids[:1], pids))
            self.samples.append(Sample(time.monotonic(), keeper, tree))
            self._rig.memory_mib()
            try:
                counters = self._rig.ask("GET", "/v1/counters")
            except (OSError, HTTPException):  # no engine at this moment
                continue
            self.snapshots += 1
            self.wrong += unaccounted(counters)
