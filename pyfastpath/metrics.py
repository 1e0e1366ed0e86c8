"""The one list of metrics. Each process's collector fills its own part, docs/metrics.md is printed from it.

Prometheus conventions: prefix fastpath_, base units, counters end in _total. Labels never name a client.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["counter", "gauge", "histogram", "info"]

SHARD = ("shard",)
SHARD_DIRECTION = ("shard", "direction")


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as it is exported. `name` is complete: with unit and, for a counter, _total."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """The name prometheus_client's metric families want: it adds the suffix itself."""
        return self.name.removesuffix("_total" if self.kind == "counter" else "_info")


def _counter(name: str, text: str, labels: tuple[str, ...] = SHARD) -> Metric:
    return Metric(f"fastpath_{name}_total", "counter", text, labels)


def _gauge(name: str, text: str, labels: tuple[str, ...] = ()) -> Metric:
    return Metric(f"fastpath_{name}", "gauge", text, labels)


def _transceiver(kind: Kind, name: str, text: str, *labels: str) -> Metric:
    suffix = {"counter": "_total", "info": "_info"}.get(kind, "")
    return Metric(f"fastpath_transceiver_{name}{suffix}", kind, text, labels)


# For every shard and direction: received = forwarded + punted + Σ dropped{reason}.
RECEIVED = _counter("received_datagrams", "Datagrams (trunk: records) received", SHARD_DIRECTION)
RECEIVED_BYTES = _counter("received_bytes", "Payload bytes received", SHARD_DIRECTION)
FORWARDED = _counter(
    "forwarded_datagrams", "Datagrams handed to the kernel for the other side", SHARD_DIRECTION
)
FORWARDED_BYTES = _counter("forwarded_bytes", "Payload bytes forwarded", SHARD_DIRECTION)
PUNTED = _counter("punted_datagrams", "Control records that were for the relay itself", SHARD_DIRECTION)
DROPPED = _counter(
    "dropped_datagrams", "Datagrams not forwarded, by drop reason", (*SHARD_DIRECTION, "reason")
)
CONSERVATION = _gauge(
    "conservation_error_datagrams",
    "received - forwarded - punted - dropped: anything but 0 is a bug",
    SHARD_DIRECTION,
)
KERNEL_DROPPED = _counter(
    "kernel_dropped_datagrams", "Datagrams the kernel dropped: the receive buffer was full"
)
DUPLICATED = _counter(
    "duplicated_datagrams", "At most so many datagrams were sent twice after an engine restart"
)
RECOVERED = _counter("recovered_datagrams", "Datagrams finished for an engine that died")

ROUTE_DECISIONS = _counter("route_decisions", "How the route of a new flow was decided", ("shard", "reason"))
OVERRIDES = _counter("flow_overrides", "Binding Requests whose ufrag named another flow than the address did")
FLOWS = _gauge("flows", "Live flows by state: confirmed, provisional", ("shard", "state"))
FLOWS_MAX = _gauge("flows_max", "Confirmed flows the shard can hold", SHARD)
FLOW_CHANGES = _counter("flow_changes", "Flows that entered or left a state", ("shard", "state"))
TRANSACTIONS_EVICTED = _counter(
    "transactions_evicted", "STUN transaction ids forgotten for room before their time"
)
ROUTES = _gauge("routes", "Installed session routes")
ROUTES_MAX = _gauge("routes_max", "Session routes that can be installed")

BATCH = Metric("fastpath_batch_datagrams", "histogram", "Datagrams one receive call brought", SHARD_DIRECTION)
RESIDENCE = Metric(
    "fastpath_residence_seconds",
    "histogram",
    "Kernel receive timestamp to send, a datagram (of clients: every eighth batch)",
    SHARD_DIRECTION,
)
RECEIVE_BUFFER = _gauge(
    "receive_buffer_bytes", "Smallest receive buffer the kernel granted to a socket", SHARD
)
WORKER_LOOPS = _counter("worker_loops", "Turns of the worker loop")
WORKER_NAPS = _counter("worker_naps", "Waits for more datagrams (coalescing)")
PRESSURE = _gauge(
    "pressure_level",
    "What the worker sheds, beside what the levels below do: "
    "0 nothing, 1 unknown, 2 new flows, 3 bulk, 4 video, 5 every second RTCP packet, 6 voice",
    SHARD,
)
WORKER_BLOCKS = _counter("worker_blocks", "Turns that found nothing to receive (idle)")
RECEIVE_ERRORS = _counter(
    "receive_errors", "Receives that gave an error: of plain ports mostly a backend's ICMP, it is unreachable"
)

