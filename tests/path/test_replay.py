"""Captures of real calls replayed through a live relay: every datagram once, unchanged, in order, in place.

What the slow player of test_captures.py shows for one session, the engine shows for many at once.
"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfastpath.tools.own_relay import OwnRelay, own_relay
from pyfastpath.tools.ports import free_port
from pyfastpath.tools.replay.options import Flags, read_flags
from pyfastpath.tools.replay.report import INVALID, PASSED, Outcome, to_text
from pyfastpath.tools.replay.run import replay
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from tests.support.crafted import write

PCAPS = Path(__file__).parents[1] / "pcaps"
BACKENDS = 3
# Of the capture's datagrams so many are played by so many sessions, 0: all. A thousand play its beginning:
# set-up, handshake, first media; `pyfastpath replay --sessions 1000 --speed max` plays the rest, too.
LIMITS = {1: 0, 100: 300, 1000: 100}


def played(name: str, **flags) -> Outcome:
    lines = (PCAPS / f"{name}.jsonl").read_text().splitlines()
    given = {"speed": "max", "backends": BACKENDS, "password_lines": lines} | flags
    return replay(read_flags(Flags(file=PCAPS / f"{name}.pcap", **given), wall_s=int(time.time())))


def assert_whole(outcome: Outcome) -> None:
    told = to_text(outcome)
    assert outcome.exit_code == PASSED, told
    assert (outcome.up.delivered, outcome.down.delivered) == (outcome.planned_up, outcome.planned_down), told
    assert outcome.drops == {}, told
    assert outcome.faults == (), told
    assert (outcome.skipped, outcome.unsigned) == ({}, 0)


CROWDS = pytest.mark.parametrize("sessions", [1, 100, 1000])
CAPTURES = pytest.mark.parametrize("name", ["chromium-dtls12", "chromium-dtls13-sped", "wrtc-12-clients"])


@CROWDS
@CAPTURES
def test_plain_through_a_relay_of_its_own(name: str, sessions: int) -> None:
    assert_whole(played(name, sessions=sessions, limit=LIMITS[sessions]))


@pytest.fixture(scope="module")
def relay() -> Iterator[OwnRelay]:
    """One that runs, and serves replay after replay."""
    trunk = {"trunk_port": free_port(socket.SOCK_DGRAM), "plain_ports": 0}
    with own_relay(backends=[], settings=trunk) as started:
        yield started


@CROWDS
@CAPTURES
def test_on_a_trunk_through_a_relay_that_runs(name: str, sessions: int, relay: OwnRelay) -> None:
    """It is given our backends and routes, and the backends are taken out again."""
    given = {"socket": relay.admin.socket_path, "upstream": "trunk"}
    assert_whole(played(name, sessions=sessions, limit=LIMITS[sessions], **given))
    assert relay.admin.get("backends")["backends"] == []


def test_tokens_on_a_tagged_trunk() -> None:
    """Nothing is installed: minted ufrags lead to the transceivers, and every trunk datagram has its tag."""
    outcome = played(
        "wrtc-12-clients",
        upstream="trunk",
        sessions=36,
        limit=2000,
        token_key=f"2:{bytes(range(16)).hex()}",
        transceiver="5/100/3",
        trunk_key=f"1:{bytes(range(16, 32)).hex()}",
    )
    assert_whole(outcome)


def test_recorded_time_is_kept_and_told() -> None:
    """At twenty times its speed it takes as long as that. A busy machine may make it invalid, and nothing
    worse."""
    outcome = played("chromium-dtls12", sessions=4, speed="20x", loop=2)
    assert outcome.exit_code in {PASSED, INVALID}, to_text(outcome)
    assert not any(item.failed for item in outcome.judgements())
    assert outcome.planned_up + outcome.planned_down == 8 * outcome.datagrams
    assert outcome.elapsed_s > 2 * outcome.recorded_s / 20
    assert set(outcome.timing_us) == {"p50", "p99", "max"}
    assert 0 < outcome.timed + outcome.held_back + outcome.starved <= outcome.sent


def crafted(file: Path) -> Path:
    """A call that restarts ICE on its path and then moves to another address; a full-ICE server asks, too."""
    client, moved, server = (Endpoint.parse(text) for text in ("192.0.2.2:1", "192.0.2.3:2", "10.0.0.1:4"))
    serial = iter(range(1, 100))

    def check(source: Endpoint, target: Endpoint, names: bytes) -> list[tuple[Endpoint, Endpoint, bytes]]:
        transaction = next(serial).to_bytes(12, "big")
        asked = stun.build_binding_request(transaction, names)
        return [(source, target, asked), (target, source, stun.build_binding_success(transaction, source))]

    def media(end: Endpoint) -> list[tuple[Endpoint, Endpoint, bytes]]:
        first, second = (b"\x80\x6f" + next(serial).to_bytes(2, "big") + bytes(100) for _ in range(2))
        return [(end, server, first), (end, server, second), (server, end, first), (server, end, second)]

    return write(
        file,
        *check(client, server, b"first:aaaa"),
        *check(server, client, b"aaaa:first"),
        *media(client),
        *check(client, server, b"second:bbbb"),
        *media(client),
        *check(moved, server, b"second:bbbb"),
        *check(server, moved, b"bbbb:second"),
        *media(moved),
        *media(moved),
    )


@pytest.mark.parametrize("upstream", ["plain", "trunk"])
def test_restarts_moves_and_a_full_ice_server(tmp_path: Path, upstream: str) -> None:
    flags = Flags(file=crafted(tmp_path / "call"), speed="max", sessions=50, upstream=upstream, loop=2)
    outcome = replay(read_flags(flags, wall_s=0))
    assert outcome.exit_code == PASSED, to_text(outcome)
    assert (outcome.calls, outcome.flows) == (1, 2)
    assert outcome.planned_up + outcome.planned_down == 2 * 50 * outcome.datagrams
