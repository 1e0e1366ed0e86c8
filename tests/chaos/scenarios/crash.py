"""The engine is killed, at random moments and where it hurts most: no datagram of a confirmed flow is lost.

A kill -9 is the end of an engine between any two instructions. The next one finishes the batch that the last
one had in hand; what one send call carried may go out twice, and is counted.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final
from unittest.mock import patch

from pyfastpath.tools.own_relay import OwnRelayError, environment_of
from pyfastpath.wire.stun import build_binding_request
from tests.chaos.outcome import CannotRunError, Outcome
from tests.chaos.rig import NAMES, ChaosRig, Upstream
from tests.chaos.scale import Scale
from tests.support.plain_call import udp_end
from tests.support.rig import until

KILLS: Final = 20
SEED: Final = 5
BATCH: Final = 64  # what one send call carries at most, for each socket of a shard
SOCKETS: Final = 3  # from clients, from plain ports, from the trunk
NEXT_S: Final = 30.0
PASSES_MAX: Final = 30  # of a point, before it kills
ASK_AGAIN_S: Final = 0.25
LIST: Final = Path(__file__).parents[3] / "fastpath" / "crash.pxd"
POINTS: Final = re.findall(r"enum: FP_AT_(\w+)", LIST.read_text())
ONLY_PLAIN: Final = {"port_filled"}


def at_random(directory: Path, scale: Scale) -> list[Outcome]:
    """kill -9, the same number of times in both upstream modes, under the highest load of the scale."""
    outcomes = []
    for upstream in ("plain", "trunk"):
        folder = directory / upstream
        folder.mkdir()
        outcomes.append(_killed(folder, scale, upstream))
    return outcomes


def _killed(directory: Path, scale: Scale, upstream: Upstream) -> Outcome:
    chance, kills = random.Random(SEED), KILLS if scale.is_full else 3
    with ChaosRig(directory, scale, upstream=upstream) as rig:
        rig.load_start()
        twice = Twice(rig)
        for _ in range(kills):
            _when_the_next_stands_by(rig)
            twice.look()
            time.sleep(chance.uniform(0.0, 0.05))  # at any moment of a batch
            rig.mark()
            os.kill(rig.engine_pid(), signal.SIGKILL)
            rig.arrives_again()
        rig.load_stop()
        outcome = rig.outcome(f"engine killed at random moments (seed {SEED})")
        return _promising(outcome, twice)


def at_points(directory: Path, scale: Scale, upstream: Upstream) -> Outcome:
    """The engine kills itself inside table writes and between receiving and sending, once at each point."""
    chance = random.Random(SEED)
    points = [one for one in POINTS if upstream == "plain" or one not in ONLY_PLAIN]
    order = directory / "crash"
    with _debug_build(order), ChaosRig(directory, scale, upstream=upstream, mode="echo") as rig:
        rig.load_start()
        tables, twice = TableWork(rig), Twice(rig)
        for point in points:
            _when_the_next_stands_by(rig)
            twice.look()
            pid = rig.engine_pid()
            rig.mark()
            order.write_text(f"{point} {chance.randint(1, PASSES_MAX)}")
            deadline_s = time.monotonic() + NEXT_S
            while _is_alive(pid):
                assert time.monotonic() < deadline_s, f"nobody dies at {point}"
                tables.turn()
            rig.arrives_again()
        rig.load_stop()
        note = f"debug build; {tables.flows} flows opened and replaced meanwhile"
        outcome = rig.outcome(f"engine kills itself at {len(points)} points", note=note)
        return _promising(outcome, twice)


class Twice:
    """What was sent twice, kill by kill: looked at before each kill, when the one before is long over."""

    def __init__(self, rig: ChaosRig) -> None:
        self._rig, self._before, self._most = rig, 0, 0

    def look(self) -> int:
        """The most after any kill so far."""
        now = self._rig.live().duplicates
        self._most, self._before = max(self._most, now - self._before), now
        return self._most


class TableWork:
    """Writes to every table: routes come and are replaced, a client opens a flow and restarts its ICE."""

    def __init__(self, rig: ChaosRig) -> None:
        self._rig = rig
        self.flows = 0

    def turn(self) -> None:
        """One of each. Whoever is not answered asks again: the engine may die at any moment."""
        number, self.flows = self.flows, self.flows + 1
        first, second = f"first{number}", f"second{number}"
        for ufrag, backend in ((first, NAMES[1]), (first, NAMES[0]), (second, NAMES[0])):
            self._install(ufrag, backend, session=f"session{number}")
        with udp_end() as client:
            client.settimeout(ASK_AGAIN_S)
            for ufrag in (first, second):  # the same session by another name takes the flow's place at once
                self._ask(client, ufrag)

    def _install(self, ufrag: str, backend: str, session: str) -> None:
        route = {"ufrag": ufrag, "backend": backend, "session": session, "replace": True}
        until(lambda: self._told(json.dumps(route).encode()), "the route is taken", seconds=NEXT_S)

    def _told(self, route: bytes) -> bool:
        try:
            return self._rig.relay.request("PUT", "/v1/routes", route)[0] // 100 == 2
        except (OSError, http.client.HTTPException):  # one engine has died, the next does not answer yet
            return False

    def _ask(self, client: socket.socket, ufrag: str) -> None:
        request = build_binding_request(os.urandom(12), f"{ufrag}:chaos".encode())

        def is_answered() -> bool:
            client.sendto(request, self._rig.relay.listen)
            try:
                return client.recv(2048)[8:20] == request[8:20]
            except TimeoutError:
                return False

        until(is_answered, f"{ufrag} is answered", seconds=NEXT_S)


@contextmanager
def _debug_build(order: Path) -> Iterator[None]:
    """Relays started in here have the points, and look for an order to die."""
    here = os.environ.get("FASTPATH_PROFILE") == "debug"
    try:
        environment = {} if here else environment_of("debug")
    except OwnRelayError as error:
        raise CannotRunError(str(error)) from None
    with patch.dict(os.environ, environment | {"FASTPATH_CRASH": str(order)}):
        yield


def _when_the_next_stands_by(rig: ChaosRig) -> None:
    """Behind the engine that serves now, which says how many have served so far. A second death before that
    would measure how long an interpreter takes to start."""
    starts = rig.ask("GET", "/v1/status")["engine_starts"]
    until(
        lambda: rig.relay.log.read_text().count(" stands by") >= starts, "another stands by", seconds=NEXT_S
    )


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _promising(outcome: Outcome, twice: Twice) -> Outcome:
    most = twice.look()
    return outcome.promising_nothing_lost().promising(
        most <= SOCKETS * BATCH, f"at most one batch a socket is sent twice after a kill, not {most}"
    )


def _at_points(directory: Path, scale: Scale) -> list[Outcome]:
    outcomes = []
    for upstream in ("plain", "trunk"):
        folder = directory / upstream
        folder.mkdir()
        outcomes.append(at_points(folder, replace(scale, flows=1000, pps=10_000), upstream))
    return outcomes


SCENARIOS = {"kill -9": at_random}
ONLY_FULL = {"crash points": _at_points}  # in the suite of the debug build: tests/path/test_crash.py
