"""Families as prometheus_client prints them."""

from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from pyfastpath.exposition import alone, by_name, family, histogram, info, registry_of
from pyfastpath.histogram import Histogram
from pyfastpath.metrics import Metric


class Every(Collector):
    """One family of each kind."""

    def collect(self):
        waits = Histogram((0.1,))
        waits.observe(0.05)
        waits.observe(2.0)
        yield family(Metric("x_seen_total", "counter", "Seen", ("shard", "kind")), [(("0", "a"), 3)])
        yield alone(Metric("x_ready", "gauge", "Ready"), True)
        yield by_name(Metric("x_lost_total", "counter", "Lost", ("reason",)), {"late": 1, "never": 0})
        yield histogram(Metric("x_wait_seconds", "histogram", "Wait", ("step",)), [(("keys",), waits)])
        yield info(Metric("x_build_info", "info", "Build"), {"version": "1"})


def test_every_kind_is_exported_as_prometheus_wants_it():
    lines = generate_latest(registry_of(Every())).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == [
        'x_seen_total{kind="a",shard="0"} 3.0',
        "x_ready 1.0",
        'x_lost_total{reason="late"} 1.0',
        'x_lost_total{reason="never"} 0.0',
        'x_wait_seconds_bucket{le="0.1",step="keys"} 1.0',
        'x_wait_seconds_bucket{le="+Inf",step="keys"} 2.0',
        'x_wait_seconds_count{step="keys"} 2.0',
        'x_wait_seconds_sum{step="keys"} 2.05',
        'x_build_info{version="1"} 1.0',
    ]
    assert "# TYPE x_seen_total counter" in lines
    assert "# HELP x_wait_seconds Wait" in lines