UPSTREAM_PORTS = _gauge("upstream_ports", "Plain ports taken, per backend address: used, quarantine",
                        ("shard", "state"))  # fmt: skip
UPSTREAM_PORTS_MAX = _gauge("upstream_ports_max", "Plain ports of the shard, for each backend address", SHARD)

BACKEND_STATE = _gauge(
    "backend_state", "1 for the state the backend is in, 0 for the others", ("backend", "state")
)
BACKEND_SESSIONS = _gauge("backend_sessions", "Sessions the transceiver reported", ("backend",))
BACKEND_CAPACITY = _gauge("backend_capacity", "Sessions the transceiver said it can hold", ("backend",))
TRUNK_RTT = _gauge("trunk_rtt_seconds", "Round trip of the newest trunk ping", ("backend",))
TRUNK_PINGS = _counter("trunk_pings", "Trunk pings sent", ("backend",))
TRUNK_PONGS = _counter("trunk_pongs", "Trunk pings answered", ("backend",))
TRUNK_LOSS = _gauge("trunk_loss_ratio", "Trunk pings unanswered since the last scrape, 0 to 1", ("backend",))
TRUNK_DATAGRAMS = _counter("trunk_datagrams", "Trunk datagrams (bundles)", SHARD_DIRECTION)
TRUNK_BYTES = _counter("trunk_bytes", "Bytes of trunk datagrams, headers and tags included", SHARD_DIRECTION)
TRUNK_OVERSIZE = _counter("trunk_oversize", "Records that fit no bundle and travelled alone")
TRUNK_SINGLY = _counter("trunk_singly", "Trunk datagrams sent one by one because the kernel refused a run")

HTTP_CONNECTIONS = _gauge("http_connections", "Open HTTP connections, by listener", ("listener",))
HTTP_CONNECTIONS_CUT = _counter(
    "http_connections_cut", "HTTP connections closed on purpose", ("listener", "reason")
)
READY = _gauge("ready", "1 when /readyz says yes")
DRAINING = _gauge("draining", "1 while this relay drains")
ENGINE_STARTS = _counter("engine_starts", "Engines the keeper has started", ())
CONFIG_INFO = Metric("fastpath_config_info", "info", "Digest of the configuration in force", ("hash",))
BUILD_INFO = Metric(
    "fastpath_build_info", "info", "Version of the relay and of Python", ("version", "python")
)

