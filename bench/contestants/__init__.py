"""The relays of a smoke run: how each is built, configured and started, always with one worker on one CPU."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from bench.cpu import RELAY_CPU, pinned
from tests.support.relay import free_port, running_relay

Address = tuple[str, int]
Started = tuple[Address, int]
ROOT = Path(__file__).parent.parent
GO_RELAY = ROOT / "build" / "peers" / "go_relay"
C_MMSG = ROOT / "build" / "peers" / "c_mmsg"
BUFFER_BYTES = 16 << 20
# glibc gives freed memory back and asks for it again at every large datagram buffer: a careful operator of a
# Python relay switches that off.
PYTHON_ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(256 << 20)}


@dataclass(frozen=True)
class Contestant:
    """`start(directory, backend address, ufrags)` yields where clients send and the process id."""

    name: str
    upstream: Literal["plain", "trunk"]
    start: Callable[[Path, Address, Sequence[str]], AbstractContextManager[Started]]


def contestants() -> tuple[list[Contestant], list[str]]:
    """Everybody who can run here, and why the others cannot."""
    ready = [
        Contestant("fastpath trunk", "trunk", _fastpath_trunk),
        Contestant("fastpath plain", "plain", _fastpath_plain),
        Contestant("uvloop relay", "plain", _uvloop),
    ]
    if shutil.which("go") is None:
        return ready, ["Go relay left out: there is no Go compiler (apt install golang-go)"]
    GO_RELAY.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / "bench/peers/go_relay"
    subprocess.run(["go", "build", "-o", str(GO_RELAY), "."], cwd=source, check=True)
    return [*ready, Contestant("Go relay", "plain", _go)], []


def limits() -> list[Contestant]:
    """The C forwarders: what recvmmsg/sendmmsg can do at most, with a socket a flow and with one for all."""
    C_MMSG.parent.mkdir(parents=True, exist_ok=True)
    source = ROOT / "bench/peers/c_mmsg/c_mmsg.c"
    subprocess.run(["gcc", "-O2", "-Wall", "-Wextra", "-o", str(C_MMSG), str(source)], check=True)
    return [
        Contestant("C mmsg, socket a flow", "plain", partial(_c, "--sockets=flow")),
        Contestant("C mmsg, one socket", "plain", partial(_c, "--sockets=shared")),
        Contestant(
            "C mmsg, one socket, 500 µs", "plain", partial(_c, "--sockets=shared", "--coalesce-us=500")
        ),
    ]


@contextmanager
def _fastpath_trunk(directory: Path, backend: Address, ufrags: Sequence[str]) -> Iterator[Started]:
    with _fastpath(
        directory,
        ufrags,
        {"address": f"{backend[0]}:{backend[1]}", "mode": "trunk", "assume_up": True},
        coalesce_us=500,
        trunk_port=free_port(socket.SOCK_DGRAM),
    ) as started:
        yield started


@contextmanager
def _fastpath_plain(directory: Path, backend: Address, ufrags: Sequence[str]) -> Iterator[Started]:
    with _fastpath(
        directory, ufrags, {"address": f"{backend[0]}:{backend[1]}"}, plain_ports=len(ufrags) + 64
    ) as started:
        yield started


@contextmanager
def _fastpath(
    directory: Path, ufrags: Sequence[str], backend: dict[str, object], **config: object
) -> Iterator[Started]:
    """The real daemon, as `pyfastpath relay --config` starts it; its routes come through the admin socket."""
    relay = running_relay(
        directory,
        shards=1,
        workers=1,
        backends=[{"id": "sink", **backend}],
        receive_buffer_bytes=BUFFER_BYTES,
        flows_max=131_072,
        routes_max=131_072,
        **config,
    )
    with ExitStack() as stack:
        with pinned(RELAY_CPU):  # only while it starts: the load's threads inherit the caller's CPU later
            running = stack.enter_context(relay)
        routes = "".join(json.dumps({"ufrag": ufrag, "backend": "sink"}) + "\n" for ufrag in ufrags)
        status, answer = running.request("POST", "/v1/routes", routes.encode(), "application/x-ndjson")
        if status != 200:
            raise RuntimeError(f"POST /v1/routes: {status} {answer.decode()}")
        yield running.listen, running.process.pid


@contextmanager
def _uvloop(directory: Path, backend: Address, ufrags: Sequence[str]) -> Iterator[Started]:
    with _peer(
        directory, backend, ufrags, sys.executable, "-m", "bench.peers.uvloop_relay", **PYTHON_ENVIRONMENT
    ) as started:
        yield started


@contextmanager
def _go(directory: Path, backend: Address, ufrags: Sequence[str]) -> Iterator[Started]:
    with _peer(directory, backend, ufrags, str(GO_RELAY), "--procs=1", "--listeners=1") as started:
        yield started


@contextmanager
def _c(*arguments: Any) -> Iterator[Started]:
    """`arguments`: the options of the variant, then directory, backend and ufrags."""
    *options, directory, backend, ufrags = arguments
    with _peer(directory, backend, ufrags, str(C_MMSG), *options) as started:
        yield started


@contextmanager
def _peer(
    directory: Path, backend: Address, ufrags: Sequence[str], *command: str, **environment: str
) -> Iterator[Started]:
    """A reference relay: routes in a file, one line on its standard output when it is ready."""
    routes = directory / "routes.txt"
    routes.write_text("".join(f"{ufrag} {backend[0]}:{backend[1]}\n" for ufrag in ufrags))
    listen = ("127.0.0.1", free_port(socket.SOCK_DGRAM))
    arguments = [f"--listen={listen[0]}:{listen[1]}", f"--routes={routes}"]
    with pinned(RELAY_CPU):
        process = subprocess.Popen(
            [*command, *arguments], cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True
        )
    try:
        assert process.stdout is not None
        if not process.stdout.readline().startswith("ready"):
            raise RuntimeError(f"{command} did not start")
        yield listen, process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(10)
