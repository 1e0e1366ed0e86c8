"""Which local address is which ingress: the ids that are part of every flow's key.

An id, once published, belongs to its address for the keeper's life, because flows that live are keyed
by it. A wildcard listener stands for every address of the machine; new ones get ids at a reload.
"""

import logging
import mmap
from collections.abc import Iterator

import numpy as np
from fastpath.shard import Shared

from pyfastpath.config import RelayConfig
from pyfastpath.errors import ConfigError
from pyfastpath.relay.addresses import machine_addresses
from pyfastpath.relay.layout import INGRESS, SHARED_HEADER
from pyfastpath.relay.placement import Ingress
from pyfastpath.types import Endpoint

log = logging.getLogger("pyfastpath.engine")

Published = dict[tuple[int, Endpoint], int]
"""(listener, local address) -> ingress id."""


def published(memory: mmap.mmap) -> Published:
    """What an engine before this one has published."""
    rows = np.frombuffer(memory, SHARED_HEADER, 1)["ingress"][0]
    found: Published = {}
    for number in np.flatnonzero(rows["used"]):
        row = rows[number]
        address = row["address"]
        local = Endpoint.from_address16(
            address["address"].tobytes(), int(address["port"]), int(address["family"])
        )
        found[int(row["listener"]), local] = int(number)
    return found


def find(config: RelayConfig, listeners: tuple[str, ...], known: Published) -> list[Ingress]:
    """Every local address clients may use now. listeners: where they are bound, in the order of `listen`.

    The first address of a wildcard has the listener's own id, the others take ids no listener asked for.
    """
    taken = {listen.ingress for listen in config.listen} | set(known.values())
    free = iter([number for number in range(INGRESS) if number not in taken])
    found = []
    for listener, (listen, text) in enumerate(zip(config.listen, listeners, strict=True)):
        bound = Endpoint.parse(text)
        advertised = listen.advertised if listen.advertise else None
        if advertised is not None and advertised.port == 0:
            advertised = Endpoint(advertised.address, bound.port)
        ids = _ids(None if listen.ingress in known.values() else listen.ingress, free)
        for local in _local_endpoints(bound):
            number = known.get((listener, local))
            found.append(
                Ingress(
                    id=next(ids) if number is None else number,
                    listener=listener,
                    local=local,
                    advertised=advertised or local,
                    wildcard=bound.address.is_unspecified,
                )
            )
    return found


def publish(shared: Shared, ingresses: list[Ingress]) -> None:
    """Write them into the shared table, from which workers read."""
    for one in ingresses:
        where = one.local
        shared.set_ingress(one.id, where.address16, where.port, where.family, one.listener, one.wildcard)


def _local_endpoints(bound: Endpoint) -> list[Endpoint]:
    if not bound.address.is_unspecified:
        return [bound]
    addresses = machine_addresses(bound.family)
    if not addresses:
        log.warning("%s: this machine has no IPv%d address, so no client can reach it", bound, bound.family)
    return [Endpoint(address, bound.port) for address in addresses]


def _ids(first: int | None, free: Iterator[int]) -> Iterator[int]:
    if first is not None:
        yield first
    yield from free
    raise ConfigError(
        f"this machine has more than {INGRESS} addresses.",
        "List the addresses to serve in listen.",
        key="listen",
    )
