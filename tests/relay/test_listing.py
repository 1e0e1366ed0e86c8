"""Flows filtered and named."""

import socket
from typing import Any

import pytest

from pyfastpath.relay import report
from pyfastpath.relay.listing import Filter
from pyfastpath.relay.relay import Relay
from pyfastpath.relay.sessions import session_hash
from pyfastpath.types import Endpoint
from tests.relay.test_relay import address_of
from tests.support.plain_call import PlainCall, endpoint_text, udp_end


def listed(relay: Relay, **wanted: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = relay.call(lambda control: report.flows(control, Filter(**wanted)))["flows"]
    return rows


def test_flows_by_everything_one_can_ask_for(relay: Relay, server: socket.socket) -> None:
    with udp_end() as other:
        relay.backends.add("b", "127.0.0.1:9", allow=["127.0.0.0/8"])
        relay.routes.install("ufrag1", "a", session="first")
        relay.routes.install("ufrag2", "b", target=endpoint_text(other), session="second")
        with (
            PlainCall(address_of(relay), server, "ufrag1") as one,
            PlainCall(address_of(relay), other, "ufrag2") as two,
        ):
            one.confirm()
            two.confirm()
            two.exchange()
            everything = listed(relay)
            assert len(everything) == 2
            (mine,) = listed(relay, backend="b")
            assert mine == {
                "client": endpoint_text(two.client),
                "ingress": 0,
                "backend": "b",
                "target": endpoint_text(other),
                "upstream": f"0.0.0.0:{two.upstream[1]}",
                "class": "voice",
                "idle_ms": mine["idle_ms"],
                "state": "confirmed",
                "ufrag_idle_ms": mine["ufrag_idle_ms"],
                "datagrams_up": 1,
                "datagrams_down": 1,
            }
            assert 0 <= mine["idle_ms"] <= mine["ufrag_idle_ms"] < 60_000
            seen = Endpoint.parse(f"{two.upstream[0]}:{two.upstream[1]}")
            assert [flow["client"] for flow in listed(relay, upstream=seen)] == [endpoint_text(two.client)]
            client = Endpoint.parse(endpoint_text(one.client))
            assert [flow["client"] for flow in listed(relay, client=client)] == [str(client)]
            seed = relay.call(lambda control: control.shared.seed)
            assert [f["backend"] for f in listed(relay, session=session_hash("second", seed))] == ["b"]
            assert listed(relay, session=session_hash("third", seed)) == []
            assert listed(relay, upstream=Endpoint.parse("127.0.0.1:1")) == []
            assert len(listed(relay, limit=1)) == 1
            assert listed(relay, limit=0) == []


def test_waiting_flows_are_listed_after_confirmed_ones(relay: Relay, server: socket.socket) -> None:
    relay.routes.install_many(["ufrag1", "ufrag2"], "a")
    with (
        PlainCall(address_of(relay), server, "ufrag1") as waiting,
        PlainCall(address_of(relay), server, "ufrag2") as live,
    ):
        waiting.ask()
        request = server.recv(2048)
        live.confirm()
        first, second = listed(relay)
        assert (first["state"], second["state"]) == ("confirmed", "provisional")
        assert (second["bytes_up"], second["bytes_down"]) == (len(request), 0)


@pytest.mark.parametrize("backend", ["", "a"])
def test_no_flows(relay: Relay, backend: str) -> None:
    assert listed(relay, backend=backend) == []
