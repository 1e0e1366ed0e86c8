"""The flags of `pyfastpath bench` as one checked value: every wrong one is a sentence that names it. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, cast

from pyfastpath.errors import ConfigError
from pyfastpath.tools.flag_values import one_of, read_ipv4, read_token_key, read_transceiver, read_trunk_key
from pyfastpath.tools.gate import Gate, parse_gates
from pyfastpath.types import Endpoint

Way = Literal["up", "down", "echo", "setup"]
WAYS: Final = ("up", "down", "echo", "setup")
INJECTIONS: Final = ("mmsg", "gso", "packet")
UPSTREAMS: Final = ("plain", "trunk")
SIZES_BYTES: Final = (32, 2048)  # a probe at least; what the generator's slots hold
WINDOW: Final = 512  # more in flight than this and a flood loses datagrams in buffers nobody meant to measure
SPREAD_BYTES: Final = 24
SESSIONS_MAX: Final = 1_000_000
PLAIN_SESSIONS_MAX: Final = 59_000  # a relay has one upstream port a flow towards a plain backend
PPS_MAX: Final = 100_000_000
PPS_DEFAULT: Final = 50_000
SETUP_PPS_DEFAULT: Final = 5_000
SESSIONS_DEFAULT: Final = 1000
SETUP_FLOOD_SESSIONS: Final = 300_000
DURATION_DEFAULT_S: Final = 10.0
WARMUP_S: Final = 1.0
SETUP_WARMUP_S: Final = 0.2  # the sessions it opens are used up
SURVEY_DEFAULT_S: Final = 30.0
SURVEY_MIN_S: Final = 12.0
DAY_S: Final = 86_400
_COUNT: Final = re.compile(r"(\d+(?:\.\d+)?)([kKmM]?)")


@dataclass(frozen=True, slots=True)
class Part:
    """Sessions of one datagram size: size_bytes, give or take spread_bytes, for `share` of all sessions."""

    size_bytes: int
    spread_bytes: int = 0
    share: float = 1.0


@dataclass(frozen=True, slots=True)
class Transceiver:
    """What minted tokens name, and the key they are made with."""

    kid: int
    key: bytes = field(repr=False)
    cluster: int
    number: int
    incarnation: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """One run. survey: everything against a relay of its own; else one workload.

    pps: datagrams a second on a schedule, 0 for a flood; mode setup: sessions a second. socket: admin socket
    of a relay that runs; transceiver: routes by tokens; neither: a relay of its own.
    """

    survey: bool
    way: Way
    pps: int
    duration_s: float
    warmup_s: float
    ramp_s: float
    sessions: int
    parts: tuple[Part, ...]
    inject: str
    upstream: str
    target: Endpoint | None
    socket: str
    transceiver: Transceiver | None
    trunk_key: tuple[int, bytes] | None = field(repr=False)
    sink: Endpoint
    source: str
    gates: tuple[Gate, ...]

    @property
    def own(self) -> bool:
        """Is the relay one that this run starts?"""
        return not self.socket and self.transceiver is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What was written on the command line; None or empty when it was not."""

    pps: str | None = None
    duration_s: float | None = None
    warmup_s: float | None = None
    ramp_s: float | None = None
    sessions: str | None = None
    size_bytes: int = 172
    size_dist: str = "fixed"
    mode: str | None = None
    inject: str = "mmsg"
    upstream: str | None = None
    target: str | None = None
    socket: str | None = None
    token_key: str | None = field(default=None, repr=False)
    transceiver: str | None = None
    sink: str | None = None
    source: str | None = None
    trunk_key: str | None = field(default=None, repr=False)
    fail_if: Sequence[str] = ()


