"""Live calls under attack, in exact books.

with ChaosRig(directory, scale, upstream="trunk", mode="echo") as rig, Bystanders(rig) as peace:
    attack = Spoofer(rig.relay.listen, shots)
    outcome = besiege(rig, peace, attack, "junk", count=1000, pace=5_000)

In turns come the attack, and bystanders who send as many ordinary datagrams at the same rate: what the attack
does to the latency of live calls is told from what any load does. A machine that others share may stand still
for twenty milliseconds, and that is the p99 of the turn it meets: of each side the median turn is compared,
and the worst is said.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, Final, Self

from fastpath.load.generator import Generator
from fastpath.load.sink import Sink
from fastpath.load.trunk_sink import TrunkSink

from pyfastpath.tools.bench.latency import Latency
from pyfastpath.tools.bench.threads import NAP_US, sleep_exactly
from tests.chaos.attacks.attackers import Attack, Requests
from tests.chaos.behind import trunk_key
from tests.chaos.courtesy import stepping_back
from tests.chaos.outcome import Outcome
from tests.chaos.rig import SERVE_S, SIZE_BYTES, ChaosRig
from tests.chaos.scale import Scale
from tests.chaos.sessions import installed
from tests.support.rig import until

BYSTANDERS: Final = 100
FIRST_BYSTANDER: Final = "127.2.0.1"
BYSTANDERS_NAME: Final = "bystanders"
ROUNDS: Final = 5
GOAL: Final = 2.0  # times the p99 of live calls beside ordinary datagrams
STILL_S: Final = 1.0  # longer than the relay's books are behind
STATELESS_MIB: Final = 8.0  # a flood that leaves no state: what Python and malloc may take on the way
SETTLED_S: Final = 30.0
SHED: Final = "shed_"  # how drop reasons of overload begin


def calls(scale: Scale) -> Scale:
    """A thousand live calls of ten datagrams a second each way; fewer in the suite.

    What an attack does to their latency shows only where nobody lacks CPU time without it. A datagram that is
    echoed is relayed twice and costs the load's CPU four turns (sent, taken, sent back, taken), a bystander's
    one and two. With `rate_pps` that is 50,000 a second for the relay and 100,000 turns for the load: half of
    what both hold at full scale (100,000 a second one way). At several times as much the ratio of the two
    sides says which of them starves the generator, not what the relay does.
    """
    if scale.is_full:
        return replace(scale, flows=1_000, pps=10_000)
    return replace(scale, flows=200, pps=2_000)


def hostile(scale: Scale, full: int) -> int:
    """How many hostile datagrams: `full` for the record, a four hundredth of it in the suite."""
    return full if scale.is_full else max(500, full // 400)


def rate_pps(scale: Scale) -> int:
    """How fast they come, when the load's own C builds them: three times what the calls send."""
    return 30_000 if scale.is_full else 5_000


def slow_pps(scale: Scale) -> int:
    """How fast they come, when Python builds and sends each."""
    return 10_000 if scale.is_full else 5_000


class Bystanders:
    """Confirmed flows of a backend of their own, which send when they are told to."""

    flows = BYSTANDERS

    def __init__(self, rig: ChaosRig) -> None:
        self._rig, self._pool = rig, ThreadPoolExecutor(1, initializer=sleep_exactly)
        link: dict[str, Any] = {"mode": "trunk", "assume_up": True} if rig.upstream == "trunk" else {}
        key = dict(zip(("key_id", "key"), trunk_key(rig) or (), strict=False))
        self._sink = (TrunkSink if link else Sink)(("127.0.0.1", 0), flows=BYSTANDERS, **key)
        rig.ask("PUT", f"/v1/backends/{BYSTANDERS_NAME}", {"address": f"127.0.0.1:{self._sink.port}", **link})
        ufrags = installed(rig.relay, [BYSTANDERS_NAME] * BYSTANDERS)
        self._generator = Generator(
            rig.relay.listen,
            [each.encode() for each in ufrags],
            first_source=FIRST_BYSTANDER,
            size_bytes=SIZE_BYTES,
        )

    def __enter__(self) -> Self:
        nap_us = NAP_US if self._rig.scale.is_full else 0
        self._serving = self._pool.submit(self._sink.run, nap_us=nap_us, duration_ms=int(SERVE_S * 1000))
        confirmed = self._generator.setup(timeout_ms=20_000)
        assert confirmed == BYSTANDERS, f"{confirmed} of {BYSTANDERS} bystanders are confirmed"
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.stop()
        self._serving.result()
        self._pool.shutdown()
        self._generator.close()
        self._sink.close()

    def fire(self, count: int, rate_pps: int) -> None:
        """Ordinary datagrams, sent by the same schedule as `attackers.Requests`: with the same short sleeps,
        or one side would wake up for each datagram and take the CPU from the calls' clients."""
        self._generator.run(
            rate_pps=rate_pps, limit=count, duration_ms=int(SERVE_S * 1000), drain_ms=0, nap_us=NAP_US
        )


@dataclass(slots=True)
class _Turns:
    """What the turns of one side took, and the p99 of live calls in each."""

    seconds: float = 0.0
    p99_us: tuple[float, ...] = ()


