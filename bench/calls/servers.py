"""The servers under test: a whole edge as `pyfastpath up` starts it, and an aiortc server.

Each is ready when this says so, and ends with the `with`. is_pinned: the process whose CPU is measured has
CPU 0 for itself; everybody else, the relay included, shares CPU 1.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cpu import LOAD_CPU
from bench.cpu import RELAY_CPU as SERVER_CPU
from pyfastpath.tools.bench.cpu import pinned
from pyfastpath.tools.ports import free_port
from pyfastpath.wire import token
from tests.support import http
from tests.support.child import running_child
from tests.support.edge import running_edge

TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")
CALL_S = 3600


@dataclass(frozen=True)
class Server:
    """One that runs. page: a URL of its own origin; place: offer -> answer, with no signalling in front."""

    pid: int
    page: str
    place: Callable[[str], str]
    sessions: Callable[[], list[dict[str, Any]]]  # what it says of its sessions; of aiortc nothing
    relay_pid: int | None = None


@contextmanager
def fastpath(directory: Path, agent: str, *, is_pinned: bool = False) -> Iterator[Server]:
    """Relay, gateway and one transceiver with this agent. Calls placed here go to the transceiver's control
    API, past the gateway and its limits, with tokens of our own; their media through relay and trunk."""
    flags = ("--agent", agent, "--transceivers", "1")
    with _others_pinned(is_pinned), running_edge(directory, *flags) as edge:
        transceiver, relay = edge.process("t1"), edge.process("relay")
        if is_pinned:
            _move(transceiver, SERVER_CPU)
        settings = (edge.directory / "relay.toml").read_text()
        kid, key = re.search(r'token_keys = \["(\d+):(\w+)"', settings).groups()
        media = re.search(r'listen = \["([^"]+)"', settings)[1]
        control = edge.directory / "t1.sock"
        known = http.ask(control, "GET", "/v1/state")[1]

        def place(offer: str) -> str:
            session = secrets.randbits(token.SESSION_BITS)
            ufrag = token.mint(
                bytes.fromhex(key),
                int(kid),
                expires_s=int(time.time()) + CALL_S,
                session=session,
                **{name: known[name] for name in ("cluster", "xcvr", "incarnation")},
            )
            wanted = {"sid": f"{session:09x}", "ufrag": ufrag, "offer": offer, "candidates": [media]}
            status, said = http.ask(control, "POST", "/v1/sessions", wanted)
            if status != 201:
                raise RuntimeError(f"POST /v1/sessions: {status} {said}")
            return str(said["answer"])

        def sessions() -> list[dict[str, Any]]:
            return list(http.ask(control, "GET", "/v1/sessions")[1]["sessions"])

        yield Server(transceiver, edge.page, place, sessions, relay)


@contextmanager
def aiortc(directory: Path, agent: str, *, is_pinned: bool = False) -> Iterator[Server]:
    """bench/peers/aiortc_server, which clients reach directly."""
    port = free_port(socket.SOCK_STREAM)
    command = [sys.executable, "-m", "bench.peers.aiortc_server", f"--agent={agent}", f"--port={port}"]
    with (
        _others_pinned(is_pinned),
        running_child(command, says="ready", log=directory / "aiortc.log") as said,
    ):
        pid = int(said)
        if is_pinned:
            _move(pid, SERVER_CPU)

        def place(offer: str) -> str:
            body = {"type": "offer", "sdp": offer}
            status, text, _ = http.request(f"127.0.0.1:{port}", "POST", "/offer", body)
            if status != 200:
                raise RuntimeError(f"POST /offer: {status} {text.decode()}")
            return str(json.loads(text)["sdp"])

        yield Server(pid, f"http://127.0.0.1:{port}", place, list)


def used_ms(pid: int) -> float:
    """User and system time of a process, that of ended threads included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_MS


def waited_ms(pid: int) -> float:
    """How long its threads were ready to run while others ran: field 2 of schedstat."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[1]) for task in tasks) / 1e6


@contextmanager
def _others_pinned(is_pinned: bool) -> Iterator[None]:
    if not is_pinned:
        yield
        return
    with pinned(LOAD_CPU):
        yield


def _move(pid: int, cpu: int) -> None:
    """All its threads; those it starts later follow."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {cpu})
