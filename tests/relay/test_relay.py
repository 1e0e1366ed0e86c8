"""The Python API: a relay in this process, asked from this thread."""

import socket
import time
from pathlib import Path

import numpy as np
import pytest

from pyfastpath.config import RelayConfig
from pyfastpath.errors import ConfigError, RouteError, SocketError
from pyfastpath.relay import layout
from pyfastpath.relay.addresses import machine_addresses
from pyfastpath.relay.relay import CONFLICT, FULL, INSTALLED, REFRESHED, Relay
from pyfastpath.types import Endpoint
from tests.relay.conftest import MakeConfig
from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.rig import until


def address_of(relay: Relay) -> tuple[str, int]:
    where = Endpoint.parse(relay.listeners()[0])
    return str(where.address), where.port


def let_settle() -> None:
    """Workers look at new settings once a millisecond."""
    time.sleep(0.02)


def test_a_call_through_an_installed_route(relay: Relay, server: socket.socket) -> None:
    installed = relay.routes.install("ufrag1", "a", 60, session="call-1")
    assert installed["result"] == "installed"
    assert installed["backend"] == "a"
    assert 58 <= installed["expires_in_s"] <= 60
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.confirm()
        for number in range(10):
            call.exchange(number)
        until(lambda: relay.counters()["forwarded"].sum() >= 22, "22 datagrams forwarded")
        (flow,) = relay.flows()
        assert flow["state"] == layout.FLOW_CONFIRMED
        assert flow["client"]["port"] == call.client.getsockname()[1]
        assert (flow["datagrams_up"], flow["datagrams_down"]) == (10, 10)
    counters = relay.counters()
    assert counters.dtype == layout.COUNTERS
    assert counters["confirmed"].sum() == 1
    assert not counters["dropped"].any()


def test_a_flow_waits_for_its_backends_word(relay: Relay, server: socket.socket) -> None:
    relay.routes.install("ufrag1", "a")
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.ask()
        server.recv(2048)
        (waiting,) = relay.provisional()
        assert waiting["state"] == layout.PROVISIONAL_WAITING
        assert not len(relay.flows())


def test_routes_in_bulk_say_what_became_of_each(relay: Relay) -> None:
    relay.backends.add("b", "127.0.0.1:5001")
    relay.routes.install("taken1", "b")
    codes = relay.routes.install_many(["ufrag1", "taken1", "ufrag2"], "a", 60)
    assert codes.tolist() == [INSTALLED, CONFLICT, INSTALLED]
    assert relay.routes.install_many(["ufrag1", "taken1"], "a", 60, replace=True).tolist() == [
        REFRESHED,
        INSTALLED,
    ]
    assert relay.routes.lookup("taken1")["backend"] == "a"
    many = relay.routes.install_many([f"many{n:04}" for n in range(5000)], "a")
    assert (many == FULL).sum() == 5000 + 3 - 4096
    assert len(relay.routes) == 4096


def test_removed_routes_are_gone(relay: Relay) -> None:
    relay.routes.install("ufrag1", "a")
    relay.routes.remove("ufrag1")
    with pytest.raises(RouteError, match="no route is installed"):
        relay.routes.lookup("ufrag1")
    with pytest.raises(RouteError, match="no route is installed"):
        relay.routes.remove("ufrag1")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"ufrag": "abc", "backend": "a"}, "bad_request"),
        ({"ufrag": "a b c", "backend": "a"}, "bad_request"),
        ({"ufrag": "ufrag1", "backend": "nobody"}, "unknown_backend"),
        ({"ufrag": "ufrag1", "backend": "a", "ttl_s": -1}, "bad_request"),
        ({"ufrag": "ufrag1", "backend": "a", "target": "127.0.0.1:1"}, "bad_target"),
    ],
)
def test_a_refusal_names_its_reason(relay: Relay, arguments: dict[str, object], code: str) -> None:
    with pytest.raises(RouteError) as refused:
        relay.routes.install(**arguments)  # type: ignore[arg-type]
    assert refused.value.code == code
    assert refused.value.hint


