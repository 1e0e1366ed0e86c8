"""The load of one path: all streams, and what they counted in one measurement.

Warm-up is a run by itself: what it left in flight has arrived before anything counts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from pyfastpath.tools.bench.figures import Sample
from pyfastpath.tools.bench.latency import Latency
from pyfastpath.tools.bench.meter import Meter, Reading, Work
from pyfastpath.tools.bench.options import WINDOW, Part, split_sessions
from pyfastpath.tools.bench.streams import Address, Crowd, Stream
from pyfastpath.tools.bench.threads import (
    DRAIN_MS,
    NAP_US,
    generators_serve,
    in_threads,
    sinks_serve,
    stop_generator,
    stop_sink,
)

SETTLE_MS: Final = 100
QUIET_PPS: Final = 60_000  # up to here nobody naps, and latency is the relay's


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all streams since they were made."""

    sent: int
    forwarded: int
    arrived: int
    duplicates: int
    misrouted: int
    reordered: int
    late: int


class Load:
    """All streams of one path: as many as the mix has sizes."""

    def __init__(
        self, parts: Sequence[Part], sessions: int, upstream: str, sink: Address, **trunk: Any
    ) -> None:
        counts = split_sessions(sessions, parts)
        self.sessions = sessions
        self.streams: list[Stream] = []
        try:
            for part, count in zip(parts, counts, strict=True):
                self.streams.append(Stream(part, count, upstream, sink, **trunk))
        except BaseException:
            self.close()
            raise

    @property
    def backends(self) -> list[Address]:
        """The address of each stream's sink."""
        return [stream.address for stream in self.streams]

    def aim(
        self, targets: Sequence[Address], ufrags: Sequence[str], crowd: Crowd, inject: dict[str, Any]
    ) -> None:
        """Give every stream its target, its share of the ufrags and its own clients."""
        first, address = 0, IPv4Address(crowd.first_source)
        for stream, target in zip(self.streams, targets, strict=True):
            mine = ufrags[first : first + stream.sessions]
            stream.aim(target, mine, Crowd(str(address), crowd.sockets), inject)
            first += stream.sessions
            address += -(-stream.sessions // crowd.sockets)

    def share(self, stream: Stream, whole: int) -> int:
        """Of a rate or a window, what falls to one stream; at least 1 of something."""
        return max(1, round(whole * stream.sessions / self.sessions)) if whole else 0

    def open(self, timeout_s: float, *, spread_s: float = 0.0) -> int:
        """A Binding Request for every session, evenly over spread_s, then again for those without an answer;
        how many were answered, hence confirmed."""
        with sinks_serve(self.streams, spread_s + timeout_s, echo=False, nap=False):
            if spread_s:
                in_threads(
                    self.streams,
                    lambda stream: stream.generator.open_at(
                        rate_pps=math.ceil(stream.sessions / spread_s),
                        duration_ms=int(spread_s * 1000),
                        drain_ms=DRAIN_MS,
                    ),
                    stop_generator,
                )
            timeout_ms = int(timeout_s * 1000)
            opened = in_threads(
                self.streams, lambda stream: stream.generator.setup(timeout_ms=timeout_ms), stop_generator
            )
        return sum(opened)

    def run(self, work: Work) -> Sample:
        """Warm up, measure, drain."""
        with self._other_side(work.way, work.rate_pps, work.warmup_s + work.seconds):
            if work.warmup_s > 0:
                self._send(work, work.warmup_s, lambda: None)
            for stream in self.streams:
                stream.end(work.way).forget_latency()
            before = self._totals(work.way)
            meter = Meter(work, Reading(lambda: self._glance(work.way), lambda: self._latency(work.way)))
            self._send(work, work.seconds, meter.tick)
            cpu_ns, after = meter.end(), self._totals(work.way)
        sent = after.sent - before.sent
        return Sample(
            rate_pps=work.rate_pps,
            seconds=work.seconds,
            sent=sent,
            forwarded=after.forwarded - before.forwarded,
            lost=max(0, sent - (after.arrived - before.arrived)),
            duplicates=after.duplicates - before.duplicates,
            misrouted=after.misrouted - before.misrouted,
            reordered=after.reordered - before.reordered,
            late=after.late - before.late,
            late_max_us=max(counters["late_max_ns"] for counters in self._senders(work.way)) / 1000,
            cpu_ns=cpu_ns,
            latency=self._latency(work.way),
            intervals=tuple(meter.intervals),
        )

    def warm(self, way: str, rate_pps: int, seconds: float) -> None:
        """A run that does not count."""
        with self._other_side(way, rate_pps, seconds):
            self._send(Work(way=way, rate_pps=rate_pps, seconds=seconds), seconds, lambda: None)

    def close(self) -> None:
        """Close every socket."""
        for stream in self.streams:
            stream.close()

    def _other_side(self, way: str, rate_pps: int, seconds: float) -> AbstractContextManager[None]:
        """Whoever does not send serves meanwhile."""
        nap = rate_pps == 0 or rate_pps > QUIET_PPS
        if way == "down":
            return generators_serve(self.streams, seconds, nap=nap)
        return sinks_serve(self.streams, seconds, echo=way == "echo", nap=nap)

    def _send(self, work: Work, seconds: float, tick: Callable[[], None]) -> None:
        down = work.way == "down"

        def send(stream: Stream) -> None:
            speed = {
                "rate_pps": self.share(stream, work.rate_pps),
                "window": self.share(stream, WINDOW),
                "nap_us": 0 if work.rate_pps else NAP_US,
                "duration_ms": int(seconds * 1000),
                "drain_ms": DRAIN_MS,
            }
            if down:
                stream.send_down(**speed)
            else:
                stream.generator.run(echo=work.way == "echo", **speed)

        in_threads(self.streams, send, stop_sink if down else stop_generator, tick)
        self._settle(work.way)

    def _settle(self, way: str) -> None:
        """Of what a stalled machine made the sender give up, most still arrives: let it do so now."""
        last = -1
        while (totals := self._totals(way)).arrived < totals.sent and totals.arrived != last:
            last = totals.arrived
            if way == "echo":
                in_threads(
                    self.streams,
                    lambda stream: stream.generator.receive(duration_ms=SETTLE_MS),
                    stop_generator,
                )
            else:
                time.sleep(SETTLE_MS / 1000)

    def _senders(self, way: str) -> list[dict[str, int]]:
        """Counters of whoever sends the probes."""
        return [(stream.sink if way == "down" else stream.generator).counters() for stream in self.streams]

    def _latency(self, way: str) -> Latency:
        return Latency.merged(Latency.of(stream.end(way).histogram()) for stream in self.streams)

    def _glance(self, way: str) -> tuple[int, int]:
        totals = self._totals(way)
        return totals.sent, totals.forwarded

    def _totals(self, way: str) -> Totals:
        senders = self._senders(way)
        sinks = [stream.sink.arrivals.counters() for stream in self.streams]
        echoes = [stream.generator.echoes.counters() for stream in self.streams]
        ends = sinks if way == "up" else echoes
        arrived = sum(end["received"] for end in ends)
        return Totals(
            sent=sum(one["sent"] for one in senders),
            forwarded=arrived + (sum(sink["received"] for sink in sinks) if way == "echo" else 0),
            arrived=arrived,
            duplicates=sum(one["duplicates"] for one in (*sinks, *echoes)),
            misrouted=sum(stream.generator.counters()["misrouted"] for stream in self.streams),
            reordered=sum(stream.end(way).reordered() for stream in self.streams),
            late=sum(one["late"] for one in senders),
        )
