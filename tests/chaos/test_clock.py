"""The wall clock of a real relay steps, by hours, both ways: only new tokens are judged by it.

Live calls do not notice; a trunk's epoch does not fall, whatever the clock says when an engine starts.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from pyfastpath.tools.ports import free_port
from pyfastpath.wire import token
from tests.support.faults import Faults
from tests.support.line import BOTH, Burst, Line, children_of
from tests.support.relay import Relay, running_relay
from tests.support.rig import until
from tests.support.trunk_backend import TrunkBackend, relay_ends

KEY, TRUNK_KEY = bytes(range(16)), bytes(range(16, 32))
KID, TRUNK_KID, XCVR = 2, 1, 7
LIFETIME_S = 3600
TOLERANCE_S = 64
WAIT_S = 20.0


@dataclass
class Clocked:
    """A relay whose clock can be stepped, its transceiver, and a live call."""

    relay: Relay
    faults: Faults
    backend: TrunkBackend
    line: Line
    minted: int = 0

    def token(self, expires_in_s: float) -> str:
        """A new one, by the true clock."""
        self.minted += 1
        expires_s = int(time.time() + expires_in_s)
        return token.mint(
            KEY, KID, expires_s=expires_s, cluster=0, xcvr=XCVR, incarnation=0, session=self.minted
        )

    def accepts(self, ufrag: str) -> bool:
        """Does a new client with this token come through?"""
        line = Line(self.relay, self.backend, ufrag)
        try:
            return line.is_heard()
        finally:
            line.close()

    def settles(self, accepted: bool, expires_in_s: float) -> None:
        """The relay looks at the clock each second; wait until it judges such a token so."""
        judged: Callable[[], bool] = lambda: self.accepts(self.token(expires_in_s)) is accepted  # noqa: E731
        until(judged, f"a token of {expires_in_s} s is {'accepted' if accepted else 'refused'}", WAIT_S)

    def goes_on(self) -> None:
        """The live call loses nothing."""
        for way in BOTH:
            sent = self.line.media(200, 200, 200)
            assert self.line.burst(way, sent) == Burst(sent, {})


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clocked]:
    directory: Path = tmp_path_factory.mktemp("clock")
    port = free_port(socket.SOCK_DGRAM)
    keys = {"keys": {TRUNK_KID: TRUNK_KEY}, "key_id": TRUNK_KID}
    with ExitStack() as undo:
        faults = undo.enter_context(Faults(directory))
        backend = TrunkBackend(relay_ends("127.0.0.1", port, 1), **keys)
        undo.callback(backend.close)
        relay = undo.enter_context(
            running_relay(
                directory,
                shards=1,
                trunk_port=port,
                token_keys=[{"kid": KID, "key": KEY.hex()}],
                trunk_keys=[{"id": TRUNK_KID, "key": TRUNK_KEY.hex()}],
                trunk_key_id=TRUNK_KID,
                backends=[
                    {
                        "id": "t",
                        "address": f"127.0.0.1:{backend.address[1]}",
                        "mode": "trunk",
                        "assume_up": True,
                        "transceiver": XCVR,
                    }
                ],
            )
        )
        it = Clocked(relay, faults, backend, Line(relay, backend, ""))
        undo.callback(it.line.close)
        it.line.ufrag = it.token(LIFETIME_S)
        it.line.confirm()
        yield it
        relay.assert_conservation()


def test_new_tokens_are_judged_by_the_clock_and_live_calls_are_not(it: Clocked) -> None:
    steps_h = (
        (5.0, False),  # past
        (-10.0, True),  # five hours ago: six hours ahead
        (-25.0, False),  # thirty hours ago: more than a day ahead
        (30.0, True),
    )
    for hours, accepted in steps_h:
        it.faults.step_clock(hours=hours)
        it.settles(accepted, LIFETIME_S)
        it.goes_on()
    assert it.relay.total("engine_starts") == 1


def test_an_expired_token_is_taken_for_another_minute(it: Clocked) -> None:
    """Clocks of two machines differ: expiry is judged with 64 s of tolerance, in units of 32 s."""
    assert it.accepts(it.token(-TOLERANCE_S / 2))
    assert not it.accepts(it.token(-2 * TOLERANCE_S))
    assert it.relay.drops("up")["token_expired"] > 0


def test_an_epoch_does_not_fall_with_the_clock(it: Clocked) -> None:
    """An engine starts while the clock is a day behind: the transceiver believes its datagrams."""
    it.faults.step_clock(hours=-24)
    for child in children_of(it.relay.process.pid):
        os.kill(child, signal.SIGKILL)
    until(lambda: it.relay.total("engine_starts") == 2, "another engine", 60)
    it.goes_on()
    it.faults.step_clock(hours=24)
    it.goes_on()
    assert it.backend.link.dropped == {}
    lines = it.relay.log.read_text().splitlines()
    assert all(line[:2] == "20" and " pyfastpath." in line for line in lines), "each line has its time"
