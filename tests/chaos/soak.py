"""`make soak`: one relay for half an hour. Calls come and go and move, engines are killed, keys, workers and
backends change, strangers flood: at random, by a seed. At the end every book has to balance.

SOAK_SECONDS=1800 SOAK_SEED=7 python -m tests.chaos.soak

In the first third engines are killed and upgraded too. After that they live on, so that the memory of the
second half of what was run can be followed: its growth, by a straight line, has a bound.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pyfastpath.tools.ports import free_port
from tests.chaos import processes
from tests.chaos.books import Totals
from tests.chaos.mischief import SHARDS, Mischief
from tests.chaos.outcome import Outcome
from tests.chaos.record import RESULTS, ROOT, Record, write_document
from tests.chaos.rig import ChaosRig
from tests.chaos.run import BROKEN, INVALID, say
from tests.chaos.sampling import SAMPLE_S, Sampler
from tests.chaos.scale import Scale
from tests.chaos.waves import Wave
from tests.support.loopback import own_loopback
from tests.support.rig import until

SECONDS: Final = 1800
RECORDED_S: Final = 1800  # shorter ones are no record
LIVE: Final = Scale("soak", flows=1_000, pps=10_000, repeats=1, seconds=0, pinned=False)
GROWTH_MAX_MIB: Final = 4.0  # of private memory, over the second half, keeper and all processes
GROWTH_SHORT_MAX_MIB: Final = 10.0  # in a run that is over before everything has been done a few times
SAMPLE_SHORT_S: Final = 0.4
PLAIN_PORTS: Final = 4096
WAVE_FLOWS: Final = (10, 200)
WAVE_PPS: Final = (200, 2_000)
WAVE_S: Final = (1.0, 4.0)
SAY_S: Final = 30.0
BACK_S: Final = 90.0  # the least time until descriptors and threads are what they were


@dataclass
class Calls:
    """A thread in which waves of calls come and go, with one set of books for all of them."""

    rig: ChaosRig
    randomness: random.Random
    books: Totals = field(default_factory=Totals)
    counts: Counter[str] = field(default_factory=Counter)
    error: BaseException | None = None

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-calls", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """After the wave that is under way."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._over.is_set():
                self._wave()
        except BaseException as error:  # told by whoever waits for the end
            self.error = error

    def _wave(self) -> None:
        upstream = self.randomness.choice(("plain", "trunk"))
        flows, pps = self.randomness.randint(*WAVE_FLOWS), self.randomness.randint(*WAVE_PPS)
        wave = Wave(self.rig, number=self.counts["waves"], upstream=upstream, flows=flows, pps=pps)
        wave.talk(self.randomness.uniform(*WAVE_S))
        if self.randomness.random() < 0.5:
            wave.rebind()
            wave.talk(self.randomness.uniform(*WAVE_S))
            self.counts["calls that moved"] += flows
        self.books = self.books.plus(wave.leave())
        self.counts["waves"] += 1
        self.counts["calls"] += flows


