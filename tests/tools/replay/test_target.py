"""The relay of a replay: what it is told, and that nothing of it stays."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from pyfastpath.errors import ConfigError, FastpathError, UnreachableError
from pyfastpath.tools.admin import AdminClient
from pyfastpath.tools.own_relay import OwnRelay, own_relay
from pyfastpath.tools.replay.names import TokenMint
from pyfastpath.tools.replay.target import Route, Target, live_target, own_target, token_target
from pyfastpath.wire import stun, token

TIMEOUT_S = 10


@dataclass
class Backend:
    """A backend as the player has one."""

    socket: socket.socket

    @property
    def address(self) -> tuple[str, int]:
        return self.socket.getsockname()


@pytest.fixture
def backends() -> Iterator[list[Backend]]:
    with ExitStack() as stack:
        ends = [stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) for _ in range(2)]
        for end in ends:
            end.bind(("127.0.0.1", 0))
            end.settimeout(TIMEOUT_S)
        yield [Backend(end) for end in ends]


@pytest.fixture(scope="module")
def relay() -> Iterator[OwnRelay]:
    with own_relay(backends=[], settings={"plain_ports": 64}) as started:
        yield started


def ask(target: Target, ufrag: str, backend: Backend) -> None:
    """A request under this ufrag comes out at this backend."""
    request = stun.build_binding_request(ufrag.encode()[:12].ljust(12), ufrag.encode() + b":clnt")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.bind(("127.0.0.1", 0))
        client.sendto(request, target.listen)
        assert backend.socket.recv(2048) == request


def test_a_relay_of_our_own(backends: list[Backend]) -> None:
    with own_target(backends, "plain", roles=10) as target:
        target.install(
            [Route("firstone", 0), Route("secondone", 1, "session"), Route("thirdone", 1, "session")]
        )
        ask(target, "firstone", backends[0])
        ask(target, "thirdone", backends[1])
        assert target.drops() == {}


def test_tokens_need_no_routes(backends: list[Backend]) -> None:
    mints = [TokenMint(bytes(16), 3, 9, 100 + place, 2, 0) for place in range(2)]
    with own_target(backends, "plain", roles=10, mints=mints) as target:
        expires_s = int(time.time()) + 600  # the relay looks at its own clock
        ufrag = token.mint(bytes(16), 3, expires_s=expires_s, cluster=9, xcvr=101, incarnation=2, session=5)
        ask(target, ufrag, backends[1])


def test_a_relay_that_runs_is_told_and_forgets(relay: OwnRelay, backends: list[Backend]) -> None:
    with live_target(relay.admin, None, backends, "plain", "run1") as target:
        assert target.listen == relay.listen
        target.install(Route(f"ufrag{number:05d}", number % 2) for number in range(300))
        ask(target, "ufrag00299", backends[1])
        known = [row["id"] for row in relay.admin.get("backends")["backends"]]
        assert known == ["replay-run1-0", "replay-run1-1"]
    assert relay.admin.get("backends")["backends"] == []


def test_drops_are_told_by_their_reason(relay: OwnRelay, backends: list[Backend]) -> None:
    with live_target(relay.admin, relay.listen, backends, "plain", "run2") as target:
        before = target.drops()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"\x40 nothing of ours", target.listen)
        target.install([Route("somebody", 0)])
        ask(target, "somebody", backends[0])  # behind it: it is booked
        for _ in range(100):
            if (target.drops() or {}) != before:
                break
            time.sleep(0.05)
        assert (target.drops() or {}).get("not_webrtc", 0) == (before or {}).get("not_webrtc", 0) + 1


def test_backends_are_taken_out_when_the_replay_fails(relay: OwnRelay, backends: list[Backend]) -> None:
    with pytest.raises(FastpathError, match="the relay refused 1 of 1 routes"):  # noqa: SIM117
        with live_target(relay.admin, relay.listen, backends, "plain", "run3") as target:
            target.install([Route("bad ufrag", 0)])
    assert relay.admin.get("backends")["backends"] == []


def test_a_relay_without_a_trunk_refuses_one(relay: OwnRelay, backends: list[Backend]) -> None:
    refused = pytest.raises(ConfigError, match="--upstream: this relay has no trunk")
    with refused, live_target(relay.admin, relay.listen, backends, "trunk", "run4"):
        pass
    assert relay.admin.get("backends")["backends"] == []


def test_no_relay_at_all(backends: list[Backend]) -> None:
    gone = AdminClient("/nonexistent/relay.sock")
    with pytest.raises(UnreachableError), live_target(gone, None, backends, "plain", "run5"):
        pass


def test_a_relay_that_knows_tokens_is_told_nothing() -> None:
    target = token_target(("192.0.2.1", 3478))
    target.install([Route("whatever", 0)])
    assert (target.listen, target.drops()) == (("192.0.2.1", 3478), None)
