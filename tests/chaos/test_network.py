"""The network under a real relay goes and comes back: a link, an address, a path's MTU, a server's port.

Real kernels' refusals, in network namespaces: what could not be sent is counted by name, and when the network
is back everything flows, from the same sockets.
"""

import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from pyfastpath.tools.ports import free_port
from tests.support.line import BOTH, Books, Burst, Line, Way
from tests.support.namespace import entered
from tests.support.player import PlainBackend
from tests.support.relay import Relay, running_relay
from tests.support.require import require
from tests.support.rig import udp, until
from tests.support.trunk_backend import TrunkBackend, relay_ends
from tests.support.wire import FAR, NEAR, Cable, cable

MODES = ("plain", "trunk")
COUNT = 8
LARGE_BYTES = 1300
SMALL_MTU_BYTES = 1280
WAIT_S = 20.0


@pytest.fixture(scope="module")
def wire() -> Iterator[Cable]:
    require("root", "namespaces", "ip")
    with cable() as made, entered(made.near):
        yield made


@contextmanager
def relay_and_lines(
    directory: Path, wire: Cable, listen: str, *, client: str, backend: str, **config: Any
) -> Iterator[tuple[Relay, list[Line]]]:
    """A relay at the near end, and a confirmed call in each mode between these two addresses."""
    port, trunk_port = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    trunk_address = NEAR if backend == FAR else "127.0.0.1"
    with ExitStack() as undo:
        with entered(wire.far if backend == FAR else wire.near):
            ends: list[Any] = [
                PlainBackend(backend),
                TrunkBackend(relay_ends(trunk_address, trunk_port, 1), keys={}, host=backend),
            ]
        with entered(wire.far if client == FAR else wire.near):
            clients = [udp(client) for _ in MODES]
        backends = [
            {"id": mode, "address": f"{backend}:{end.address[1]}", "mode": mode}
            | ({"assume_up": True} if mode == "trunk" else {})
            for mode, end in zip(MODES, ends, strict=True)
        ]
        settings = {
            "listen": [f"{listen}:{port}"],
            "shards": 1,
            "trunk_address": trunk_address,
            "trunk_port": trunk_port,
            "trunk_insecure": True,
            "allow_clients": ["127.0.0.0/8", "10.0.0.0/8"],
            "backends": backends,
        }
        relay = undo.enter_context(running_relay(directory, **settings | config))
        lines = []
        where = (client if client == "127.0.0.1" else NEAR, port)
        for mode, end, sock in zip(MODES, ends, clients, strict=True):
            relay.install(f"{mode}Ufrag", backend=mode)
            lines.append(Line(relay, end, f"{mode}Ufrag", sock, where))
            undo.callback(lines[-1].close)
            undo.callback(end.close)
            lines[-1].confirm()
        yield relay, lines
        relay.assert_conservation()


def assert_flows(line: Line) -> None:
    """Nothing is lost in either direction, however large."""
    for way in BOTH:
        sent = line.media(*[LARGE_BYTES] * COUNT)
        assert line.burst(way, sent) == Burst(sent, {})


def until_flows(line: Line) -> None:
    """Until the kernel has found its way again: one datagram in each direction arrives."""
    for way in BOTH:
        probes = []

        def arrives(way: Way = way, probes: list[bytes] = probes) -> bool:
            before = Books.of(line.relay, way)
            probes += line.media(LARGE_BYTES)
            line.send(way, probes[-1:])
            until(lambda: Books.of(line.relay, way) != before, f"a probe {way} is received", WAIT_S)
            return bool(line.outcome(way, before, 1).arrived)

        until(arrives, f"a probe {way} arrives", WAIT_S)


def dropped_into_the_void(line: Line) -> Counter[str]:
    """Nobody can look what arrived: only what the relay dropped of it."""
    before = Books.of(line.relay, "up")
    line.send("up", line.media(*[200] * COUNT))
    until(lambda: Books.of(line.relay, "up").received - before.received == COUNT, "all received", WAIT_S)
    return Books.of(line.relay, "up").dropped - before.dropped


def test_a_link_that_is_down_costs_what_was_sent_meanwhile(tmp_path: Path, wire: Cable) -> None:
    """The backends are behind it, the clients are not."""
    with relay_and_lines(tmp_path, wire, "127.0.0.1", client="127.0.0.1", backend=FAR) as (_, lines):
        for line in lines:
            assert_flows(line)
        wire.set_up(False)
        try:
            for line in lines:
                assert line.burst("up", line.media(*[LARGE_BYTES] * COUNT)) == Burst(
                    [], {"send_failed": COUNT}
                )
        finally:
            wire.set_up(True)
        for line in lines:
            until_flows(line)
            assert_flows(line)


@pytest.mark.parametrize("listen", [NEAR, "0.0.0.0"])
def test_an_address_that_is_lost_serves_again_once_it_is_back(
    tmp_path: Path, wire: Cable, listen: str
) -> None:
    """The clients are behind it, the backends are not. A reload meanwhile changes nothing."""
    with relay_and_lines(tmp_path, wire, listen, client=FAR, backend="127.0.0.1") as (relay, lines):
        for line in lines:
            assert_flows(line)
        wire.set_address(False)
        try:
            for line in lines:
                sent = line.media(*[LARGE_BYTES] * COUNT)
                assert line.burst("down", sent) == Burst([], {"send_failed": COUNT})
            relay.process.send_signal(signal.SIGHUP)
            until(lambda: "reloaded" in relay.log.read_text(), "the settings are read again", WAIT_S)
        finally:
            wire.set_address(True)
        for line in lines:
            until_flows(line)
            assert_flows(line)
        assert relay.total("engine_starts") == 1


def test_a_path_with_a_small_mtu_gets_runs_no_more_and_loses_nothing(tmp_path: Path, wire: Cable) -> None:
    with relay_and_lines(tmp_path, wire, "127.0.0.1", client="127.0.0.1", backend=FAR) as (relay, lines):
        for line in lines:
            assert_flows(line)
        assert relay.total("trunk_singly") == 0
        wire.set_mtu(SMALL_MTU_BYTES)
        try:
            for line in lines * 2:
                sent = line.media(*[LARGE_BYTES] * COUNT)
                assert line.burst("up", sent) == Burst(sent, {})
            assert relay.total("trunk_singly") == 1, "refused once, remembered"
        finally:
            wire.set_mtu(1500)


def test_a_plain_server_whose_port_was_closed_gets_all_that_is_sent_once_it_is_open(
    tmp_path: Path, wire: Cable
) -> None:
    """ICMP says so for each datagram sent into the void, and must not eat those sent later."""
    with relay_and_lines(tmp_path, wire, "127.0.0.1", client="127.0.0.1", backend="127.0.0.1") as (
        relay,
        lines,
    ):
        (line, _), server = lines, lines[0].backend
        assert isinstance(server, PlainBackend)
        for _ in range(3):
            server.close()
            assert not dropped_into_the_void(line), "the kernel took them"
            server.socket = udp(*server.address)
            assert_flows(line)
        until(lambda: relay.total("receive_errors") > 0, "the refusals are counted", WAIT_S)
