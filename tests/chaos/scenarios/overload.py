"""More than the relay's CPU time carries: what it gives up, in which order, how soon all is well again."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from pyfastpath.types import TRAFFIC_CLASSES
from tests.chaos.cgroup import CpuQuota, cpu_hierarchy, cpu_seconds
from tests.chaos.onlooker import STEPS, Onlooker, Sight
from tests.chaos.outcome import Outcome
from tests.chaos.rig import NUMBERS, ChaosRig
from tests.chaos.scale import Scale
from tests.chaos.sessions import in_turn, minted
from tests.chaos.signals import Signals
from tests.support.rig import until

TOKEN_KEY: Final = (0, os.urandom(16))
REFUSED: Final = (
    "unknown_flow",
    "bad_token",
    "no_upstream_port",
)  # strangers; a newcomer's port rests a minute
SIGNALS_PPS: Final = 1_000
FIRST_SHARE: Final = 1 / 2  # of the CPU time that the load needs; full batches need less
LEAST_SHARE: Final = 1 / 100
SHORT_CPUS: Final = 0.01  # no machine carries the short load with that
SHORT_BUFFER_BYTES: Final = 1 << 20  # more than is worked off in one period of that quota: the queue stands
TRY_S: Final = 2.0
RECEIVE_BUFFER_BYTES: Final = 1 << 18
LEAST_SKB_BYTES: Final = 512  # what the kernel books for a datagram of any length, and more
CHECKS: Final = 20  # of callers, that have to arrive while everything is shed that may be
SIGMAS: Final = 5
CALM_S: Final = 0.3  # nothing lost for so long: it is over
PATIENCE_S: Final = 40.0
CLASSES: Final = range(len(TRAFFIC_CLASSES))
VOICE: Final = {TRAFFIC_CLASSES.index(name) for name in ("voice", "voice_data")}


class ClassRig(ChaosRig):
    """Sessions of every class in turn."""

    def _sessions(self) -> list[str]:
        owners = [number for number, stream in enumerate(self.load.streams) for _ in range(stream.sessions)]
        return minted(*TOKEN_KEY, [NUMBERS[owner] for owner in owners], in_turn(CLASSES, len(owners)))


def sized(scale: Scale) -> Scale:
    """What exceeds a share of a CPU has to be a load at all."""
    return replace(scale, flows=2_000, pps=40_000) if scale.is_full else replace(scale, flows=200, pps=30_000)


def by_class(directory: Path, scale: Scale) -> list[Outcome]:
    """Less and less CPU time, until even voice has to be shed; then all of it again."""
    cpu_hierarchy()
    size = sized(scale)
    buffer_bytes = RECEIVE_BUFFER_BYTES if scale.is_full else SHORT_BUFFER_BYTES
    config: dict[str, Any] = {"receive_buffer_bytes": buffer_bytes, "shards": 1}
    with ClassRig(directory, size, token_key=TOKEN_KEY, **config) as rig, Signals(rig, TOKEN_KEY) as signals:
        received = rig.relay.total("received_datagrams", direction="up")
        rig.load_start()
        signals.start(SIGNALS_PPS)
        with Onlooker(rig) as onlooker:
            press = starved if scale.is_full else pressed
            fault, recovery_ms, alone = press(rig, signals, onlooker)
        received = rig.relay.total("received_datagrams", direction="up") - received
        outcome = replace(rig.outcome(fault, repeats=1), recovery_ms=recovery_ms)
        outcome = in_order(in_exact_books(outcome, rig, signals, received), onlooker)
        outcome = sparing_callers(outcome, signals, alone)
        return [in_proportion(outcome, rig, onlooker) if scale.is_full else outcome]


def starved(rig: ChaosRig, signals: Signals, onlooker: Onlooker) -> tuple[str, float, Sight]:
    """So that voice is shed for a while, and all is well again under the same load: the share of the CPU time
    that the load needs, in words; how long it took until nothing was lost any more; what was shed while
    strangers were silent."""
    with CpuQuota(rig.keeper_pid) as quota:
        share = squeezed(rig, quota, onlooker)
        time.sleep(rig.scale.seconds / 2)
        alone = among_callers(signals, onlooker, rig.scale.seconds / 2)
        until(onlooker.sees_shedding, "something is shed", PATIENCE_S)
        lifted_ns = time.monotonic_ns()
        quota.lift()
        until(lambda: time.monotonic_ns() - onlooker.last_loss_ns() > CALM_S * 1e9, "calm", PATIENCE_S)
    signals.stop()
    rig.load_stop()
    recovery_ms = max(0.0, (onlooker.last_loss_ns() - lifted_ns) / 1e6)
    return f"1/{1 / share:.0f} of the CPU time that the load needs", recovery_ms, alone


def among_callers(signals: Signals, onlooker: Onlooker, seconds: float = 0.0) -> Sight:
    """Strangers fall silent. What is shed once the last of them has left the queue, in a time in which checks
    of callers arrive and bulk is shed, as every stranger would be."""
    signals.only_callers()
    full = onlooker.look()
    queue = 2 * SHORT_BUFFER_BYTES // LEAST_SKB_BYTES  # the kernel grants twice what it is asked for
    until(lambda: onlooker.look().since(full).received > queue, "the queue has gone through", PATIENCE_S)
    before, heard, began_s = onlooker.look(), signals.heard["stun"], time.monotonic()

    def is_shown() -> bool:
        shed = onlooker.look().since(before)
        return shed.step("shed_bulk") > 0 and signals.heard["stun"] >= heard + CHECKS

    until(is_shown, f"{CHECKS} checks of callers arrive while bulk is shed", PATIENCE_S)
    time.sleep(max(0.0, seconds - (time.monotonic() - began_s)))
    return onlooker.look().since(before)


def pressed(rig: ChaosRig, signals: Signals, onlooker: Onlooker) -> tuple[str, None, Sight]:
    """The same on a machine that has no CPU time to spare, where the load may be too much for ever: it ends,
    and with it the pressure."""
    with CpuQuota(rig.keeper_pid) as quota:
        quota.limit(SHORT_CPUS)
        until(lambda: onlooker.first_shed_ns()[-1] is not None, "voice is shed", PATIENCE_S)
        alone = among_callers(signals, onlooker)
    signals.stop()
    rig.load_stop()
    until(lambda: not level(rig), "no pressure", PATIENCE_S)
    return f"{SHORT_CPUS:.0%} of a CPU", None, alone


def level(rig: ChaosRig) -> float:
    """Of pressure: the relay's worker says it itself."""
    (said,) = (one.value for one in rig.relay.metrics() if one.name == "fastpath_pressure_level")
    return said