# The transceiver. Reasons, steps and kinds are those of transceiver.counters.
TRANSCEIVER_SESSIONS = _transceiver("gauge", "sessions", "Sessions by state", "state")
TRANSCEIVER_SESSIONS_MAX = _transceiver("gauge", "sessions_max", "Sessions this transceiver takes")
TRANSCEIVER_OPENED = _transceiver("counter", "sessions_opened", "Sessions that were created")
TRANSCEIVER_CLOSED = _transceiver("counter", "sessions_closed", "Sessions that ended, by reason", "reason")
TRANSCEIVER_RECEIVED = _transceiver(
    "counter", "received_datagrams", "Datagrams received, by trunk or directly"
)
TRANSCEIVER_RECEIVED_BYTES = _transceiver("counter", "received_bytes", "Payload bytes received")
TRANSCEIVER_SENT = _transceiver("counter", "sent_datagrams", "Datagrams handed to the kernel or to the trunk")
TRANSCEIVER_SENT_BYTES = _transceiver("counter", "sent_bytes", "Payload bytes sent")
TRANSCEIVER_USED = _transceiver(
    "counter", "used_datagrams", "Datagrams a session used: stun, dtls, rtp, rtcp", "kind"
)
TRANSCEIVER_DROPPED = _transceiver(
    "counter", "dropped_datagrams", "Datagrams not used, by drop reason", "reason"
)
TRANSCEIVER_CONSERVATION = _transceiver(
    "gauge", "conservation_error_datagrams", "received - used - dropped: anything but 0 is a bug"
)
TRANSCEIVER_TRUNK_DROPPED = _transceiver(
    "counter", "trunk_dropped", "Of the trunk: not believed, or not taken by the kernel, by reason", "reason"
)
TRANSCEIVER_HANDSHAKE = _transceiver(
    "histogram", "handshake_seconds", "First DTLS record to the end of the handshake"
)
TRANSCEIVER_SETUP_STEP = _transceiver(
    "histogram", "setup_step_seconds", "Creation of a session to this step", "step"
)
TRANSCEIVER_RTP_RECEIVED = _transceiver(
    "counter", "rtp_received_packets", "RTP packets received and authentic"
)
TRANSCEIVER_RTP_SENT = _transceiver("counter", "rtp_sent_packets", "RTP packets sent")
TRANSCEIVER_RTP_LOST = _transceiver(
    "counter", "rtp_lost_packets", "RTP packets the jitter buffer gave up waiting for"
)
TRANSCEIVER_RTP_LATE = _transceiver("counter", "rtp_late_packets", "RTP packets that came after that")
TRANSCEIVER_RTP_DUPLICATED = _transceiver("counter", "rtp_duplicated_packets", "RTP packets that came twice")
TRANSCEIVER_RTP_REPAIRED = _transceiver(
    "counter", "rtp_repaired_packets", "What stands in for lost packets", "how"
)
TRANSCEIVER_RTP_JITTER = _transceiver(
    "histogram", "rtp_jitter_seconds", "Interarrival jitter of a client (RFC 3550)"
)
TRANSCEIVER_ROUND_TRIP = _transceiver(
    "histogram", "round_trip_seconds", "Round trip to a client, from RTCP reports"
)
TRANSCEIVER_SRTP_FAILURES = _transceiver(
    "counter", "srtp_failures", "SRTP and SRTCP packets that were refused, by reason", "reason"
)
TRANSCEIVER_BUFFER_DELAY = _transceiver(
    "counter", "jitter_buffer_delay_seconds", "Time packets spent in the jitter buffer"
)
TRANSCEIVER_BUFFER_RELEASED = _transceiver(
    "counter", "jitter_buffer_released_packets", "Packets the jitter buffer released"
)
TRANSCEIVER_DATA_RECEIVED = _transceiver(
    "counter", "data_received_messages", "Messages received on data channels"
)
TRANSCEIVER_DATA_SENT = _transceiver("counter", "data_sent_messages", "Messages sent on data channels")
TRANSCEIVER_SPEECH_DROPPED = _transceiver(
    "counter", "speech_dropped_seconds", "Speech of agents that was not queued, by reason", "reason"
)
TRANSCEIVER_LOOP_LAG = _transceiver(
    "histogram", "event_loop_lag_seconds", "How much later than asked a timer was served"
)
TRANSCEIVER_CONNECTIONS = _transceiver(
    "gauge", "http_connections", "Open HTTP connections, by listener", "listener"
)
TRANSCEIVER_CONNECTIONS_CUT = _transceiver(
    "counter", "http_connections_cut", "HTTP connections closed on purpose", "listener", "reason"
)
TRANSCEIVER_READY = _transceiver("gauge", "ready", "1 when /readyz says yes")
TRANSCEIVER_DRAINING = _transceiver("gauge", "draining", "1 while this transceiver takes no new session")
TRANSCEIVER_CONFIG_INFO = _transceiver("info", "config", "Digest of the configuration in force", "hash")
TRANSCEIVER_BUILD_INFO = _transceiver(
    "info", "build", "Version of the transceiver and of Python", "version", "python"
)

# The signalling gateway. Routes and outcomes are fixed words; nothing here names a call or a client.
GATEWAY_REQUESTS = _counter("gateway_requests", "HTTP requests answered", ("route", "status"))
GATEWAY_REQUEST_SECONDS = Metric(
    "fastpath_gateway_request_seconds", "histogram", "Whole request to whole answer, event streams apart",
    ("route",),
)  # fmt: skip
GATEWAY_CALLS = _counter("gateway_calls", "Requests for a new call by what became of them", ("outcome",))
GATEWAY_PLACEMENT_SECONDS = Metric(
    "fastpath_gateway_placement_seconds", "histogram", "Offer to answer, failed attempts included"
)
GATEWAY_PLACEMENT_FAILURES = _counter(
    "gateway_placement_failures", "Attempts to place a call that failed, the next was tried", ("reason",)
)
GATEWAY_TRANSCEIVERS = _gauge("gateway_transceivers", "Live transceivers by state", ("state",))
GATEWAY_SESSIONS = _gauge("gateway_sessions", "Sessions the live transceivers reported")
GATEWAY_SESSIONS_MAX = _gauge("gateway_sessions_max", "Sessions those that take new calls can hold")
GATEWAY_STREAMS = _gauge("gateway_streams", "Event streams of calls that are open")
GATEWAY_LOST = _counter("gateway_lost", "Event streams that ended because the transceiver was gone", ())
GATEWAY_CONNECTIONS = _gauge("gateway_connections", "Open HTTP connections, by listener", ("listener",))
GATEWAY_CONNECTIONS_CUT = _counter(
    "gateway_connections_cut", "HTTP connections closed on purpose", ("listener", "reason")
)
GATEWAY_READY = _gauge("gateway_ready", "1 when /readyz says yes")
GATEWAY_DRAINING = _gauge("gateway_draining", "1 while this gateway takes no new call")

