"""Real calls through a live relay: unchanged, in order, at the right backend, in both upstream modes."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyfastpath.tools.ports import free_port
from tests.support.pcap import Capture, read_capture
from tests.support.player import PlainBackend, Played, Player
from tests.support.relay import Relay, running_relay
from tests.support.trunk_backend import TrunkBackend, relay_ends

PCAPS = Path(__file__).parents[1] / "pcaps"
SERVER_PORT = 40_000  # of the server in every capture
BACKENDS = 3


@pytest.fixture(scope="module", params=["chromium-dtls12", "chromium-dtls13-sped", "wrtc-12-clients"])
def capture(request: pytest.FixtureRequest) -> Capture:
    return read_capture(PCAPS / f"{request.param}.pcap", SERVER_PORT)


def play(capture: Capture, relay: Relay, backends: list[Any]) -> Played:
    """Route the capture's sessions over the backends by turns, and play it."""
    owners = {session.server_ufrag: place % BACKENDS for place, session in enumerate(capture.sessions)}
    for ufrag, owner in owners.items():
        relay.install(ufrag, backend=f"b{owner}")
    return Player(capture, relay.listen, backends, owners).play()


def assert_whole(capture: Capture, played: Played) -> None:
    up = sum(datagram.upstream for datagram in capture.datagrams)
    assert (played.up, played.down) == (up, len(capture.datagrams) - up)
    assert played.flows == len({datagram.client for datagram in capture.datagrams})
    assert len(played.per_backend) == min(BACKENDS, len(capture.sessions))


@contextmanager
def plain_relay(directory: Path) -> Iterator[tuple[Relay, list[PlainBackend]]]:
    with ExitStack() as stack:
        ends = [stack.enter_context(closing(PlainBackend())) for _ in range(BACKENDS)]
        specs = [{"id": f"b{n}", "address": "{}:{}".format(*end.address)} for n, end in enumerate(ends)]
        yield stack.enter_context(running_relay(directory, backends=specs, shards=4, workers=2)), ends


def test_plain_mode(capture: Capture, tmp_path: Path) -> None:
    with plain_relay(tmp_path) as (relay, backends):
        played = play(capture, relay, backends)
        assert_whole(capture, played)
        relay.assert_conservation()
        assert relay.drops() == {}
        assert relay.total("forwarded_datagrams", direction="up") == played.up
        assert relay.total("forwarded_datagrams", direction="down") == played.down
        assert relay.total("flow_changes", state="confirmed") == played.flows


@contextmanager
def trunk_relay(directory: Path, keys: dict[int, bytes]) -> Iterator[tuple[Relay, list[TrunkBackend]]]:
    shards = 4
    port = free_port(socket.SOCK_DGRAM, shards)
    with ExitStack() as stack:
        relays = relay_ends("127.0.0.1", port, shards)
        ends = [stack.enter_context(closing(TrunkBackend(relays, keys=keys))) for _ in range(BACKENDS)]
        specs = [
            {"id": f"b{n}", "address": "{}:{}".format(*end.address), "mode": "trunk", "assume_up": True}
            for n, end in enumerate(ends)
        ]
        settings = {"trunk_port": port, "trunk_keys": [f"{kid}:{key.hex()}" for kid, key in keys.items()]}
        relay = running_relay(directory, backends=specs, shards=shards, workers=2, **settings)
        yield stack.enter_context(relay), ends


@pytest.mark.parametrize("keys", [{}, {0: bytes(range(16))}], ids=["untagged", "tagged"])
def test_trunk_mode(capture: Capture, tmp_path: Path, keys: dict[int, bytes]) -> None:
    with trunk_relay(tmp_path, keys) as (relay, backends):
        played = play(capture, relay, backends)
        assert_whole(capture, played)
        assert all(backend.link.dropped == {} for backend in backends)
        relay.assert_conservation()
        assert relay.drops() == {}
        assert relay.total("forwarded_datagrams", direction="up") == played.up
        assert relay.total("forwarded_datagrams", direction="down") == played.down
        assert relay.total("flow_changes", state="confirmed") == played.flows
