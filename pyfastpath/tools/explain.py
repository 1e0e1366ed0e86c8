"""`pyfastpath explain`: what a relay of a configuration would decide, and by which rule, without a relay.

The slow twin of the data plane answers: `relay.rules` for a ufrag, `relay.decision` for a capture. Routes
installed at run time are known only to the running relay (`pyfastpath ctl routes get UFRAG`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from pyfastpath.config import RelayConfig
from pyfastpath.errors import FastpathError, WireError
from pyfastpath.relay.backends import name_hash
from pyfastpath.relay.decision import RelayModel
from pyfastpath.relay.rules import Backend, Decision, Route, Tables, explain_ufrag
from pyfastpath.tools.pcap import read_pcap
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from pyfastpath.wire.demux import Kind, demux
from pyfastpath.wire.frames import Datagram

KINDS = {Kind.NOT_WEBRTC: "not WebRTC", Kind.STUN: "STUN", Kind.DTLS: "DTLS", Kind.RTP: "RTP/RTCP"}
HEX_DIGITS_LEAST = 24  # 12 bytes, an RTP header; a token has 22 characters
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Explained:
    """The answer: sentences in order, and whether the datagram or ufrag would be routed."""

    lines: tuple[str, ...]
    routed: bool


def explain(text: str, config: RelayConfig, *, route: str = "", wall_s: int) -> Explained:
    """`text` is a file (pcap), hex digits of a datagram, or a ufrag.

    route: as if a session route to this backend were installed. wall_s: Unix time, for token expiry.
    """
    names = [backend.id for backend in config.backends]
    if route and route not in names:
        raise FastpathError(
            f"no backend {route!r} is configured", f"Configured: {', '.join(names) or 'none'}."
        )
    if Path(text).is_file():
        return _explain_capture(Path(text), config, route, wall_s)
    digits = re.sub(r"^0x|[\s:]", "", text)
    if re.fullmatch(r"(?:[0-9a-fA-F]{2})+", digits) and (text[:2] == "0x" or len(digits) >= HEX_DIGITS_LEAST):
        return _explain_datagram(bytes.fromhex(digits), config, route, wall_s)
    return _explain_ufrag(text, config, route, wall_s)


def tables_of(config: RelayConfig) -> Tables:
    """What a relay publishes to its workers when it starts; every backend counts as up."""
    backends = {
        index: Backend(
            spec.endpoint,
            spec.mode,
            identity=None
            if spec.transceiver is None
            else (
                config.cluster if spec.cluster is None else spec.cluster,
                spec.transceiver,
                spec.incarnation,
            ),
            name_hash=name_hash(spec.id),
        )
        for index, spec in enumerate(config.backends)
    }
    keys = {item.kid: item.key.value for item in config.token_keys}
    return Tables(backends=backends, token_keys=keys, hash_policy=config.hash_policy)


def _explain_ufrag(ufrag: str, config: RelayConfig, route: str, wall_s: int) -> Explained:
    tables = tables_of(config)
    if route:
        index = [backend.id for backend in config.backends].index(route)
        tables.routes[ufrag.encode(errors="replace")] = Route(index, HOUR_S)
    found = explain_ufrag(ufrag, tables, 0, wall_s)
    return Explained(tuple(_sentences(ufrag, found, config)), found.reason == "none")


def _sentences(ufrag: str, found: Decision, config: RelayConfig) -> Iterator[str]:
    yield f"ufrag {ufrag}"
    for step in found.steps:
        why = re.sub(r"backend (\d+)", lambda number: f"backend {_name(config, int(number[1]))}", step.why)
        yield f"  {'→' if step.decided else ' '} {step.rule}: {why}"
    if found.reason == "none":
        yield f"  forward to {_name(config, found.backend)} (route decision: {found.decision})"
    else:
        yield f"  drop: {found.reason} (route decision: {found.decision})"
    if found.decision == "no_route":
        yield f"  Routes installed at run time are not seen here: pyfastpath ctl routes get {ufrag}"


def _name(config: RelayConfig, index: int | None) -> str:
    return "none" if index is None else config.backends[index].id


def _explain_datagram(datagram: bytes, config: RelayConfig, route: str, wall_s: int) -> Explained:
    kind = demux(datagram)
    head = f"{len(datagram)} bytes, {KINDS[kind]} (first byte {datagram[0]})"
    if kind == Kind.NOT_WEBRTC:
        return Explained((head, "  drop: not_webrtc"), False)
    if kind != Kind.STUN:
        return Explained((head, "  goes by the flow table: only a confirmed flow lets it pass"), True)
    try:
        message = stun.parse_message(datagram)
    except WireError as error:
        return Explained((head, f"  {error}", "  drop: bad_stun"), False)
    if message.type != stun.BINDING_REQUEST:
        line = f"  message type 0x{message.type:04x} is no Binding Request: goes by the flow table"
        return Explained((head, line), True)
    if not stun.fingerprint_holds(datagram):
        return Explained((head, "  its FINGERPRINT is wrong: it opens no flow", "  drop: bad_stun"), False)
    said = _explain_ufrag((message.ufrag or b"").decode(), config, route, wall_s)
    return Explained((head, "Binding Request: its ufrag decides", *said.lines), said.routed)


# ---- captures ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Replay:
    """A capture at the clients' side of a relay, played through the model of one shard."""

    config: RelayConfig
    model: RelayModel
    route: int | None
    wall_s: int
    upstream: dict[Endpoint, tuple[int | None, Endpoint]] = field(default_factory=dict)
    counts: dict[tuple[str, str, str, str], int] = field(default_factory=dict)
    decided: dict[str, Decision] = field(default_factory=dict)

    def play(self, datagrams: list[Datagram]) -> None:
        """Everything that goes to a relay's address comes from a client; what leaves it, from a backend."""
        ours = _relay_addresses(datagrams, self.config)
        for item in datagrams:
            now_ms = item.time_ns // 10**6
            self.model.expire(now_ms)
            if item.target in ours:
                self._up(item, now_ms)
            elif item.source in ours:
                self._down(item, now_ms)

    def _up(self, item: Datagram, now_ms: int) -> None:
        ufrag = _ufrag(item.payload)
        if ufrag and ufrag not in self.decided:
            if self.route is not None:
                self.model.tables.routes[ufrag.encode()] = Route(self.route, now_ms // 1000 + HOUR_S)
            self.decided[ufrag] = explain_ufrag(ufrag, self.model.tables, now_ms // 1000, self.wall_s)
        verdict = self.model.from_client(0, item.source, 0, item.payload, now_ms, self.wall_s)
        if verdict.backend is not None and verdict.action == "forward":
            self.upstream[item.source] = (verdict.port, self.model.tables.backends[verdict.backend].endpoint)
        self._count(item.source, "up", item.payload, verdict.action, verdict.reason)

    def _down(self, item: Datagram, now_ms: int) -> None:
        port, backend = self.upstream.get(item.target, (None, item.source))
        verdict = self.model.from_plain(0, -1 if port is None else port, backend, item.payload, now_ms)
        self._count(item.target, "down", item.payload, verdict.action, verdict.reason)

    def _count(self, client: Endpoint, direction: str, payload: bytes, action: str, reason: str) -> None:
        row = (
            str(client),
            direction,
            KINDS[demux(payload)],
            action if action == "forward" else f"drop {reason}",
        )
        self.counts[row] = self.counts.get(row, 0) + 1


def _explain_capture(file: Path, config: RelayConfig, route: str, wall_s: int) -> Explained:
    capture = read_pcap(file)
    tables = tables_of(config)
    # The clients' side looks the same in both upstream modes, so every backend is played as a plain one.
    tables.backends = {
        index: Backend(item.endpoint, "plain", identity=item.identity, name_hash=item.name_hash)
        for index, item in tables.backends.items()
    }
    model = RelayModel(tables=tables, pools=[{4: range(30_000), 6: range(30_000, 60_000)}])
    model.allow_clients = [ip_network(text) for text in config.allow_clients]
    index = [backend.id for backend in config.backends].index(route) if route else None
    cut = sum(
        item.original_bytes > len(item.payload) and demux(item.payload) == Kind.STUN
        for item in capture.datagrams
    )
    replay = _Replay(config, model, index, wall_s)
    replay.play(capture.datagrams)
    lines = [f"{file}: {len(capture.datagrams)} UDP datagrams, {capture.skipped} other frames"]
    if cut:
        lines.append(f"{cut} STUN messages were cut when recorded and are judged so: use tcpdump -s 0")
    for ufrag, found in replay.decided.items():
        lines += _sentences(ufrag, found, config)
    lines += [
        f"{client:24} {way:5}{kind:11}{what:28}{count:8}"
        for (client, way, kind, what), count in replay.counts.items()
    ]
    if not replay.counts:
        lines.append("no datagram to a relay: neither `listen` nor a Binding Request names its address")
    dropped = any(what.startswith("drop") for _, way, _, what in replay.counts if way == "up")
    return Explained(tuple(lines), bool(replay.counts) and not dropped)


def _relay_addresses(datagrams: list[Datagram], config: RelayConfig) -> set[Endpoint]:
    """The configured listeners that occur; failing those, whatever the first Binding Request was sent to."""
    listeners = [item.endpoint for item in config.listen]
    seen = {end for item in datagrams for end in (item.source, item.target)}
    ours = {
        end
        for end in seen
        for own in listeners
        if end.port == own.port and (own.address.is_unspecified or own.address == end.address)
    }
    # The first one only: a full-ICE backend sends Binding Requests of its own, to the clients.
    first = next((item.target for item in datagrams if _ufrag(item.payload)), None)
    return ours or ({first} if first else set())


def _ufrag(payload: bytes) -> str:
    """The server ufrag of a Binding Request; empty for anything else."""
    if demux(payload) != Kind.STUN:
        return ""
    try:
        message = stun.parse_message(payload)
    except WireError:
        return ""
    return (message.ufrag or b"").decode() if message.type == stun.BINDING_REQUEST else ""
