"""The transceiver's configuration, and the rules that types and bounds cannot say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar

from pyfastpath.config.checks import (
    Mistake,
    check_endpoint,
    check_http_address,
    check_socket_path,
    check_token,
    check_trunk_keys,
    check_twice,
)
from pyfastpath.config.fields import Config, LogFormat, LogLevel, number, text
from pyfastpath.config.lines import Path
from pyfastpath.config.model import TrunkKey
from pyfastpath.types import Endpoint, Secret

RELAY_SOCKETS_MAX = 64  # fastpath.link believes so many
ID_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
AGENT_PATTERN = re.compile(r"[a-z][a-z0-9_-]*|[A-Za-z_][\w.]*:[A-Za-z_]\w*|wss?://\S+")
_SPAN = re.compile(r"(?P<first>.+:[0-9]{1,5})(?:-(?P<last>[0-9]{1,5}))?")


class TransceiverConfig(Config, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything `pyfastpath transceiver` can be told."""

    COMMAND: ClassVar[str] = "transceiver"
    PREFIX: ClassVar[str] = "PYFASTPATH_TRANSCEIVER_"

    id: Annotated[
        str, text("name at relays, in the registry and in logs; default: transceiver- and the number")
    ] = ""
    cluster: Annotated[int, number("cluster it belongs to, part of every token", 0, 4095)] = 0
    transceiver: Annotated[
        int,
        number("its number in the cluster, part of every token: two of one number get no calls", 0, 65_535),
    ] = 0

    trunk_listen: Annotated[str, text("ip:port of the trunk; port 0: any free one", metavar="IP:PORT")] = (
        "127.0.0.1:0"
    )
    relays: Annotated[
        tuple[str, ...],
        text("trunk sockets of the relays: ip:port, or ip:first-last for one of several shards",
             metavar="IP:PORT[-PORT]"),
    ] = ()  # fmt: skip
    trunk_keys: Annotated[tuple[TrunkKey, ...], text("keys of the trunk's tag, by id", secret=True)] = ()
    trunk_key_id: Annotated[int, number("key that signs what this transceiver sends", 0, 3)] = 0
    trunk_mtu: Annotated[int, number("longest trunk datagram in bytes", 576, 65_000)] = 1400
    trunk_insecure: Annotated[bool, text("allow a trunk without key beyond loopback")] = False
    plain_listen: Annotated[
        str, text("ip:port for clients that come without a relay; empty: none", metavar="IP:PORT")
    ] = ""
    relay_admin: Annotated[
        tuple[str, ...],
        text("admin APIs at which it registers: a UNIX socket's path or ip:port", metavar="PATH|IP:PORT"),
    ] = ()
    relay_admin_token: Annotated[Secret, text("bearer token of relay_admin on ip:port", secret=True)] = (
        Secret(b"")
    )
    relay_admin_token_file: Annotated[str, text("file that holds relay_admin_token")] = ""

    control_socket: Annotated[
        str,
        text("control API, a UNIX socket of mode 0600; default: /run/pyfastpath-ID.sock, or the user's own, "
             "unless there is control_listen"),
    ] = ""  # fmt: skip
    control_listen: Annotated[str, text("control API on ip:port; needs control_token", metavar="IP:PORT")] = (
        ""
    )
    control_token: Annotated[Secret, text("bearer token of control_listen", secret=True)] = Secret(b"")
    control_token_file: Annotated[str, text("file that holds control_token")] = ""
    registry: Annotated[
        str,
        text("where it says that it lives: unix:PATH or http://ip:port (a gateway's admin API), file:DIR; "
             "empty: nowhere", metavar="URL"),
    ] = ""  # fmt: skip
    registry_token: Annotated[Secret, text("bearer token of registry on http", secret=True)] = Secret(b"")
    registry_token_file: Annotated[str, text("file that holds registry_token")] = ""

    agent: Annotated[
        str,
        text(
            "who answers: echo, tone, parrot, module:Class, or wss://… of a Realtime server", metavar="AGENT"
        ),
    ] = "parrot"
    agent_key_file: Annotated[str, text("file that holds the key for a wss:// agent")] = ""
    sessions_max: Annotated[int, number("sessions it takes; the next one is refused", 1, 100_000)] = 1000
    call_max_s: Annotated[int, number("longest call in seconds", 1, 604_800)] = 14_400
    drain_deadline_s: Annotated[int, number("SIGTERM: longest wait for live calls to end", 0, 604_800)] = 30
    state_dir: Annotated[
        str, text("folder that remembers the count of starts; empty: the clock stands in for it")
    ] = ""

    health_listen: Annotated[str, text("ip:port of /healthz, /readyz and /metrics; empty: none")] = (
        "127.0.0.1:9479"
    )
    log_level: Annotated[LogLevel, text("least level that is logged")] = "info"
    log_format: Annotated[LogFormat, text("one line a record, as text or JSON")] = "text"
    log_file: Annotated[str, text("log file, reopened on SIGHUP; default: standard error")] = ""

    @property
    def relay_sockets(self) -> tuple[Endpoint, ...]:
        """The relays' trunk sockets, ranges spelt out."""
        return tuple(endpoint for span in self.relays for endpoint in parse_span(span))


def parse_span(span: str) -> list[Endpoint]:
    """`10.0.0.1:7000` or `10.0.0.1:7000-7003` as single endpoints. ValueError says what is wrong."""
    match = _SPAN.fullmatch(span.strip())
    if match is None:
        raise ValueError(f"{span!r} is neither ip:port nor ip:first-last")
    first = Endpoint.parse(match["first"])
    last = int(match["last"] or first.port)
    if not first.port <= last <= 65_535:
        raise ValueError(f"{span!r}: ports run from {first.port} up to 65535")
    return [Endpoint(first.address, port) for port in range(first.port, last + 1)]


