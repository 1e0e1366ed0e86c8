"""Mode setup: sessions opened one after the other, each by a Binding Request that the sink answers.

A request counts as sent once, however often it is repeated; forwarded is a session that was confirmed.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from pyfastpath.tools.bench.figures import Sample
from pyfastpath.tools.bench.latency import Latency
from pyfastpath.tools.bench.load import Load
from pyfastpath.tools.bench.meter import Meter, Reading, Work
from pyfastpath.tools.bench.options import WINDOW
from pyfastpath.tools.bench.threads import DRAIN_MS, in_threads, sinks_serve, stop_generator


def measure_opening(load: Load, work: Work) -> Sample:
    """Open sessions that were never asked for, on a schedule or as fast as answers come. It ends early when
    all of them are open."""
    with sinks_serve(load.streams, work.warmup_s + work.seconds, echo=False, nap=False):
        if work.warmup_s > 0:
            _open(load, work, work.warmup_s, lambda: None)
        before, noted = _totals(load), _latency(load)
        meter = Meter(work, Reading(lambda: _glance(load), lambda: _latency(load).minus(noted)))
        elapsed_s = _open(load, work, work.seconds, meter.tick)
        cpu_ns, after = meter.end(), _totals(load)
    asked, confirmed = after["sent"] - before["sent"], after["confirmed"] - before["confirmed"]
    return Sample(
        rate_pps=work.rate_pps,
        seconds=max(0.001, elapsed_s),
        sent=asked,
        forwarded=confirmed,
        lost=max(0, asked - confirmed),
        retried=after["retried"] - before["retried"],
        late=after["late"] - before["late"],
        late_max_us=after["late_max_ns"] / 1000,
        cpu_ns=cpu_ns,
        latency=_latency(load).minus(noted),
        intervals=tuple(meter.intervals),
    )


def _open(load: Load, work: Work, seconds: float, tick: Callable[[], None]) -> float:
    """How long it took, what came after the schedule left out."""
    began_s = time.monotonic()
    in_threads(
        load.streams,
        lambda stream: stream.generator.open_at(
            rate_pps=load.share(stream, work.rate_pps),
            window=max(1, load.share(stream, WINDOW)),
            duration_ms=int(seconds * 1000),
            drain_ms=DRAIN_MS,
        ),
        stop_generator,
        tick,
    )
    return min(seconds, time.monotonic() - began_s)


def _glance(load: Load) -> tuple[int, int]:
    now = _totals(load)
    return now["sent"], now["confirmed"]


def _totals(load: Load) -> Counter[str]:
    total: Counter[str] = Counter()
    for stream in load.streams:
        counters = stream.generator.setup_counters()
        longest_ns = max(total["late_max_ns"], counters["late_max_ns"])
        total.update(counters)
        total["late_max_ns"] = longest_ns
    return total


def _latency(load: Load) -> Latency:
    return Latency.merged(Latency.of(stream.generator.setup_histogram()) for stream in load.streams)
