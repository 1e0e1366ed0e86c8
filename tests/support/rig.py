"""Shards and workers over real loopback sockets, without keeper or control plane: what the data plane's own
tests need. `with Rig(...) as rig:` starts the workers in threads; leaving stops all, closes everything."""

import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import ip_address
from itertools import chain
from typing import Any, Self

import numpy as np
from fastpath.settings import Settings
from fastpath.shard import Shard, Shared, format_shard, format_shared, link_shards, shard_bytes, shared_bytes
from fastpath.worker import Worker

from pyfastpath.relay.layout import COUNTERS, SHARD_HEADER
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


def until(condition: Callable[[], bool], what: str, seconds: float = 20.0) -> None:
    """Wait for a condition; AssertionError says what did not come true."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.002)


def _family(ip: str) -> int:
    return 6 if ":" in ip else 4


class Rig:
    """`shards` shards with a listener on `ip` (ingress 3) and one on each of `more_ips` (4, 5, ...; the same
    ip again gets another port), served by `workers` workers. Each shard has `ports` plain ports a family."""

    def __init__(
        self,
        *,
        shards: int = 1,
        ip: str = "127.0.0.1",
        more_ips: Sequence[str] = (),
        workers: int = 1,
        ports: int = 8,
        flows: int = 1024,
        provisional: int = 256,
        **policy: Any,
    ) -> None:
        self.ip, self.family, self.workers_count = ip, _family(ip), workers
        memory = bytearray(shared_bytes(shards, 4096, 64))
        format_shared(
            memory, seed=os.urandom(16), shards=shards, routes_max=4096, targets_max=64, trunk_epoch=1
        )
        self.shared, self.settings = Shared(memory), Settings()
        self.trunks = [udp(ip, gro=True) for _ in range(shards)]
        self.addresses: list[tuple[str, int]] = []
        self.listeners: list[list[socket.socket]] = []
        for each in (ip, *more_ips):
            self._listen(each, shards)
        source_of = {_family(each): each for each in (*more_ips, ip)}  # plain ports leave from here
        pools, self.plain = self._open_plain(source_of, shards, ports)
        self.memories, self.shards = [], []
        for index in range(shards):
            sizes = {
                "flows_max": flows,
                "provisional_max": max(provisional, flows),
                "transactions_max": 4096,
                "targets_max": 64,
                **{name: (first + index * ports, ports) for name, first in pools.items()},
            }
            self.memories.append(bytearray(shard_bytes(**sizes)))
            format_shard(self.memories[-1], index=index, **sizes)
        loopback = [(address16("127.0.0.0"), 4, 8), (address16("::1"), 6, 128)]
        self.policy = {
            "token_keys": {},
            "trunk_keys": {},
            "allow_clients": loopback,
            "coalesce_us": 0,
        } | policy
        self.settings.publish(**self.policy)
        self.start()

    def _listen(self, ip: str, shards: int) -> None:
        first = udp(ip, reuse=True)
        port, listener = first.getsockname()[1], len(self.listeners)
        self.listeners.append([first, *(udp(ip, port, reuse=True) for _ in range(shards - 1))])
        self.addresses.append((ip, port))
        self.shared.set_ingress(3 + listener, address16(ip), port, _family(ip), listener, False)

    @staticmethod
    def _open_plain(
        source_of: dict[int, str], shards: int, ports: int
    ) -> tuple[dict[str, int], list[socket.socket]]:
        """Where each family's pool of port numbers begins, and the socket of each port number."""
        pools = {f"ports_ipv{family}": number * shards * ports for number, family in enumerate(source_of)}
        plain = [
            socket.socket(fileno=open_plain(Endpoint(ip_address(ip), 0)).fd)
            for ip in source_of.values()
            for _ in range(shards * ports)
        ]
        return pools, plain

    def _sockets(self, shard: int) -> dict[str, Any]:
        """What a worker needs to serve this shard."""
        header = np.frombuffer(self.memories[shard], SHARD_HEADER, 1)[0]
        shares = zip(header["port_first"].tolist(), header["port_count"].tolist(), strict=True)
        own = {port for first, count in shares for port in range(first, first + count)}
        everything = {index: sock.fileno() for index, sock in enumerate(self.plain)}
        return {
            "clients": [listener[shard].fileno() for listener in self.listeners],
            "trunk": self.trunks[shard].fileno(),
            "plain": {port: fd for port, fd in everything.items() if port in own},
            "siblings": {port: fd for port, fd in everything.items() if port not in own},
        }

    def start(self) -> None:
        """Attach the memory, as a new engine does, and run the workers."""
        self.shards = [Shard(self.shared, memory) for memory in self.memories]
        link_shards(self.shards)
        for shard in self.shards:
            shard.adopt(now_ms())
        self.serve()

    def serve(self) -> None:
        """Run new workers over the shards as they are."""
        numbers = range(len(self.shards))
        self.workers = [
            Worker(
                self.settings,
                [self.shards[number] for number in numbers[first :: self.workers_count]],
                [self._sockets(number) for number in numbers[first :: self.workers_count]],
            )
            for first in range(self.workers_count)
        ]
        self.threads = [threading.Thread(target=worker.run, daemon=True) for worker in self.workers]
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        for worker in self.workers:
            worker.stop()
        for thread in self.threads:
            thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        for sock in [*chain(*self.listeners), *self.trunks, *self.plain]:
            sock.close()

    @property
    def address(self) -> tuple[str, int]:
        """Where clients of the first listener send to."""
        return self.addresses[0]

    @property
    def relay_ends(self) -> list[tuple[bytes, int, int]]:
        """The trunk sockets, as a transceiver's Link wants them."""
        return [(address16(self.ip), sock.getsockname()[1], self.family) for sock in self.trunks]

    def add_backend(self, index: int, port: int, mode: int, *, ip: str = "", **identity: Any) -> None:
        """A backend at `ip` (the rig's own)."""
        ip = ip or self.ip
        self.shared.backends.publish(index, address16(ip), port, _family(ip), mode, index, **identity)

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
