"""Where something of a benchmark runs: a network namespace (or the machine's own network) and one CPU.

    with place.inside():                       sockets made here, and children started here, belong there
        process = subprocess.Popen(command)
    subprocess.Popen(place.command(command))   the same by a prefix; the process id is the command's own

The network namespace of Linux belongs to a thread: `inside` changes the calling thread's alone and gives it
back. A UNIX socket in the file system is reachable from everywhere; a TCP port is not, so whoever asks a
relay over TCP or UDP for something does it inside.
"""

from __future__ import annotations

import ctypes
import os
import random
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.cpu import RELAY_CPU
from pyfastpath.tools.bench.cpu import pinned

CLONE_NEWNET = 0x40000000
NAMESPACES = Path("/run/netns")
LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Network:
    """A network namespace by its name in /run/netns; None: the one this program began in."""

    namespace: str | None = None

    @contextmanager
    def inside(self) -> Iterator[None]:
        """The calling thread is in this network for a while. PermissionError when that takes root."""
        if self.namespace is None:
            yield
            return
        with Path("/proc/thread-self/ns/net").open("rb") as before:
            with (NAMESPACES / self.namespace).open("rb") as there:
                _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())


@dataclass(frozen=True)
class Place:
    """Where a relay under test runs. The defaults are the loopback topology.

    relay_ip      its address on the clients' side: it listens here
    upstream_ip   its address on the backend's side (the same one on loopback)
    sink_ip       the backend's address
    clients       the network all clients are in (a relay's list of allowed clients)
    first_client  address of the first client; the others follow
    """

    relay_ip: str = "127.0.0.1"
    upstream_ip: str = "127.0.0.1"
    sink_ip: str = "127.0.0.1"
    clients: str = "127.0.0.0/8"
    first_client: str = "127.1.0.1"
    cpu: int = RELAY_CPU
    network: Network = Network()

    @contextmanager
    def inside(self, *more_cpus: int) -> Iterator[None]:
        """The calling thread is in the relay's network and on its CPU; what it starts inherits both.

        more_cpus: what starts may use these too, and is expected to put what is measured on the first itself.
        """
        with self.network.inside(), pinned(self.cpu, *more_cpus):
            yield

    def command(self, argv: Sequence[str]) -> list[str]:
        """`argv` with the prefix that runs it here. Both programs of the prefix exec: the pid stays."""
        prefix = ["taskset", "-c", str(self.cpu)]
        if self.network.namespace is not None:
            prefix += ["nsenter", f"--net={NAMESPACES / self.network.namespace}"]
        return [*prefix, *argv]

    def free_port(self, kind: socket.SocketKind, ip: str = "") -> int:
        """A port nobody has now on `ip` (default relay_ip), below those the kernel gives to clients."""
        with self.inside():
            for _ in range(100):  # at random: two that are asked for one after the other differ
                port = random.randrange(20_000, 32_768)
                with socket.socket(socket.AF_INET, kind) as probe:
                    try:
                        probe.bind((ip or self.relay_ip, port))
                    except OSError:
                        continue
                    return port
        raise OSError(f"no free port on {ip or self.relay_ip} between 20000 and 32767")


def _enter(fd: int) -> None:
    """setns(2): this thread is in the network of an open namespace file from now on."""
    if LIBC.setns(fd, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}; benchmarks in namespaces need root")
