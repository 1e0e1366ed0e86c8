"""A shared region and one shard in plain memory, for tests of the tables: no sockets, no worker."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastpath.shard import Shard, Shared, format_shard, format_shared, shard_bytes, shared_bytes

from pyfastpath.relay.layout import (
    BACKEND,
    COUNTERS,
    FLOW,
    PORT,
    PROVISIONAL,
    ROUTE,
    SHARD_HEADER,
    SHARED_HEADER,
)

SEED = bytes(range(16))
Client = tuple[bytes, int, int, int]


def address16(*octets: int) -> bytes:
    """An IPv4 address as the data plane keeps it."""
    return bytes(octets).ljust(16, b"\0")


def client(number: int, *, ingress: int = 0) -> Client:
    """A public IPv4 client, another for every number."""
    return address16(9, number >> 16 & 255, number >> 8 & 255, number & 255), 5000, 4, ingress


def client_v6(number: int, *, ingress: int = 0) -> Client:
    return bytes.fromhex("20010db8") + number.to_bytes(12, "big"), 5000, 6, ingress


@dataclass
class Region:
    """`memory` is the shard's region, `shared_memory` the shared one; the arrays are views into them."""

    memory: bytearray
    shared_memory: bytearray
    shared: Shared
    shard: Shard
    header: Any = field(init=False)
    shared_header: Any = field(init=False)

    def __post_init__(self) -> None:
        self.header = np.frombuffer(self.memory, SHARD_HEADER, 1)[0]
        self.shared_header = np.frombuffer(self.shared_memory, SHARED_HEADER, 1)[0]

    def _rows(self, dtype: Any, table: str, capacity: int, offset: int = 0) -> Any:
        return np.frombuffer(self.memory, dtype, capacity, int(self.header[f"{table}_offset"]) + offset)

    @property
    def flows(self) -> Any:
        return self._rows(FLOW, "flows", self.header["flows_capacity"])

    @property
    def provisional(self) -> Any:
        return self._rows(PROVISIONAL, "provisional", self.header["provisional_capacity"])

    @property
    def provisional_heads(self) -> Any:
        """By client, then by ufrag: the first entry of each chain."""
        return self._rows(np.uint32, "provisional_index", 2 * self.header["provisional_capacity"])

    @property
    def ports(self) -> Any:
        return self._rows(PORT, "ports", self.header["ports_capacity"])

    @property
    def counters(self) -> Any:
        return self._rows(COUNTERS, "counters", 1)

    @property
    def routes(self) -> Any:
        header = self.shared_header
        return np.frombuffer(
            self.shared_memory, ROUTE, header["routes_capacity"], int(header["routes_offset"])
        )

    @property
    def backends(self) -> Any:
        header = self.shared_header
        return np.frombuffer(
            self.shared_memory, BACKEND, header["backends_capacity"], int(header["backends_offset"])
        )

    def attach_again(self, now_ms: int = 0) -> None:
        """As the engine after the one that died: new objects over the same memory."""
        self.shared = Shared(self.shared_memory)
        self.shard = Shard(self.shared, self.memory)
        self.shard.adopt(now_ms)


def make_region(
    *,
    flows_max: int = 64,
    provisional_max: int = 64,
    transactions_max: int = 64,
    routes_max: int = 64,
    targets_max: int = 8,
    ports_ipv4: tuple[int, int] = (0, 0),
    ports_ipv6: tuple[int, int] = (0, 0),
    seed: bytes = SEED,
) -> Region:
    """Formatted and attached, as a keeper and its first engine do it."""
    shared_memory = bytearray(shared_bytes(1, routes_max, targets_max))
    format_shared(
        shared_memory, seed=seed, shards=1, routes_max=routes_max, targets_max=targets_max, trunk_epoch=1
    )
    sizes = {
        "flows_max": flows_max,
        "provisional_max": provisional_max,
        "transactions_max": transactions_max,
        "targets_max": targets_max,
        "ports_ipv4": ports_ipv4,
        "ports_ipv6": ports_ipv6,
    }
    memory = bytearray(shard_bytes(**sizes))
    format_shard(memory, index=0, **sizes)
    shared = Shared(shared_memory)
    shard = Shard(shared, memory)
    shard.adopt(0)
    return Region(memory, shared_memory, shared, shard)
