"""THE decision in plain Python: the slow, obvious twin of the data plane's `forward`.

A RelayModel is one group of shards: dicts, one method for each way a datagram can arrive, and time as an
argument. Hypothesis drives it and the Cython side with the same datagrams and demands equal verdicts.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Network
from typing import Final

from pyfastpath.errors import WireError
from pyfastpath.relay.flowstates import Client, Flow, Provisional, Shard, Verdict
from pyfastpath.relay.rules import Decision, Tables, client_is_allowed, decide
from pyfastpath.relay.shedding import NEW
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from pyfastpath.wire.demux import Kind, demux
from pyfastpath.wire.trunk import FlowClosed, Record, parse_control

CONFIRMED_TTL_MS: Final = 60_000
TAUGHT_TTL_MS: Final = 5_000
PROVISIONAL_TTL_MS: Final = 5_000
TRANSACTION_MEMORY_MS: Final = 60_000
QUARANTINE_MS: Final = 60_000
SILENT_MS: Final = 7_000  # a live flow whose own ufrag was unseen for so long gives way
AMPLIFICATION: Final = 3  # bytes down for each byte up before confirmation (RFC 9000, section 8)
BYTES_UP_MAX: Final = (1 << 32) // AMPLIFICATION  # more is not credited: the data plane counts in 32 bits
SESSION_CAP: Final = 8  # provisional flows of one ufrag in one shard
CLIENT_CAP: Final = 8  # provisional flows of one client address in one shard
TEACH_PER_SECOND: Final = 1_000


class RelayModel:
    """Sections 2, 3, 4 and 7 of the relay's design for one shard group.

    `tables`, `draining`, `allow_clients`, `ingresses` and the admission may be changed at any time, as the
    control plane does, and `pressure` (0: none), as the workers do. pools: each shard's plain ports by
    address family.
    """

    def __init__(
        self,
        shards: int = 1,
        *,
        tables: Tables | None = None,
        flows_max: int = 131_072,
        pools: Iterable[dict[int, range]] | None = None,
        ingresses: Iterable[int] = range(256),
    ) -> None:
        self.tables = tables or Tables()
        self.flows_max = flows_max
        self.shards = [Shard(each) for each in (pools or [{4: range(0), 6: range(0)}] * shards)]
        self.ingresses = set(ingresses)
        self.draining = False
        self.allow_clients: list[IPv4Network | IPv6Network] = []
        self.pressure = 0
        self.asked_first: dict[bytes, tuple[Client, bytes, int]] = {}  # transaction: client, ufrag, when_ms
        self._version = 0

    def limit_admission(self, flows_per_s: int, burst: int) -> None:
        """How many new flows each shard takes from one network."""
        for shard in self.shards:
            shard.admission.flows_per_s, shard.admission.burst = flows_per_s, burst

    # ---- from a client -----------------------------------------------------------------------------

    def from_client(
        self, shard: int, client: Endpoint, ingress: int, datagram: bytes, now_ms: int, wall_s: int
    ) -> Verdict:
        """Section 2, in its order."""
        here, who, kind = self.shards[shard], Client(client, ingress), demux(datagram)
        reason, message = _read(kind, datagram)
        if ingress not in self.ingresses:
            reason = "unknown_ingress"
        if reason == "none" and kind == Kind.RTP and self.pressure:
            reason = self._shed_media(here, who, datagram, now_ms)
        if reason != "none":
            return _drop(reason)
        live = self._find(here, who)
        if kind == Kind.STUN and live is None and self.pressure >= NEW:
            return _drop("shed_new")
        if message is not None and message.type == stun.BINDING_REQUEST:
            return self._request(here, who, live, message, datagram, now_ms, wall_s)
        if live is not None:
            return self._use(live, now_ms)
        return self._without_flow(here, who, kind, datagram, now_ms)

    def _shed_media(self, here: Shard, client: Client, datagram: bytes, now_ms: int) -> str:
        """Section 7. A flow whose media are shed is alive all the same."""
        flow = here.flows.get(client)
        if flow is None:
            alone = len(self.shards) == 1
            return "shed_unknown" if alone or not here.shedder.may_search(now_ms) else "none"
        reason = here.shedder.reason(self.pressure, flow.traffic_class, flow.version, datagram)
        if reason != "none":
            flow.last_seen_ms = now_ms
        return reason

    def _without_flow(self, here: Shard, client: Client, kind: Kind, datagram: bytes, now_ms: int) -> Verdict:
        """STUN that is no request passes on the newest provisional flow, anything else has to wait."""
        waiting = next(here.of_client(client), None)
        if waiting is None:
            return _drop("unknown_flow")
        if kind != Kind.STUN:
            return _drop("provisional")
        return _use_provisional(waiting, datagram, now_ms, Verdict("forward"))

    def _use(self, live: Flow, now_ms: int) -> Verdict:
        live.last_seen_ms = now_ms
        live.taught = False
        return Verdict("forward", backend=live.backend, port=live.port, traffic_class=live.traffic_class)

    def _request(
        self,
        here: Shard,
        client: Client,
        live: Flow | None,
        message: stun.Message,
        datagram: bytes,
        now_ms: int,
        wall_s: int,
    ) -> Verdict:
        """A Binding Request: its ufrag overrides the flow table."""
        ufrag = message.ufrag or b""
        if live is not None and live.ufrag == ufrag:
            self._remember(message.transaction, client, ufrag, now_ms)
            live.ufrag_seen_ms = now_ms
            return self._use(live, now_ms)
        verdict = Verdict("forward", overrode=live is not None)
        shadow = here.provisional.get((client, ufrag))
        if shadow is None:
            shadow, verdict = self._open(here, client, ufrag, datagram, verdict, now_ms, wall_s)
            if shadow is None:
                return verdict
        self._remember(message.transaction, client, ufrag, now_ms)
        verdict = _use_provisional(shadow, datagram, now_ms, verdict)
        if shadow.confirmed:
            self._replace_if_due(here, shadow, now_ms)
        return verdict

    def _remember(self, transaction: bytes, client: Client, ufrag: bytes, now_ms: int) -> None:
        """Who sent a transaction id first, over all shards, for 60 s."""
        known = self.asked_first.get(transaction)
        if known is None or now_ms - known[2] >= TRANSACTION_MEMORY_MS:
            self.asked_first[transaction] = (client, ufrag, now_ms)

    def _asked_first(self, flow: Provisional, transaction: bytes, now_ms: int) -> bool:
        if transaction not in self.asked_first:
            return False
        client, ufrag, when_ms = self.asked_first[transaction]
        return (client, ufrag) == (flow.client, flow.ufrag) and now_ms - when_ms < TRANSACTION_MEMORY_MS

    # ---- a new flow --------------------------------------------------------------------------------

    def _open(
        self,
        here: Shard,
        client: Client,
        ufrag: bytes,
        datagram: bytes,
        asked: Verdict,
        now_ms: int,
        wall_s: int,
    ) -> tuple[Provisional | None, Verdict]:
        """A provisional flow, or why not. Under pressure its network pays before anything is read."""
        pays_first = self.pressure > 0 and not asked.overrode
        if pays_first and not here.admission.take(client.endpoint.address, now_ms):
            return None, _drop("shed_unknown")
        chosen = decide(ufrag, self.tables, now_ms // 1000, wall_s)
        reason = self._refusal(here, chosen, client, datagram, now_ms, paid=pays_first)
        if reason != "none" or chosen.backend is None:
            return None, _drop(reason, chosen.decision, overrode=asked.overrode)
        flow = Provisional(
            client=client,
            ufrag=ufrag,
            backend=chosen.backend,
            session=chosen.session,
            port=None,
            traffic_class=chosen.traffic_class,
            last_seen_ms=now_ms,
        )
        backend = self.tables.backends[chosen.backend]
        crowded_out = self._crowded_out(here, ufrag)
        if backend.mode == "plain" and not (
            here.inherit(flow, crowded_out, backend.endpoint) or here.acquire(flow, backend.endpoint)
        ):
            return None, _drop("no_upstream_port", chosen.decision, overrode=asked.overrode)
        if crowded_out is not None:
            self._discard(here, crowded_out, now_ms)
        held = list(here.of_client(client))
        if len(held) >= CLIENT_CAP:
            self._discard(here, held[-1], now_ms)
        here.provisional[client, ufrag] = flow
        return flow, Verdict("forward", decision=chosen.decision, overrode=asked.overrode)

    def _refusal(
        self, here: Shard, chosen: Decision, client: Client, datagram: bytes, now_ms: int, *, paid: bool
    ) -> str:
        if chosen.reason != "none":
            return chosen.reason
        if self.draining:
            return "draining"
        if not self._allowed(client):
            return "client_not_allowed"
        if not stun.fingerprint_holds(datagram):
            return "bad_stun"
        return "none" if paid or here.admission.take(client.endpoint.address, now_ms) else "admission"

    def _allowed(self, client: Client) -> bool:
        return client_is_allowed(client.endpoint.address, self.allow_clients)

    def _crowded_out(self, here: Shard, ufrag: bytes) -> Provisional | None:
        """The oldest provisional flow of a ufrag that holds its cap of them."""
        held = [flow for flow in here.provisional.values() if flow.ufrag == ufrag]
        return held[0] if len(held) >= SESSION_CAP else None

    # ---- from a backend ----------------------------------------------------------------------------

    def from_plain(self, shard: int, port: int, source: Endpoint, datagram: bytes, now_ms: int) -> Verdict:
        """Plain mode: the port and who sent there name the flow; nobody else's datagrams count."""
        here, kind = self.shards[shard], demux(datagram)
        use = here.ports.get((port, source))
        if kind == Kind.NOT_WEBRTC:
            return _drop("not_webrtc")
        if use is None or use.holder is None:
            return _drop("unknown_flow")
        if isinstance(use.holder, Flow):
            return _send_down(use.holder)
        return self._down_provisional(here, use.holder, datagram, now_ms)

    def from_trunk_record(
        self, shard: int, backend: int, record: Record, now_ms: int, *, trusted: bool = True
    ) -> Verdict:
        """Trunk: the record names the client, its sender the backend. `trusted`: tagged link or loopback."""
        here, client = self.shards[shard], Client(record.client, record.ingress)
        if record.ingress not in self.ingresses and not record.control:
            return _drop("unknown_ingress")
        if record.control:
            if isinstance(parse_control(record.payload), FlowClosed):
                self._close(here, client, backend, now_ms)
            return Verdict("punt")
        kind = demux(record.payload)
        if kind == Kind.NOT_WEBRTC:
            return _drop("not_webrtc")
        live = self._find_for_record(here, client, backend)
        owns = live is not None and live.backend == backend
        if kind == Kind.STUN or not owns:
            waiting = self._addressed(here, client, backend, record.payload, owns, now_ms)
            if waiting is not None:
                return self._down_provisional(here, waiting, record.payload, now_ms)
        if live is None and record.confirmed and trusted:
            live = self._teach(here, client, backend, now_ms)
        if live is None:
            return _drop("unknown_flow")
        return _send_down(live) if live.backend == backend else _drop("wrong_backend")

    def _addressed(
        self, here: Shard, client: Client, backend: int, payload: bytes, owns: bool, now_ms: int
    ) -> Provisional | None:
        """Which provisional flow a record is for: the one that asked, else the newest, unless the sender
        owns the live flow."""
        waiting = [flow for flow in here.of_client(client) if flow.backend == backend]
        answered = _success(payload)
        if answered is not None:
            for flow in waiting:
                if self._asked_first(flow, answered, now_ms):
                    return flow
        return waiting[0] if waiting and not owns else None

    def _down_provisional(self, here: Shard, flow: Provisional, datagram: bytes, now_ms: int) -> Verdict:
        """Only STUN, at most three times what came; an answer to its own question confirms the flow."""
        kind = demux(datagram)
        reason, _ = _read(kind, datagram)
        if kind != Kind.STUN or reason != "none":
            return _drop("provisional" if kind != Kind.STUN else reason)
        if flow.bytes_down + len(datagram) > AMPLIFICATION * flow.bytes_up:
            return _drop("amplification")
        answered = _success(datagram)
        confirms = answered is not None and self._asked_first(flow, answered, now_ms)
        if confirms and self._full(here, here.flows.get(flow.client)):
            flow.confirmed = False
            return _drop("flow_table_full")
        flow.bytes_down += len(datagram)
        verdict = _send_down(flow, confirmed=confirms and not flow.confirmed)
        if confirms:
            flow.confirmed = True
            self._replace_if_due(here, flow, now_ms)
        return verdict

    # ---- the life of a flow ------------------------------------------------------------------------

    def _find(self, here: Shard, client: Client) -> Flow | None:
        """This shard's flow, else a copy of the newest of its siblings'. A copy whose original ended has lost
        its upstream port, which may serve another client by now."""
        own = here.flows.get(client)
        if own is not None and not here.owns(own):
            originals = (flow.version for flow in self._originals(client))
            if own.version not in originals:
                del here.flows[client]
        if client not in here.flows and len(here.flows) < self.flows_max:
            newest = max(self._originals(client), key=lambda flow: flow.version, default=None)
            if newest is not None:
                here.flows[client] = replace(newest)
        return here.flows.get(client)

    def _copies(self, client: Client) -> Iterator[Flow]:
        return (shard.flows[client] for shard in self.shards if client in shard.flows)

    def _originals(self, client: Client) -> Iterator[Flow]:
        """Without those that send from another shard's port."""
        return (
            shard.flows[client]
            for shard in self.shards
            if client in shard.flows and shard.owns(shard.flows[client])
        )

    def _find_for_record(self, here: Shard, client: Client, backend: int) -> Flow | None:
        """As _find without a copy. The sender's own flow is preferred, else the newest."""
        own = here.flows.get(client)
        if own is not None and own.backend == backend:
            return own
        known = [*self._originals(client), *([own] if own is not None else [])]
        return max(known, key=lambda flow: flow.version, default=None)

    def _replace_if_due(self, here: Shard, shadow: Provisional, now_ms: int) -> None:
        """A confirmed provisional flow becomes its client's flow, unless a live one is in its way."""
        live = here.flows.get(shadow.client)
        if self._full(here, live) or (live is not None and not _gives_way(live, shadow, now_ms)):
            return
        if live is not None:
            self._end(here, live, now_ms)
        self._version += 1
        flow = Flow(
            client=shadow.client,
            ufrag=shadow.ufrag,
            backend=shadow.backend,
            session=shadow.session,
            port=shadow.port,
            traffic_class=shadow.traffic_class,
            taught=False,
            last_seen_ms=shadow.last_seen_ms,
            ufrag_seen_ms=shadow.last_seen_ms,
            version=self._version,
        )
        here.flows[flow.client] = flow
        del here.provisional[shadow.client, shadow.ufrag]
        here.hand_over(shadow, flow)

    def _full(self, here: Shard, live: Flow | None) -> bool:
        """A replacement never needs room."""
        return live is None and len(here.flows) >= self.flows_max

    def _teach(self, here: Shard, client: Client, backend: int, now_ms: int) -> Flow | None:
        """A transceiver's word creates a flow, never replaces one, and lives 5 s without the client."""
        second, taught = here.taught
        taught = taught if second == now_ms // 1000 else 0
        if taught >= TEACH_PER_SECOND or len(here.flows) >= self.flows_max or not self._allowed(client):
            return None
        here.taught = (now_ms // 1000, taught + 1)
        self._version += 1
        here.flows[client] = Flow(
            client=client,
            ufrag=b"",
            backend=backend,
            session=0,
            port=None,
            traffic_class=0,
            taught=True,
            last_seen_ms=now_ms,
            ufrag_seen_ms=now_ms - SILENT_MS,
            version=self._version,
        )
        return here.flows[client]

    def _close(self, here: Shard, client: Client, backend: int, now_ms: int) -> None:
        """The backend said flow-closed: its flow goes now, and a confirmed shadow takes its place."""
        live = here.flows.get(client)
        if live is None or live.backend != backend:
            return
        self._end(here, live, now_ms)
        heir = next((flow for flow in here.of_client(client) if flow.confirmed), None)
        if heir is not None:
            self._replace_if_due(here, heir, now_ms)

    def _end(self, here: Shard, flow: Flow, now_ms: int) -> None:
        del here.flows[flow.client]
        here.release(flow, now_ms)

    def _discard(self, here: Shard, flow: Provisional, now_ms: int) -> None:
        del here.provisional[flow.client, flow.ufrag]
        here.release(flow, now_ms)

    def restart(self, now_ms: int) -> None:
        """Another engine takes the tables over: a provisional flow beside a flow of its own ufrag, which came
        as a copy of a sibling's, has nothing to wait for and goes."""
        for here in self.shards:
            for waiting in list(here.provisional.values()):
                live = here.flows.get(waiting.client)
                if live is not None and live.ufrag == waiting.ufrag:
                    self._discard(here, waiting, now_ms)

    # ---- expiry ------------------------------------------------------------------------------------

    def expire(self, now_ms: int) -> None:
        """End every flow whose time is over, free every port that has rested."""
        over = [
            (here, flow)
            for here in self.shards
            for flow in here.flows.values()
            if self._is_over(flow, now_ms)
        ]
        for here, flow in over:
            self._end(here, flow, now_ms)
        for here in self.shards:
            for waiting in list(here.provisional.values()):
                if now_ms - waiting.last_seen_ms >= PROVISIONAL_TTL_MS:
                    self._discard(here, waiting, now_ms)
            for key, use in list(here.ports.items()):
                if use.holder is None and now_ms - use.since_ms >= QUARANTINE_MS:
                    del here.ports[key]

    def _is_over(self, flow: Flow, now_ms: int) -> bool:
        """A plain flow and its copies share one upstream port: what feeds one keeps all of them."""
        ttl_ms = TAUGHT_TTL_MS if flow.taught else CONFIRMED_TTL_MS
        if now_ms - flow.last_seen_ms >= ttl_ms and flow.port is not None:
            copies = (copy for copy in self._copies(flow.client) if copy.version == flow.version)
            flow.last_seen_ms = max(copy.last_seen_ms for copy in copies)
        return now_ms - flow.last_seen_ms >= ttl_ms


# ---- the ways out, and what they need ----------------------------------------------------------------


def _read(kind: Kind, datagram: bytes) -> tuple[str, stun.Message | None]:
    """A drop reason or "none", and the message when it is STUN."""
    if kind == Kind.NOT_WEBRTC:
        return "not_webrtc", None
    if kind != Kind.STUN:
        return "none", None
    try:
        return "none", stun.parse_message(datagram)
    except WireError:
        return "bad_stun", None


def _drop(reason: str, decision: str = "none", *, overrode: bool = False) -> Verdict:
    return Verdict("drop", reason, decision, overrode=overrode)


def _use_provisional(flow: Provisional, datagram: bytes, now_ms: int, verdict: Verdict) -> Verdict:
    flow.last_seen_ms = now_ms
    flow.bytes_up = min(flow.bytes_up + len(datagram), BYTES_UP_MAX)
    return replace(verdict, backend=flow.backend, port=flow.port, traffic_class=flow.traffic_class)


def _send_down(flow: Flow | Provisional, *, confirmed: bool = False) -> Verdict:
    return Verdict(
        "forward",
        backend=flow.backend,
        client=flow.client,
        traffic_class=flow.traffic_class,
        confirmed=confirmed,
    )


def _success(datagram: bytes) -> bytes | None:
    """The transaction id of a well-formed Binding success response; None for anything else."""
    _, message = _read(demux(datagram), datagram)
    return message.transaction if message is not None and message.type == stun.BINDING_SUCCESS else None


def _gives_way(live: Flow, shadow: Provisional, now_ms: int) -> bool:
    """A live flow is replaced only when its own ufrag was unseen for 7 s, or by a ufrag of its own session
    (an ICE restart): the owner of another session who spoofs its address cannot tear it down."""
    same_session = live.session != 0 and live.session == shadow.session
    return same_session or now_ms - live.ufrag_seen_ms >= SILENT_MS