METRICS: tuple[Metric, ...] = tuple(value for value in list(vars().values()) if isinstance(value, Metric))
GATEWAY_METRICS = tuple(metric for metric in METRICS if metric.name.startswith("fastpath_gateway_"))
TRANSCEIVER_METRICS = tuple(metric for metric in METRICS if metric.name.startswith("fastpath_transceiver_"))
RELAY_METRICS = tuple(
    metric for metric in METRICS if metric not in GATEWAY_METRICS and metric not in TRANSCEIVER_METRICS
)
GATEWAY_ROUTES = (
    "calls", "hangup", "events", "restart", "client_secrets", "whip", "whip_session", "page", "preflight",
    "other",
)  # fmt: skip
GATEWAY_OUTCOMES = ("placed", "refused", "no_capacity", "failed")
GATEWAY_FAILURES = ("unreachable", "no_capacity", "draining", "failed")
HTTP_CUTS = {
    "too_many": "turned away with 503: every place was taken, and nobody waited for his client",
    "made_room": "it waited for its client the longest when somebody new needed a place",
    "oversize": "the head of a request was too large (431), or as much came ahead of an answer",
    "slow_request": "the head or the body of a request did not come in time",
    "slow_reader": "it did not read what was sent to it",
}
FLOW_CHANGE_STATES = (
    "confirmed", "expired", "replaced", "closed", "taught", "copied",
    "provisional_created", "provisional_evicted", "provisional_expired",
)  # fmt: skip


def document() -> str:
    """docs/metrics.md: every metric, every drop reason, every route decision."""
    from fastpath.counters import DECISIONS, DROP_REASONS

    parts = [
        "# Metrics\n",
        "Printed by `make docs` from `pyfastpath/metrics.py` and `fastpath/layout.h`; a test compares.",
        "Each process has its own at `/metrics` of its `health_listen`: relay 9478, transceiver 9479,",
        "gateway 9480.\n",
        "## Relay\n",
        _metrics(RELAY_METRICS),
        f"States of `{FLOW_CHANGES.name}`: {', '.join(FLOW_CHANGE_STATES)}.",
        "Directions: `up` (towards the backend) and `down` (towards the client).\n",
        f"## Drop reasons (`{DROPPED.name}`)\n",
        _reasons("why a datagram is not forwarded", DROP_REASONS),
        f"## Route decisions (`{ROUTE_DECISIONS.name}`)\n",
        _reasons("how the route of a new flow was decided", DECISIONS),
        "## Conservation\n",
        "For every shard and direction `received = forwarded + punted + Σ dropped`. What the kernel dropped",
        f"before the relay saw it (`{KERNEL_DROPPED.name}`) and what a restart sent twice",
        f"(`{DUPLICATED.name}`) stand beside.\n",
        *(("## Transceiver\n", _metrics(TRANSCEIVER_METRICS)) if TRANSCEIVER_METRICS else ()),
        "## Gateway\n",
        _metrics(GATEWAY_METRICS),
        f"Routes: {', '.join(GATEWAY_ROUTES)}. Outcomes of a call: {', '.join(GATEWAY_OUTCOMES)}.",
        f"Reasons of a failed placement: {', '.join(GATEWAY_FAILURES)}.\n",
        "## HTTP connections closed on purpose\n",
        "The same in all three processes; `listener` is the setting that names it (`admin_socket`, …).\n",
        _table(("reason", "why"), [(f"`{name}`", why) for name, why in HTTP_CUTS.items()]).rstrip(),
    ]
    return "\n".join(parts) + "\n"


def _metrics(listed: tuple[Metric, ...]) -> str:
    return _table(
        ("metric", "kind", "labels", "what it says"),
        [(f"`{metric.name}`", metric.kind, ", ".join(metric.labels), metric.help) for metric in listed],
    )


def _reasons(title: str, named: tuple[tuple[str, str], ...]) -> str:
    """The first name means that there is no reason: it is not exported."""
    return _table(("reason", title), [(f"`{name}`", text) for name, text in named[1:]])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    cells = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in lines]
    return "".join(f"| {line} |\n" for line in cells)