def test_backends_come_drain_and_go(relay: Relay) -> None:
    added = relay.backends.add("b", "127.0.0.1:5001", allow=["127.0.0.0/8"])
    assert (added["state"], added["source"]) == ("up", "api")
    relay.backends.drain("b")
    assert {row["id"]: row["state"] for row in relay.backends.list()} == {"a": "up", "b": "draining"}
    relay.backends.drain("b", False)
    relay.backends.remove("b")
    assert [row["id"] for row in relay.backends.list()] == ["a"]
    with pytest.raises(RouteError, match="no backend has the id"):
        relay.backends.drain("b")
    with pytest.raises(RouteError, match="not a backend"):
        relay.backends.add("b", "127.0.0.1:5001", allowed=["127.0.0.0/8"])


def test_a_removed_backend_keeps_its_live_flow_and_takes_no_new_one(
    relay: Relay, server: socket.socket
) -> None:
    relay.routes.install_many(["ufrag1", "ufrag2"], "a")
    with (
        PlainCall(address_of(relay), server, "ufrag1") as old,
        PlainCall(address_of(relay), server, "ufrag2") as new,
    ):
        old.confirm()
        relay.backends.remove("a")
        old.exchange()
        new.ask()
        until(lambda: relay.counters()["dropped"].sum() == 1, "the new flow is refused")
        old.exchange()


def test_draining_refuses_new_flows_only(relay: Relay, server: socket.socket) -> None:
    relay.routes.install_many(["ufrag1", "ufrag2"], "a")
    with (
        PlainCall(address_of(relay), server, "ufrag1") as old,
        PlainCall(address_of(relay), server, "ufrag2") as new,
    ):
        old.confirm()
        relay.drain()
        assert relay.status()["reasons"] == ["draining"]
        let_settle()
        new.ask()
        until(lambda: relay.counters()["dropped"].sum() == 1, "the new flow is refused")
        old.exchange()
        relay.drain(False)
        let_settle()
        new.confirm()


def test_a_wildcard_answers_from_the_address_that_was_asked(make_config: MakeConfig) -> None:
    """Every address of this machine, both families; connected clients hear no other address."""
    config = make_config(
        listen=["0.0.0.0:0", "[::]:0"],
        plain_ports_ipv6="8",
        allow_clients=[str(address) for family in (4, 6) for address in machine_addresses(family)],
        backends=["unused=127.0.0.1:9"],
    )
    with Relay(config) as relay:
        ports = {Endpoint.parse(text).family: Endpoint.parse(text).port for text in relay.listeners()}
        told = {(one["address"], one["port"]) for one in relay.status()["candidates"]}
        for family in (4, 6):
            for number, address in enumerate(map(str, machine_addresses(family))):
                name, ufrag = f"b{family}{number}", f"ufrag{family}{number}"
                assert (address, ports[family]) in told
                with udp_end(address) as server:
                    relay.backends.add(name, endpoint_text(server))
                    relay.routes.install(ufrag, name)
                    with PlainCall((address, ports[family]), server, ufrag) as call:
                        call.client.connect(call.relay)
                        call.confirm()
                        call.exchange()
        ingresses = relay.flows()["client"]["ingress"].tolist()
        assert len(set(ingresses)) == len(ingresses) == len(told)


def test_eight_threads_ask_at_once(relay: Relay) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: relay.routes.install(f"ufrag{n}", "a")["result"], range(200)))
    assert results == ["installed"] * 200


def test_what_cannot_be_opened_is_said_and_nothing_stays_open(make_config: MakeConfig) -> None:
    with udp_end() as other:
        relay = Relay(make_config(listen=[endpoint_text(other)], backends=["a=127.0.0.1:5000"]))
        before = len(list(Path("/proc/self/fd").iterdir()))
        with pytest.raises(SocketError, match="the port is in use"):
            relay.start()
        assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_stopped_relay_gives_everything_back(relay: Relay, make_config: MakeConfig) -> None:
    where = relay.listeners()[0]
    relay.stop()
    relay.stop()
    with pytest.raises(RouteError, match="does not run"):
        relay.flows()
    with Relay(make_config(listen=[where], backends=["a=127.0.0.1:5000"])) as again:
        assert again.listeners() == [where]


def test_an_incomplete_configuration_is_refused() -> None:
    with pytest.raises(ConfigError, match="not complete"):
        Relay(RelayConfig())


def test_flows_is_an_array_also_when_empty(relay: Relay) -> None:
    assert relay.flows().dtype == layout.FLOW
    assert relay.flows().shape == relay.provisional().shape == (0,)
    assert np.array_equal(relay.counters()["received"], np.zeros((2, 2)))