def read_options(flags: Flags) -> Options:
    """Check every flag, alone and together. ConfigError names the first that cannot be."""
    way = cast(Way, one_of("--mode", flags.mode or "echo", WAYS))
    survey = all(
        given is None
        for given in (flags.pps, flags.ramp_s, flags.mode, flags.upstream, flags.target, flags.socket)
    )
    if survey:
        _check_survey(flags)
    target, sink, source = _addresses(flags)
    pps = read_count("--pps", flags.pps, SETUP_PPS_DEFAULT if way == "setup" else PPS_DEFAULT, 0, PPS_MAX)
    usual_s = SURVEY_DEFAULT_S if survey else DURATION_DEFAULT_S
    duration_s = _seconds("--duration", flags.duration_s, usual_s, 0.1)
    warmup_s = _seconds("--warmup", flags.warmup_s, SETUP_WARMUP_S if way == "setup" else WARMUP_S, 0)
    sessions = _sessions(flags, way, pps, duration_s + warmup_s)
    parts = read_parts(flags.size_bytes, flags.size_dist)
    options = Options(
        survey=survey,
        way=way,
        pps=pps,
        duration_s=duration_s,
        warmup_s=warmup_s,
        ramp_s=_seconds("--ramp", flags.ramp_s, 0.0, 0),
        sessions=sessions,
        parts=parts,
        inject=one_of("--inject", flags.inject, INJECTIONS),
        upstream=one_of("--upstream", flags.upstream or _upstream(way), UPSTREAMS),
        target=target,
        socket=flags.socket or "",
        transceiver=_transceiver(flags),
        trunk_key=read_trunk_key(flags.trunk_key),
        sink=sink,
        source=source,
        gates=tuple(parse_gates(flags.fail_if)),
    )
    _check_together(options, flags)
    return options


def _check_survey(flags: Flags) -> None:
    """What one workload takes and the survey does not."""
    hint = "Or measure one workload: add --mode or --pps."
    if flags.duration_s is not None and flags.duration_s < SURVEY_MIN_S:
        raise ConfigError(
            f"the survey of everything takes {SURVEY_MIN_S:g} s at least", hint, key="--duration"
        )
    if flags.warmup_s is not None:
        raise ConfigError("the survey of everything chooses its own", hint, key="--warmup")


