"""What PromQL expressions of ours name, compared with what is exported."""

import re

from fastpath.counters import DECISIONS, DROP_REASONS

from pyfastpath import metrics

_SAMPLES = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("",), "gauge": ("",), "info": ("",)}
EXPORTED = {
    metric.name + suffix: {*metric.labels, *(["le"] if suffix == "_bucket" else [])}
    for metric in metrics.METRICS
    for suffix in _SAMPLES[metric.kind]
}
OF_PROMETHEUS = {"instance", "job"}
REASONS = {
    metrics.DROPPED.name: {name for name, _ in DROP_REASONS},
    metrics.ROUTE_DECISIONS.name: {name for name, _ in DECISIONS},
    metrics.GATEWAY_CALLS.name: set(metrics.GATEWAY_OUTCOMES),
}


def check_metrics(expression: str) -> None:
    """AssertionError for a metric, a label or a reason that nobody exports."""
    named = re.findall(r"\b(fastpath_\w+)(\{[^}]*\})?", expression)
    assert named, expression
    labels: set[str] = set()
    for name, selector in named:
        assert name in EXPORTED, f"{name} is not exported: {expression}"
        labels |= EXPORTED[name]
        for label, value in re.findall(r'(\w+)\s*!?=~?\s*"([^"]*)"', selector or ""):
            assert label in EXPORTED[name] | OF_PROMETHEUS, f"{name} has no label {label}: {expression}"
            if label in ("reason", "outcome") and name in REASONS:
                assert set(value.split("|")) <= REASONS[name], f"{value}: {expression}"
    for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
        by = {label.strip() for label in group.split(",")}
        assert by <= labels | OF_PROMETHEUS, f"{by} of {labels}: {expression}"
