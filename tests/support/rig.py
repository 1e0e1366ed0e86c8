"""Shards and a worker over real loopback sockets, without keeper or control plane: what the data plane's own
tests need. `with Rig(...) as rig:` starts the worker in a thread; leaving stops it and closes everything."""

import os
import socket
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, Self

import numpy as np
from fastpath.settings import Settings
from fastpath.shard import Shard, Shared, format_shard, format_shared, link_shards, shard_bytes, shared_bytes
from fastpath.worker import Worker

from pyfastpath.relay.layout import COUNTERS
from pyfastpath.relay.sockets import open_plain
from pyfastpath.types import Endpoint

UDP_GRO = 104
DEFAULT_TOS = 46 << 2


def address16(ip: str) -> bytes:
    """The 16 bytes of an address as the data plane keeps it."""
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return socket.inet_pton(family, ip).ljust(16, b"\0")


def udp(ip: str, port: int = 0, *, reuse: bool = False, gro: bool = False) -> socket.socket:
    """A non-blocking UDP socket, set up as the keeper's are."""
    v6 = ":" in ip
    sock = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    if reuse:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if v6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, DEFAULT_TOS)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, DEFAULT_TOS)
    if gro:
        sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    sock.bind((ip, port))
    return sock


def now_ms() -> int:
    """The data plane's clock."""
    return int(time.monotonic() * 1000) & 0xFFFFFFFF


def until(condition: Callable[[], bool], what: str, seconds: float = 5.0) -> None:
    """Wait for a condition; AssertionError says what did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.002)


class Rig:
    """`shards` shards on one listener (`ip`), `ports` plain ports each, and one worker over all of them."""

    def __init__(
        self, *, shards: int = 1, ip: str = "127.0.0.1", ports: int = 8, flows: int = 1024, **policy: Any
    ) -> None:
        self.ip, self.family = ip, 6 if ":" in ip else 4
        memory = bytearray(shared_bytes(shards, 4096, 64))
        format_shared(
            memory, seed=os.urandom(16), shards=shards, routes_max=4096, targets_max=64, trunk_epoch=1
        )
        self.shared, self.settings = Shared(memory), Settings()
        first = udp(ip, reuse=True)
        self.port = first.getsockname()[1]
        self.clients = [first, *(udp(ip, self.port, reuse=True) for _ in range(shards - 1))]
        self.trunks = [udp(ip, gro=True) for _ in range(shards)]
        self.plain = [
            socket.socket(fileno=open_plain(Endpoint(ip_address(ip), 0)).fd) for _ in range(shards * ports)
        ]
        self.shared.set_ingress(3, address16(ip), self.port, self.family, 0, False)
        self.memories, self.shards = [], []
        for index in range(shards):
            share = {"ports_ipv4" if self.family == 4 else "ports_ipv6": (index * ports, ports)}
            sizes = {
                "flows_max": flows,
                "provisional_max": max(256, flows),
                "transactions_max": 4096,
                "targets_max": 64,
                **share,
            }
            self.memories.append(bytearray(shard_bytes(**sizes)))
            format_shard(self.memories[-1], index=index, **sizes)
        self.ports = ports
        loopback = [(address16("127.0.0.0"), 4, 8), (address16("::1"), 6, 128)]
        self.policy = {
            "token_keys": {},
            "trunk_keys": {},
            "allow_clients": loopback,
            "coalesce_us": 0,
        } | policy
        self.settings.publish(**self.policy)
        self.start()

    def start(self) -> None:
        """Attach the memory, as a new engine does, and run the worker."""
        self.shards = [Shard(self.shared, memory) for memory in self.memories]
        link_shards(self.shards)
        sockets = []
        everything = {index: sock.fileno() for index, sock in enumerate(self.plain)}
        for index, shard in enumerate(self.shards):
            shard.adopt(now_ms())
            own = range(index * self.ports, (index + 1) * self.ports)
            sockets.append(
                {
                    "clients": [self.clients[index].fileno()],
                    "trunk": self.trunks[index].fileno(),
                    "plain": {port: everything[port] for port in own},
                    "siblings": {port: fd for port, fd in everything.items() if port not in own},
                }
            )
        self.worker = Worker(self.settings, self.shards, sockets)
        self.thread = threading.Thread(target=self.worker.run, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.worker.stop()
        self.thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for sock in [*self.clients, *self.trunks, *self.plain]:
            sock.close()

    @property
    def address(self) -> tuple[str, int]:
        """Where clients send to."""
        return self.ip, self.port

    @property
    def relay_ends(self) -> list[tuple[bytes, int, int]]:
        """The trunk sockets, as a transceiver's Link wants them."""
        return [(address16(self.ip), sock.getsockname()[1], self.family) for sock in self.trunks]

    def add_backend(self, index: int, port: int, mode: int, **identity: Any) -> None:
        self.shared.backends.publish(index, address16(self.ip), port, self.family, mode, index, **identity)

    def install(self, ufrag: str, backend: int, **route: Any) -> int:
        code: int = self.shared.routes.install(ufrag.encode(), backend, int(time.monotonic()) + 3600, **route)
        return code

    def counters(self) -> "np.void":
        """The sum over all shards, after the workers have published."""
        rows = np.concatenate([np.frombuffer(shard.counters(), COUNTERS) for shard in self.shards])
        total = rows[:1].copy()
        for name in COUNTERS.names or ():
            total[name] = rows[name].sum(axis=0)
        return total[0]
