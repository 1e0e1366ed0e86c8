"""The relay's configuration: every key, its type, its bounds, its default and its help, once.

The TOML file, the environment twins, the command-line flags, --help, --print-config and docs/config.md
are all read from this struct. Rules that concern more than one key are in `rules.py`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from pyfastpath.config.fields import Config, LogFormat, LogLevel, number, text
from pyfastpath.types import Endpoint, Mode, Secret


class Listen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One public UDP address. Short form: the string "ip:port"."""

    address: Annotated[str, Meta(description="ip:port to bind; 0.0.0.0 and [::] listen on every address")]
    ingress: Annotated[
        Annotated[int, Meta(ge=0, le=255)] | None,
        Meta(description="ingress id, part of every flow's key; default: the first free one"),
    ] = None
    advertise: Annotated[
        str,
        Meta(description="ip or ip:port that clients are told (1:1 NAT, wildcard binds); default: address"),
    ] = ""

    @property
    def endpoint(self) -> Endpoint:
        """The address to bind."""
        return Endpoint.parse(self.address)

    @property
    def advertised(self) -> Endpoint:
        """The address clients are told."""
        if not self.advertise:
            return self.endpoint
        try:
            return Endpoint.parse(self.advertise)
        except ValueError:
            port = self.endpoint.port
            return Endpoint.parse(
                f"[{self.advertise}]:{port}" if ":" in self.advertise else f"{self.advertise}:{port}"
            )


class TokenKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key of token T1. Short form: the string "kid:hex"."""

    kid: Annotated[int, Meta(ge=0, le=6, description="key id, part of the token")]
    key: Annotated[Secret, Meta(description="16 bytes as 32 hex digits")] = Secret(b"")
    key_file: Annotated[str, Meta(description="file that holds the hex digits")] = ""


class TrunkKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One key of the trunk's tag. Short form: the string "id:hex"."""

    id: Annotated[int, Meta(ge=0, le=3, description="key id, part of the trunk header")]
    key: Annotated[Secret, Meta(description="16 bytes as 32 hex digits")] = Secret(b"")
    key_file: Annotated[str, Meta(description="file that holds the hex digits")] = ""


