"""One measurement: generator and sink on their CPU, a relay (or nobody) between them, warm-up discarded."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fastpath.load.generator import Generator
from fastpath.load.sink import Sink
from fastpath.load.trunk_sink import TrunkSink

from bench.contestants.contract import Running
from bench.cpu import RELAY_CPU, busy_ns, spare_ns
from bench.topology import Topology
from pyfastpath.tools.bench.cpu import used_ns
from pyfastpath.tools.bench.options import WINDOW
from pyfastpath.tools.bench.threads import NAP_US, sleep_exactly

SETUP_TIMEOUT_MS = 8000
RUN_LIMIT_MS = 60_000
DRAIN_MS = 1000
EXTRA_MS = 200  # the load goes on this much longer than we look
CURVE = [*(number / 100 for number in range(1, 100)), 0.995, 0.999, 0.9995]


@dataclass(frozen=True)
class Traffic:
    """Who sends: how many clients, datagrams of which size (± spread, by flow and sequence)."""

    flows: int = 1000
    size_bytes: int = 172
    size_spread_bytes: int = 0


@dataclass(frozen=True)
class Shape:
    """A workload. rate_pps: datagrams the generator sends a second on a schedule; 0: a windowed flood.

    naps: generator and sink sleep between batches; False where latency is what is asked for.
    """

    name: str
    echo: bool
    rate_pps: int = 0
    naps: bool = True


@dataclass(frozen=True)
class Sample:
    """What one measurement saw. In echo both directions count as forwarded.

    cpu_ns        of the relay's threads, or of its whole core where the topology says so
    others_share  of the relay's CPU, used by anybody else; None where the whole core is counted
    curve_us      latency at the quantiles of CURVE, where the workload asks for latency
    """

    forwarded: int
    seconds: float
    sent: int
    sent_pps: float
    cpu_ns: int
    others_share: float | None
    lost: int
    duplicates: int
    misrouted: int
    reordered: int
    p50_us: float
    p99_us: float
    p999_us: float
    curve_us: list[float] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """With the two figures derived from it."""
        return asdict(self) | {
            "forwarded_pps": self.forwarded / self.seconds,
            "ns_per_datagram": self.cpu_ns / self.forwarded if self.forwarded else None,
        }


@dataclass(frozen=True)
class Look:
    """What is read at both ends of the measured time."""

    at_s: float
    sent: int
    forwarded: int
    process_ns: int
    core_busy_ns: int
    core_worked_ns: int


class Load:
    """A sink of one upstream mode, and a generator once the relay's address is known.

    alone: nobody is between them; the sink stands where the relay would, so that the way is as long.
    """

    def __init__(
        self,
        upstream: Literal["plain", "trunk"],
        topology: Topology,
        traffic: Traffic | None = None,
        *,
        alone: bool = False,
    ) -> None:
        self.topology, self.traffic = topology, traffic or Traffic()
        place = topology.place
        network, ip = (place.network, place.relay_ip) if alone else (topology.backend, place.sink_ip)
        self.acknowledged = bytearray(8)
        self.ufrags = [f"{serial:06d}FastpathBenchRun" for serial in range(self.traffic.flows)]
        kind = TrunkSink if upstream == "trunk" else Sink
        with network.inside():
            self.sink = kind((ip, 0), flows=self.traffic.flows, acknowledged=self.acknowledged)
        self.backend = (ip, self.sink.port)
        self.generator: Any = None
        self._serving: threading.Thread | None = None
        self._sending: threading.Thread | None = None

    def open_flows(self, running: Running, timeout_ms: int = SETUP_TIMEOUT_MS) -> None:
        """Makes the generator and confirms every flow. RuntimeError when some stay without an answer."""
        arguments: dict[str, Any] = self.topology.generator | running.generator
        if self.traffic.size_spread_bytes:
            arguments["size_spread"] = self.traffic.size_spread_bytes
        with self.topology.clients.inside():
            self.generator = Generator(
                running.listen,
                [ufrag.encode() for ufrag in self.ufrags],
                first_source=self.topology.place.first_client,
                size_bytes=self.traffic.size_bytes,
                acknowledged=self.acknowledged,
                **arguments,
            )
        self._serve(echo=False, nap_us=NAP_US)
        try:
            confirmed = running.open_flows(self.generator, self.sink, timeout_ms)
        finally:
            self._rest()
        if confirmed != self.traffic.flows:
            raise RuntimeError(f"only {confirmed} of {self.traffic.flows} flows were confirmed")

    def measure(self, shape: Shape, pid: int | None, warmup_s: float, measure_s: float) -> Sample:
        """Runs a workload; `pid` is the relay's, None without one."""
        if pid is not None and os.sched_getaffinity(0) == {RELAY_CPU}:
            raise RuntimeError("the load would run on the relay's CPU: what is measured would be its hunger")
        before = self._totals(shape)
        self._serve(echo=shape.echo, nap_us=NAP_US if shape.naps else 0)
        self._sending = threading.Thread(target=self._generate, args=(shape, warmup_s + measure_s))
        self._sending.start()
        try:
            time.sleep(warmup_s)
            self._end(shape).forget_latency()
            first = self._look(shape, pid)
            time.sleep(measure_s)
            last = self._look(shape, pid)
            self._sending.join()
        finally:
            self._rest()
        return self._sample(shape, before, first, last)

    def _generate(self, shape: Shape, seconds: float) -> None:
        if not shape.naps:
            sleep_exactly()
        self.generator.run(
            echo=shape.echo,
            rate_pps=shape.rate_pps,
            window=WINDOW,
            nap_us=0 if shape.rate_pps else NAP_US,
            duration_ms=int(seconds * 1000) + EXTRA_MS,
            drain_ms=DRAIN_MS,
        )

    def _end(self, shape: Shape) -> Any:
        """The arrivals that count for latency and loss."""
        return self.generator.echoes if shape.echo else self.sink.arrivals

    def _look(self, shape: Shape, pid: int | None) -> Look:
        cpu = self.topology.place.cpu
        up: int = self.sink.arrivals.counters()["received"]
        down: int = self.generator.echoes.counters()["received"] if shape.echo else 0
        return Look(
            at_s=time.monotonic(),
            sent=self.generator.counters()["sent"],
            forwarded=up + down,
            process_ns=used_ns(pid) if pid else 0,
            core_busy_ns=busy_ns(cpu),
            core_worked_ns=time.monotonic_ns() - spare_ns(cpu),
        )

    def _totals(self, shape: Shape) -> tuple[int, int, int, int, int]:
        end, sent = self._end(shape), self.generator.counters()
        counters = end.counters()
        duplicates = counters["duplicates"]
        if shape.echo:
            duplicates += self.sink.arrivals.counters()["duplicates"]
        return sent["sent"], counters["received"], duplicates, sent["misrouted"], end.reordered()

    def _sample(self, shape: Shape, before: tuple[int, ...], first: Look, last: Look) -> Sample:
        sent, received, duplicates, misrouted, reordered = (
            after - earlier for after, earlier in zip(self._totals(shape), before, strict=True)
        )
        seconds = last.at_s - first.at_s
        process_ns = last.process_ns - first.process_ns
        others_ns = max(0, last.core_busy_ns - first.core_busy_ns - process_ns)
        whole = self.topology.clock == "core"
        p50, p99, p999 = (self._end(shape).latency_ns(q) / 1000 for q in (0.5, 0.99, 0.999))
        return Sample(
            forwarded=last.forwarded - first.forwarded,
            seconds=seconds,
            sent=sent,
            sent_pps=(last.sent - first.sent) / seconds,
            cpu_ns=last.core_worked_ns - first.core_worked_ns if whole else process_ns,
            others_share=None if whole else others_ns / 1e9 / seconds,
            lost=max(0, sent - received),
            duplicates=duplicates,
            misrouted=misrouted,
            reordered=reordered,
            p50_us=p50,
            p99_us=p99,
            p999_us=p999,
            curve_us=[] if shape.naps else [self._end(shape).latency_ns(q) / 1000 for q in CURVE],
        )

    def _serve(self, *, echo: bool, nap_us: int) -> None:
        arguments = {"echo": echo, "nap_us": nap_us, "duration_ms": RUN_LIMIT_MS}
        self._serving = threading.Thread(target=self.sink.run, kwargs=arguments)
        self._serving.start()

    def _rest(self) -> None:
        if self._sending is not None and self._sending.is_alive():
            self.generator.stop()
            self._sending.join()
        if self._serving is not None:
            while self._serving.is_alive():  # a run that had not begun when it was stopped begins afterwards
                self.sink.stop()
                self._serving.join(0.1)
        self._sending = self._serving = None

    def close(self) -> None:
        """Ends what still runs, also in the middle of a workload."""
        self._rest()
        if self.generator is not None:
            self.generator.close()
        self.sink.close()
