"""The transceiver's counters as Prometheus sees them: fills its part of the list of pyfastpath.metrics."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client.registry import Collector

from pyfastpath import __version__, metrics
from pyfastpath.exposition import Family, alone, by_name, histogram, info
from pyfastpath.guard import Gate
from pyfastpath.metrics import Metric
from pyfastpath.serving import families
from pyfastpath.transceiver.counters import (
    CLOSE_REASONS,
    DROP_REASONS,
    REPAIRS,
    SETUP_STEPS,
    SPEECH_DROP_REASONS,
    Counters,
    Names,
)

if TYPE_CHECKING:  # so that the documents are printed without the whole transceiver
    from pyfastpath.transceiver.endpoint import Endpoint


class TransceiverCollector(Collector):
    """Reads one endpoint. unready: why no new call may come. digest: of the configuration. gates: of the
    HTTP listeners, by the setting that names each."""

    def __init__(
        self,
        endpoint: Endpoint,
        unready: Callable[[], list[str]],
        digest: str,
        gates: Mapping[str, Gate],
    ) -> None:
        self._gates = gates
        self._endpoint = endpoint
        self._unready = unready
        self._digest = digest

    def collect(self) -> Iterator[Family]:
        """Every metric of the list, once."""
        counters = self._endpoint.counters
        yield from _sessions(counters, self._endpoint.capacity)
        yield from _datagrams(counters)
        yield by_name(metrics.TRANSCEIVER_TRUNK_DROPPED, _dropped_at_sockets(self._endpoint))
        yield from _media(counters)
        yield from families(metrics.TRANSCEIVER_CONNECTIONS, metrics.TRANSCEIVER_CONNECTIONS_CUT, self._gates)
        yield alone(metrics.TRANSCEIVER_READY, not self._unready())
        yield alone(metrics.TRANSCEIVER_DRAINING, self._endpoint.is_draining)
        yield info(metrics.TRANSCEIVER_CONFIG_INFO, {"hash": self._digest})
        yield info(
            metrics.TRANSCEIVER_BUILD_INFO, {"version": __version__, "python": platform.python_version()}
        )


def _dropped_at_sockets(endpoint: Endpoint) -> dict[str, int]:
    total: dict[str, int] = {}
    for socket in (endpoint.trunk, endpoint.plain):
        for reason, count in (socket.dropped if socket is not None else {}).items():
            total[reason] = total.get(reason, 0) + count
    return total


def _sessions(counters: Counters, capacity: int) -> Iterator[Family]:
    yield by_name(metrics.TRANSCEIVER_SESSIONS, counters.sessions)
    yield alone(metrics.TRANSCEIVER_SESSIONS_MAX, capacity)
    yield alone(metrics.TRANSCEIVER_OPENED, counters.opened)
    yield by_name(metrics.TRANSCEIVER_CLOSED, counters.closed)
    yield histogram(metrics.TRANSCEIVER_HANDSHAKE, [((), counters.handshake_s)])
    yield histogram(
        metrics.TRANSCEIVER_SETUP_STEP,
        [((step,), times) for step, times in counters.setup_step_s.items()],
    )


def _datagrams(counters: Counters) -> Iterator[Family]:
    for metric, value in (
        (metrics.TRANSCEIVER_RECEIVED, counters.received),
        (metrics.TRANSCEIVER_RECEIVED_BYTES, counters.received_bytes),
        (metrics.TRANSCEIVER_SENT, counters.sent),
        (metrics.TRANSCEIVER_SENT_BYTES, counters.sent_bytes),
        (metrics.TRANSCEIVER_CONSERVATION, counters.conservation_error),
    ):
        yield alone(metric, value)
    yield by_name(metrics.TRANSCEIVER_USED, counters.used)
    yield by_name(metrics.TRANSCEIVER_DROPPED, counters.dropped)
    yield by_name(metrics.TRANSCEIVER_SRTP_FAILURES, counters.srtp_failures())


def _media(counters: Counters) -> Iterator[Family]:
    for metric, value in (
        (metrics.TRANSCEIVER_RTP_RECEIVED, counters.rtp_received),
        (metrics.TRANSCEIVER_RTP_SENT, counters.rtp_sent),
        (metrics.TRANSCEIVER_RTP_LOST, counters.rtp_lost),
        (metrics.TRANSCEIVER_RTP_LATE, counters.rtp_late),
        (metrics.TRANSCEIVER_RTP_DUPLICATED, counters.rtp_duplicated),
        (metrics.TRANSCEIVER_BUFFER_DELAY, counters.jitter_buffer_delay_s),
        (metrics.TRANSCEIVER_BUFFER_RELEASED, counters.jitter_buffer_released),
        (metrics.TRANSCEIVER_DATA_RECEIVED, counters.data_received),
        (metrics.TRANSCEIVER_DATA_SENT, counters.data_sent),
    ):
        yield alone(metric, value)
    yield by_name(metrics.TRANSCEIVER_RTP_REPAIRED, counters.repaired)
    yield by_name(metrics.TRANSCEIVER_SPEECH_DROPPED, counters.speech_dropped_s)
    for metric, times in (
        (metrics.TRANSCEIVER_RTP_JITTER, counters.jitter_s),
        (metrics.TRANSCEIVER_ROUND_TRIP, counters.round_trip_s),
        (metrics.TRANSCEIVER_LOOP_LAG, counters.event_loop_lag_s),
    ):
        yield histogram(metric, [((), times)])


def document() -> str:
    """The end of docs/metrics.md: the words in the transceiver's labels."""
    parts = [
        "\n## Words in the transceiver's labels\n",
        "`received = Σ used + Σ dropped`, between any two datagrams.\n",
        _named(metrics.TRANSCEIVER_DROPPED, "why a datagram is not used", DROP_REASONS),
        _named(metrics.TRANSCEIVER_CLOSED, "why a session ended", CLOSE_REASONS),
        _named(metrics.TRANSCEIVER_SETUP_STEP, "what has happened", SETUP_STEPS),
        _named(metrics.TRANSCEIVER_RTP_REPAIRED, "what stands in for a lost packet", REPAIRS),
        _named(metrics.TRANSCEIVER_SPEECH_DROPPED, "why speech is not queued", SPEECH_DROP_REASONS),
    ]
    return "\n".join(parts)


def _named(metric: Metric, meaning: str, names: Names) -> str:
    rows = [f"| `{name}` | {text.replace('|', '/')} |\n" for name, text in names]
    head = f"### `{metric.name}`\n\n| {', '.join(metric.labels)} | {meaning} |\n| --- | --- |\n"
    return head + "".join(rows)
