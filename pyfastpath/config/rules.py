"""The relay's rules that types and bounds cannot say: addresses, networks, duplicates, what needs what."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address

from pyfastpath.config.checks import (
    Mistake,
    check_endpoint,
    check_networks,
    check_socket_path,
    check_token,
    check_token_keys,
    check_trunk_keys,
    check_twice,
)
from pyfastpath.config.lines import Path
from pyfastpath.config.model import Backend, RelayConfig
from pyfastpath.types import Endpoint

BACKENDS_MAX = 256  # FP_BACKENDS
PORTS_MAX = 65_534  # pool indices are 16 bits, FP_NO_PORT is not one


def mistakes(config: RelayConfig, *, cpus: int) -> Iterator[Mistake]:
    """Everything wrong with a resolved configuration."""
    yield from _listen(config)
    yield from _workers(config, cpus)
    yield from check_token_keys(config.token_keys)
    yield from check_trunk_keys(config.trunk_keys, config.trunk_key_id)
    yield from _backends(config)
    yield from check_networks(config.allow_clients, ("allow_clients",))
    yield from _upstream(config)
    yield from _admin(config)


def _listen(config: RelayConfig) -> Iterator[Mistake]:
    if not config.listen:
        yield Mistake(("listen",), "no address to listen on", 'Write listen = ["0.0.0.0:3478"].')
    for index, listen in enumerate(config.listen):
        yield from check_endpoint(listen.address, ("listen", index, "address"), any_port=True)
        if listen.advertise:
            yield from _advertise(listen.advertise, ("listen", index, "advertise"))
    yield from check_twice([item.address for item in config.listen], "listen", "address")
    yield from check_twice([item.ingress for item in config.listen], "listen", "ingress")


def _advertise(text: str, path: Path) -> Iterator[Mistake]:
    try:
        address: object = ip_address(text)
    except ValueError:
        wrong = list(check_endpoint(text, path))
        if wrong:
            yield Mistake(
                path,
                f"{text!r} is neither an IP address nor ip:port",
                "Write 203.0.113.9 or [2001:db8::1]:3478.",
            )
            return
        address = Endpoint.parse(text).address
    if isinstance(address, IPv4Address | IPv6Address) and address.is_unspecified:
        yield Mistake(path, f"{text!r} is no address a client can reach", "Write the public address.")


def _workers(config: RelayConfig, cpus: int) -> Iterator[Mistake]:
    if config.workers > config.shards:
        yield Mistake(
            ("workers",),
            f"{config.workers} workers for {config.shards} shards",
            "A worker serves at least one shard: raise shards or lower workers.",
        )
    if config.spin and config.workers >= cpus:
        yield Mistake(
            ("spin",),
            f"{config.workers} spinning workers leave none of {cpus} CPUs to kernel and control plane",
            "Lower workers or switch spin off.",
        )


def _backends(config: RelayConfig) -> Iterator[Mistake]:
    if len(config.backends) > BACKENDS_MAX:
        yield Mistake(
            ("backends",), f"{len(config.backends)} backends, at most {BACKENDS_MAX} fit", "Remove some."
        )
    for index, backend in enumerate(config.backends):
        path: Path = ("backends", index)
        wrong = list(check_endpoint(backend.address, (*path, "address"), reachable=True))
        yield from wrong
        yield from check_networks(backend.allow, (*path, "allow"))
        yield from _mode(config, backend, path, known=not wrong)
    yield from check_twice([backend.id for backend in config.backends], "backends", "id")
    yield from check_twice(
        [backend.address if backend.mode == "trunk" else None for backend in config.backends],
        "backends",
        "address",
    )
    yield from check_twice(
        [
            None
            if item.transceiver is None
            else (config.cluster if item.cluster is None else item.cluster, item.transceiver)
            for item in config.backends
        ],
        "backends",
        "transceiver",
    )


def _mode(config: RelayConfig, backend: Backend, path: Path, *, known: bool) -> Iterator[Mistake]:
    """What the upstream mode of one backend needs. `known`: its address could be read."""
    if backend.mode == "trunk":
        if backend.allow:
            yield Mistake((*path, "allow"), "only a plain backend has targets of its own", "Remove allow.")
        if backend.probe:
            yield Mistake((*path, "probe"), "a trunk backend is probed by pings anyway", "Remove probe.")
        if not config.trunk_port:
            yield Mistake((*path, "mode"), "a trunk backend, but this relay has no trunk", "Set trunk_port.")
        if known and not (config.trunk_keys or config.trunk_insecure or backend.endpoint.address.is_loopback):
            yield Mistake(
                (*path, "address"),
                f"a trunk without key to {backend.address}, which is not on loopback",
                "Add trunk_keys, or set trunk_insecure = true if nobody else can send on that network.",
            )
        return
    if backend.assume_up:
        yield Mistake((*path, "assume_up"), "a plain backend is up until told otherwise", "Remove assume_up.")
    if known and not (config.plain_ports if backend.endpoint.family == 4 else config.plain_ports_ipv6):
        key = "plain_ports" if backend.endpoint.family == 4 else "plain_ports_ipv6"
        yield Mistake(
            (*path, "address"), f"{backend.address} needs upstream ports, and {key} is 0", f"Set {key}."
        )


def _upstream(config: RelayConfig) -> Iterator[Mistake]:
    for key, version in (("plain_address", 4), ("plain_address_ipv6", 6)):
        text = getattr(config, key)
        try:
            right = ip_address(text).version == version
        except ValueError:
            right = False
        if not right:
            yield Mistake(
                (key,), f"{text!r} is not an IPv{version} address", "Name an address of this machine."
            )
    if config.plain_ports + config.plain_ports_ipv6 > PORTS_MAX:
        yield Mistake(("plain_ports",), f"more than {PORTS_MAX} plain ports in all", "Lower plain_ports.")
    try:
        ip_address(config.trunk_address)
    except ValueError:
        yield Mistake(
            ("trunk_address",),
            f"{config.trunk_address!r} is not an IP address",
            "Name an address of this machine.",
        )
    if config.trunk_port + config.shards - 1 > 65_535:
        yield Mistake(
            ("trunk_port",),
            f"{config.shards} shards from port {config.trunk_port} on pass 65535",
            "Each shard has a trunk port of its own: choose a lower trunk_port.",
        )


def _admin(config: RelayConfig) -> Iterator[Mistake]:
    for key in ("admin_tcp", "health_listen"):
        if getattr(config, key):
            yield from check_endpoint(getattr(config, key), (key,), any_port=True)
    if config.admin_tcp and not config.admin_token:
        yield Mistake(("admin_tcp",), "the admin API on TCP needs a token", "Set admin_token_file.")
    yield from check_token(config.admin_token, ("admin_token",))
    yield from check_socket_path(config.admin_socket, ("admin_socket",))
