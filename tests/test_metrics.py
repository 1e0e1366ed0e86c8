"""The list of metrics follows Prometheus' conventions, and layout.h's reasons are in its document."""

import re
from pathlib import Path
from urllib.request import urlopen

import pytest
from prometheus_client import core
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from pyfastpath.metrics import METRICS, RELAY_METRICS, document
from tests.support.relay import running_relay

LABELS = {"listener", "shard", "direction", "reason", "backend", "state", "hash", "version", "python"} | {
    "route",
    "status",
    "outcome",
    "kind",
    "step",
    "how",
}
UNITS = ("seconds", "bytes", "ratio", "datagrams", "info", "total")
FAMILIES = {
    "counter": core.CounterMetricFamily,
    "gauge": core.GaugeMetricFamily,
    "histogram": core.HistogramMetricFamily,
    "info": core.InfoMetricFamily,
}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric):
    assert re.fullmatch(r"fastpath_[a-z][a-z0-9_]*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.name.endswith("_info") == (metric.kind == "info")
    assert not re.search(r"_(us|ms|ns|kib|mib|percent)(_|$)", metric.name), "base units only"
    assert set(metric.labels) <= LABELS, "labels never name a client"
    assert metric.help
    assert not metric.help.endswith(".")


def test_names_are_unique():
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_parser_of_prometheus_reads_every_family():
    class All(Collector):
        def collect(self):
            for metric in METRICS:
                family = FAMILIES[metric.kind](metric.family, metric.help, labels=metric.labels)
                values = [f"x{number}" for number, _ in enumerate(metric.labels)]
                if metric.kind == "histogram":
                    family.add_metric(values, [("1.0", 1), ("+Inf", 2)], 3.0)
                elif metric.kind == "info":
                    family.add_metric([], dict(zip(metric.labels, values, strict=True)))
                else:
                    family.add_metric(values, 1)
                yield family

    registry = CollectorRegistry()
    registry.register(All())
    text = generate_latest(registry).decode()
    samples = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
    for metric in METRICS:
        assert metric.name in samples or f"{metric.name}_bucket" in samples


def test_every_drop_reason_of_the_header_is_documented():
    header = (Path(__file__).parent.parent / "fastpath" / "layout.h").read_text()
    reasons = header.split("#define FP_DROP_REASONS(X)")[1].split("#define FP_X")[0]
    names = re.findall(r"X\((\w+),", reasons)
    assert len(names) > 20
    text = document()
    for name in names[1:]:
        assert f"| `{name}` |" in text


def test_a_relay_exports_all_of_them_and_nothing_else(tmp_path):
    with (
        running_relay(tmp_path, backends=[{"id": "a", "address": "127.0.0.1:5000"}]) as relay,
        urlopen(f"{relay.health}/metrics", timeout=10) as reply,
    ):
        text = reply.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    # The text format knows no info: it is a gauge of value 1 whose name keeps the suffix.
    expected = {metric.name if metric.kind == "info" else metric.family: metric for metric in RELAY_METRICS}
    assert set(families) == set(expected)
    for name, metric in expected.items():
        assert families[name].type == ("gauge" if metric.kind == "info" else metric.kind)
        assert families[name].documentation == metric.help
        for sample in families[name].samples:
            assert set(sample.labels) - {"le"} == set(metric.labels), sample
