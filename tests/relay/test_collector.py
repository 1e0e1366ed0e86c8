"""Metrics: every one of the list is exported, by Prometheus's conventions, with the tables' numbers."""

import re
import socket
from typing import Any

from fastpath.counters import DECISIONS, DROP_REASONS
from prometheus_client.core import Metric as Family

from pyfastpath import metrics
from pyfastpath.guard import Gate
from pyfastpath.relay import collector, layout
from pyfastpath.relay.liveness import Finding
from pyfastpath.relay.relay import Relay
from tests.relay.conftest import MakeConfig
from tests.relay.test_relay import address_of
from tests.support.plain_call import PlainCall
from tests.support.rig import until

UNITS = ("_seconds", "_bytes", "_ratio", "_datagrams", "_info")
LABELS = {"shard", "direction", "reason", "state", "backend", "hash", "version", "python", "le", "listener"}


def scrape(relay: Relay) -> dict[str, Family]:
    gates = {"health_listen": Gate()}
    families = relay.call(lambda control: list(collector.RelayCollector(control, gates).collect()))
    return {family.name: family for family in families}


def value(families: dict[str, Family], metric: metrics.Metric, **labels: str) -> float:
    """Sum of the samples with these labels."""
    samples = families[metric.family].samples
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def residences(relay: Relay) -> float:
    samples = scrape(relay)[metrics.RESIDENCE.family].samples
    return sum(s.value for s in samples if s.name.endswith("_count"))


def test_the_list_and_the_export_are_the_same(relay: Relay) -> None:
    families = scrape(relay)
    assert set(families) == {metric.family for metric in metrics.RELAY_METRICS}
    for metric in metrics.RELAY_METRICS:
        family = families[metric.family]
        assert (family.type, family.documentation) == (metric.kind, metric.help)


def test_names_and_labels_follow_the_conventions(relay: Relay) -> None:
    for family in scrape(relay).values():
        assert re.fullmatch(r"fastpath_[a-z]+(_[a-z]+)*", family.name)
        for sample in family.samples:
            assert set(sample.labels) <= LABELS, "no label may name a client"
            if family.type == "counter":
                assert sample.name == family.name + "_total"
    for metric in metrics.RELAY_METRICS:
        if any(word in metric.name for word in ("second", "byte", "ratio")):
            assert metric.name.removesuffix("_total").endswith(UNITS), metric.name


def test_every_drop_reason_and_decision_is_exported_from_the_start(relay: Relay) -> None:
    families = scrape(relay)
    reasons = {s.labels["reason"] for s in families[metrics.DROPPED.family].samples}
    assert reasons == {name for name, _ in DROP_REASONS} - {"none"}
    decisions = {s.labels["reason"] for s in families[metrics.ROUTE_DECISIONS.family].samples}
    assert decisions == {name for name, _ in DECISIONS} - {"none"}


def test_a_call_is_counted(relay: Relay, server: socket.socket) -> None:
    relay.routes.install("ufrag1", "a")
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.confirm()
        for number in range(5):
            call.exchange(number)
        call.client.sendto(b"\xff", call.relay)
        until(lambda: relay.counters()["dropped"].sum() == 1, "the drop")
        families = scrape(relay)
    assert value(families, metrics.RECEIVED, direction="up") == 7
    assert value(families, metrics.FORWARDED, direction="up") == 6
    assert value(families, metrics.FORWARDED, direction="down") == 6
    assert value(families, metrics.FORWARDED_BYTES, direction="down") > 5 * 27
    assert value(families, metrics.DROPPED, reason="not_webrtc") == value(families, metrics.DROPPED) == 1
    assert value(families, metrics.CONSERVATION) == 0
    assert value(families, metrics.ROUTE_DECISIONS, reason="session_route") == 1
    assert value(families, metrics.FLOWS, state="confirmed") == 1
    assert value(families, metrics.FLOW_CHANGES, state="confirmed") == 1
    assert value(families, metrics.ROUTES) == 1
    assert value(families, metrics.UPSTREAM_PORTS, state="used") == 1
    assert value(families, metrics.UPSTREAM_PORTS_MAX) == 16
    assert value(families, metrics.BACKEND_STATE, backend="a", state="up") == 1
    assert value(families, metrics.BACKEND_STATE, backend="a", state="down") == 0
    assert value(families, metrics.KERNEL_DROPPED) == 0
    assert value(families, metrics.RECEIVE_BUFFER, shard="0") >= 262144
    assert value(families, metrics.READY) == 1
    assert value(families, metrics.ENGINE_STARTS) == 1


