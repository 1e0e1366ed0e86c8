"""A relay that is about to go: not ready first, then closed to new calls, never in the way of live ones."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import urlopen

from tests.chaos.newcomers import Newcomers
from tests.chaos.outcome import Outcome
from tests.chaos.rig import NAMES, ChaosRig
from tests.chaos.scale import Scale
from tests.chaos.sessions import in_turn, installed
from tests.support.rig import until

NEW: Final = 40  # sessions of each crowd
PER_S: Final = 200
NOTICE_S: Final = 600  # ended by hand, so that no clock decides


def is_ready(rig: ChaosRig) -> bool:
    """What a load balancer is told."""
    try:
        with urlopen(f"{rig.relay.health}/readyz", timeout=10):
            return True
    except HTTPError:
        return False


@contextmanager
def crowd(rig: ChaosRig, number: int) -> Iterator[Newcomers]:
    """New sessions for both backends."""
    with Newcomers(rig, installed(rig.relay, in_turn(NAMES, NEW)), per_s=PER_S, crowd=number) as new:
        yield new


def drain(directory: Path, scale: Scale) -> list[Outcome]:
    """Drain with a notice, and undrain."""
    with ChaosRig(directory, scale.both_ways(), mode="echo") as rig:
        rig.load_start()
        ready = [is_ready(rig)]
        rig.mark()
        rig.ask("POST", "/v1/drain", {"notice_s": NOTICE_S, "wait_s": NOTICE_S})
        ready.append(is_ready(rig))
        with crowd(rig, 0) as noticed:
            pass
        rig.ask("POST", "/v1/drain", {"wait_s": NOTICE_S})
        with crowd(rig, 1) as refused:
            until(
                lambda: rig.relay_drops().get("draining", 0) >= NEW,
                "every new session is refused",
                seconds=20,
            )
            early = refused.confirmed
            progress = rig.ask("GET", "/v1/drain")
            ready.append(is_ready(rig))
            rig.mark()
            rig.ask("DELETE", "/v1/drain")
            ready.append(is_ready(rig))
        rig.load_stop()
        outcome = rig.outcome("drain, and undrain", note=f"after the undrain {refused.words}")
        return [
            outcome.promising_nothing_lost()
            .promising(ready == [True, False, False, True], "readiness says it first, and takes it back last")
            .promising(noticed.missed == 0, "new sessions are served while a drain is only announced")
            .promising(early == 0, "new sessions are refused while it drains")
            .promising(progress["live_flows"] >= scale.flows, "progress shows the flows that are left")
            .promising(0 < progress["deadline_left_s"] <= NOTICE_S, "progress shows the deadline")
            .promising(refused.missed == 0, "who asks on is served after an undrain")
        ]


def end(directory: Path, scale: Scale) -> list[Outcome]:
    """SIGTERM under load: live calls go on; a second one ends the relay."""
    with ChaosRig(directory, scale.both_ways(), mode="echo", drain_deadline_s=NOTICE_S) as rig:
        rig.load_start()
        rig.mark()
        rig.relay.process.send_signal(signal.SIGTERM)
        until(lambda: rig.ask("GET", "/v1/drain")["ends"], "the drain", seconds=20)
        rig.load_for(scale.seconds)
        rig.load_stop()
        outcome = rig.outcome("SIGTERM, before its deadline")
        rig.relay.process.send_signal(signal.SIGTERM)
        code = rig.relay.process.wait(20)
        return [outcome.promising_nothing_lost().promising(code == 0, "a second SIGTERM ends it with code 0")]


SCENARIOS = {"drain": drain, "end": end}
