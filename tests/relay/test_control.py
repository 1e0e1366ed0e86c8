"""The control plane over real tables and workers: trunks watched, tokens followed, reloads without a loss."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from pyfastpath.config import Backend, TokenKey
from pyfastpath.errors import ConfigError, RouteError
from pyfastpath.relay import layout
from pyfastpath.relay.control import Control, Reloaded
from pyfastpath.relay.relay import Relay
from pyfastpath.tools.ports import free_port
from pyfastpath.types import Secret
from pyfastpath.wire import token
from pyfastpath.wire.stun import build_message
from tests.relay.conftest import MakeConfig
from tests.relay.test_relay import address_of, let_settle
from tests.support.plain_call import SUCCESS, PlainCall, endpoint_text, udp_end
from tests.support.rig import until
from tests.support.trunk_backend import TrunkBackend, relay_ends

KEY = bytes(range(16))
TRUNK_KEY = bytes(range(16, 32))


@contextmanager
def answering(backend: TrunkBackend) -> Iterator[threading.Event]:
    """A transceiver's end that receives, and so answers pings, until the event is set."""
    silent = threading.Event()

    def serve() -> None:
        while not silent.is_set():
            backend.receive()
            time.sleep(0.01)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield silent
    finally:
        silent.set()
        thread.join()


@pytest.fixture
def trunk_port() -> int:
    return free_port(socket.SOCK_DGRAM, 2)


@pytest.fixture
def transceiver(trunk_port: int) -> Iterator[TrunkBackend]:
    backend = TrunkBackend(relay_ends("127.0.0.1", trunk_port, 2), keys={0: TRUNK_KEY})
    yield backend
    backend.close()


@pytest.fixture
def relay(make_config: MakeConfig, trunk_port: int, transceiver: TrunkBackend) -> Iterator[Relay]:
    """A relay with a keyed trunk to one transceiver, and token keys."""
    config = make_config(
        trunk_port=str(trunk_port),
        trunk_keys=["0:" + TRUNK_KEY.hex()],
        token_keys=["0:" + KEY.hex()],
        backends=[
            {"id": "t", "address": endpoint_text(transceiver.socket), "mode": "trunk", "transceiver": 7}
        ],
    )
    with Relay(config) as running:
        yield running


def backend(relay: Relay) -> dict[str, Any]:
    (one,) = relay.backends.list()
    return one


def state(relay: Relay) -> str:
    return str(backend(relay)["state"])


def test_a_trunk_backend_is_down_until_heard_and_again_when_silent(
    relay: Relay, transceiver: TrunkBackend
) -> None:
    assert state(relay) == "down"
    assert relay.status()["reasons"] == ["no_backend_up"]
    with answering(transceiver):
        until(lambda: state(relay) == "up", "heard")
        until(lambda: backend(relay)["trunk"]["pongs"] > 0, "a pong")
        assert backend(relay)["trunk"]["rtt_us"] > 0
        assert relay.status()["ready"]
    until(lambda: state(relay) == "down", "three seconds of silence", 8)


def test_what_a_transceiver_says_of_itself(relay: Relay, transceiver: TrunkBackend, trunk_port: int) -> None:
    end = relay_ends("127.0.0.1", trunk_port, 2)[1]
    for number, wanted in ((1, "up"), (2, "draining"), (3, "down"), (1, "up")):
        transceiver.link.send_state(
            end, state=number, incarnation=5, cluster=0, xcvr=7, sessions=3, capacity=9
        )
        until(lambda wanted=wanted: state(relay) == wanted, wanted)
    found = backend(relay)
    assert found["identity"] == {"cluster": 0, "transceiver": 7, "incarnation": 5}
    assert (found["trunk"]["sessions"], found["trunk"]["capacity"]) == (3, 9)