class Soak:
    """One run. outcome and figures are there when `run` is over."""

    def __init__(self, seconds: int, seed: int) -> None:
        self.seconds, self.seed = seconds, seed
        self.figures: list[tuple[str, str]] = []
        self.outcome: Outcome

    def run(self, directory: Path) -> None:
        """All of it."""
        keys = [(number, random.Random(number).randbytes(16)) for number in range(3)]
        config = {
            "shards": SHARDS,
            "trunk_port": free_port(socket.SOCK_DGRAM, SHARDS),
            "plain_ports": PLAIN_PORTS,
        }
        with ChaosRig(directory, LIVE, mode="echo", token_key=keys[0], **config) as rig:
            rig.load_start()
            before = settled(rig)
            sampler = Sampler(rig, SAMPLE_S if self.is_long else SAMPLE_SHORT_S)
            calls = Calls(rig, random.Random(self.seed + 1))
            mischief = Mischief(rig, random.Random(self.seed), keys)
            try:
                grown = sampler.growth_mib(self._be_mischievous(mischief, calls))
                mischief.put_right()
            finally:
                calls.close()
                sampler.close()
            if calls.error is not None:
                raise calls.error
            rig.load_stop()
            after = back(rig, before)
            self._judge(rig, mischief, calls, sampler, grown, (before, after))

    @property
    def is_long(self) -> bool:
        """Enough to go on record."""
        return self.seconds >= RECORDED_S

    @property
    def growth_max_mib(self) -> float:
        """The bound of this run."""
        return GROWTH_MAX_MIB if self.is_long else GROWTH_SHORT_MAX_MIB

    def least_snapshots(self, samples: int) -> float:
        """How often the books have to be looked at: half as often as memory, since between two
        engines nobody answers. For the record every two seconds at least; a shorter run claims no rate."""
        return max(samples / 2, self.seconds / 2 if self.is_long else 1)

    def _be_mischievous(self, mischief: Mischief, calls: Calls) -> float:
        """Until the time is up. From when on memory can be followed: the second half of what was run, but for
        the time in which engines start."""
        began_s = said_s = starts_s = time.monotonic()
        spared_s, end_s = began_s + self.seconds / 3, began_s + self.seconds
        while ((now_s := time.monotonic()) < end_s or mischief.first) and calls.error is None:
            mischief.one(restart=now_s < spared_s)
            if not mischief.has_restarted():
                starts_s = time.monotonic()
            if now_s - said_s > SAY_S:
                said_s = now_s
                done = sum(mischief.done.values())
                say(f"{now_s - began_s:,.0f} s: {done:,} things done, {calls.counts['calls']:,} calls over")
        return max(starts_s, (began_s + time.monotonic()) / 2)

    def _judge(
        self,
        rig: ChaosRig,
        mischief: Mischief,
        calls: Calls,
        sampler: Sampler,
        grown: tuple[float | None, float | None],
        counts: tuple[tuple[int, ...], tuple[int, ...]],
    ) -> None:
        live, waves = rig.totals, calls.books
        rig.totals = live.plus(waves)
        outcome = rig.outcome("soak", repeats=sum(mischief.done.values()), note=f"seed {self.seed}")
        bound = self.growth_max_mib
        self.outcome = (
            outcome.promising_nothing_lost(beyond_kernel=True)
            .promising(not sampler.wrong, f"every snapshot adds up: {sampler.wrong[:3]}")
            .promising(
                sampler.snapshots >= self.least_snapshots(len(sampler.samples)),
                f"the books are looked at, not {sampler.snapshots:,} times",
            )
            .promising(not self.is_long or None not in grown, "memory is followed")
            .promising(all((one or 0) < bound for one in grown), f"memory grows by less than {bound} MiB")
            .promising(counts[0] == counts[1], f"descriptors and threads are what they were: {counts}")
        )
        self.figures = [
            ("seconds, seed", f"{self.seconds:,}, {self.seed}"),
            ("live calls", f"{LIVE.flows:,}, {live.sent:,} datagrams sent, {live.lost:,} lost"),
            ("calls that came and went", f"{calls.counts['calls']:,} in {calls.counts['waves']:,} waves"),
            ("of these, moved to another address", f"{calls.counts['calls that moved']:,}"),
            ("their datagrams", f"{waves.sent:,} sent, {waves.lost:,} lost"),
            ("dropped by the kernel at the relay's sockets (all senders)", f"{outcome.kernel_dropped:,}"),
            ("duplicated, misrouted", f"{outcome.duplicated:,}, {outcome.misrouted:,}"),
            *((name, f"{count:,} times") for name, count in sorted(mischief.done.items())),
            ("longest silence after a kill or an upgrade", f"{max(mischief.silences_ms):,.1f} ms"),
            ("snapshots of the books, of these wrong", f"{sampler.snapshots:,}, {len(sampler.wrong):,}"),
            ("growth of private memory, second half: keeper", mib_words(grown[0])),
            (f"… all processes (bound {bound} MiB)", mib_words(grown[1])),
            ("most memory seen", f"{outcome.memory_mib:,.0f} MiB"),
            ("processes, threads, descriptors at the start", "{}, {}, {}".format(*counts[0])),
            ("… at the end", "{}, {}, {}".format(*counts[1])),
            ("promises", outcome_words(self.outcome)),
        ]


def outcome_words(outcome: Outcome) -> str:
    """Kept, or which not; nothing of a run that the load tools spoilt."""
    if outcome.invalid:
        return f"no result: {outcome.invalid}"
    return f"broken: {outcome.broken}" if outcome.broken else "kept"


def mib_words(grown: float | None) -> str:
    """As a figure."""
    return "not measured" if grown is None else f"{grown:+.2f} MiB"


def counted(rig: ChaosRig) -> tuple[int, int, int]:
    """Processes, threads and descriptors of the relay."""
    pids = processes.tree(rig.keeper_pid)
    return len(pids), processes.threads(pids), processes.descriptors(pids)


def settled(rig: ChaosRig, seconds: float = 2.0) -> tuple[int, int, int]:
    """The counts when they have not changed for so long: a relay at work, all its processes started."""
    last, since_s = counted(rig), time.monotonic()
    end_s = since_s + BACK_S
    while time.monotonic() - since_s < seconds and time.monotonic() < end_s:
        time.sleep(0.1)
        if (now := counted(rig)) != last:
            last, since_s = now, time.monotonic()
    return last


def back(rig: ChaosRig, before: tuple[int, int, int]) -> tuple[int, int, int]:
    """The counts once they are what they were, or what they are when that does not happen."""
    try:
        until(lambda: counted(rig) == before, "the counts of the start", seconds=BACK_S)
    except AssertionError:
        return counted(rig)
    return before


def main() -> int:
    """The exit code."""
    seconds = int(os.environ.get("SOAK_SECONDS") or SECONDS)
    seed = int(os.environ.get("SOAK_SEED") or random.randrange(1_000_000))
    say(f"soak of {seconds} s, SOAK_SEED={seed}")
    soak = Soak(seconds, seed)
    folder = RESULTS if soak.is_long else ROOT / "build" / "chaos"
    record = Record("soak", folder, seconds=seconds, seed=seed)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        with own_loopback(), tempfile.TemporaryDirectory(prefix="fastpath-soak-") as directory:
            soak.run(Path(directory))
    except Exception as error:
        record.failure("soak", f"SOAK_SEED={seed}: {type(error).__name__}: {error}")
        record.save()
        raise
    record.outcome("soak", soak.outcome)
    record.result["figures"] = soak.figures
    record.save(finished=True)
    say("\n".join(f"{name:55} {figure}" for name, figure in soak.figures))
    say(f"wrote {record.path}")
    if folder == RESULTS:
        write_document()
    if soak.outcome.invalid:
        return INVALID
    return BROKEN if soak.outcome.broken else 0


if __name__ == "__main__":
    sys.exit(main())
