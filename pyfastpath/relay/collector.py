"""The relay's counters as Prometheus sees them: a collector that fills the list of pyfastpath.metrics."""

import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fastpath.counters import DECISIONS as DECISION_NAMES
from fastpath.counters import DROP_REASONS
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from pyfastpath import __version__, metrics
from pyfastpath.exposition import Family, family, info
from pyfastpath.guard import Gate
from pyfastpath.metrics import Metric
from pyfastpath.relay import report
from pyfastpath.relay.control import Control
from pyfastpath.relay.layout import BATCH_BUCKETS, DIRECTIONS, residence_ends_s
from pyfastpath.relay.tables import Rows, conservation_error
from pyfastpath.serving import families

Samples = Iterable[tuple[tuple[str, ...], float]]

BATCH_BOUNDS = [str(1 << bucket) for bucket in range(BATCH_BUCKETS - 1)] + ["+Inf"]
RESIDENCE_BOUNDS = [*map(repr, residence_ends_s()), "+Inf"]


class RelayCollector(Collector):
    """Reads the tables of one engine at each scrape, and the gates of its HTTP listeners."""

    def __init__(self, control: Control, gates: Mapping[str, Gate]) -> None:
        self._control = control
        self._gates = gates
        self._pings: dict[str, tuple[int, int]] = {}  # at the scrape before: pings, pongs by backend

    def collect(self) -> Iterator[Family]:
        """Every metric of the list, once."""
        counters = self._control.tables.counters()
        yield from _datagrams(counters)
        yield from _flows(self._control, counters)
        yield from _workers(self._control, counters)
        yield from self._backends()
        yield from families(metrics.HTTP_CONNECTIONS, metrics.HTTP_CONNECTIONS_CUT, self._gates)
        yield from _relay(self._control)

    def _backends(self) -> Iterator[Family]:
        entries = list(self._control.registry.entries.values())
        found = [(entry.spec.id, self._control.findings.get(entry.index)) for entry in entries]
        trunks = [(name, finding) for name, finding in found if finding is not None]
        yield family(
            metrics.BACKEND_STATE,
            (
                ((entry.spec.id, state), float(entry.state == state))
                for entry in entries
                for state in ("up", "draining", "down")
            ),
        )
        told = [(name, finding) for name, finding in trunks if finding.reported is not None]
        yield family(metrics.BACKEND_SESSIONS, (((name,), one.sessions) for name, one in told))
        yield family(metrics.BACKEND_CAPACITY, (((name,), one.capacity) for name, one in told))
        yield family(metrics.TRUNK_RTT, (((name,), one.rtt_us / 1e6) for name, one in trunks if one.rtt_us))
        yield family(metrics.TRUNK_PINGS, (((name,), one.pings) for name, one in trunks))
        yield family(metrics.TRUNK_PONGS, (((name,), one.pongs) for name, one in trunks))
        losses = [((name,), self._loss(name, one.pings, one.pongs)) for name, one in trunks]
        yield family(metrics.TRUNK_LOSS, losses)

    def _loss(self, name: str, pings: int, pongs: int) -> float:
        before = self._pings.get(name, (0, 0))
        self._pings[name] = (pings, pongs)
        sent, answered = pings - before[0], pongs - before[1]
        return min(1.0, max(0.0, 1 - answered / sent)) if sent > 0 else 0.0


def _datagrams(counters: Rows) -> Iterator[Family]:
    for metric, field in (
        (metrics.RECEIVED, "received"),
        (metrics.RECEIVED_BYTES, "received_bytes"),
        (metrics.FORWARDED, "forwarded"),
        (metrics.FORWARDED_BYTES, "forwarded_bytes"),
        (metrics.PUNTED, "punted"),
        (metrics.TRUNK_DATAGRAMS, "trunk_datagrams"),
        (metrics.TRUNK_BYTES, "trunk_bytes"),
    ):
        yield family(metric, _by_direction(counters[field]))
    yield family(metrics.CONSERVATION, _by_direction(conservation_error(counters)))
    yield family(
        metrics.DROPPED,
        (
            ((str(shard), direction, name), row["dropped"][number, reason])
            for shard, row in enumerate(counters)
            for number, direction in enumerate(DIRECTIONS)
            for reason, (name, _) in enumerate(DROP_REASONS)
            if reason
        ),
    )
    yield _histogram(metrics.BATCH, counters["batches"], counters["received"], BATCH_BOUNDS)
    sums_s = counters["residence_sum_ns"] / 1e9
    yield _histogram(metrics.RESIDENCE, counters["residence"], sums_s, RESIDENCE_BOUNDS)


