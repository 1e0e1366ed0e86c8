"""More than the relay's CPU time carries: what it gives up, in which order, how soon all is well again."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
from fastpath.counters import DROP_REASONS

from pyfastpath.relay.layout import UP
from pyfastpath.types import TRAFFIC_CLASSES
from tests.chaos.aging import Tables
from tests.chaos.cgroup import CpuQuota, cpu_hierarchy, cpu_seconds
from tests.chaos.outcome import Outcome
from tests.chaos.rig import NUMBERS, ChaosRig
from tests.chaos.scale import Scale
from tests.chaos.sessions import in_turn, minted
from tests.chaos.signals import Signals
from tests.support.rig import until

TOKEN_KEY: Final = (0, os.urandom(16))
STEPS: Final = ("shed_unknown", "shed_new", "shed_bulk", "shed_video", "shed_rtcp", "shed_voice")
REFUSED: Final = (
    "unknown_flow",
    "bad_token",
    "no_upstream_port",
)  # strangers; a newcomer's port rests a minute
SIGNALS_PPS: Final = 1_000
FIRST_SHARE: Final = 1 / 2  # of the CPU time that the load needs; full batches need less
LEAST_SHARE: Final = 1 / 100
TRY_S: Final = 2.0
RECEIVE_BUFFER_BYTES: Final = 1 << 18
LOOK_S: Final = 0.003
CLEAR_WINDOW_NS: Final = 20_000_000  # in so short a window no level falls by more than two steps
CALM_S: Final = 0.3  # nothing shed for so long: it is over
PATIENCE_S: Final = 40.0
CLASSES: Final = range(len(TRAFFIC_CLASSES))
BULK: Final = TRAFFIC_CLASSES.index("bulk")


@dataclass(frozen=True, slots=True)
class Sight:
    """The relay's books at one moment: what each step has shed, and what passed of each class."""

    at_ns: int
    shed: tuple[int, ...]
    passed: tuple[int, ...]

    def since(self, before: Sight) -> Sight:
        """What came on top of `before`; `at_ns` is how long it took."""
        return Sight(
            self.at_ns - before.at_ns,
            tuple(new - then for new, then in zip(self.shed, before.shed, strict=True)),
            tuple(new - then for new, then in zip(self.passed, before.passed, strict=True)),
        )


