"""Our relay as it is shipped: `pyfastpath relay --config` with keeper, engine, admin, health, counters."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.contestants.children import wait_until
from bench.contestants.contract import Address, Contestant, Running, Upstream
from bench.cpu import LOAD_CPU
from bench.place import Place
from tests.support.relay import running_relay

BUFFER_BYTES = 16 << 20
COALESCE_US = 500  # of the trunk when nothing else is said
PLAIN_PORTS_MAX = 60_000  # a port a flow towards one backend address, as a NAT has it
FLOWS_LEAST = 1 << 17
MTU_BYTES = 1400


def fastpath(upstream: Upstream, coalesce_us: int | None = None, *, spin: bool = False) -> Contestant:
    """One worker. coalesce_us None: 500 on the trunk, the shipped default in plain mode."""
    name = f"fastpath {upstream}"
    if coalesce_us is not None:
        name += f", {coalesce_us} µs"
    elif upstream == "trunk":
        coalesce_us = COALESCE_US
    if spin:
        name += ", spin"
    settings: dict[str, Any] = {"spin": spin, "pin": spin}
    if coalesce_us is not None:
        settings["coalesce_us"] = coalesce_us

    @contextmanager
    def start(place: Place, backend: Address, ufrags: Sequence[str]) -> Iterator[Running]:
        with _running(place, backend, ufrags, upstream, settings) as running:
            yield running

    return Contestant(name, upstream, start, PLAIN_PORTS_MAX if upstream == "plain" else 1_000_000)


@contextmanager
def _running(
    place: Place, backend: Address, ufrags: Sequence[str], upstream: Upstream, settings: dict[str, Any]
) -> Iterator[Running]:
    sink: dict[str, Any] = {"id": "sink", "address": f"{backend[0]}:{backend[1]}"}
    config = _config(place, len(ufrags)) | settings
    if upstream == "trunk":
        sink |= {"mode": "trunk", "assume_up": True}
        config["trunk_address"] = place.upstream_ip
        config["trunk_port"] = place.free_port(socket.SOCK_DGRAM, place.upstream_ip)
        config["trunk_insecure"] = True  # untagged on every network, as on loopback: nobody else is on it
    else:
        config["plain_ports"] = len(ufrags) + 64
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        # A worker that spins, pinned to the first CPU, leaves nothing of it: the control plane takes the
        # other. Only while it starts: the load's threads inherit the caller's CPU later.
        with place.inside(*((LOAD_CPU,) if settings["spin"] else ())):
            relay = stack.enter_context(running_relay(directory, backends=[sink], **config))
        routes = "".join(json.dumps({"ufrag": ufrag, "backend": "sink"}) + "\n" for ufrag in ufrags)
        status, answer = relay.request("POST", "/v1/routes", routes.encode(), "application/x-ndjson")
        if status != 200:
            raise RuntimeError(f"POST /v1/routes: {status} {answer.decode()}")
        # The second engine reads its programs on the CPU that is measured: once in a relay's life.
        wait_until(lambda: " stands by\n" in relay.log.read_text(), relay.process.pid, relay.log)
        yield Running(relay.listen, relay.process.pid)


def _config(place: Place, flows: int) -> dict[str, Any]:
    room = max(FLOWS_LEAST, 2 * flows)
    return {
        "listen": [f"{place.relay_ip}:{place.free_port(socket.SOCK_DGRAM)}"],
        "allow_clients": [place.clients],
        "admission_flows_per_s": 0,  # all clients stand in a few networks
        "shards": 1,
        "workers": 1,
        "receive_buffer_bytes": BUFFER_BYTES,
        "flows_max": room,
        "routes_max": room,
    }
