"""The rules that types and bounds cannot say: addresses, networks, duplicates, what needs what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from pyfastpath.config.lines import Path
from pyfastpath.config.model import Backend, RelayConfig, TokenKey, TrunkKey
from pyfastpath.types import Endpoint

KEY_BYTES = 16  # AES-128 and SipHash both take 16 bytes
BACKENDS_MAX = 256  # FP_BACKENDS
PORTS_MAX = 65_534  # pool indices are 16 bits, FP_NO_PORT is not one
UNIX_PATH_BYTES = 107  # sockaddr_un, without the final zero
ADMIN_TOKEN_BYTES = 16


@dataclass(frozen=True, slots=True)
class Mistake:
    """One broken rule: where, what, and what to do."""

    path: Path
    message: str
    hint: str = ""


def mistakes(config: RelayConfig, *, cpus: int) -> Iterator[Mistake]:
    """Everything wrong with a resolved configuration."""
    yield from _listen(config)
    yield from _workers(config, cpus)
    yield from _keys(config)
    yield from _backends(config)
    yield from _networks(config.allow_clients, ("allow_clients",))
    yield from _upstream(config)
    yield from _admin(config)


def _listen(config: RelayConfig) -> Iterator[Mistake]:
    if not config.listen:
        yield Mistake(("listen",), "no address to listen on", 'Write listen = ["0.0.0.0:3478"].')
    for index, listen in enumerate(config.listen):
        yield from _endpoint(listen.address, ("listen", index, "address"), any_port=True)
        if listen.advertise:
            yield from _advertise(listen.advertise, ("listen", index, "advertise"))
    yield from _twice([item.address for item in config.listen], "listen", "address")
    yield from _twice([item.ingress for item in config.listen], "listen", "ingress")


def _advertise(text: str, path: Path) -> Iterator[Mistake]:
    try:
        address: object = ip_address(text)
    except ValueError:
        wrong = list(_endpoint(text, path))
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


def _keys(config: RelayConfig) -> Iterator[Mistake]:
    rings: tuple[tuple[str, Sequence[TokenKey | TrunkKey]], ...] = (
        ("token_keys", config.token_keys),
        ("trunk_keys", config.trunk_keys),
    )
    for name, keys in rings:
        for index, item in enumerate(keys):
            if len(item.key.value) != KEY_BYTES:
                field = "key_file" if item.key_file else "key"
                yield Mistake(
                    (name, index, field),
                    f"a key has {KEY_BYTES} bytes, this one {len(item.key.value)}",
                    "Write 32 hex digits (openssl rand -hex 16) in key or in the file key_file names.",
                )
    yield from _twice([item.kid for item in config.token_keys], "token_keys", "kid")
    yield from _twice([item.id for item in config.trunk_keys], "trunk_keys", "id")
    if config.trunk_keys and config.trunk_key_id not in {item.id for item in config.trunk_keys}:
        yield Mistake(
            ("trunk_key_id",),
            f"no trunk key has id {config.trunk_key_id}",
            "Name the id of one of trunk_keys.",
        )


def _backends(config: RelayConfig) -> Iterator[Mistake]:
    if len(config.backends) > BACKENDS_MAX:
        yield Mistake(
            ("backends",), f"{len(config.backends)} backends, at most {BACKENDS_MAX} fit", "Remove some."
        )
    for index, backend in enumerate(config.backends):
        path: Path = ("backends", index)
        wrong = list(_endpoint(backend.address, (*path, "address"), reachable=True))
        yield from wrong
        yield from _networks(backend.allow, (*path, "allow"))
        yield from _mode(config, backend, path, known=not wrong)
    yield from _twice([backend.id for backend in config.backends], "backends", "id")
    yield from _twice(
        [backend.address if backend.mode == "trunk" else None for backend in config.backends],
        "backends",
        "address",
    )
    yield from _twice(
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
            yield from _endpoint(getattr(config, key), (key,), any_port=True)
    if config.admin_tcp and not config.admin_token:
        yield Mistake(("admin_tcp",), "the admin API on TCP needs a token", "Set admin_token_file.")
    if config.admin_token and len(config.admin_token.value) < ADMIN_TOKEN_BYTES:
        yield Mistake(
            ("admin_token",),
            f"shorter than {ADMIN_TOKEN_BYTES} characters",
            "Draw one: openssl rand -hex 16.",
        )
    if len(config.admin_socket.encode()) > UNIX_PATH_BYTES:
        yield Mistake(
            ("admin_socket",), f"longer than the {UNIX_PATH_BYTES} bytes a UNIX socket allows", "Shorten it."
        )


def _endpoint(text: str, path: Path, *, any_port: bool = False, reachable: bool = False) -> Iterator[Mistake]:
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        yield Mistake(path, str(error), "Write 203.0.113.9:3478 or [2001:db8::1]:3478.")
        return
    if endpoint.port == 0 and not any_port:
        yield Mistake(path, f"{text!r}: port 0 is no port to send to", "Name the port.")
    if reachable and (endpoint.address.is_unspecified or endpoint.address.is_multicast):
        yield Mistake(path, f"{text!r} is no address to send to", "Name the backend's own address.")


def _networks(texts: Sequence[str], path: Path) -> Iterator[Mistake]:
    for index, text in enumerate(texts):
        try:
            ip_network(text)
        except ValueError as error:
            try:
                hint = f"Write {ip_network(text, strict=False)}."
            except ValueError:
                hint = "Write a network as 10.0.0.0/8 or 2001:db8::/32."
            yield Mistake((*path, index), f"{text!r} is not a network: {error}", hint)


def _twice(values: Sequence[object], key: str, field: str) -> Iterator[Mistake]:
    """Values that must differ; None is no value."""
    for index, value in enumerate(values):
        if value is not None and value in values[:index]:
            first = values.index(value)
            yield Mistake(
                (key, index, field),
                f"{value!r} is already that of {key}[{first}]",
                f"Every {field} must be its own.",
            )