def test_a_token_follows_the_incarnation_the_transceiver_reports(
    relay: Relay, transceiver: TrunkBackend, trunk_port: int
) -> None:
    end = relay_ends("127.0.0.1", trunk_port, 2)[0]
    transceiver.link.send_state(end, state=1, incarnation=2, cluster=0, xcvr=7, sessions=0, capacity=9)
    until(lambda: backend(relay)["identity"]["incarnation"] == 2, "the incarnation")
    for incarnation, reason in ((2, "token"), (1, "unknown_backend")):
        ufrag = token.mint(
            KEY,
            0,
            expires_s=int(time.time()) + 60,
            cluster=0,
            xcvr=7,
            incarnation=incarnation,
            session=incarnation,
        )
        with udp_end() as server, PlainCall(address_of(relay), server, ufrag) as call:
            before = decisions(relay)[reason]
            call.ask()
            until(lambda reason=reason, before=before: decisions(relay)[reason] == before + 1, reason)


def decisions(relay: Relay) -> dict[str, int]:
    from fastpath.counters import DECISIONS

    counted = relay.counters()["decisions"].sum(axis=0)
    return {name: int(counted[number]) for number, (name, _) in enumerate(DECISIONS)}


def test_a_key_is_rotated_by_a_reload(relay: Relay, transceiver: TrunkBackend) -> None:
    new_key = os.urandom(16)

    def mint(key: bytes, kid: int) -> str:
        expires_s = int(time.time()) + 60
        return token.mint(key, kid, expires_s=expires_s, cluster=0, xcvr=7, incarnation=0, session=kid)

    def ask(ufrag: str, reason: str) -> None:
        before = decisions(relay)[reason]
        with udp_end() as server, PlainCall(address_of(relay), server, ufrag) as call:
            call.ask()
            until(lambda: decisions(relay)[reason] == before + 1, reason)

    with answering(transceiver):
        until(lambda: state(relay) == "up", "heard")
        ask(mint(KEY, 0), "token")
        ask(mint(new_key, 1), "bad_token")

        def rotate(control: Control) -> Reloaded:
            keys = (*control.config.token_keys, TokenKey(kid=1, key=Secret(new_key)))
            return control.reload(msgspec.structs.replace(control.config, token_keys=keys))

        assert relay.call(rotate).changed == ["token_keys"]
        let_settle()
        ask(mint(new_key, 1), "token")
        ask(mint(KEY, 0), "token")


# ---- plain --------------------------------------------------------------------------------------------


@pytest.fixture
def plain(make_config: MakeConfig, server: socket.socket) -> Iterator[Relay]:
    with Relay(make_config(backends=[f"a={endpoint_text(server)}"])) as running:
        yield running


def reload(relay: Relay, **changed: Any) -> Reloaded:
    return relay.call(lambda control: control.reload(msgspec.structs.replace(control.config, **changed)))


def test_a_reload_tells_what_it_changed_and_what_waits(plain: Relay) -> None:
    done = reload(plain, coalesce_us=0, flows_max=99, route_ttl_s=7)
    assert (done.changed, done.needs_restart) == (["coalesce_us", "route_ttl_s"], ["flows_max"])
    assert plain.call(lambda control: (control.config.flows_max, control.routing.ttl_s)) == (1024, 7)
    assert plain.routes.install("ufrag1", "a")["expires_in_s"] <= 7


def test_a_reload_that_cannot_be_followed_changes_nothing(plain: Relay) -> None:
    before = plain.call(lambda control: control.config)
    trunk = Backend(id="t", address="127.0.0.1:9", mode="trunk")
    with pytest.raises(ConfigError, match="as long as trunk_port keep their values until a restart"):
        reload(plain, trunk_port=5000, backends=(*before.backends, trunk), coalesce_us=0)
    assert plain.call(lambda control: control.config) == before
    assert [one["id"] for one in plain.backends.list()] == ["a"]


def test_clients_are_allowed_and_refused_by_a_reload(plain: Relay, server: socket.socket) -> None:
    plain.routes.install_many(["ufrag1", "ufrag2"], "a")
    with PlainCall(address_of(plain), server, "ufrag1") as old:
        old.confirm()
        reload(plain, allow_clients=())
        let_settle()
        with PlainCall(address_of(plain), server, "ufrag2") as new:
            new.ask()
            until(lambda: plain.counters()["dropped"].sum() == 1, "loopback is refused now")
            old.exchange()
            reload(plain, allow_clients=("127.0.0.0/8",))
            let_settle()
            new.confirm()


