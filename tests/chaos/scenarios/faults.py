"""What fails around a relay at work: system calls, the wall clock, CPUs, descriptors, a backend's life.

Each fault is done to one relay under load, the books beginning anew with each.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Final

from tests.chaos import processes
from tests.chaos.newcomers import Newcomers
from tests.chaos.outcome import Outcome
from tests.chaos.rig import NAMES, NUMBERS, ChaosRig
from tests.chaos.scale import Scale
from tests.chaos.sessions import minted
from tests.support.faults import Faults
from tests.support.rig import until

WAIT_S: Final = 30.0
FULL: Final = (errno.EAGAIN, errno.ENOBUFS)
REFUSED: Final = (errno.ECONNREFUSED, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENOMEM, errno.EPERM)
FAILURES: Final = 8  # calls in a row
CLOCK_REPEATS: Final = 3
TOKEN_KEY: Final = (2, bytes(range(16)))
TRUNK_KEY: Final = (1, bytes(range(16, 32)))


def under_load(
    rig: ChaosRig, fault: str, actions: list[Callable[[], None]], *, note: str = "", most: int = 1000
) -> Outcome:
    """The actions one after the other, as often as the scale says but at most so often, and the figures."""
    rig.load_start()
    for action in actions * min(rig.scale.repeats, most):
        rig.mark()
        action()
        rig.arrives_again()
    rig.load_stop()
    return rig.outcome(fault, note=note)


# ---- system calls -----------------------------------------------------------------------------------


def system_calls(directory: Path, scale: Scale) -> list[Outcome]:
    """Sends are cut short and fail, receives and waits fail: what is lost has a name, and nothing else is."""
    outcomes = []
    for upstream in ("plain", "trunk") if scale.is_full else ("trunk",):
        folder = directory / upstream
        folder.mkdir()
        with Faults(folder) as faults, ChaosRig(folder, scale, upstream=upstream, mode="echo") as rig:
            outcomes += [
                sends_fail(rig, faults, "sends: buffer full (EAGAIN, ENOBUFS)", FULL),
                sends_fail(rig, faults, "sends refused (ECONNREFUSED, ENETDOWN, …)", REFUSED),
                nothing_lost(rig, faults, "sends interrupted (EINTR)", "sendmmsg", (errno.EINTR,)),
                nothing_lost(rig, faults, "receives fail (ECONNREFUSED, ENOMEM, …)", "recvmmsg", REFUSED),
                nothing_lost(
                    rig, faults, "waits fail (EINTR, ENOMEM)", "epoll_pwait2", (errno.EINTR, errno.ENOMEM)
                ),
            ]
    return outcomes


def sends_fail(rig: ChaosRig, faults: Faults, fault: str, errors: tuple[int, ...]) -> Outcome:
    """Each loss is a drop of the relay's, by name."""
    calls = ("sendmmsg", "sendto") if rig.upstream == "plain" else ("sendmmsg",)
    outcome = under_load(rig, fault, [failing(faults, call, error) for call in calls for error in errors])
    drops = rig.relay_drops()
    return outcome.promising(
        outcome.lost == drops.get("send_blocked", 0) + drops.get("send_failed", 0) > 0,
        "each loss is counted by name",
    ).promising(outcome.misrouted == 0, "nothing is misrouted")


def nothing_lost(rig: ChaosRig, faults: Faults, fault: str, call: str, errors: tuple[int, ...]) -> Outcome:
    """The same call again does what this one did not."""
    return under_load(rig, fault, [failing(faults, call, error) for error in errors]).promising_nothing_lost()


def failing(faults: Faults, call: str, error: int) -> Callable[[], None]:
    """This call fails so often, and has done so when this returns."""

    def fail() -> None:
        wanted = faults.failed(call) + FAILURES
        faults.fail(call, error, times=FAILURES)
        until(lambda: faults.failed(call) == wanted, f"{call} fails", WAIT_S)

    return fail


