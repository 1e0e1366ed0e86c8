"""What every call test needs: a relay in front of one server, the aiortc server, what must hold."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from examples.aiortc_echo.addresses import own_networks
from examples.aiortc_echo.call import CallResult
from tests.support.child import running_child
from tests.support.relay import Relay, running_relay


@contextmanager
def relay_for(
    backend: str, directory: Path, *, address: str = "127.0.0.1:9", **config: Any
) -> Iterator[Relay]:
    """A relay with one plain backend whose routes may name any address of this machine.

    `address` is where routes without a target go: needed by servers with one port for all sessions only.
    """
    networks = own_networks()
    backends = [{"id": backend, "address": address, "allow": networks}]
    with running_relay(directory, backends=backends, allow_clients=networks, **config) as relay:
        yield relay


@contextmanager
def aiortc_server(relay: Relay, directory: Path) -> Iterator[str]:
    """The example's server behind `relay`; yields the page's address."""
    command = [
        sys.executable,
        "-m",
        "examples.aiortc_echo.server",
        "--relay-admin",
        str(relay.admin),
        "--port",
        "0",
    ]
    with running_child(command, says="page: ", log=directory / "aiortc.log") as page:
        yield page


def candidate_lines(sdp: str) -> list[str]:
    """Every candidate line of a session description."""
    return [line for line in sdp.splitlines() if line.startswith("a=candidate:")]


def assert_only_relay(answer: str, relay: Relay) -> None:
    """The answer's candidates, one for each media section, are the relay's address and no other."""
    host, port = relay.listen
    candidates = [line.split() for line in candidate_lines(answer)]
    assert candidates, "the answer has no candidate"
    assert {(fields[4], fields[5]) for fields in candidates} == {(host, str(port))}
    defaults = [line for line in answer.splitlines() if line.startswith("c=IN")]
    assert all(line.split()[2] == host for line in defaults), f"an address of the server is left: {defaults}"


def assert_heard(call: CallResult, relay: Relay, seconds: int) -> None:
    """A call of `seconds` with a full-ICE server: both sides heard each other through the relay."""
    assert call.remotes == ("{}:{}".format(*relay.listen),)
    assert call.bursts_heard >= call.bursts_sent - 1 > 0
    relay.assert_conservation()
    assert relay.total("forwarded_datagrams", direction="up") >= call.packets_sent >= 45 * seconds
    assert relay.total("forwarded_datagrams", direction="down") >= call.packets_received >= 45 * seconds
    assert relay.drops("up") == {}
    # A full-ICE server tries what it learned from every socket it has; only the one the route names is
    # the flow's backend.
    assert set(relay.drops("down")) <= {"unknown_flow"}
