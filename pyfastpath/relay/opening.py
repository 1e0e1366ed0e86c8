"""Everything a relay owns, opened once: sockets and memory.

The result is plain data (descriptor numbers and names), so that a keeper can hand it to an engine.
"""

import contextlib
import logging
import os
from collections.abc import Callable
from ipaddress import ip_address
from itertools import accumulate
from pathlib import Path
from typing import Self

import msgspec

from pyfastpath.config import RelayConfig
from pyfastpath.errors import ConfigError
from pyfastpath.relay import memory, sockets
from pyfastpath.relay.layout import LISTENERS
from pyfastpath.relay.memory import MemoryFds
from pyfastpath.types import Endpoint

log = logging.getLogger("pyfastpath.keeper")


class ShardSockets(msgspec.Struct, frozen=True):
    """The UDP descriptors of one shard. clients: one a listener; trunk: -1 without; plain: by pool index."""

    clients: tuple[int, ...]
    trunk: int
    plain: dict[int, int]

    def all(self) -> tuple[int, ...]:
        """Every descriptor."""
        return (*self.clients, *([self.trunk] if self.trunk >= 0 else []), *self.plain.values())


class Opening(msgspec.Struct, frozen=True):
    """What one relay owns. listeners: the bound client addresses; *_fd: -1 when not configured."""

    memory: MemoryFds
    shards: tuple[ShardSockets, ...]
    listeners: tuple[str, ...]
    admin_unix: int = -1
    admin_tcp: int = -1
    health: int = -1

    def descriptors(self) -> tuple[int, ...]:
        """Every descriptor, for pass_fds."""
        http = [fd for fd in (self.admin_unix, self.admin_tcp, self.health) if fd >= 0]
        return (*self.memory.all(), *(fd for shard in self.shards for fd in shard.all()), *http)

    def over(self, regions: MemoryFds) -> Self:
        """The same sockets with other tables."""
        return msgspec.structs.replace(self, memory=regions)

    def close(self) -> None:
        """Close every descriptor."""
        for fd in self.descriptors():
            os.close(fd)


def followed(old: RelayConfig, new: RelayConfig) -> tuple[RelayConfig, list[str]]:
    """What of a new configuration an opened relay can follow, and the keys that keep their old value.

    Sockets and tables are opened once, so the keys that shape them wait for a restart.
    """
    fixed = old.restart_keys(new)
    return msgspec.structs.replace(new, **{name: getattr(old, name) for name in fixed}), fixed


def descriptors_of(config: RelayConfig) -> int:
    """How many sockets and regions `open_relay` opens for good: each plain port, and every shard's own."""
    of_a_shard = len(config.listen) + bool(config.trunk_port) + 1  # and its region
    return config.plain_ports + config.plain_ports_ipv6 + config.shards * of_a_shard


def open_relay(config: RelayConfig) -> Opening:
    """Open and format everything a configuration asks for; nothing stays open when one part fails."""
    sockets.reserve_descriptors(descriptors_of(config))
    with contextlib.ExitStack() as undo:

        def keep(fd: int) -> int:
            undo.callback(os.close, fd)
            return fd

        clients, listeners = _open_clients(config, keep)
        trunks = _open_trunks(config, keep)
        shares = {4: shares_of(0, config.plain_ports, config.shards)}
        shares[6] = shares_of(config.plain_ports, config.plain_ports_ipv6, config.shards)
        opening = Opening(
            shards=tuple(
                ShardSockets(clients[shard], trunks[shard], _open_plain(config, shares, shard, keep))
                for shard in range(config.shards)
            ),
            listeners=tuple(map(str, listeners)),
            admin_unix=keep(sockets.open_unix(Path(config.admin_socket))) if config.admin_socket else -1,
            admin_tcp=_open_tcp(config.admin_tcp, keep),
            health=_open_tcp(config.health_listen, keep),
            memory=memory.create(
                memory.TableSizes(
                    shards=config.shards,
                    flows_max=config.flows_max,
                    routes_max=config.routes_max,
                    targets_max=config.targets_max,
                    ports_ipv4=shares[4],
                    ports_ipv6=shares[6],
                )
            ),
        )
        undo.pop_all()
    return opening


def shares_of(first: int, count: int, shards: int) -> tuple[tuple[int, int], ...]:
    """Split pool indices [first, first + count) into contiguous (first, count) shares, as even as can be."""
    ends = list(accumulate(count // shards + (shard < count % shards) for shard in range(shards)))
    return tuple((first + begin, end - begin) for begin, end in zip([0, *ends], ends, strict=False))


def _open_clients(
    config: RelayConfig, keep: Callable[[int], int]
) -> tuple[list[tuple[int, ...]], list[Endpoint]]:
    """Client sockets by shard and listener, and the bound addresses."""
    if len(config.listen) > LISTENERS:
        raise ConfigError(
            f"{len(config.listen)} addresses, at most {LISTENERS} fit.",
            "Listen on a wildcard address.",
            key="listen",
        )
    by_listener, bound = [], []
    for listen in config.listen:
        endpoint = listen.endpoint
        sockets.refuse_if_taken(endpoint)
        opened = []
        for _ in range(config.shards):
            one = sockets.open_client(endpoint, receive_buffer_bytes=config.receive_buffer_bytes)
            opened.append(keep(one.fd))
            endpoint = one.endpoint  # port 0: the kernel chose for the first, the others join it
        _warn_if_short(one, config.receive_buffer_bytes)
        by_listener.append(opened)
        bound.append(endpoint)
    return [tuple(column) for column in zip(*by_listener, strict=True)], bound


def _open_trunks(config: RelayConfig, keep: Callable[[int], int]) -> list[int]:
    if not config.trunk_port:
        return [-1] * config.shards
    address = ip_address(config.trunk_address)
    opened = []
    for shard in range(config.shards):
        endpoint = Endpoint(address, config.trunk_port + shard)
        one = sockets.open_trunk(endpoint, receive_buffer_bytes=config.receive_buffer_bytes)
        opened.append(keep(one.fd))
    return opened


def _open_plain(
    config: RelayConfig,
    shares: dict[int, tuple[tuple[int, int], ...]],
    shard: int,
    keep: Callable[[int], int],
) -> dict[int, int]:
    opened = {}
    for family, address in ((4, config.plain_address), (6, config.plain_address_ipv6)):
        first, count = shares[family][shard]
        for index in range(first, first + count):
            opened[index] = keep(sockets.open_plain(Endpoint(ip_address(address), 0)).fd)
    return opened


def _open_tcp(text: str, keep: Callable[[int], int]) -> int:
    return keep(sockets.open_tcp(Endpoint.parse(text))) if text else -1


def _warn_if_short(opened: sockets.Opened, asked_bytes: int) -> None:
    """The kernel reports twice what it grants: half of it is for its own book-keeping."""
    if opened.receive_buffer_bytes < 2 * asked_bytes:
        log.warning(
            "%s: asked for a receive buffer of %d bytes, granted %d; bursts may be lost. "
            "Raise net.core.rmem_max or grant CAP_NET_ADMIN.",
            opened.endpoint,
            asked_bytes,
            opened.receive_buffer_bytes // 2,
        )
