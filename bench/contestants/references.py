"""The relays written here: uvloop, Go, C. They read their routes from a file and say `ready`."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from bench.contestants.children import BUILD, ROOT, child, sockets_max, wait_until
from bench.contestants.contract import Address, Contestant, Running, Upstream
from bench.place import Place

C_SLOTS_MAX = 1 << 17  # half of the table of peers/c/forwarder.h
PEERS = ROOT / "bench" / "peers"
GO = (("go", "golang-go"),)
GCC = (("gcc", "gcc"),)
# glibc gives freed memory back and asks for it again at every large datagram buffer: a careful operator of a
# Python relay switches that off.
PYTHON_ENVIRONMENT = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(256 << 20)}
Command = Callable[[], list[str]]


def uvloop_relay() -> Contestant:
    """asyncio protocols on uvloop."""
    return _reference(
        "uvloop relay",
        "plain",
        lambda: [sys.executable, "-m", "bench.peers.uvloop_relay"],
        environment=PYTHON_ENVIRONMENT,
    )


def go_relay() -> Contestant:
    """The published design: SO_REUSEPORT, locked threads, nothing allocated a datagram."""

    def command() -> list[str]:
        binary = _built("go_relay", "go_relay", "go", "build", "-o")
        return [binary, "--procs=1", "--listeners=1"]

    return _reference("Go relay", "plain", command, needs=GO)


def c_recvfrom(coalesce_us: int = 0) -> Contestant:
    """One datagram a call."""
    return _c("C recvfrom", "plain", "recvfrom", coalesce_us)


def c_mmsg(sockets: Literal["flow", "shared"], coalesce_us: int = 0) -> Contestant:
    """recvmmsg and sendmmsg; a socket a flow, or one for all (a bound: see its comment)."""
    name = "C mmsg, socket a flow" if sockets == "flow" else "C mmsg, one socket"
    return _c(name, "plain", "mmsg", coalesce_us, f"--sockets={sockets}")


def c_trunk(mode: Literal["bundle", "run"] = "bundle", coalesce_us: int = 0) -> Contestant:
    """Our technique without our relay; mode `run`: bare GSO, a datagram of the trunk for each of a client."""
    return _c(
        "C trunk" if mode == "bundle" else "C trunk, GSO alone",
        "trunk",
        "trunk",
        coalesce_us,
        f"--mode={mode}",
    )


def _c(name: str, upstream: Upstream, source: str, coalesce_us: int, *options: str) -> Contestant:
    def command() -> list[str]:
        binary = _built(f"c_{source}", "c", "gcc", f"{source}.c", "-O3", "-Wall", "-Wextra", "-Werror", "-o")
        return [binary, *options, f"--coalesce-us={coalesce_us}"]

    full = f"{name}, {coalesce_us} µs" if coalesce_us else name
    own_sockets = source == "recvfrom" or "--sockets=flow" in options
    return _reference(full, upstream, command, None if own_sockets else C_SLOTS_MAX, needs=GCC)


def _built(name: str, folder: str, *compiler: str) -> str:
    """The program `name`, compiled in a folder of bench/peers when it is older than a source there."""
    binary, sources = BUILD / name, list((PEERS / folder).iterdir())
    if not binary.exists() or binary.stat().st_mtime < max(each.stat().st_mtime for each in sources):
        BUILD.mkdir(parents=True, exist_ok=True)
        new = binary.with_name(f"{name}.{os.getpid()}")  # the old one may be running
        subprocess.run([*compiler, str(new)], cwd=PEERS / folder, check=True)
        new.replace(binary)
    return str(binary)


def _reference(
    name: str,
    upstream: Upstream,
    command: Command,
    flows_max: int | None = None,
    *,
    needs: tuple[tuple[str, str], ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Contestant:
    @contextmanager
    def start(place: Place, backend: Address, ufrags: Sequence[str]) -> Iterator[Running]:
        with tempfile.TemporaryDirectory() as text:
            directory = Path(text)
            routes, log = directory / "routes.txt", directory / f"{name}.log"
            routes.write_text("".join(f"{ufrag} {backend[0]}:{backend[1]}\n" for ufrag in ufrags))
            listen = (place.relay_ip, place.free_port(socket.SOCK_DGRAM))
            options = [f"--listen={listen[0]}:{listen[1]}", f"--routes={routes}"]
            with child(place, [*command(), *options], log, **(environment or {})) as pid:
                wait_until(lambda: log.read_bytes().startswith(b"ready"), pid, log)
                yield Running(listen, pid)

    return Contestant(name, upstream, start, sockets_max() if flows_max is None else flows_max, needs)
