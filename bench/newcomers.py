"""What strangers and newcomers cost the relay: an unknown client, a forged token, a new flow under a valid
one.

One relay with a token key, on a trunk, loopback. Three crowds of clients, each client with an address of its
own, send one datagram each on one schedule, in turn and round by round:

* **stranger**: media from an address that has no flow: received, looked up, dropped. It is the bare receive.
* **forged**: a Binding Request whose token fails its tag.
* **new flow**: a Binding Request under a valid token goes up, its success response comes down and confirms.

The figure is the relay's CPU (the clocks of its processes) a client; what became of them is held against the
relay's own counters, so a crowd that was not refused, or not served, is no figure.
"""

from __future__ import annotations

import json
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastpath.load.generator import Generator
from fastpath.load.trunk_sink import TrunkSink

from bench.cpu import LOAD_CPU, RELAY_CPU
from pyfastpath.tools.bench.cpu import pinned, used_ns
from pyfastpath.tools.ports import free_port
from pyfastpath.wire.token import mint
from tests.support.relay import Relay, running_relay
from tests.support.rig import until

CLIENTS = 40_000
RATE_PPS = 40_000
REQUEST_BYTES = 112  # of a request under a token: a stranger's datagram is no larger and no smaller
ROUNDS = 3
KEY, FORGED_KEY = bytes(range(16)), bytes(range(16, 32))
TOKEN_LIFE_S = 3600
IDENTITY = (1, 2, 3)  # cluster, transceiver, incarnation
NAMES = ("stranger", "forged", "new flow")
FIRST_SOURCES = {"stranger": "127.16.0.1", "forged": "127.32.0.1", "new flow": "127.48.0.1"}
SETTLE_S = 0.4  # the relay publishes its counters once a batch, or when idle


@dataclass(frozen=True)
class Crowd:
    """One way to arrive. send: all clients once; counted: how many of them the relay treated as it must."""

    name: str
    send: Callable[[Generator], Any]
    counted: Callable[[Relay], int]


CROWDS = (
    Crowd(
        "stranger",
        lambda crowd: crowd.run(rate_pps=RATE_PPS, limit=CLIENTS, duration_ms=5000, drain_ms=0),
        lambda relay: relay.drops("up").get("unknown_flow", 0),
    ),
    Crowd(
        "forged",
        lambda crowd: crowd.open_at(rate_pps=RATE_PPS, duration_ms=5000, retry_ms=60_000, drain_ms=0),
        lambda relay: relay.drops("up").get("bad_token", 0),
    ),
    Crowd(
        "new flow",
        lambda crowd: crowd.open_at(rate_pps=RATE_PPS, duration_ms=5000, drain_ms=2000),
        lambda relay: relay.total("flow_changes", state="confirmed"),
    ),
)


def tokens(key: bytes) -> list[bytes]:
    """One for each client, each its own session."""
    expires_s = int(time.time()) + TOKEN_LIFE_S
    fields = dict(zip(("cluster", "xcvr", "incarnation"), IDENTITY, strict=True))
    return [mint(key, 0, expires_s=expires_s, session=n, **fields).encode() for n in range(CLIENTS)]


@contextmanager
def served(sink: TrunkSink) -> Iterator[None]:
    """The backend answers while this lasts."""
    thread = threading.Thread(target=sink.run, kwargs={"nap_us": 100, "duration_ms": 60_000})
    thread.start()
    try:
        yield
    finally:
        sink.stop()
        thread.join()


@contextmanager
def relay_for(sink: TrunkSink) -> Iterator[Relay]:
    backend = {"id": "sink", "address": f"127.0.0.1:{sink.port}", "mode": "trunk", "assume_up": True}
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        with pinned(RELAY_CPU):
            relay = stack.enter_context(
                running_relay(
                    directory,
                    backends=[backend | {"transceiver": IDENTITY[1], "incarnation": IDENTITY[2]}],
                    cluster=IDENTITY[0],
                    token_keys=[f"0:{KEY.hex()}"],
                    trunk_port=free_port(socket.SOCK_DGRAM),
                    coalesce_us=500,
                    shards=1,
                    workers=1,
                    flows_max=4 * CLIENTS,
                    receive_buffer_bytes=16 << 20,
                )
            )
        # The second engine reads its programs on the CPU that is measured: once in a relay's life.
        until(lambda: " stands by\n" in relay.log.read_text(), "the next engine stands by", seconds=60)
        yield relay


def one_round() -> dict[str, float]:
    """Nanoseconds of the relay's CPU a client, by crowd. RuntimeError when one was not treated as it must."""
    names = {"stranger": [b"unused"] * CLIENTS, "forged": tokens(FORGED_KEY), "new flow": tokens(KEY)}
    found = {}
    sink = TrunkSink(("127.0.0.1", 0), flows=CLIENTS, identity=IDENTITY)
    with ExitStack() as stack:
        stack.callback(sink.close)
        stack.enter_context(served(sink))
        relay = stack.enter_context(relay_for(sink))
        for crowd in CROWDS:
            generator = Generator(
                relay.listen,
                names[crowd.name],
                first_source=FIRST_SOURCES[crowd.name],
                size_bytes=REQUEST_BYTES,
            )
            stack.callback(generator.close)
            if crowd.name == "stranger":
                generator.mark_confirmed()
            found[crowd.name] = cost(relay, crowd, generator)
    return found


def cost(relay: Relay, crowd: Crowd, generator: Generator) -> float:
    time.sleep(SETTLE_S)
    counted, began_ns = crowd.counted(relay), used_ns(relay.process.pid)
    crowd.send(generator)
    time.sleep(SETTLE_S)
    spent_ns = used_ns(relay.process.pid) - began_ns
    treated = crowd.counted(relay) - counted
    if treated < 0.999 * CLIENTS:
        raise RuntimeError(
            f"{crowd.name}: the relay dealt so with {treated} of {CLIENTS} clients; dropped: {relay.drops()}"
        )
    return spent_ns / treated


def newcomers(left_out: list[str], rounds: int = ROUNDS) -> list[dict[str, Any]]:
    """A row a crowd: {name, ns: one value a round}; empty, with a reason in `left_out`, when it fails."""
    try:
        with pinned(LOAD_CPU):
            found = [one_round() for _ in range(rounds)]
    except (OSError, RuntimeError) as error:
        left_out.append(f"newcomers: {error}")
        return []
    return [{"name": name, "ns": [each[name] for each in found]} for name in NAMES]


if __name__ == "__main__":
    failed: list[str] = []
    sys.stdout.write(json.dumps(newcomers(failed), indent=1) + "\n")
    sys.stderr.write("".join(f"{reason}\n" for reason in failed))