def besiege(
    rig: ChaosRig,
    peace: Bystanders,
    attack: Attack,
    fault: str,
    *,
    count: int,
    pace: int,
    brings: int = 0,
    memory_mib: float = STATELESS_MIB,
    settled: Callable[[], bool] = lambda: True,
    note: Callable[[], str] = lambda: "",
) -> Outcome:
    """The attack's `count` datagrams beside live calls; every promise that any attack has to leave whole.

    pace: datagrams a second. brings: how many of the attacker's backend follow each; the ordinary datagrams
    are as many as all of these. memory_mib: what the relay's processes may grow by. settled: whether
    everything fired has arrived where it may. note: what to say of it in the end.
    """
    rounds = ROUNDS if rig.scale.is_full else 1
    assert count % rounds == 0
    share, all_told = count // rounds, 1 + brings
    under_attack, in_peace = _Turns(), _Turns()
    rig.load_start()
    peace.fire(share // 4, pace)  # warm: every path was walked once before memory is looked at
    before_mib = rig.memory_mib()
    expected_before = Counter(attack.expected)
    for _ in range(rounds):
        _turn(rig, peace, in_peace, share * all_told, pace * all_told)
        with manners(rig.scale, attack):
            _turn(rig, attack, under_attack, share, pace)
    until(settled, "what was fired has settled", seconds=SETTLED_S)
    expected = attack.expected - expected_before
    _wait_for_books(rig, expected)
    grown_mib = rig.memory_mib() - before_mib
    rig.load_stop()
    words = (
        f"{count:,} hostile datagrams in {under_attack.seconds:.1f} s",
        felt(under_attack.p99_us, in_peace.p99_us),
        f"memory {grown_mib:+.1f} MiB",
        note(),
    )
    outcome = rig.outcome(fault, note="; ".join(filter(None, words)), repeats=rounds)
    return judged(outcome, expected, rig.relay_drops(), grown_mib, memory_mib)


def manners(scale: Scale, attack: Attack) -> AbstractContextManager[None]:
    """Python takes ten times the CPU of C for a datagram: it sends when nobody else wants to."""
    is_c = isinstance(attack, Requests)
    return stepping_back() if scale.is_full and not is_c else nullcontext()


def felt(attacked_us: Sequence[float], peaceful_us: Sequence[float]) -> str:
    """What live calls felt in the turns of an attack, and in those of ordinary datagrams; whether it is more
    than it should be. A latency is the machine's too, so it is said and fails nothing."""
    attacked, peaceful = median(attacked_us), median(peaceful_us)
    said = (
        f"p99 of live calls {attacked:,.0f} µs (worst turn {max(attacked_us):,.0f}), "
        f"beside ordinary datagrams at that rate {peaceful:,.0f} µs ({max(peaceful_us):,.0f})"
    )
    if math.isinf(peaceful):  # nothing was echoed in so short a time
        return said
    ratio = attacked / peaceful
    return f"{said}: {ratio:.1f} x" + (f", goal {GOAL:.0f} x missed" if ratio > GOAL else "")


def _turn(rig: ChaosRig, side: Attack | Bystanders, turns: _Turns, count: int, pace: int) -> None:
    before, began_s = _latency(rig), time.monotonic()
    side.fire(count, pace)
    turns.seconds += time.monotonic() - began_s
    p99_us = _latency(rig).minus(before).quantile_us(0.99)
    turns.p99_us += (math.inf if p99_us is None else p99_us,)


def _latency(rig: ChaosRig) -> Latency:
    return Latency.merged(Latency.of(stream.end(rig.mode).histogram()) for stream in rig.load.streams)


def gone(rig: ChaosRig) -> int:
    """What the kernel dropped, and what a relay under pressure shed unread."""
    shed = sum(count for reason, count in rig.relay_drops().items() if reason.startswith(SHED))
    return rig.kernel_drops() + shed


class Still:
    """Nobody knows how much is still to come once something is gone: whether anything has moved lately."""

    def __init__(self, seconds: float = STILL_S) -> None:
        self._seconds, self._since_s = seconds, 0.0
        self._last: tuple[int, ...] = ()

    def so_far(self, *counts: int) -> bool:
        """These have been the same for a while."""
        if counts != self._last:
            self._last, self._since_s = counts, time.monotonic()
        return time.monotonic() - self._since_s > self._seconds


def _wait_for_books(rig: ChaosRig, expected: Counter[str]) -> None:
    """Until the relay has counted all, or the kernel dropped some."""
    wanted = sum(count for reason, count in expected.items() if reason)
    until(
        lambda: sum(rig.relay_drops().values()) + rig.kernel_drops() >= wanted,
        f"{wanted:,} datagrams dropped by name",
        seconds=SETTLED_S,
    )


def judged(
    outcome: Outcome, expected: Counter[str], found: Mapping[str, int], grown_mib: float, memory_mib: float
) -> Outcome:
    """Every hostile datagram is found under its reason, and no other datagram under any; what is missing, the
    kernel dropped, and only what the kernel dropped is missing. A relay under pressure may have shed hostile
    datagrams before it looked for their reason; of live calls it sheds nothing."""
    named = Counter({reason: count for reason, count in expected.items() if reason})
    shed = Counter({reason: count for reason, count in found.items() if reason.startswith(SHED)})
    others = Counter(found) - named - shed
    missing = sum((named - Counter(found)).values()) - sum(shed.values())
    return (
        outcome.promising(not others, f"no datagram is dropped for another reason, but {dict(others)} are")
        .promising(
            missing + outcome.lost <= outcome.kernel_dropped,
            f"each is dropped under its name: {dict(named)}, found {dict(found)}",
        )
        .promising_calls_whole()
        .promising(grown_mib <= memory_mib, f"memory grows by at most {memory_mib} MiB, not {grown_mib:.1f}")
    )