class Backend(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One WebRTC server or transceiver. Short form: the string "id=ip:port" (plain mode)."""

    id: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="name, used in routes and metrics"),
    ]
    address: Annotated[str, Meta(description="ip:port where it receives")]
    mode: Annotated[
        Mode,
        Meta(description="plain: any unmodified server, one upstream port a flow; trunk: our transceiver"),
    ] = "plain"
    allow: Annotated[
        tuple[str, ...],
        Meta(description="plain: networks in which a route may name an ip:port of this backend's own"),
    ] = ()
    cluster: Annotated[
        Annotated[int, Meta(ge=0, le=4095)] | None,
        Meta(description="cluster its tokens name; default: the relay's own"),
    ] = None
    transceiver: Annotated[
        Annotated[int, Meta(ge=0, le=65535)] | None,
        Meta(description="number its tokens name; without one no token routes here"),
    ] = None
    incarnation: Annotated[int, Meta(ge=0, le=15, description="restart count its tokens must carry")] = 0
    probe: Annotated[bool, Meta(description="plain: ask it with STUN whether it lives")] = False
    assume_up: Annotated[
        bool, Meta(description="trunk: route to it before it was heard for the first time")
    ] = False

    @property
    def endpoint(self) -> Endpoint:
        """Where it receives."""
        return Endpoint.parse(self.address)


class RelayConfig(Config, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything `pyfastpath relay` can be told. Keys marked `reload` take effect on SIGHUP."""

    COMMAND: ClassVar[str] = "relay"
    PREFIX: ClassVar[str] = "PYFASTPATH_"

    listen: Annotated[tuple[Listen, ...], text("public UDP addresses", metavar="IP:PORT")] = (
        Listen(address="0.0.0.0:3478", ingress=0),
    )
    shards: Annotated[int, number("socket sets and flow tables; 0: one a CPU, at least 2", 0, 64)] = 0
    workers: Annotated[
        int, number("forwarding threads; 0: one a CPU from 4 CPUs on, else one less than the CPUs", 0, 64)
    ] = 0
    pin: Annotated[bool, text("pin every worker to a CPU of its own")] = True
    spin: Annotated[
        bool, text("poll without sleeping: lowest latency, one CPU a worker always busy", reload=True)
    ] = False
    coalesce_us: Annotated[
        int,
        number(
            "longest wait for more datagrams after a batch that was not full; 0: none", 0, 10_000, reload=True
        ),
    ] = 200
    receive_buffer_bytes: Annotated[
        int, number("SO_RCVBUF asked for on every client and trunk socket", 65_536, 1 << 30)
    ] = 16 << 20

    flows_max: Annotated[int, number("flows a shard can hold (128 bytes of memory each)", 1, 1 << 24)] = (
        131_072
    )
    routes_max: Annotated[int, number("installed session routes (64 bytes of memory each)", 1, 1 << 26)] = (
        1_048_576
    )
    targets_max: Annotated[int, number("distinct ip:port targets of plain backends", 1, 1 << 20)] = 65_536
    route_ttl_s: Annotated[int, number("life of a route that no flow has used", 1, 604_800, reload=True)] = (
        3600
    )

    backends: Annotated[
        tuple[Backend, ...],
        text("where sessions go; more can be added while running", reload=True, metavar="ID=IP:PORT"),
    ] = ()
    hash_policy: Annotated[
        bool, text("route ufrags nobody installed by rendezvous hashing over the backends", reload=True)
    ] = False
    cluster: Annotated[int, number("cluster this relay serves, part of every token", 0, 4095)] = 0
    token_keys: Annotated[
        tuple[TokenKey, ...], text("keys of token T1, by kid", reload=True, secret=True)
    ] = ()
    allow_clients: Annotated[
        tuple[str, ...],
        text(
            "private, loopback or link-local networks whose clients are served all the same",
            reload=True,
            metavar="NETWORK",
        ),
    ] = ()

    admission_flows_per_s: Annotated[
        int,
        number(
            "new flows a second the relay takes from one network (/24 of IPv4, /56 of IPv6); 0: no limit",
            0,
            1_000_000,
            reload=True,
        ),
    ] = 1_000
    admission_burst: Annotated[
        int, number("new flows such a network may open at once", 1, 1_000_000, reload=True)
    ] = 10_000

    plain_address: Annotated[str, text("IPv4 source address towards plain backends")] = "0.0.0.0"
    plain_ports: Annotated[int, number("IPv4 source ports towards plain backends", 0, 60_000)] = 4096
    plain_address_ipv6: Annotated[str, text("IPv6 source address towards plain backends")] = "::"
    plain_ports_ipv6: Annotated[int, number("IPv6 source ports towards plain backends", 0, 60_000)] = 0

    trunk_address: Annotated[str, text("address of the trunk sockets")] = "127.0.0.1"
    trunk_port: Annotated[int, number("first trunk port, shard n uses this + n; 0: no trunk", 0, 65_535)] = 0
    trunk_mtu: Annotated[int, number("longest trunk datagram in bytes", 576, 65_000, reload=True)] = 1400
    trunk_keys: Annotated[
        tuple[TrunkKey, ...], text("keys of the trunk's tag, by id", reload=True, secret=True)
    ] = ()
    trunk_key_id: Annotated[int, number("key that signs what this relay sends", 0, 3, reload=True)] = 0
    trunk_insecure: Annotated[bool, text("allow a trunk without key beyond loopback", reload=True)] = False

    dscp_voice: Annotated[int, number("DSCP of voice", 0, 63, reload=True)] = 46
    dscp_voice_data: Annotated[int, number("DSCP of voice with data channels", 0, 63, reload=True)] = 46
    dscp_video: Annotated[int, number("DSCP of video", 0, 63, reload=True)] = 34
    dscp_bulk: Annotated[int, number("DSCP of bulk and test traffic", 0, 63, reload=True)] = 0

    drain_deadline_s: Annotated[
        int, number("SIGTERM: longest wait for live flows to end", 0, 604_800, reload=True)
    ] = 30
    user: Annotated[
        str, text("become this user once everything is open; empty: stay who started it", metavar="NAME")
    ] = ""
    admin_socket: Annotated[
        str, text("admin API, a UNIX socket of mode 0600; default: /run/pyfastpath.sock, or the user's own")
    ] = ""
    admin_tcp: Annotated[str, text("admin API on ip:port too; needs admin_token")] = ""
    admin_token: Annotated[Secret, text("bearer token of admin_tcp", secret=True)] = Secret(b"")
    admin_token_file: Annotated[str, text("file that holds admin_token")] = ""
    health_listen: Annotated[str, text("ip:port of /healthz, /readyz and /metrics; empty: none")] = (
        "127.0.0.1:9478"
    )
    log_level: Annotated[LogLevel, text("least level that is logged", reload=True)] = "info"
    log_format: Annotated[LogFormat, text("one line a record, as text or JSON")] = "text"
    log_file: Annotated[str, text("log file, reopened on SIGHUP; default: standard error")] = ""

    @property
    def dscp(self) -> tuple[int, int, int, int]:
        """DSCP by traffic class, in the order of TRAFFIC_CLASSES."""
        return self.dscp_voice, self.dscp_voice_data, self.dscp_video, self.dscp_bulk