def sheds_voice(onlooker: Onlooker) -> bool:
    """So far, or soon?"""
    with suppress(AssertionError):
        until(lambda: onlooker.first_shed_ns()[-1] is not None, "voice is shed", TRY_S)
        return True
    return False


def squeezed(rig: ChaosRig, quota: CpuQuota, onlooker: Onlooker) -> float:
    """Halve what the relay gets until it sheds voice; the share of what it needs."""
    needs, share = needed(rig), FIRST_SHARE
    while share > LEAST_SHARE:
        quota.limit(share * needs)
        if sheds_voice(onlooker):
            break
        share /= 2
    return share


def needed(rig: ChaosRig) -> float:
    """CPUs that the relay uses under this load."""
    before_s, began_s = cpu_seconds(rig.keeper_pid), time.monotonic()
    rig.load_for(1.0)
    return (cpu_seconds(rig.keeper_pid) - before_s) / (time.monotonic() - began_s)


def in_exact_books(outcome: Outcome, rig: ChaosRig, signals: Signals, received: int) -> Outcome:
    """What is missing was dropped by the kernel or shed by name; nothing else is missing."""
    sent = outcome.sent + signals.sent.total()
    strange = set(rig.relay.drops()) - {*STEPS, *REFUSED}
    errors = sum(
        one.value for one in rig.relay.metrics() if one.name.endswith("conservation_error_datagrams")
    )
    return (
        outcome.promising(not strange, f"nothing is dropped for another reason, but for {strange}")
        .promising(
            sent == received + outcome.kernel_dropped, f"{sent:,} sent = {received:,} received + kernel"
        )
        .promising(errors == 0, "received = forwarded + dropped in every shard")
    )