class Onlooker:
    """Reads the books from the relay's memory every few milliseconds; costs the relay nothing."""

    def __init__(self, tables: Tables) -> None:
        self._tables, self._over = tables, threading.Event()
        self._reasons = [[name for name, _ in DROP_REASONS].index(step) for step in STEPS]
        self.sights = [self.look()]
        self._thread = threading.Thread(target=self._run, name="onlooker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def look(self) -> Sight:
        """Now."""
        shed = self._tables.counters()["dropped"][:, UP].sum(axis=0)[self._reasons]
        flows = self._tables.flows()
        passed = np.bincount(flows["traffic_class"], flows["datagrams_up"], minlength=len(CLASSES))
        return Sight(time.monotonic_ns(), tuple(shed.tolist()), tuple(passed.astype(int).tolist()))

    def last_shed_ns(self) -> int:
        """When something was shed for the last time, as far as was seen."""
        last = self.sights[-1].shed
        return next((one.at_ns for one in self.sights if one.shed == last), 0)

    def sees_shedding(self) -> bool:
        """At this moment, or just before."""
        return time.monotonic_ns() - self.last_shed_ns() < 2 * LOOK_S * 1e9

    def first_shed_ns(self) -> list[int | None]:
        """When each step was seen to shed for the first time."""
        none = self.sights[0].shed
        return [
            next((one.at_ns for one in self.sights if one.shed[step] > none[step]), None)
            for step in range(len(STEPS))
        ]

    def bulk_beside_voice(self) -> tuple[int, int]:
        """(bulk passed, bulk passed or shed) in windows in which voice was shed."""
        windows = [after.since(before) for before, after in pairwise(self.sights)]
        seen = [one for one in windows if one.at_ns < CLEAR_WINDOW_NS and one.shed[STEPS.index("shed_voice")]]
        passed = sum(one.passed[BULK] for one in seen)
        return passed, passed + sum(one.shed[STEPS.index("shed_bulk")] for one in seen)

    def _run(self) -> None:
        while not self._over.wait(LOOK_S):
            self.sights.append(self.look())


class ClassRig(ChaosRig):
    """Sessions of every class in turn."""

    def _sessions(self) -> list[str]:
        owners = [number for number, stream in enumerate(self.load.streams) for _ in range(stream.sessions)]
        return minted(*TOKEN_KEY, [NUMBERS[owner] for owner in owners], in_turn(CLASSES, len(owners)))


def sized(scale: Scale) -> Scale:
    """What exceeds a share of a CPU has to be a load at all."""
    return replace(scale, flows=2_000, pps=40_000) if scale.is_full else replace(scale, flows=200, pps=10_000)


def by_class(directory: Path, scale: Scale) -> list[Outcome]:
    """Less and less CPU time, until even voice has to be shed; then all of it again."""
    cpu_hierarchy()
    size = sized(scale)
    config: dict[str, Any] = {"receive_buffer_bytes": RECEIVE_BUFFER_BYTES, "shards": 1}
    with ClassRig(directory, size, token_key=TOKEN_KEY, **config) as rig, Signals(rig, TOKEN_KEY) as signals:
        received = rig.relay.total("received_datagrams", direction="up")
        rig.load_start()
        signals.start(SIGNALS_PPS)
        with Onlooker(Tables(rig.keeper_pid)) as onlooker, CpuQuota(rig.keeper_pid) as quota:
            share = squeezed(rig, quota, onlooker)
            time.sleep(scale.seconds)
            until(onlooker.sees_shedding, "something is shed", PATIENCE_S)
            lifted_ns = time.monotonic_ns()
            quota.lift()
            until(lambda: time.monotonic_ns() - onlooker.last_shed_ns() > CALM_S * 1e9, "calm", PATIENCE_S)
        signals.stop()
        rig.load_stop()
        received = rig.relay.total("received_datagrams", direction="up") - received
        recovery_ms = max(0.0, (onlooker.last_shed_ns() - lifted_ns) / 1e6)
        fault = f"1/{1 / share:.0f} of the CPU time that the load needs"
        outcome = replace(rig.outcome(fault, repeats=1), recovery_ms=recovery_ms)
        return [judged(outcome, rig, signals, onlooker, received)]


def squeezed(rig: ChaosRig, quota: CpuQuota, onlooker: Onlooker) -> float:
    """Halve what the relay gets until it sheds voice; the share of what it needs."""
    needs, share = needed(rig), FIRST_SHARE
    while share > LEAST_SHARE:
        quota.limit(share * needs)
        with suppress(AssertionError):
            until(lambda: onlooker.first_shed_ns()[-1] is not None, "voice is shed", TRY_S)
            break
        share /= 2
    return share


def needed(rig: ChaosRig) -> float:
    """CPUs that the relay uses under this load."""
    before_s, began_s = cpu_seconds(rig.keeper_pid), time.monotonic()
    rig.load_for(1.0)
    return (cpu_seconds(rig.keeper_pid) - before_s) / (time.monotonic() - began_s)


def judged(outcome: Outcome, rig: ChaosRig, signals: Signals, onlooker: Onlooker, received: int) -> Outcome:
    """The order of shedding, and exact books."""
    whole = onlooker.sights[-1].since(onlooker.sights[0])
    shed = dict(zip(STEPS, whole.shed, strict=True))
    # Of what arrives in every batch: a step may be over before a rare datagram has shown it.
    first_ns = [
        onlooker.first_shed_ns()[STEPS.index(f"shed_{name}")] or 0 for name in ("bulk", "video", "voice")
    ]
    beside, bulk = onlooker.bulk_beside_voice()
    missing = sum(signals.sent[kind] - signals.heard[kind] for kind in ("stun", "dtls"))
    sent = outcome.sent + signals.sent.total()
    strange = set(rig.relay_drops()) - {*STEPS, *REFUSED}
    errors = sum(
        one.value for one in rig.relay.metrics() if one.name.endswith("conservation_error_datagrams")
    )
    share = {name: whole.passed[number] for number, name in enumerate(TRAFFIC_CLASSES)}
    said = ", ".join(f"{count:,} {name}" for name, count in share.items())
    note = f"passed: {said}; {beside:,} of {bulk:,} bulk datagrams passed while voice was shed"
    return (
        replace(outcome, note=f"{note}; {outcome.note}")
        .promising(min(shed.values()) > 0, f"every step sheds: {shed}")
        .promising(first_ns == sorted(first_ns), "no step begins before the one that costs less")
        .promising(beside * 5 <= bulk, f"voice is shed while bulk is: {beside:,} of {bulk:,} passed")
        .promising(
            share["bulk"] <= share["video"] < min(share["voice_data"], share["voice"]), f"by class: {share}"
        )
        .promising(missing <= outcome.kernel_dropped, "STUN and DTLS of confirmed flows are never shed")
        .promising(not strange, f"nothing is dropped for another reason, but for {strange}")
        .promising(
            sent == received + outcome.kernel_dropped, f"{sent:,} sent = {received:,} received + kernel"
        )
        .promising(errors == 0, "received = forwarded + dropped in every shard")
    )


SCENARIOS: dict[str, Callable[[Path, Scale], list[Outcome]]] = {}
# What too little CPU time does to a relay beside two other tests says nothing: in the suite each step of the
# order is shown datagram by datagram, in tests/fastpath/test_shedding.py.
ONLY_FULL = {"overload": by_class}
