"""What a gateway exports is the list in pyfastpath.metrics, and nothing else."""

from __future__ import annotations

from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pyfastpath import metrics
from pyfastpath.exposition import registry_of
from pyfastpath.guard import Gate
from pyfastpath.signalling.numbers import GatewayCollector, Numbers
from tests.registry.records import record


def scrape(numbers: Numbers, *records, is_ready: bool = True) -> dict[str, dict[tuple[str, ...], float]]:
    """Sample name -> label values in order of the list -> value."""
    text = generate_latest(registry_of(GatewayCollector(numbers, records, is_ready=is_ready))).decode()
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_the_list_and_the_export_are_the_same() -> None:
    numbers = Numbers()
    numbers.gates["listen"] = Gate()
    numbers.requests["calls", "201"] += 1
    families = list(GatewayCollector(numbers, [], is_ready=True).collect())
    assert {family.name for family in families} == {metric.family for metric in metrics.GATEWAY_METRICS}
    for metric in metrics.GATEWAY_METRICS:
        family = next(family for family in families if family.name == metric.family)
        assert (family.type, family.documentation) == (metric.kind, metric.help)
        assert family.samples, metric.name
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(metric.labels)


def test_counts_are_what_happened() -> None:
    numbers = Numbers()
    numbers.requests["calls", "201"] += 3
    numbers.calls["placed"] += 3
    gate = numbers.gates["listen"] = Gate()
    gate.cuts["slow_reader"] += 2
    gate.connections, numbers.streams, numbers.lost, numbers.is_draining = 9, 2, 1, True
    found = scrape(
        numbers,
        record("a", sessions=4, capacity=10),
        record("b", sessions=1, capacity=10, state="draining"),
        record("c", sessions=2, capacity=30),
        is_ready=False,
    )
    assert found["fastpath_gateway_requests_total"] == {("calls", "201"): 3}
    assert found["fastpath_gateway_calls_total"] == {
        ("placed",): 3,
        ("refused",): 0,
        ("no_capacity",): 0,
        ("failed",): 0,
    }
    assert found["fastpath_gateway_connections_cut_total"][("listen", "slow_reader")] == 2
    assert found["fastpath_gateway_transceivers"] == {("up",): 2, ("draining",): 1, ("stopping",): 0}
    assert found["fastpath_gateway_sessions"] == {(): 7}
    assert found["fastpath_gateway_sessions_max"] == {(): 40}
    assert found["fastpath_gateway_streams"] == {(): 2}
    assert found["fastpath_gateway_lost_total"] == {(): 1}
    assert found["fastpath_gateway_connections"] == {("listen",): 9}
    assert (found["fastpath_gateway_ready"], found["fastpath_gateway_draining"]) == ({(): 0}, {(): 1})


def test_words_that_never_happened_are_exported_as_zero() -> None:
    numbers = Numbers()
    numbers.gates["listen"] = Gate()
    found = scrape(numbers)
    assert set(found["fastpath_gateway_placement_failures_total"]) == {
        (word,) for word in metrics.GATEWAY_FAILURES
    }
    assert set(found["fastpath_gateway_connections_cut_total"]) == {
        ("listen", word) for word in metrics.HTTP_CUTS
    }
    assert {labels[0] for labels in found["fastpath_gateway_request_seconds_count"]} == set(
        metrics.GATEWAY_ROUTES
    )