def _flows(control: Control, counters: Rows) -> Iterator[Family]:
    headers = control.tables.headers()
    yield family(
        metrics.ROUTE_DECISIONS,
        (
            ((str(shard), name), row["decisions"][number])
            for shard, row in enumerate(counters)
            for number, (name, _) in enumerate(DECISION_NAMES)
            if number
        ),
    )
    states = (("confirmed", "flows_count"), ("provisional", "provisional_count"))
    yield family(
        metrics.FLOWS,
        (((str(shard), state), row[field]) for shard, row in enumerate(headers) for state, field in states),
    )
    yield family(metrics.FLOWS_MAX, _by_shard(headers["flows_max"]))
    yield family(
        metrics.FLOW_CHANGES,
        (
            ((str(shard), state), row[state])
            for shard, row in enumerate(counters)
            for state in metrics.FLOW_CHANGE_STATES
        ),
    )
    yield family(metrics.ROUTES, [((), len(control.shared.routes))])
    yield family(metrics.ROUTES_MAX, [((), float(control.tables.header["routes_max"]))])
    ports = list(enumerate(control.tables.upstream_ports()))
    yield family(
        metrics.UPSTREAM_PORTS,
        (
            ((str(shard), state), count)
            for shard, counts in ports
            for state, count in zip(("used", "quarantine"), counts, strict=True)
        ),
    )
    yield family(metrics.UPSTREAM_PORTS_MAX, _by_shard(headers["port_count"].sum(axis=1)))


def _workers(control: Control, counters: Rows) -> Iterator[Family]:
    for metric, field in (
        (metrics.OVERRIDES, "overrides"),
        (metrics.TRANSACTIONS_EVICTED, "transactions_evicted"),
        (metrics.DUPLICATED, "duplicated"),
        (metrics.RECOVERED, "recovered"),
        (metrics.TRUNK_OVERSIZE, "trunk_oversize"),
        (metrics.TRUNK_SINGLY, "trunk_singly"),
        (metrics.WORKER_LOOPS, "loops"),
        (metrics.WORKER_NAPS, "naps"),
        (metrics.WORKER_BLOCKS, "blocks"),
        (metrics.RECEIVE_ERRORS, "receive_errors"),
    ):
        yield family(metric, _by_shard(counters[field]))
    yield family(metrics.PRESSURE, _by_shard([shard.pressure for shard in control.shards]))
    yield family(metrics.KERNEL_DROPPED, _by_shard(report.kernel_drops(control)))
    yield family(metrics.RECEIVE_BUFFER, _by_shard(report.receive_buffers(control)))


def _relay(control: Control) -> Iterator[Family]:
    yield family(metrics.READY, [((), float(not control.unready()))])
    yield family(metrics.DRAINING, [((), float(control.draining))])
    yield family(metrics.ENGINE_STARTS, [((), float(control.tables.headers()["attached"].max()))])
    yield info(metrics.CONFIG_INFO, {"hash": control.config.digest()})
    yield info(metrics.BUILD_INFO, {"version": __version__, "python": platform.python_version()})


def _histogram(metric: Metric, counts: Any, sums: Any, bounds: list[str]) -> Family:
    """counts: [shard, direction, bucket], not cumulative; sums: [shard, direction]."""
    made = HistogramMetricFamily(metric.family, metric.help, labels=metric.labels)
    for shard in range(len(counts)):
        for number, direction in enumerate(DIRECTIONS):
            cumulative = counts[shard, number].cumsum()
            buckets = list(zip(bounds, map(float, cumulative), strict=True))
            made.add_metric((str(shard), direction), buckets, sum_value=float(sums[shard, number]))
    return made


def _by_shard(values: Any) -> Samples:
    return [((str(shard),), value) for shard, value in enumerate(values)]


def _by_direction(values: Any) -> Samples:
    """values: [shard, direction]."""
    return [
        ((str(shard), direction), row[number])
        for shard, row in enumerate(values)
        for number, direction in enumerate(DIRECTIONS)
    ]
