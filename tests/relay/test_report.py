"""The state as JSON: every value is plain, and what a trunk said is there."""

import json
import socket
from collections.abc import Iterator

import pytest

from pyfastpath.relay import report
from pyfastpath.relay.relay import Relay
from pyfastpath.tools.ports import free_port
from tests.relay.conftest import MakeConfig
from tests.relay.test_relay import address_of
from tests.support.plain_call import PlainCall, endpoint_text
from tests.support.rig import until
from tests.support.trunk_backend import TrunkBackend, relay_ends


@pytest.fixture
def trunk() -> Iterator[tuple[TrunkBackend, int]]:
    port = free_port(socket.SOCK_DGRAM, 2)
    backend = TrunkBackend(relay_ends("127.0.0.1", port, 2), keys={})
    yield backend, port
    backend.close()


def test_everything_is_json(relay: Relay, server: socket.socket) -> None:
    relay.routes.install("ufrag1", "a")
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.confirm()
        status = relay.status()
    assert json.loads(json.dumps(status)) == status
    assert status["listeners"] == relay.listeners()
    assert status["candidates"] == relay.call(report.candidates)
    assert status["datagrams"]["up"] == {
        "received": 1,
        "forwarded": 1,
        "punted": 0,
        "dropped": 0,
        "conservation_error": 0,
    }


def test_buffers_and_kernel_drops_by_shard(relay: Relay) -> None:
    assert relay.call(report.receive_buffers) == [2 * 262144, 2 * 262144]
    assert relay.call(report.kernel_drops) == [0, 0]


def test_a_trunk_backend_with_what_it_said(make_config: MakeConfig, trunk: tuple[TrunkBackend, int]) -> None:
    backend, port = trunk
    spec = {"id": "t", "address": endpoint_text(backend.socket), "mode": "trunk"}
    with Relay(make_config(trunk_port=str(port), backends=[spec])) as relay:
        (before,) = relay.backends.list()
        assert (before["state"], before["identity"]) == ("down", None)
        end = relay_ends("127.0.0.1", port, 2)[0]
        backend.link.send_state(end, state=1, incarnation=4, cluster=2, xcvr=9, sessions=11, capacity=50)
        until(lambda: relay.backends.list()[0]["state"] == "up", "the state record")
        (after,) = relay.backends.list()
        assert after["identity"] == {"cluster": 2, "transceiver": 9, "incarnation": 4}
        assert (after["trunk"]["sessions"], after["trunk"]["capacity"]) == (11, 50)
        assert json.loads(json.dumps(after)) == json.loads(json.dumps(after))


def test_what_retires_is_shown_until_it_is_gone(relay: Relay) -> None:
    relay.backends.add("b", "127.0.0.1:9")
    relay.backends.remove("b")
    assert relay.call(report.retiring) == [{"id": "b", "address": "127.0.0.1:9"}]
    relay.call(lambda control: control.sweep())
    assert relay.call(report.retiring) == []