def sparing_callers(outcome: Outcome, signals: Signals, alone: Sight) -> Outcome:
    """STUN and DTLS of confirmed flows are never shed. A check that is shed is counted as `shed_new`: nothing
    is, once nobody else asks. Of DTLS as much arrives as of STUN, which it is sent in turns with: the kernel,
    which drops some of both, knows no kinds."""
    shed = {name: alone.step(name) for name in ("shed_unknown", "shed_new")}
    heard = {kind: signals.heard[kind] for kind in ("stun", "dtls")}
    chance = SIGMAS * math.sqrt(signals.sent["stun"] / 2)  # of two binomial distributions at their widest
    return outcome.promising(
        not any(shed.values()), f"no check of a confirmed flow is shed: {shed}"
    ).promising(
        abs(heard["stun"] - heard["dtls"]) <= chance, f"DTLS of confirmed flows is never shed: {heard} arrive"
    )


def in_order(outcome: Outcome, onlooker: Onlooker) -> Outcome:
    """Voice is shed last, and least: a step begins when the one before did not do, and voice of every second
    flow goes on."""
    whole = onlooker.sights[-1].since(onlooker.sights[0])
    # Of what arrives in every batch: a step may be over before a rare datagram has shown it.
    first_ns = [
        onlooker.first_shed_ns()[STEPS.index(f"shed_{name}")] or 0 for name in ("bulk", "video", "voice")
    ]
    video, voice = whole.shed[STEPS.index("shed_video")], whole.shed[STEPS.index("shed_voice")]
    video_passed = whole.passed[TRAFFIC_CLASSES.index("video")]
    voice_passed = sum(whole.passed[TRAFFIC_CLASSES.index(name)] for name in ("voice", "voice_data"))
    return (
        outcome.promising(0 not in first_ns, "bulk, video and voice are shed in the end")
        .promising(first_ns == sorted(first_ns), "no step begins before the one that costs less")
        .promising(
            voice * video_passed < video * voice_passed,
            f"of voice less is shed than of video: {voice:,} and {voice_passed:,} passed, "
            f"{video:,} and {video_passed:,} passed",
        )
    )


def in_proportion(outcome: Outcome, rig: ChaosRig, onlooker: Onlooker) -> Outcome:
    """What is true of a load that was held all the time: every step sheds, and by class more passes."""
    whole = onlooker.sights[-1].since(onlooker.sights[0])
    shed = dict(zip(STEPS, whole.shed, strict=True))
    beside, bulk = onlooker.bulk_beside_voice()
    share = {name: whole.passed[number] for number, name in enumerate(TRAFFIC_CLASSES)}
    said = ", ".join(f"{count:,} {name}" for name, count in share.items())
    note = (
        f"recovery: until nothing was shed or dropped by the kernel any more; passed: {said}; "
        f"{voice_words(rig, shed['shed_voice'])}; "
        f"{beside:,} of {bulk:,} bulk datagrams passed while voice was shed"
    )
    return (
        replace(outcome, note=f"{note}; {outcome.note}")
        .promising(min(shed.values()) > 0, f"every step sheds: {shed}")
        .promising(beside * 5 <= bulk, f"voice is shed while bulk is: {beside:,} of {bulk:,} passed")
        .promising(
            share["bulk"] <= share["video"] < min(share["voice_data"], share["voice"]), f"by class: {share}"
        )
    )


def voice_words(rig: ChaosRig, shed: int) -> str:
    """How voice was lost: the kernel drops unread what a full socket does not hold, whatever it is."""
    classes = in_turn(CLASSES, rig.scale.flows)
    lost = sum(missing for flow, missing in rig.hurt_flows().items() if classes[flow] in VOICE)
    return f"of voice {lost - shed:,} were dropped by the kernel, unread, and {shed:,} shed"


SCENARIOS: dict[str, Callable[[Path, Scale], list[Outcome]]] = {"overload": by_class}