def read_count(flag: str, text: str | None, default: int, least: int, most: int) -> int:
    """`50000`, `50k` or `1.5M`; also `flood`, which is 0, where 0 is allowed."""
    if text is None:
        return default
    if text == "flood" and least == 0:
        return 0
    match = _COUNT.fullmatch(text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no number", "Write 50000, 50k or 1.5M.", key=flag)
    value = float(match[1]) * {"": 1, "k": 1000, "m": 1_000_000}[match[2].lower()]
    if value != int(value) or not least <= value <= most:
        raise ConfigError(
            f"{text} is not possible", f"Choose a whole number {least:,} to {most:,}.", key=flag
        )
    return int(value)


def read_parts(size_bytes: int, text: str) -> tuple[Part, ...]:
    """`fixed`, `spread` (± 24 bytes) or a mix, `172:0.9,1200:0.1`: sizes and their shares of the sessions."""
    if text in {"fixed", "spread"}:
        spread = SPREAD_BYTES if text == "spread" else 0
        _check_size("--size", size_bytes, spread)
        return (Part(size_bytes, spread),)
    parts = []
    for item in text.split(","):
        match = re.fullmatch(r"\s*(\d+):(\d*\.?\d+)\s*", item)
        if match is None:
            hint = "Write fixed, spread, or sizes with their shares: 172:0.9,1200:0.1."
            raise ConfigError(f"{item.strip()!r} is no size with a share", hint, key="--size-dist")
        _check_size("--size-dist", int(match[1]), 0)
        parts.append(Part(int(match[1]), 0, float(match[2])))
    total = sum(part.share for part in parts)
    if abs(total - 1) > 0.001 or any(part.share <= 0 for part in parts):
        raise ConfigError(f"the shares sum to {total:g}", "They must sum to 1.", key="--size-dist")
    return tuple(parts)


def split_sessions(sessions: int, parts: Sequence[Part]) -> list[int]:
    """How many sessions each part has: by share, one at least, all of them in sum."""
    counts = [max(1, round(sessions * part.share)) for part in parts]
    counts[counts.index(max(counts))] += sessions - sum(counts)
    return counts


def _check_size(flag: str, size_bytes: int, spread_bytes: int) -> None:
    least, most = SIZES_BYTES
    if not least + spread_bytes <= size_bytes <= most - spread_bytes:
        raise ConfigError(
            f"datagrams of {size_bytes} bytes are not possible",
            f"Choose {least + spread_bytes} to {most - spread_bytes} bytes of UDP payload.",
            key=flag,
        )


def _sessions(flags: Flags, way: Way, pps: int, seconds: float) -> int:
    """As many as were asked for; mode setup opens each only once, so it needs as many as it opens."""
    needed = min(SESSIONS_MAX, int(pps * seconds) + 1) if pps else SETUP_FLOOD_SESSIONS
    return read_count(
        "--sessions", flags.sessions, needed if way == "setup" else SESSIONS_DEFAULT, 1, SESSIONS_MAX
    )


def _upstream(way: Way) -> str:
    """New sessions by the thousand would measure how a plain relay opens ports."""
    return "trunk" if way == "setup" else "plain"


def _addresses(flags: Flags) -> tuple[Endpoint | None, Endpoint, str]:
    target = read_ipv4("--target", flags.target) if flags.target else None
    sink = read_ipv4("--sink", flags.sink or "127.0.0.1:0")
    source = flags.source or ("127.1.0.1" if target is None or target.address.is_loopback else "")
    if source:
        read_ipv4("--source", f"{source}:0")
    return target, sink, source


def _transceiver(flags: Flags) -> Transceiver | None:
    if flags.transceiver is None:
        return None
    kid, key = read_token_key(flags.token_key)
    return Transceiver(kid, key, *read_transceiver(flags.transceiver))


def _check_together(options: Options, flags: Flags) -> None:
    if options.own and options.target is not None:
        raise ConfigError(
            f"nobody told the relay at {options.target} where these sessions go",
            "Add --socket PATH (its admin socket), or --token-key KID:HEX --transceiver N --sink IP:PORT.",
            key="--target",
        )
    for flag, given in (("--sink", flags.sink), ("--source", flags.source)):
        if options.own and given is not None:
            raise ConfigError(
                "a relay of our own is on loopback, as everything around it", "Add --socket.", key=flag
            )
    if options.transceiver is not None:
        _check_tokens(options)
    if options.sessions < len(options.parts):
        raise ConfigError(
            f"{options.sessions} cannot have {len(options.parts)} sizes",
            "Add some.",
            key="--sessions",
        )
    if options.inject == "gso" and any(part.spread_bytes for part in options.parts):
        raise ConfigError("segments are of one size", "Choose --size-dist fixed.", key="--inject")
    if (
        options.survey or (options.own and options.upstream == "plain")
    ) and options.sessions > PLAIN_SESSIONS_MAX:
        raise ConfigError(
            f"a plain backend takes one upstream port a session, so {options.sessions:,} are too many",
            f"Choose {PLAIN_SESSIONS_MAX:,} at most, or --upstream trunk.",
            key="--sessions",
        )
    if options.way == "setup" and options.ramp_s:
        raise ConfigError("mode setup is a ramp already", "Choose its slope with --pps.", key="--ramp")


def _check_tokens(options: Options) -> None:
    if options.socket:
        raise ConfigError(
            "routes come through the admin socket or by tokens", "Pass one of them.", key="--transceiver"
        )
    if options.target is None:
        raise ConfigError("tokens need a relay", "Add --target IP:PORT.", key="--transceiver")
    if options.sink.port == 0:
        raise ConfigError(
            "the sink stands where the relay expects this transceiver",
            "Add --sink IP:PORT, its address in the relay's configuration.",
            key="--transceiver",
        )
    if len(options.parts) > 1:
        raise ConfigError(
            "each size of a mix needs a backend of its own, and tokens lead to one",
            "Use --socket, or one size.",
            key="--size-dist",
        )


def _seconds(flag: str, given: float | None, default: float, least: float) -> float:
    value = default if given is None else given
    if not least <= value <= DAY_S:
        raise ConfigError(f"{value:g} s is not possible", f"Choose {least:g} to {DAY_S} seconds.", key=flag)
    return value