def test_histograms_are_cumulative_and_end_at_infinity(relay: Relay, server: socket.socket) -> None:
    relay.routes.install("ufrag1", "a")
    with PlainCall(address_of(relay), server, "ufrag1") as call:
        call.confirm()
        for number in range(20):
            call.exchange(number)
    # 21 datagrams each way; of those from clients, one batch in eight tells when it arrived
    for metric, total in ((metrics.BATCH, None), (metrics.RESIDENCE, 21 + 3)):
        if total:
            until(lambda wanted=total: residences(relay) >= wanted, "the last batch is published")
        samples = scrape(relay)[metric.family].samples
        counted = 0.0
        for shard in "01":
            for direction in ("up", "down"):
                mine = [
                    s for s in samples if (s.labels["shard"], s.labels["direction"]) == (shard, direction)
                ]
                buckets = [s.value for s in mine if s.name.endswith("_bucket")]
                bounds = [float(s.labels["le"]) for s in mine if s.name.endswith("_bucket")]
                assert buckets == sorted(buckets)
                assert bounds == sorted(set(bounds))
                assert bounds[-1] == float("inf")
                (count,) = [s.value for s in mine if s.name.endswith("_count")]
                (sum_,) = [s.value for s in mine if s.name.endswith("_sum")]
                assert count == buckets[-1]
                assert (sum_ > 0) == (count > 0)
                counted += count
        assert counted == total if total else counted > 0


def test_residence_buckets_end_where_the_data_plane_ends_them() -> None:
    bounds = [float(text) for text in collector.RESIDENCE_BOUNDS]
    assert len(bounds) == layout.RESIDENCE_BUCKETS
    assert bounds[4 * 10] == 1.25 * 1024 / 1e9  # bucket 4e+m ends at 2^e (1 + (m+1)/4) ns
    assert bounds[4 * 10 + 3] == 2048 / 1e9
    assert len(collector.BATCH_BOUNDS) == layout.BATCH_BUCKETS


def test_trunk_metrics_of_a_backend(make_config: MakeConfig) -> None:
    spec: Any = {"id": "t", "address": "127.0.0.1:9", "mode": "trunk"}
    with Relay(make_config(trunk_port="0", backends=["a=127.0.0.1:9"])) as relay:

        def look(pings: int, pongs: int) -> dict[str, Family]:
            finding = Finding("up", (0, 1, 0), 3, 50, rtt_us=250, pings=pings, pongs=pongs)

            def work(control: Any) -> list[Family]:
                control.findings = {0: finding}
                return list(watching.collect())

            return {family.name: family for family in relay.call(work)}

        watching = relay.call(lambda control: collector.RelayCollector(control, {}))
        families = look(10, 10)
        assert value(families, metrics.TRUNK_RTT, backend="a") == 0.00025
        assert value(families, metrics.BACKEND_SESSIONS, backend="a") == 3
        assert value(families, metrics.BACKEND_CAPACITY, backend="a") == 50
        assert value(families, metrics.TRUNK_PINGS, backend="a") == 10
        assert value(families, metrics.TRUNK_LOSS, backend="a") == 0
        assert value(look(20, 15), metrics.TRUNK_LOSS, backend="a") == 0.5
        assert value(look(20, 15), metrics.TRUNK_LOSS, backend="a") == 0
    assert spec