# ---- the machine ------------------------------------------------------------------------------------


def machine(directory: Path, scale: Scale) -> list[Outcome]:
    """The wall clock steps, CPUs and descriptors go and come, the admin socket's file is gone."""
    keys = {"trunk_key": TRUNK_KEY, "token_key": TOKEN_KEY}
    with (
        Faults(directory) as faults,
        ChaosRig(directory, scale, upstream="trunk", mode="echo", **keys) as rig,
    ):
        steps_h = (5.0, -10.0, 5.0)
        clock = [lambda hours=hours: stepped(rig, faults, hours) for hours in steps_h]
        cpus = sorted(os.sched_getaffinity(rig.engine_pid()))
        shares = [lambda left=left: moved(rig, left) for left in (cpus[:1], cpus[-1:], cpus)]
        outcomes = [
            under_load(rig, "wall clock +5 h, -10 h, +5 h", clock, most=CLOCK_REPEATS),
            under_load(rig, "engine's CPUs: the first, the last, all", shares),
            under_load(rig, "no descriptor left, then some", [lambda: without_descriptors(rig)]),
        ]
        rig.load_start()
        rig.mark()
        rig.relay.admin.unlink()
        rig.load_for(scale.seconds / 2)
        rig.load_stop()
        outcomes.append(rig.outcome("admin socket's file removed"))
        bad = sum(stream.sink.counters()["bad"] for stream in rig.load.streams)
        return [
            one.promising_nothing_lost().promising(bad == 0, "every tag and epoch holds") for one in outcomes
        ]


def stepped(rig: ChaosRig, faults: Faults, hours: float) -> None:
    """The relay looks at the clock once a second."""
    faults.step_clock(hours=hours)
    rig.load_for(1.2)


def moved(rig: ChaosRig, cpus: list[int]) -> None:
    """Every thread of the engine may run on these CPUs only."""
    for task in Path(f"/proc/{rig.engine_pid()}/task").iterdir():
        os.sched_setaffinity(int(task.name), cpus)


def without_descriptors(rig: ChaosRig) -> None:
    """Nobody is answered meanwhile, and all are forwarded."""
    pids = processes.tree(rig.keeper_pid)
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        rig.arrives_again()
    finally:
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):  # a standby that was about to open its files
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


# ---- a backend's life -------------------------------------------------------------------------------


def incarnation(directory: Path, scale: Scale) -> list[Outcome]:
    """A transceiver comes back as another incarnation: old tokens open nothing, new ones do, and no call of
    another transceiver notices."""
    with ChaosRig(directory, scale, upstream="trunk", mode="echo", token_key=TOKEN_KEY) as rig:
        count = scale.flows // 10
        rig.load_start()
        rig.mark()
        rig.load.streams[0].sink.come_back_as(1)
        path = f"/v1/backends/{NAMES[0]}"
        until(lambda: rig.ask("GET", path)["identity"]["incarnation"] == 1, "the relay hears of it", WAIT_S)
        with newcomers(rig, minted(*TOKEN_KEY, [NUMBERS[0]] * 2), 1) as old:
            old.give_up()
        with newcomers(rig, minted(*TOKEN_KEY, [NUMBERS[0]] * count, incarnation=1), 2) as new:
            rig.arrives_again()
        rig.load_stop()
        return [
            rig.outcome("backend restarted: another incarnation", note=new.words)
            .promising_nothing_lost()
            .promising(
                old.confirmed == 0 < rig.relay_drops().get("unknown_backend", 0), "old tokens are refused"
            )
            .promising(new.missed == 0, "new tokens are served")
        ]


def newcomers(rig: ChaosRig, ufrags: list[str], crowd: int) -> Newcomers:
    return Newcomers(rig, ufrags, per_s=max(2, len(ufrags)), crowd=crowd)


SCENARIOS = {"system calls": system_calls, "machine": machine, "incarnation": incarnation}