def test_the_hash_policy_is_switched_on_by_a_reload(plain: Relay, server: socket.socket) -> None:
    with PlainCall(address_of(plain), server, "anyUfrag") as call:
        call.ask()
        until(lambda: decisions(plain)["no_route"] == 1, "no route")
        reload(plain, hash_policy=True)
        let_settle()
        call.confirm()
        assert decisions(plain)["hash"] == 1


def test_routes_end_with_their_time_or_their_last_flow(plain: Relay, server: socket.socket) -> None:
    plain.routes.install("ufrag1", "a", 1)
    plain.routes.install("ufrag2", "a", 60)
    time.sleep(2.1)
    plain.call(lambda control: control.sweep())
    assert len(plain.routes) == 1
    with pytest.raises(RouteError, match="no route is installed"):
        plain.routes.lookup("ufrag1")


def test_a_server_at_another_address_gets_the_new_flows_only(plain: Relay, server: socket.socket) -> None:
    plain.routes.install("ufrag1", "a")
    with PlainCall(address_of(plain), server, "ufrag1") as old, udp_end() as moved:
        old.confirm()
        reload(plain, backends=(Backend(id="a", address=endpoint_text(moved)),))
        plain.routes.install("ufrag2", "a")
        with PlainCall(address_of(plain), moved, "ufrag2") as new:
            new.confirm()
            new.exchange()
            old.exchange()
        states = plain.call(lambda control: control.tables.backends["state"][:2].tolist())
        assert states == [layout.BACKEND_DRAINING, layout.BACKEND_UP]


def test_an_exhausted_port_pool_is_a_named_drop(make_config: MakeConfig, server: socket.socket) -> None:
    config = make_config(shards="1", plain_ports="2", backends=[f"a={endpoint_text(server)}"])
    with Relay(config) as relay:
        relay.routes.install_many(["ufrag1", "ufrag2", "ufrag3"], "a")
        calls = [PlainCall(address_of(relay), server, f"ufrag{n}") for n in (1, 2, 3)]
        for call in calls[:2]:
            call.confirm()
        calls[2].ask()
        until(lambda: drops(relay) == {"no_upstream_port": 1}, "the drop")
        for call in calls:
            call.close()


def test_a_full_flow_table_is_a_named_drop(make_config: MakeConfig, server: socket.socket) -> None:
    config = make_config(shards="1", flows_max="2", backends=[f"a={endpoint_text(server)}"])
    with Relay(config) as relay:
        relay.routes.install_many(["ufrag1", "ufrag2", "ufrag3"], "a")
        calls = [PlainCall(address_of(relay), server, f"ufrag{n}") for n in (1, 2, 3)]
        for call in calls[:2]:
            call.confirm()
        transaction = calls[2].ask()
        request, upstream = server.recvfrom(2048)
        assert request[8:20] == transaction
        server.sendto(build_message(SUCCESS, transaction, []), upstream)
        until(lambda: drops(relay) == {"flow_table_full": 1}, "the drop")
        calls[0].exchange()
        calls[1].exchange()
        for call in calls:
            call.close()


def drops(relay: Relay) -> dict[str, int]:
    from fastpath.counters import DROP_REASONS

    counted = relay.counters()["dropped"].sum(axis=(0, 1))
    return {name: int(counted[number]) for number, (name, _) in enumerate(DROP_REASONS) if counted[number]}


def test_workers_that_do_not_go_round_are_noticed(relay: Relay) -> None:
    """A thread that is alive may hang; only its count of turns says that it does not."""
    for _ in range(2):
        until(lambda: relay.call(Control.workers_turn), "they turn")
    relay.call(lambda control: control.crew.stop())
    relay.call(Control.workers_turn)  # what they counted up to their end
    assert not relay.call(Control.workers_turn)
