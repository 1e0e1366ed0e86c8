"""What a gateway counts, and how Prometheus sees it. Pure counting; one scrape reads it all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from prometheus_client.registry import Collector

from pyfastpath import metrics
from pyfastpath.exposition import Family, alone, by_name, family, histogram
from pyfastpath.guard import Gate
from pyfastpath.histogram import Histogram
from pyfastpath.registry.record import TransceiverRecord
from pyfastpath.serving import families

BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
STATES: Final = ("up", "draining", "stopping")


class Numbers:
    """Every count of one gateway, and whether it drains."""

    def __init__(self) -> None:
        self.is_draining = False
        self.requests: Counter[tuple[str, str]] = Counter()  # route, status
        self.request_s = {route: Histogram(BOUNDS_S) for route in metrics.GATEWAY_ROUTES}
        self.calls = Counter(dict.fromkeys(metrics.GATEWAY_OUTCOMES, 0))
        self.placement_s = Histogram(BOUNDS_S)
        self.placement_failures = Counter(dict.fromkeys(metrics.GATEWAY_FAILURES, 0))
        self.streams = 0
        self.lost = 0
        self.gates: dict[str, Gate] = {}  # by the setting that names the listener


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
        yield family(metrics.GATEWAY_REQUESTS, numbers.requests.items())
        yield histogram(
            metrics.GATEWAY_REQUEST_SECONDS, (((route,), one) for route, one in numbers.request_s.items())
        )
        yield by_name(metrics.GATEWAY_CALLS, numbers.calls)
        yield histogram(metrics.GATEWAY_PLACEMENT_SECONDS, [((), numbers.placement_s)])
        yield by_name(metrics.GATEWAY_PLACEMENT_FAILURES, numbers.placement_failures)
        states = Counter(record.state for record in records)
        yield by_name(metrics.GATEWAY_TRANSCEIVERS, {state: states[state] for state in STATES})
        yield alone(metrics.GATEWAY_SESSIONS, sum(record.sessions for record in records))
        yield alone(metrics.GATEWAY_SESSIONS_MAX, sum(record.capacity for record in up))
        yield alone(metrics.GATEWAY_STREAMS, numbers.streams)
        yield alone(metrics.GATEWAY_LOST, numbers.lost)
        yield from families(metrics.GATEWAY_CONNECTIONS, metrics.GATEWAY_CONNECTIONS_CUT, numbers.gates)
        yield alone(metrics.GATEWAY_READY, self._is_ready)
        yield alone(metrics.GATEWAY_DRAINING, numbers.is_draining)
