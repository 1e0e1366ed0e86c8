"""The relay that is replayed to: one of our own, or one that runs, told of our backends and routes.

A backend is an end of the player. It is entered in the relay under a name of this run alone and taken out
again at the end; routes have a short life. With tokens nothing is entered: the relay knows the transceivers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pyfastpath.errors import FastpathError
from pyfastpath.tools.admin import AdminClient
from pyfastpath.tools.live_relay import add_backend, drops, install_routes, ipv4_listener
from pyfastpath.tools.own_relay import own_relay
from pyfastpath.tools.replay.names import TokenMint
from pyfastpath.types import Endpoint, Mode

ROUTE_TTL_S: Final = 600  # of routes that no flow has used: what a run that was killed leaves behind
PLAIN_PORTS_MAX: Final = 60_000
SHARDS: Final = 2  # so that flows are looked up in a sibling's table too


class End(Protocol):
    """One backend as the player has it (fastpath.load.player)."""

    address: tuple[str, int]


@dataclass(frozen=True, slots=True)
class Route:
    """A ufrag and the backend it leads to. session: ufrags of one session replace each other."""

    ufrag: str
    backend: int
    session: str = ""


@dataclass(frozen=True, slots=True)
class Target:
    """A relay that is ready. listen: where clients send. drops: what it dropped so far, by reason; None:
    it cannot be asked."""

    name: str
    listen: tuple[str, int]
    install: Callable[[Iterable[Route]], None]
    drops: Callable[[], Counter[str] | None]


@contextmanager
def own_target(
    ends: Sequence[End],
    mode: Mode,
    *,
    roles: int,
    mints: Sequence[TokenMint] = (),
    trunk_key: tuple[int, bytes] | None = None,
) -> Iterator[Target]:
    """Start a relay for this run. roles: clients it must hold. mints: how tokens name the ends. trunk_key: id
    and key of their links."""
    backends = [
        _table(f"end{place}", end, mode) | ({"transceiver": mints[place].xcvr} if mints else {})
        for place, end in enumerate(ends)
    ]
    settings: dict[str, Any] = {
        "shards": SHARDS,
        "flows_max": max(4096, 2 * roles),
        "targets_max": 1024,
        # A shard's share of the ports must hold whatever the kernel hashes to it.
        "plain_ports": min(PLAIN_PORTS_MAX, 256 + 3 * roles) if mode == "plain" else 0,
    }
    if mints:
        settings |= {"token_keys": [f"{mints[0].kid}:{mints[0].key.hex()}"], "cluster": mints[0].cluster}
        for table, mint in zip(backends, mints, strict=True):
            table["incarnation"] = mint.incarnation
    if trunk_key is not None:
        settings |= {"trunk_keys": [f"{trunk_key[0]}:{trunk_key[1].hex()}"], "trunk_key_id": trunk_key[0]}
    with own_relay(backends=backends, settings=settings) as relay:
        names = [table["id"] for table in backends]
        yield Target(
            "a relay of its own",
            relay.listen,
            lambda routes: _install(relay.admin, names, routes),
            lambda: drops(relay.admin),
        )


@contextmanager
def live_target(
    admin: AdminClient, listen: tuple[str, int] | None, ends: Sequence[End], mode: Mode, run: str
) -> Iterator[Target]:
    """Use a relay that runs. listen None: what it says itself. run: part of the names of our backends.

    UnreachableError when it does not answer, RefusedError or ConfigError when it refuses.
    """
    status = admin.get("status")  # nobody there: said before anything is entered
    where = listen or _pair(ipv4_listener(status))
    names = [f"replay-{run}-{place}" for place in range(len(ends))]
    try:
        for name, end in zip(names, ends, strict=True):
            add_backend(admin, name, _address(end), mode)
        yield Target(
            f"the relay at {where[0]}:{where[1]}",
            where,
            lambda routes: _install(admin, names, routes),
            lambda: drops(admin),
        )
    finally:
        for name in names:
            with suppress(FastpathError):  # it was never entered, or the relay is gone
                admin.request("DELETE", ("backends", name))


def token_target(listen: tuple[str, int]) -> Target:
    """A relay that is told nothing: tokens name its own backends, whose addresses our ends have."""

    def nothing(routes: Iterable[Route]) -> None:
        for _ in routes:
            pass

    return Target(f"the relay at {listen[0]}:{listen[1]}", listen, nothing, lambda: None)


def _pair(end: Endpoint) -> tuple[str, int]:
    return str(end.address), end.port


def _address(end: End) -> str:
    host, port = end.address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _table(name: str, end: End, mode: Mode) -> dict[str, Any]:
    return {"id": name, "address": _address(end), "mode": mode} | (
        {"assume_up": True} if mode == "trunk" else {}
    )


def _install(admin: AdminClient, names: Sequence[str], routes: Iterable[Route]) -> None:
    install_routes(
        admin,
        (
            {"ufrag": route.ufrag, "backend": names[route.backend], "ttl_s": ROUTE_TTL_S}
            | ({"session": route.session} if route.session else {})
            for route in routes
        ),
    )
