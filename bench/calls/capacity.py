"""`make bench-calls`: what a call costs the transceiver, beside aiortc.

    fastpath echo    every Opus packet goes back as it came           300 sessions
    fastpath opus    every packet decoded, and encoded again           60 sessions
    aiortc echo      the same by aiortc                                 8 sessions

In every round each server is started anew on CPU 0, takes all its calls (ICE and DTLS for real), then 50
packets a second from each of them; load and relay share CPU 1. The figure is the server's CPU time, user and
system, over sessions times seconds. bench/README.md says what makes a run invalid.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.calls.load import Load, Window
from bench.calls.servers import SERVER_CPU, Server, aiortc, fastpath, used_ms, waited_ms
from bench.calls.tables import capacity_report
from bench.cpu import LOAD_CPU
from pyfastpath.tools.bench.cpu import used_ns
from pyfastpath.tools.machine import card, commit, versions

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "bench" / "results"
ROUNDS, WARMUP_S, MEASURE_S = 5, 2.0, 8.0
SESSIONS = (300, 60, 8)
DISTRIBUTIONS = ("aiortc", "pylibsrtp", "pyOpenSSL", "cryptography", "cffi", "numpy")


@dataclass(frozen=True)
class Contestant:
    """`start(directory)` yields a server; `goal_ms` of CPU a session-second, if there is one."""

    name: str
    sessions: int
    goal_ms: float | None
    start: Callable[[Path], AbstractContextManager[Server]]


def contestants(echo: int, opus: int, others: int) -> list[Contestant]:
    """With so many sessions each."""
    repeat = "bench.calls.agents:Repeat"
    return [
        Contestant("fastpath echo", echo, 0.67, partial(fastpath, agent="echo", is_pinned=True)),
        Contestant("fastpath opus", opus, 6.5, partial(fastpath, agent=repeat, is_pinned=True)),
        Contestant("aiortc echo", others, None, partial(aiortc, agent="echo", is_pinned=True)),
    ]


def one_turn(contestant: Contestant, warmup_s: float, measure_s: float) -> dict[str, Any]:
    """One server, started anew, with all its calls."""
    with (
        tempfile.TemporaryDirectory() as directory,
        contestant.start(Path(directory)) as server,
        closing(Load(contestant.sessions)) as load,
    ):
        load.connect(server.place)
        window = load.run(warmup_s=warmup_s, measure_s=measure_s, look=partial(_look, server))
    return sample(window)


def _look(server: Server) -> tuple[float, float, float]:
    relay_ms = used_ns(server.relay_pid) / 1e6 if server.relay_pid else 0.0
    return used_ms(server.pid), waited_ms(server.pid), relay_ms


def sample(window: Window) -> dict[str, Any]:
    """A window with the CPU times taken at its two ends."""
    used, waited, relay = (last - first for first, last in zip(*window.looks, strict=True))
    session_seconds = window.sessions * window.seconds
    plain = asdict(window)
    del plain["looks"]
    return plain | {
        "cpu_ms": used / session_seconds,
        "cpu_share": used / 1000 / window.seconds,
        "waited_share": waited / 1000 / window.seconds,
        "relay_ms": relay / session_seconds,
    }


def check_machine(sockets: int) -> None:
    """Two CPUs and enough descriptors, or one clear sentence."""
    if not {SERVER_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
        raise SystemExit(
            "bench-calls needs CPU 0 for the server and CPU 1 for load and relay: there are less."
        )
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    if limits[1] < sockets + 100:
        raise SystemExit(
            f"bench-calls needs {sockets + 100} file descriptors, {limits[1]} are allowed: ulimit -n"
        )


def main() -> None:
    """Rounds, then JSON and table."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.calls.capacity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of A B C")
    parser.add_argument("--seconds", type=float, default=MEASURE_S, help="length of one measurement")
    parser.add_argument("--sessions", type=int, nargs=3, default=SESSIONS, metavar="N", help="of A, B and C")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON and the table")
    arguments = parser.parse_args()
    check_machine(max(arguments.sessions))
    machine, version, began = card() | versions(*DISTRIBUTIONS), commit(), datetime.now(UTC)
    ready = contestants(*arguments.sessions)
    samples: dict[str, list[dict[str, Any]]] = {each.name: [] for each in ready}
    os.sched_setaffinity(0, {LOAD_CPU})
    for number in range(arguments.rounds):
        for each in ready:
            say(f"round {number + 1} of {arguments.rounds}: {each.name}")
            samples[each.name].append(one_turn(each, WARMUP_S, arguments.seconds))
    result = {
        "commit": version,
        "date": began.isoformat(timespec="seconds"),
        "machine": machine,
        "settings": {"rounds": arguments.rounds, "warmup_s": WARMUP_S, "measure_s": arguments.seconds},
        "goals_ms": {each.name: each.goal_ms for each in ready},
        "servers": samples,
    }
    text = capacity_report(result)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"calls-{began:%Y-%m-%d}-{version}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    sys.stdout.write(text)
    say(f"written: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")


def say(text: str) -> None:
    """One line of progress."""
    sys.stderr.write(f"bench-calls: {text}\n")


if __name__ == "__main__":
    main()
