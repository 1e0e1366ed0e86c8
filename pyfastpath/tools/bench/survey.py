"""The survey: a relay of our own in both upstream modes beside no relay at all, in half a minute.

They take turns (A B C A B C), so that a machine that slows down slows all of them. Three kinds of turn: a
flood (how much), a schedule at 60 % of the slowest's flood (CPU a datagram, loss), a schedule of at most
50,000 a second without naps (latency).
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from pyfastpath.tools.bench.cpu import Division
from pyfastpath.tools.bench.figures import Row, Sample
from pyfastpath.tools.bench.load import Load
from pyfastpath.tools.bench.meter import Work
from pyfastpath.tools.bench.options import Options
from pyfastpath.tools.bench.relays import Path, no_relay, of_our_own
from pyfastpath.tools.bench.sessions import aim, open_sessions
from pyfastpath.tools.progress import Progress

NO_RELAY: Final = "no relay"
PATHS: Final = (NO_RELAY, "plain", "trunk")
WAYS: Final = ("up", "echo")
KINDS: Final = ("flood", "paced", "timed")
ROUNDS: Final = 3
PACED_SHARE: Final = 0.6
TIMED_PPS: Final = 50_000
SWITCH_S: Final = 0.06  # from one turn to the next: what flies arrives, a sink that waits is told to stop
WARMUP_SHARE: Final = 0.15  # of each turn
TURN_MIN_S: Final = 0.1  # when starting took too long, the survey takes longer than it was given
Samples = defaultdict[tuple[str, str], list[Sample]]  # [kind, way][round]


@dataclass(slots=True)
class Lane:
    """A path, its load, and what was measured on it."""

    path: Path
    load: Load
    samples: Samples = field(default_factory=lambda: defaultdict(list))

    def sent_pps(self, way: str) -> float:
        """What the generator sent a second in this lane's floods."""
        return median(sample.sent_pps for sample in self.samples["flood", way])


def survey(options: Options, division: Division, progress: Progress) -> list[Row]:
    """All rows, `no relay` of each way first."""
    end_s = time.monotonic() + options.duration_s
    turns = len(PATHS) * len(WAYS) * len(KINDS) * ROUNDS
    with ExitStack() as stack:
        progress.show("starting relays, opening sessions")
        lanes = [stack.enter_context(_lane(options, name, division)) for name in PATHS]
        rates: dict[tuple[str, str], int] = dict.fromkeys((("flood", way) for way in WAYS), 0)
        for kinds in (("flood",), ("paced", "timed")):
            for _ in range(ROUNDS):
                for kind, way in ((kind, way) for kind in kinds for way in WAYS):
                    for lane in lanes:
                        left_s = max(0.0, end_s - time.monotonic())
                        turn_s = max(TURN_MIN_S, left_s / turns - SWITCH_S)
                        turns -= 1
                        progress.show(f"{lane.path.name} {way}, {kind} · {left_s:.0f} s left")
                        lane.samples[kind, way].append(_turn(lane, way, rates[kind, way], turn_s))
            rates |= _rates(lanes)
        return [_row(lane, way, lanes[0]) for way in WAYS for lane in lanes]


@contextmanager
def _lane(options: Options, name: str, division: Division) -> Iterator[Lane]:
    upstream = "trunk" if name == "trunk" else "plain"
    with ExitStack() as stack:
        load = Load(options.parts, options.sessions, upstream, ("127.0.0.1", 0))
        stack.callback(load.close)
        own = name != NO_RELAY
        path = stack.enter_context(of_our_own(load, upstream, division)) if own else no_relay(load)
        aim(load, path, options)
        open_sessions(load, path)
        yield Lane(path, load)


def _turn(lane: Lane, way: str, rate_pps: int, turn_s: float) -> Sample:
    warmup_s = turn_s * WARMUP_SHARE
    seconds = round(turn_s - warmup_s, 3)
    cpu_ns = lane.path.cpu_ns
    return lane.load.run(Work(way=way, rate_pps=rate_pps, seconds=seconds, warmup_s=warmup_s, cpu_ns=cpu_ns))


def _rates(lanes: Sequence[Lane]) -> dict[tuple[str, str], int]:
    """Schedules at which nobody is at his limit, the generator included."""
    found = {}
    for way in WAYS:
        paced = int(PACED_SHARE * min(lane.sent_pps(way) for lane in lanes))
        found["paced", way], found["timed", way] = paced, min(TIMED_PPS, paced)
    return found


def _row(lane: Lane, way: str, own: Lane) -> Row:
    return Row(
        path=lane.path.name,
        mode=way,
        floods=tuple(lane.samples["flood", way]),
        paced=tuple(lane.samples["paced", way]),
        timed=tuple(lane.samples["timed", way]),
        own_pps=None if lane is own else own.sent_pps(way),
        drops=tuple(lane.path.drops().items()),
    )
