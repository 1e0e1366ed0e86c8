"""One workload through one relay: own rate first, then sessions, ramp, warm-up, measurement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any, Final

from pyfastpath.errors import ConfigError
from pyfastpath.tools.bench.cpu import Division
from pyfastpath.tools.bench.figures import HEADROOM, Row, Sample
from pyfastpath.tools.bench.load import Load
from pyfastpath.tools.bench.meter import Glance, Work
from pyfastpath.tools.bench.opening import measure_opening
from pyfastpath.tools.bench.options import Options
from pyfastpath.tools.bench.relays import Path, no_relay, of_our_own, with_admin, with_tokens
from pyfastpath.tools.bench.sessions import aim, check_confirmed, open_sessions
from pyfastpath.tools.progress import Progress

OWN_S: Final = 1.0
OWN_WARMUP_S: Final = 0.3
OWN_SESSIONS: Final = 200_000  # mode setup opens each only once
RAMP_STEPS: Final = 20


def workload(options: Options, division: Division, progress: Progress) -> list[Row]:
    """Two rows: no relay, and the relay."""
    progress.show("the generator's own rate, without a relay")
    own = _own(options)
    with ExitStack() as stack:
        sink = (str(options.sink.address), options.sink.port)
        load = Load(options.parts, options.sessions, options.upstream, sink, **_trunk(options))
        stack.callback(load.close)
        progress.show("asking the relay")
        path = stack.enter_context(_path(options, load, division))
        aim(load, path, options)
        before = path.drops()
        if options.way != "setup":
            _grow(load, path, options, progress)
        work = Work(
            way=options.way,
            rate_pps=options.pps,
            seconds=options.duration_s,
            warmup_s=options.warmup_s,
            cpu_ns=path.cpu_ns,
            watch=_watcher(path.name, options, progress),
        )
        sample = _measure(load, work)
        after = path.drops()
        if options.way == "setup":
            _check_opened(options, sample, path)
    drops = ((name, count - before.get(name, 0)) for name, count in after.items())
    row = Row(
        path=path.name,
        mode=options.way,
        floods=() if options.pps else (sample,),
        paced=(sample,) if options.pps else (),
        own_pps=own.floods[0].sent_pps,
        drops=tuple((name, count) for name, count in drops if count),
    )
    return [own, row]


def _own(options: Options) -> Row:
    """What the generator does without a relay, here and now: every figure is seen against it. In a flood, and
    where there is headroom on the schedule too: the latency it shows is not the relay's."""
    setup = options.way == "setup"
    load = Load(options.parts, OWN_SESSIONS if setup else options.sessions, "plain", ("127.0.0.1", 0))
    try:
        path = no_relay(load)
        # Frames for a relay elsewhere are none for loopback.
        inject = options.inject if options.own else "mmsg"
        aim(load, path, replace(options, source="", inject=inject))
        work = Work(way=options.way, rate_pps=0, seconds=OWN_S, warmup_s=0.0 if setup else OWN_WARMUP_S)
        if setup:
            return Row(path=path.name, mode=options.way, floods=(measure_opening(load, work),))
        open_sessions(load, path)
        flood = load.run(work)
        paced: tuple[Sample, ...] = ()
        if 0 < options.pps <= HEADROOM * flood.sent_pps:
            paced = (load.run(replace(work, rate_pps=options.pps)),)
        return Row(path=path.name, mode=options.way, floods=(flood,), paced=paced)
    finally:
        load.close()


def _check_opened(options: Options, sample: Sample, path: Path) -> None:
    if not sample.sent:
        raise ConfigError(
            f"all {options.sessions:,} were open before the warm-up was over",
            "Ask for more of them, or a shorter --warmup.",
            key="--sessions",
        )
    if not sample.forwarded:
        check_confirmed(sample.sent, 0, path)


def _measure(load: Load, work: Work) -> Sample:
    return measure_opening(load, work) if work.way == "setup" else load.run(work)


def _trunk(options: Options) -> dict[str, Any]:
    """What a trunk sink has to know of the relay that it is not told."""
    if options.upstream != "trunk" or not (options.socket or options.transceiver):
        return {}
    known: dict[str, Any] = {}
    if options.trunk_key is not None:
        known["key_id"], known["key"] = options.trunk_key
    if options.transceiver is not None:
        to = options.transceiver
        known["identity"] = (to.cluster, to.number, to.incarnation)
    return known


@contextmanager
def _path(options: Options, load: Load, division: Division) -> Iterator[Path]:
    seconds = options.ramp_s + options.warmup_s + options.duration_s
    if options.transceiver is not None:
        yield with_tokens(load, options, seconds)
        return
    with (
        with_admin(load, options, seconds) if options.socket else of_our_own(load, options.upstream, division)
    ) as path:
        yield path


def _grow(load: Load, path: Path, options: Options, progress: Progress) -> None:
    """Half of the ramp opens the sessions evenly, in the other half the rate grows step by step."""
    progress.show(f"opening {options.sessions:,} sessions through {path.name}")
    open_sessions(load, path, spread_s=options.ramp_s / 2)
    if not options.ramp_s or not options.pps:
        return
    for step in range(1, RAMP_STEPS + 1):
        rate_pps = max(1, options.pps * step // RAMP_STEPS)
        progress.show(f"ramp: {rate_pps / 1000:,.1f} of {options.pps / 1000:,.1f} k/s")
        load.warm(options.way, rate_pps, options.ramp_s / 2 / RAMP_STEPS)


def _watcher(name: str, options: Options, progress: Progress) -> Callable[[Glance], None]:
    unit = "k sessions/s" if options.way == "setup" else "k/s forwarded"

    def watch(glance: Glance) -> None:
        rate = glance.forwarded / max(glance.seconds, 0.001) / 1000
        p99 = "" if glance.p99_us is None else f" · p99 {glance.p99_us:,.0f} µs"
        done = f"{min(glance.seconds, options.duration_s):.0f} of {options.duration_s:g} s"
        progress.show(f"{name} {options.way} · {done} · {rate:,.1f} {unit}{p99}")

    return watch
