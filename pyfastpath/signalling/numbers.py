"""What a gateway counts, and how Prometheus sees it. Pure counting; one scrape reads it all."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from pyfastpath import metrics
from pyfastpath.metrics import Metric
from pyfastpath.registry.record import TransceiverRecord

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily
BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STATES: Final = ("up", "draining", "stopping")


class Histogram:
    """Seconds, counted in the buckets of BOUNDS_S."""

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.counts[bisect_left(BOUNDS_S, seconds)] += 1
        self.sum_s += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """(upper bound, how many up to it), as Prometheus wants them."""
        total, rows = 0, []
        for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), self.counts, strict=True):
            total += count
            rows.append((bound, float(total)))
        return rows


class Numbers:
    """Every count of one gateway, and whether it drains."""

    def __init__(self) -> None:
        self.is_draining = False
        self.requests: Counter[tuple[str, str]] = Counter()  # route, status
        self.request_s = {route: Histogram() for route in metrics.GATEWAY_ROUTES}
        self.calls = Counter(dict.fromkeys(metrics.GATEWAY_OUTCOMES, 0))
        self.placement_s = Histogram()
        self.placement_failures = Counter(dict.fromkeys(metrics.GATEWAY_FAILURES, 0))
        self.streams = 0
        self.lost = 0
        self.connections = 0
        self.cuts = Counter(dict.fromkeys(metrics.GATEWAY_CUTS, 0))


class GatewayCollector(Collector):
    """One scrape: the numbers, and the transceivers alive at that moment."""

    def __init__(self, numbers: Numbers, records: Iterable[TransceiverRecord], *, is_ready: bool) -> None:
        self._numbers = numbers
        self._records = tuple(records)
        self._is_ready = is_ready

    def collect(self) -> Iterator[Family]:
        """Every metric of GATEWAY_METRICS, once."""
        numbers, records = self._numbers, self._records
        up = [record for record in records if record.state == "up"]
        yield _counter(metrics.GATEWAY_REQUESTS, numbers.requests.items())
        yield _histogram(
            metrics.GATEWAY_REQUEST_SECONDS, (((route,), one) for route, one in numbers.request_s.items())
        )
        yield _counter(metrics.GATEWAY_CALLS, _worded(numbers.calls))
        yield _histogram(metrics.GATEWAY_PLACEMENT_SECONDS, [((), numbers.placement_s)])
        yield _counter(metrics.GATEWAY_PLACEMENT_FAILURES, _worded(numbers.placement_failures))
        states = Counter(record.state for record in records)
        yield _gauge(metrics.GATEWAY_TRANSCEIVERS, (((state,), states[state]) for state in STATES))
        yield _gauge(metrics.GATEWAY_SESSIONS, [((), sum(record.sessions for record in records))])
        yield _gauge(metrics.GATEWAY_SESSIONS_MAX, [((), sum(record.capacity for record in up))])
        yield _gauge(metrics.GATEWAY_STREAMS, [((), numbers.streams)])
        yield _counter(metrics.GATEWAY_LOST, [((), numbers.lost)])
        yield _gauge(metrics.GATEWAY_CONNECTIONS, [((), numbers.connections)])
        yield _counter(metrics.GATEWAY_CONNECTIONS_CUT, _worded(numbers.cuts))
        yield _gauge(metrics.GATEWAY_READY, [((), self._is_ready)])
        yield _gauge(metrics.GATEWAY_DRAINING, [((), numbers.is_draining)])


def registry_of(collector: GatewayCollector) -> CollectorRegistry:
    """A registry that holds nothing but these."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def _worded(counter: Counter[str]) -> Iterable[tuple[tuple[str, ...], float]]:
    return (((word,), count) for word, count in counter.items())


def _counter(metric: Metric, samples: Iterable[tuple[tuple[str, ...], float]]) -> CounterMetricFamily:
    family = CounterMetricFamily(metric.family, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _gauge(metric: Metric, samples: Iterable[tuple[tuple[str, ...], float]]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(metric.family, metric.help, labels=metric.labels)
    for labels, value in samples:
        family.add_metric(labels, float(value))
    return family


def _histogram(metric: Metric, samples: Iterable[tuple[tuple[str, ...], Histogram]]) -> HistogramMetricFamily:
    family = HistogramMetricFamily(metric.family, metric.help, labels=metric.labels)
    for labels, one in samples:
        family.add_metric(labels, one.buckets(), sum_value=one.sum_s)
    return family
