"""The signalling gateway's configuration, and the rules that types and bounds cannot say."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from pyfastpath.config.checks import (
    Mistake,
    check_endpoint,
    check_http_address,
    check_networks,
    check_socket_path,
    check_token,
    check_token_keys,
    check_twice,
)
from pyfastpath.config.fields import Config, LogFormat, LogLevel, number, text
from pyfastpath.config.lines import Path
from pyfastpath.config.model import TokenKey
from pyfastpath.types import HttpAddress, Secret

Tls = Literal["", "self-signed"]
CALL_KEY_BYTES = 32
CANDIDATES_MAX = 16  # a client tries each of them
_ORIGIN = re.compile(r"\*|null|[a-z][a-z0-9+.-]*://[^\s/?#]+")


class Transceiver(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One transceiver that does not register itself. Short form: the string "id=control"."""

    id: Annotated[
        str,
        Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$", description="its name in logs and metrics"),
    ]
    control: Annotated[str, Meta(description="its control API: unix:PATH or http://ip:port")]

    @property
    def address(self) -> HttpAddress:
        """Where its control API is."""
        return HttpAddress.parse(self.control)


class GatewayConfig(Config, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Everything `pyfastpath gateway` can be told."""

    COMMAND: ClassVar[str] = "gateway"
    PREFIX: ClassVar[str] = "PYFASTPATH_GATEWAY_"

    listen: Annotated[str, text("ip:port of the API and the page", metavar="IP:PORT")] = "127.0.0.1:8080"
    public_url: Annotated[
        str, text("how clients reach it: https://voice.example.org; default: as listen says", metavar="URL")
    ] = ""
    tls: Annotated[Tls, text("self-signed: make a certificate; empty: tls_cert, or plain HTTP")] = ""
    tls_cert: Annotated[str, text("file of the certificate chain, PEM")] = ""
    tls_key: Annotated[str, text("file of its private key, PEM")] = ""
    state_dir: Annotated[
        str, text("folder that keeps the self-signed certificate; empty: a new one at each start")
    ] = ""

    api_keys: Annotated[
        tuple[Secret, ...],
        text("bearer keys of the API; none: everybody may call", secret=True),
    ] = ()
    api_keys_file: Annotated[str, text("file that holds api_keys, one a line")] = ""
    token_keys: Annotated[
        tuple[TokenKey, ...], text("keys of token T1, by kid, as the relays have them", secret=True)
    ] = ()
    token_kid: Annotated[
        Annotated[int, Meta(ge=0, le=6)] | None,
        text("key that new tokens are made with; default: the highest kid", metavar="NUMBER"),
    ] = None
    call_key: Annotated[
        Secret,
        text("key that seals call ids and ek_ keys, 64 hex digits, the same in every gateway; "
             "empty: drawn at each start", secret=True, hex_digits=True),
    ] = Secret(b"")  # fmt: skip
    call_key_file: Annotated[str, text("file that holds call_key")] = ""
    cluster: Annotated[int, number("cluster whose transceivers it prefers", 0, 4095)] = 0
    candidates: Annotated[
        tuple[str, ...],
        text("ip:port of the relays that clients are told, the best one first", metavar="IP:PORT"),
    ] = ()
    call_max_s: Annotated[int, number("life of a call's token: no new flow may use it then", 1, 86_400)] = (
        14_400
    )

    registry: Annotated[
        str, text("who lives: memory (transceivers register at the admin API) or file:DIR")
    ] = "memory"
    admin_socket: Annotated[
        str,
        text("admin API, where transceivers register, a UNIX socket of mode 0600; "
             "default: /run/pyfastpath-gateway.sock, or the user's own"),
    ] = ""  # fmt: skip
    admin_listen: Annotated[str, text("admin API on ip:port too; needs admin_token", metavar="IP:PORT")] = ""
    admin_token: Annotated[Secret, text("bearer token of admin_listen", secret=True)] = Secret(b"")
    admin_token_file: Annotated[str, text("file that holds admin_token")] = ""
    transceivers: Annotated[
        tuple[Transceiver, ...],
        text("transceivers that do not register: id and control address", metavar="ID=ADDRESS"),
    ] = ()
    control_token: Annotated[
        Secret, text("bearer token of the transceivers' control_listen", secret=True)
    ] = Secret(b"")
    control_token_file: Annotated[str, text("file that holds control_token")] = ""

    allow_origins: Annotated[
        tuple[str, ...], text("web origins that may use the API (CORS); * means any", metavar="ORIGIN")
    ] = ("*",)
    calls_per_minute: Annotated[
        int,
        number("new calls of one client address; 0: no limit. Behind a proxy: set trusted_proxies too", 0,
               100_000),
    ] = 60  # fmt: skip
    trusted_proxies: Annotated[
        tuple[str, ...],
        text(
            "reverse proxies in front, whose X-Forwarded-For or Forwarded says who the client is",
            metavar="CIDR",
        ),
    ] = ()
    page: Annotated[bool, text("serve the page at /")] = True
    health_listen: Annotated[str, text("ip:port of /healthz, /readyz and /metrics; empty: none")] = (
        "127.0.0.1:9480"
    )
    log_level: Annotated[LogLevel, text("least level that is logged")] = "info"
    log_format: Annotated[LogFormat, text("one line a record, as text or JSON")] = "text"
    log_file: Annotated[str, text("log file, reopened on SIGHUP; default: standard error")] = ""


def mistakes(config: GatewayConfig) -> Iterator[Mistake]:
    """Everything wrong with a resolved configuration."""
    yield from check_endpoint(config.listen, ("listen",), any_port=True)
    yield from _public_url(config)
    yield from _tls(config)
    yield from _keys(config)
    yield from _candidates(config)
    yield from _transceivers(config)
    yield from _admin(config)
    yield from check_networks(config.trusted_proxies, ("trusted_proxies",))
    for index, origin in enumerate(config.allow_origins):
        if not _ORIGIN.fullmatch(origin):
            yield Mistake(
                ("allow_origins", index), f"{origin!r} is no origin", "Write https://app.example.org, or *."
            )


def _public_url(config: GatewayConfig) -> Iterator[Mistake]:
    if not config.public_url:
        return
    url = urlsplit(config.public_url)
    if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
        yield Mistake(
            ("public_url",),
            f"{config.public_url!r} is no URL of a server",
            "Write https://voice.example.org.",
        )


def _tls(config: GatewayConfig) -> Iterator[Mistake]:
    if config.tls and (config.tls_cert or config.tls_key):
        yield Mistake(("tls",), "a certificate of its own and tls_cert together", "Keep one of them.")
    for key, other in (("tls_cert", "tls_key"), ("tls_key", "tls_cert")):
        if getattr(config, key) and not getattr(config, other):
            yield Mistake((key,), f"without {other}", f"Set {other} too.")


def _keys(config: GatewayConfig) -> Iterator[Mistake]:
    for index, key in enumerate(config.api_keys):
        yield from check_token(key, ("api_keys", index))
        if not key:
            yield Mistake(("api_keys", index), "an empty key", "Remove it.")
    if not config.token_keys:
        yield Mistake(
            ("token_keys",),
            "no key of token T1: no call could be routed",
            "Give it the token_keys of the relays.",
        )
    yield from check_token_keys(config.token_keys)
    if config.token_keys and config.token_kid not in {item.kid for item in config.token_keys}:
        yield Mistake(
            ("token_kid",), f"no token key has kid {config.token_kid}", "Name the kid of one of token_keys."
        )
    if config.call_key and len(config.call_key.value) != CALL_KEY_BYTES:
        yield Mistake(
            ("call_key",),
            f"a key has {CALL_KEY_BYTES} bytes, this one {len(config.call_key.value)}",
            "Write 64 hex digits (openssl rand -hex 32).",
        )


def _candidates(config: GatewayConfig) -> Iterator[Mistake]:
    if not config.candidates:
        yield Mistake(
            ("candidates",),
            "no relay that clients could be told",
            'Write candidates = ["203.0.113.9:3478"], the public address of a relay.',
        )
    if len(config.candidates) > CANDIDATES_MAX:
        yield Mistake(
            ("candidates",), f"{len(config.candidates)} candidates, at most {CANDIDATES_MAX}", "Remove some."
        )
    for index, candidate in enumerate(config.candidates):
        yield from check_endpoint(candidate, ("candidates", index), reachable=True)
    yield from check_twice(config.candidates, "candidates")


def _transceivers(config: GatewayConfig) -> Iterator[Mistake]:
    for index, item in enumerate(config.transceivers):
        path: Path = ("transceivers", index, "control")
        wrong = list(check_http_address(item.control, path))
        yield from wrong
        if not wrong and not item.address.unix_path and not config.control_token:
            yield Mistake(path, "a control API on TCP needs a token", "Set control_token_file.")
    yield from check_twice([item.id for item in config.transceivers], "transceivers", "id")
    if config.registry != "memory" and config.registry.removeprefix("file:") in ("", config.registry):
        yield Mistake(
            ("registry",), f"{config.registry!r} is no registry", "Write memory, or file:/run/fastpath."
        )


def _admin(config: GatewayConfig) -> Iterator[Mistake]:
    if config.admin_listen:
        yield from check_endpoint(config.admin_listen, ("admin_listen",), any_port=True)
        if not config.admin_token:
            yield Mistake(("admin_listen",), "the admin API on TCP needs a token", "Set admin_token_file.")
    for name in ("admin_token", "control_token"):
        yield from check_token(getattr(config, name), (name,))
    yield from check_socket_path(config.admin_socket, ("admin_socket",))
    if config.health_listen:
        yield from check_endpoint(config.health_listen, ("health_listen",), any_port=True)
