"""The flags of `pyfastpath replay` as one checked value; a wrong one is a sentence that names it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from pyfastpath.errors import ConfigError
from pyfastpath.tools.flag_values import (
    one_of,
    read_endpoint,
    read_ipv4,
    read_token_key,
    read_transceiver,
    read_trunk_key,
)
from pyfastpath.tools.gate import Gate, parse_gates
from pyfastpath.tools.replay.casting import ROLES_MAX
from pyfastpath.tools.replay.credentials import Credentials, parse_credentials
from pyfastpath.tools.replay.names import TokenMint
from pyfastpath.tools.replay.report import FIGURES
from pyfastpath.types import Endpoint, Mode
from pyfastpath.wire.token import LIFETIME_DEFAULT_S

FULL_SPEED: Final = 0.0
SPEED_MAX: Final = 1000.0
BACKENDS_MAX: Final = 64
BACKENDS_DEFAULT: Final = 2
TURNS_MAX: Final = 10_000
FIRST_SOURCE: Final = "127.2.0.1"  # of the clients; addresses in 127/8 need no set-up
UPSTREAMS: Final = ("plain", "trunk")
_SPEED: Final = re.compile(r"(\d+(?:\.\d+)?)x?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What was written on the command line. password_lines: of the file that --passwords names."""

    file: Path
    target: str = ""
    socket: str = ""
    self_test: bool = False
    sessions: int = 0
    speed: str = "1x"
    loop: int = 1
    limit: int = 0
    seed: int = 0
    preload: bool = False
    passwords: str = ""
    password_lines: Iterable[str] = ()
    password: Sequence[str] = ()
    token_key: str = field(default="", repr=False)
    transceiver: str = ""
    trunk_key: str = field(default="", repr=False)
    upstream: str = "plain"
    backends: int = 0
    sink: Sequence[str] = ()
    source: str = ""
    server: str = ""
    fail_if: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a replay is asked for. With neither `socket` nor `target` it starts a relay of its own."""

    file: Path
    credentials: Credentials = field(default_factory=Credentials)
    server: Endpoint | None = None
    limit: int = 0
    preload: bool = False
    sessions: int = 0
    turns: int = 1
    speed: float = FULL_SPEED
    seed: int = 0
    mode: Mode = "plain"
    backends: int = BACKENDS_DEFAULT
    ends_at: tuple[Endpoint, ...] = ()  # where our backends listen; empty: loopback, any port
    target: Endpoint | None = None
    socket: str = ""
    mints: tuple[TokenMint, ...] = ()  # one a backend; empty: installed routes
    trunk_key: tuple[int, bytes] | None = field(default=None, repr=False)
    source: str = FIRST_SOURCE
    gates: tuple[Gate, ...] = ()


def read_flags(flags: Flags, *, wall_s: int) -> Wishes:
    """Check every flag, alone and together. ConfigError names the first that cannot be. wall_s: Unix time."""
    _check_together(flags)
    ends_at = tuple(read_endpoint("--sink", text) for text in flags.sink)
    backends = _count("--backends", flags.backends or len(ends_at) or BACKENDS_DEFAULT, 1, BACKENDS_MAX)
    if ends_at and len(ends_at) != backends:
        raise ConfigError(
            f"{backends} backends at {len(ends_at)} addresses", "Give one --sink a backend.", key="--sink"
        )
    return Wishes(
        file=flags.file,
        credentials=parse_credentials(flags.password_lines, flags.password, file=flags.passwords),
        server=read_endpoint("--server", flags.server) if flags.server else None,
        limit=_count("--limit", flags.limit, 0, 1 << 40),
        preload=flags.preload,
        sessions=_count("--sessions", flags.sessions, 0, ROLES_MAX),
        turns=_count("--loop", flags.loop, 1, TURNS_MAX),
        speed=read_speed(flags.speed),
        seed=flags.seed,
        mode=cast(Mode, one_of("--upstream", flags.upstream, UPSTREAMS)),
        backends=backends,
        ends_at=ends_at,
        target=read_ipv4("--target", flags.target) if flags.target else None,
        socket=flags.socket,
        mints=_mints(flags, backends, wall_s + LIFETIME_DEFAULT_S) if flags.transceiver else (),
        trunk_key=read_trunk_key(flags.trunk_key),
        source=_source(flags.source) if flags.source else FIRST_SOURCE,
        gates=tuple(parse_gates(flags.fail_if, FIGURES)),
    )


def read_speed(text: str) -> float:
    """`1x`, `10x`, `0.5x`; `max` is 0: as fast as cause and effect let."""
    if text == "max":
        return FULL_SPEED
    match = _SPEED.fullmatch(text)
    if match is None or not 0 < float(match[1]) <= SPEED_MAX:
        raise ConfigError(f"{text!r} is no speed", "Write 1x, 10x or max.", key="--speed")
    return float(match[1])


def _source(text: str) -> str:
    """An address that a datagram can come from: 0.0.0.0 would be replaced by the kernel's choice."""
    address = read_ipv4("--source", f"{text}:0").address
    if address.is_unspecified or address.is_multicast or address.is_reserved:
        raise ConfigError(f"{address} is nobody's address", "Name the first client's.", key="--source")
    return str(address)


def _count(flag: str, number: int, least: int, most: int) -> int:
    if not least <= number <= most:
        raise ConfigError(f"{number} is not possible", f"Choose {least:,} to {most:,}.", key=flag)
    return number


def _mints(flags: Flags, backends: int, expires_s: int) -> tuple[TokenMint, ...]:
    """Backend 0 is the transceiver that was named, the others follow by number."""
    kid, key = read_token_key(flags.token_key)
    cluster, number, incarnation = read_transceiver(flags.transceiver, backends)
    return tuple(
        TokenMint(key, kid, cluster, number + place, incarnation, expires_s) for place in range(backends)
    )


def _check_together(flags: Flags) -> None:
    if flags.self_test and (flags.target or flags.socket):
        raise ConfigError("--self-test starts a relay of its own", "Leave it out.", key="--self-test")
    if flags.socket and flags.transceiver:
        raise ConfigError(
            "routes come through the admin socket or by tokens", "Pass one of them.", key="--transceiver"
        )
    if flags.target and not flags.socket and not flags.transceiver:
        raise ConfigError(
            f"nobody told the relay at {flags.target} where these sessions go",
            "Add --socket PATH (its admin socket), or --token-key KID:HEX --transceiver N --sink IP:PORT.",
            key="--target",
        )
    if flags.target and flags.transceiver and not flags.sink:
        raise ConfigError(
            "our backend stands where the relay expects this transceiver",
            "Add --sink IP:PORT, its address in the relay's configuration.",
            key="--transceiver",
        )
