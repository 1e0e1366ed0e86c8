"""An overloaded relay watched from outside: what it sheds, what passes, and what the kernel drops unread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import numpy as np
from fastpath.counters import DROP_REASONS

from pyfastpath.relay.layout import UP
from pyfastpath.types import TRAFFIC_CLASSES
from tests.chaos.aging import Tables
from tests.chaos.borrowed import Borrowed
from tests.chaos.rig import ChaosRig

STEPS: Final = ("shed_unknown", "shed_new", "shed_bulk", "shed_video", "shed_rtcp", "shed_voice")
LOOK_S: Final = 0.003
CLEAR_WINDOW_NS: Final = 20_000_000  # in so short a window no level falls by more than two steps
BULK: Final = TRAFFIC_CLASSES.index("bulk")


@dataclass(frozen=True, slots=True)
class Sight:
    """The books at one moment: what each step has shed, what passed of each class, what the kernel dropped
    unread, what was received at all."""

    at_ns: int
    shed: tuple[int, ...]
    passed: tuple[int, ...]
    kernel_dropped: int
    received: int

    def since(self, before: Sight) -> Sight:
        """What came on top of `before`; `at_ns` is how long it took."""
        return Sight(
            self.at_ns - before.at_ns,
            tuple(new - then for new, then in zip(self.shed, before.shed, strict=True)),
            tuple(new - then for new, then in zip(self.passed, before.passed, strict=True)),
            self.kernel_dropped - before.kernel_dropped,
            self.received - before.received,
        )

    def step(self, name: str) -> int:
        """What one step has shed."""
        return self.shed[STEPS.index(name)]


class Onlooker:
    """Reads the books from the relay's memory every few milliseconds; costs the relay nothing."""

    def __init__(self, rig: ChaosRig) -> None:
        self._tables, self._over = Tables(rig.keeper_pid), threading.Event()
        self._reasons = [[name for name, _ in DROP_REASONS].index(step) for step in STEPS]
        self._listening = Borrowed(rig.keeper_pid, rig.relay.listen)
        self.sights = [self.look()]
        self._thread = threading.Thread(target=self._run, name="onlooker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self._listening.__exit__(*error)

    def look(self) -> Sight:
        """Now."""
        counters = self._tables.counters()
        shed = counters["dropped"][:, UP].sum(axis=0)[self._reasons]
        flows = self._tables.flows()
        passed = np.bincount(flows["traffic_class"], flows["datagrams_up"], minlength=len(TRAFFIC_CLASSES))
        return Sight(
            time.monotonic_ns(),
            tuple(shed.tolist()),
            tuple(passed.astype(int).tolist()),
            self._listening.drops(),
            int(counters["received"][:, UP].sum()),
        )

    def last_shed_ns(self) -> int:
        """When something was shed for the last time, as far as was seen."""
        return self._last_ns(lambda one: one.shed)

    def last_loss_ns(self) -> int:
        """When something was shed, or dropped by the kernel, for the last time."""
        return max(self.last_shed_ns(), self._last_ns(lambda one: one.kernel_dropped))

    def first_shed_ns(self) -> list[int | None]:
        """When each step was seen to shed for the first time."""
        none = self.sights[0].shed
        return [
            next((one.at_ns for one in self.sights if one.shed[step] > none[step]), None)
            for step in range(len(STEPS))
        ]

    def sees_shedding(self) -> bool:
        """At this moment, or just before."""
        return time.monotonic_ns() - self.last_shed_ns() < 2 * LOOK_S * 1e9

    def bulk_beside_voice(self) -> tuple[int, int]:
        """(bulk passed, bulk passed or shed) in windows in which voice was shed."""
        windows = [after.since(before) for before, after in pairwise(self.sights)]
        seen = [one for one in windows if one.at_ns < CLEAR_WINDOW_NS and one.step("shed_voice")]
        passed = sum(one.passed[BULK] for one in seen)
        return passed, passed + sum(one.step("shed_bulk") for one in seen)

    def _last_ns(self, figure: Callable[[Sight], object]) -> int:
        """When this became what it is now."""
        last = figure(self.sights[-1])
        return next((one.at_ns for one in self.sights if figure(one) == last), 0)

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            self.sights.append(self.look())
