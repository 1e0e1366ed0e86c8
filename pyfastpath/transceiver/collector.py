"""The transceiver's counters as Prometheus sees them: fills its part of the list of pyfastpath.metrics."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from pyfastpath import __version__, metrics
from pyfastpath.metrics import Metric
from pyfastpath.transceiver.counters import (
    CLOSE_REASONS,
    DROP_REASONS,
    REPAIRS,
    SETUP_STEPS,
    Counters,
    Histogram,
    Names,
)

if TYPE_CHECKING:  # so that the documents are printed without the whole transceiver
    from pyfastpath.transceiver.endpoint import Endpoint

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily


class TransceiverCollector(Collector):
    """Reads one endpoint. unready: why no new call may come. digest: of the configuration."""

    def __init__(self, endpoint: Endpoint, unready: Callable[[], list[str]], digest: str) -> None:
        self._endpoint = endpoint
        self._unready = unready
        self._digest = digest

    def collect(self) -> Iterator[Family]:
        """Every metric of the list, once."""
        counters = self._endpoint.counters
        yield from _sessions(counters, self._endpoint.capacity)
        yield from _datagrams(counters)
        trunk = self._endpoint.trunk
        yield _by_name(metrics.TRANSCEIVER_TRUNK_DROPPED, trunk.dropped if trunk is not None else {})
        yield from _media(counters)
        yield _alone(metrics.TRANSCEIVER_READY, not self._unready())
        yield _alone(metrics.TRANSCEIVER_DRAINING, self._endpoint.is_draining)
        yield _info(metrics.TRANSCEIVER_CONFIG_INFO, {"hash": self._digest})
        yield _info(
            metrics.TRANSCEIVER_BUILD_INFO, {"version": __version__, "python": platform.python_version()}
        )


def registry_of(endpoint: Endpoint, unready: Callable[[], list[str]], digest: str) -> CollectorRegistry:
    """A registry that holds nothing but the transceiver's metrics."""
    registry = CollectorRegistry()
    registry.register(TransceiverCollector(endpoint, unready, digest))
    return registry


def _sessions(counters: Counters, capacity: int) -> Iterator[Family]:
    yield _by_name(metrics.TRANSCEIVER_SESSIONS, counters.sessions)
    yield _alone(metrics.TRANSCEIVER_SESSIONS_MAX, capacity)
    yield _alone(metrics.TRANSCEIVER_OPENED, counters.opened)
    yield _by_name(metrics.TRANSCEIVER_CLOSED, counters.closed)
    yield _histogram(metrics.TRANSCEIVER_HANDSHAKE, [((), counters.handshake_s)])
    yield _histogram(
        metrics.TRANSCEIVER_SETUP_STEP,
        [((step,), histogram) for step, histogram in counters.setup_step_s.items()],
    )


def _datagrams(counters: Counters) -> Iterator[Family]:
    for metric, value in (
        (metrics.TRANSCEIVER_RECEIVED, counters.received),
        (metrics.TRANSCEIVER_RECEIVED_BYTES, counters.received_bytes),
        (metrics.TRANSCEIVER_SENT, counters.sent),
        (metrics.TRANSCEIVER_SENT_BYTES, counters.sent_bytes),
        (metrics.TRANSCEIVER_CONSERVATION, counters.conservation_error),
    ):
        yield _alone(metric, value)
    yield _by_name(metrics.TRANSCEIVER_USED, counters.used)
    yield _by_name(metrics.TRANSCEIVER_DROPPED, counters.dropped)
    yield _by_name(metrics.TRANSCEIVER_SRTP_FAILURES, counters.srtp_failures())


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
        yield _alone(metric, value)
    yield _by_name(metrics.TRANSCEIVER_RTP_REPAIRED, counters.repaired)
    for metric, histogram in (
        (metrics.TRANSCEIVER_RTP_JITTER, counters.jitter_s),
        (metrics.TRANSCEIVER_ROUND_TRIP, counters.round_trip_s),
        (metrics.TRANSCEIVER_LOOP_LAG, counters.event_loop_lag_s),
    ):
        yield _histogram(metric, [((), histogram)])


def _alone(metric: Metric, value: float) -> Family:
    return _family(metric, [((), value)])


def _by_name(metric: Metric, values: Mapping[str, float]) -> Family:
    return _family(metric, [((name,), value) for name, value in values.items()])


def _family(metric: Metric, samples: Iterable[tuple[tuple[str, ...], float]]) -> Family:
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    family: CounterMetricFamily | GaugeMetricFamily = kind(metric.family, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _histogram(metric: Metric, samples: Iterable[tuple[tuple[str, ...], Histogram]]) -> Family:
    family = HistogramMetricFamily(metric.family, metric.help, labels=metric.labels)
    for labels, histogram in samples:
        family.add_metric(labels, histogram.cumulative(), sum_value=histogram.sum)
    return family


def _info(metric: Metric, values: dict[str, str]) -> Family:
    family = InfoMetricFamily(metric.family, metric.help)
    family.add_metric([], values)
    return family


def document() -> str:
    """The end of docs/metrics.md: the words in the transceiver's labels."""
    parts = [
        "\n## Words in the transceiver's labels\n",
        "`received = Σ used + Σ dropped`, between any two datagrams.\n",
        _named(metrics.TRANSCEIVER_DROPPED, "why a datagram is not used", DROP_REASONS),
        _named(metrics.TRANSCEIVER_CLOSED, "why a session ended", CLOSE_REASONS),
        _named(metrics.TRANSCEIVER_SETUP_STEP, "what has happened", SETUP_STEPS),
        _named(metrics.TRANSCEIVER_RTP_REPAIRED, "what stands in for a lost packet", REPAIRS),
    ]
    return "\n".join(parts)


def _named(metric: Metric, meaning: str, names: Names) -> str:
    rows = [f"| `{name}` | {text.replace('|', '/')} |\n" for name, text in names]
    head = f"### `{metric.name}`\n\n| {', '.join(metric.labels)} | {meaning} |\n| --- | --- |\n"
    return head + "".join(rows)