def mistakes(config: TransceiverConfig) -> Iterator[Mistake]:
    """Everything wrong with a resolved configuration."""
    if not ID_PATTERN.fullmatch(config.id):
        yield Mistake(("id",), "letters, digits and . _ - only, at most 64", "Choose such a name.")
    yield from _ways_in(config)
    yield from _trunk(config)
    yield from _relay_admin(config)
    yield from _control(config)
    yield from _registry(config)
    yield from _agent(config)
    if config.health_listen:
        yield from check_endpoint(config.health_listen, ("health_listen",), any_port=True)


def _ways_in(config: TransceiverConfig) -> Iterator[Mistake]:
    if not config.relays and not config.plain_listen:
        yield Mistake(
            ("relays",),
            "no relay and no plain_listen: no client can come in",
            'Write relays = ["10.0.0.1:7000"], or plain_listen = "203.0.113.9:3478".',
        )
    if config.plain_listen:
        yield from check_endpoint(config.plain_listen, ("plain_listen",), any_port=True, reachable=True)


def _trunk(config: TransceiverConfig) -> Iterator[Mistake]:
    yield from check_trunk_keys(config.trunk_keys, config.trunk_key_id)
    wrong = list(check_endpoint(config.trunk_listen, ("trunk_listen",), any_port=True, reachable=True))
    yield from wrong
    known: list[Endpoint] = []
    for index, span in enumerate(config.relays):
        try:
            sockets = parse_span(span)
        except ValueError as error:
            yield Mistake(("relays", index), str(error), "Write 10.0.0.1:7000 or 10.0.0.1:7000-7003.")
            continue
        yield from _relay(config, sockets[0], ("relays", index))
        known += sockets
    yield from check_twice(config.relays, "relays")
    if not wrong:
        yield from _reaches(Endpoint.parse(config.trunk_listen), known)
    if len(known) > RELAY_SOCKETS_MAX:
        yield Mistake(
            ("relays",), f"{len(known)} relay sockets, at most {RELAY_SOCKETS_MAX} fit", "Name fewer relays."
        )


def _reaches(trunk: Endpoint, relays: list[Endpoint]) -> Iterator[Mistake]:
    """The default is for one machine: from another one no relay could answer it."""
    for relay in relays:
        if trunk.family != relay.family or (trunk.address.is_loopback and not relay.address.is_loopback):
            yield Mistake(
                ("trunk_listen",),
                f"a trunk on {trunk} reaches no relay on {relay}",
                "Write an address of this machine that the relay can send to.",
            )
            return


def _relay(config: TransceiverConfig, relay: Endpoint, path: Path) -> Iterator[Mistake]:
    if relay.port == 0 or relay.address.is_unspecified or relay.address.is_multicast:
        yield Mistake(path, f"{relay} is no socket of a relay", "Name its trunk_address and trunk_port.")
    elif not (config.trunk_keys or config.trunk_insecure or relay.address.is_loopback):
        yield Mistake(
            path,
            f"a trunk without key to {relay}, which is not on loopback",
            "Add trunk_keys, or set trunk_insecure = true if nobody else can send on that network.",
        )


def _relay_admin(config: TransceiverConfig) -> Iterator[Mistake]:
    if config.relay_admin and not config.relays:
        yield Mistake(
            ("relay_admin",), "a relay to register at, but no trunk socket of it", "Set relays too."
        )
    for index, where in enumerate(config.relay_admin):
        if "/" in where:
            yield from check_socket_path(where, ("relay_admin", index))
            continue
        yield from check_endpoint(where, ("relay_admin", index), reachable=True)
        if not config.relay_admin_token:
            yield Mistake(
                ("relay_admin", index), "the admin API on TCP needs a token", "Set relay_admin_token_file."
            )


def _control(config: TransceiverConfig) -> Iterator[Mistake]:
    if config.control_listen:
        # The gateway is told this address: a wildcard would lead nowhere.
        yield from check_endpoint(config.control_listen, ("control_listen",), any_port=True, reachable=True)
        if not config.control_token:
            yield Mistake(
                ("control_listen",), "the control API on TCP needs a token", "Set control_token_file."
            )
    yield from check_token(config.control_token, ("control_token",))
    yield from check_socket_path(config.control_socket, ("control_socket",))


def _registry(config: TransceiverConfig) -> Iterator[Mistake]:
    if config.registry.startswith("file:"):
        if config.registry == "file:":
            yield Mistake(("registry",), "file: names no folder", "Write file:/run/fastpath.")
    elif config.registry:
        yield from check_http_address(config.registry, ("registry",))
    if config.registry.startswith("http") and not config.registry_token:
        yield Mistake(
            ("registry",), "the gateway's admin API on TCP needs a token", "Set registry_token_file."
        )


def _agent(config: TransceiverConfig) -> Iterator[Mistake]:
    if not AGENT_PATTERN.fullmatch(config.agent):
        yield Mistake(
            ("agent",),
            f"{config.agent!r} is no agent",
            "Write echo, tone, parrot, module:Class or wss://host/path.",
        )
    if config.agent_key_file and not config.agent.startswith(("wss://", "ws://")):
        yield Mistake(("agent_key_file",), f"agent {config.agent} takes no key", "Remove it.")
