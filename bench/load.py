"""One measurement: generator and sink on their CPU, a relay (or nobody) between them, warm-up discarded."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fastpath.generator import Generator
from fastpath.sink import Sink
from fastpath.trunk_sink import TrunkSink

from bench.contestants.contract import Running
from bench.cpu import RELAY_CPU, busy_ns, used_ns

SIZE_BYTES = 172
WINDOW = 512  # more in flight than this and a flood loses datagrams in buffers nobody meant to measure
NAP_US = 100  # generator and sink share one CPU: short sleeps instead of a wake-up for each datagram
SETUP_TIMEOUT_MS = 8000
RUN_LIMIT_MS = 15_000


@dataclass(frozen=True)
class Shape:
    """A workload. rate_pps: datagrams the generator sends a second on a schedule; 0: a windowed flood."""

    name: str
    echo: bool
    rate_pps: int = 0


@dataclass(frozen=True)
class Sample:
    """What one measurement saw. In echo both directions count as forwarded."""

    forwarded: int
    seconds: float
    sent_pps: float
    relay_cpu_ns: int
    others_share: float  # of the relay's CPU, used by anybody else
    lost: int
    duplicates: int
    misrouted: int
    reordered: int
    p50_us: float
    p99_us: float

    @property
    def forwarded_pps(self) -> float:
        return self.forwarded / self.seconds

    @property
    def ns_per_datagram(self) -> float:
        """Relay CPU a forwarded datagram."""
        return self.relay_cpu_ns / self.forwarded if self.forwarded else float("nan")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {
            "forwarded_pps": self.forwarded_pps,
            "ns_per_datagram": self.ns_per_datagram,
        }


class Load:
    """A sink of one upstream mode, and a generator once the relay's address is known."""

    def __init__(self, upstream: Literal["plain", "trunk"], flows: int) -> None:
        self.acknowledged = bytearray(8)
        kind = TrunkSink if upstream == "trunk" else Sink
        self.sink = kind(("127.0.0.1", 0), flows=flows, acknowledged=self.acknowledged)
        self.backend = ("127.0.0.1", self.sink.port)
        self.ufrags = [f"{serial:06d}FastpathBenchRun" for serial in range(flows)]
        self.generator: Any = None

    def open_flows(self, relay: Running) -> None:
        """Makes the generator and confirms every flow in the relay's own way of setting them up."""
        ufrags = [ufrag.encode() for ufrag in self.ufrags]
        self.generator = Generator(
            relay.listen, ufrags, size_bytes=SIZE_BYTES, acknowledged=self.acknowledged, **relay.generator
        )
        thread = self._serve(echo=False)
        try:
            confirmed = relay.open_flows(self.generator, self.sink, SETUP_TIMEOUT_MS)
        finally:
            self._rest(thread)
        if confirmed != len(ufrags):
            raise RuntimeError(f"only {confirmed} of {len(ufrags)} flows were confirmed through the relay")

    def measure(self, shape: Shape, pid: int | None, warmup_s: float, measure_s: float) -> Sample:
        """Runs a workload; `pid` is the relay's, None without one."""
        if pid is not None and RELAY_CPU in os.sched_getaffinity(0) and len(os.sched_getaffinity(0)) == 1:
            raise RuntimeError("the load would run on the relay's CPU: what is measured would be its hunger")
        self.sink.arrivals.forget_latency()
        self.generator.echoes.forget_latency()
        before = self._totals(shape)
        sink = self._serve(echo=shape.echo)
        running = threading.Thread(target=self._generate, args=(shape, warmup_s + measure_s))
        running.start()
        try:
            time.sleep(warmup_s)
            first = self._look(shape, pid)
            time.sleep(measure_s)
            last = self._look(shape, pid)
            running.join()
        finally:
            self._rest(sink)
        return self._sample(shape, before, first, last)

    def _generate(self, shape: Shape, seconds: float) -> None:
        nap_us = 0 if shape.rate_pps else NAP_US
        self.generator.run(
            echo=shape.echo,
            rate_pps=shape.rate_pps,
            window=WINDOW,
            nap_us=nap_us,
            duration_ms=int(seconds * 1000) + 200,
        )

    def _look(self, shape: Shape, pid: int | None) -> tuple[float, int, int, int, int]:
        return (
            time.monotonic(),
            self.generator.counters()["sent"],
            self._forwarded(shape),
            used_ns(pid) if pid else 0,
            busy_ns(RELAY_CPU),
        )

    def _forwarded(self, shape: Shape) -> int:
        up: int = self.sink.arrivals.counters()["received"]
        return up + (self.generator.echoes.counters()["received"] if shape.echo else 0)

    def _totals(self, shape: Shape) -> tuple[int, int, int, int, int]:
        end = self.generator.echoes if shape.echo else self.sink.arrivals
        counters = end.counters()
        sent = self.generator.counters()
        duplicates = counters["duplicates"] + (
            self.sink.arrivals.counters()["duplicates"] if shape.echo else 0
        )
        return sent["sent"], counters["received"], duplicates, sent["misrouted"], end.reordered()

    def _sample(self, shape: Shape, before: tuple[int, ...], first: Any, last: Any) -> Sample:
        sent, received, duplicates, misrouted, reordered = (
            after - earlier for after, earlier in zip(self._totals(shape), before, strict=True)
        )
        seconds = last[0] - first[0]
        relay_cpu_ns, busy = last[3] - first[3], last[4] - first[4]
        end = self.generator.echoes if shape.echo else self.sink.arrivals
        return Sample(
            forwarded=last[2] - first[2],
            seconds=seconds,
            sent_pps=(last[1] - first[1]) / seconds,
            relay_cpu_ns=relay_cpu_ns,
            others_share=max(0.0, busy - relay_cpu_ns) / 1e9 / seconds,
            lost=sent - received,
            duplicates=duplicates,
            misrouted=misrouted,
            reordered=reordered,
            p50_us=end.latency_ns(0.5) / 1000,
            p99_us=end.latency_ns(0.99) / 1000,
        )

    def _serve(self, *, echo: bool) -> threading.Thread:
        arguments = {"echo": echo, "nap_us": NAP_US, "duration_ms": RUN_LIMIT_MS}
        thread = threading.Thread(target=self.sink.run, kwargs=arguments)
        thread.start()
        return thread

    def _rest(self, thread: threading.Thread) -> None:
        self.sink.stop()
        thread.join()

    def close(self) -> None:
        if self.generator is not None:
            self.generator.close()
        self.sink.close()
