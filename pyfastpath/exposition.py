"""From an entry of the list in pyfastpath.metrics and its values to what prometheus_client exports."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector

from pyfastpath.histogram import Histogram
from pyfastpath.metrics import Metric

Family = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily | InfoMetricFamily
Labels = tuple[str, ...]


def registry_of(collector: Collector) -> CollectorRegistry:
    """A registry that holds nothing but this collector's metrics."""
    registry = CollectorRegistry()
    registry.register(collector)
    return registry


def family(metric: Metric, samples: Iterable[tuple[Labels, float]]) -> Family:
    """A counter or a gauge: (values of the metric's labels, number) each."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    made: CounterMetricFamily | GaugeMetricFamily = kind(metric.family, metric.help, labels=metric.labels)
    for labels, value in samples:
        made.add_metric(labels, float(value))
    return made


def alone(metric: Metric, value: float) -> Family:
    """A counter or gauge without labels."""
    return family(metric, [((), value)])


def by_name(metric: Metric, values: Mapping[str, float]) -> Family:
    """A counter or gauge with one label."""
    return family(metric, (((name,), value) for name, value in values.items()))


def histogram(metric: Metric, samples: Iterable[tuple[Labels, Histogram]]) -> Family:
    """(values of the labels, histogram) each."""
    made = HistogramMetricFamily(metric.family, metric.help, labels=metric.labels)
    for labels, one in samples:
        made.add_metric(labels, one.cumulative(), sum_value=one.sum)
    return made


def info(metric: Metric, values: dict[str, str]) -> Family:
    """A metric that is 1 and says something in its labels."""
    made = InfoMetricFamily(metric.family, metric.help)
    made.add_metric([], values)
    return made
