"""`make bench-smoke`: the relay against the two reference relays, in ratios of one run.

A B C A B C: in every round each relay is started anew on CPU 0 and takes every workload; generator and sink
share CPU 1. The generator's own rate, without a relay, is measured in every round too: a relay that comes
nearer to it than 80 % was not saturated, so such a flood is no figure of the relay. The workloads at a fixed
rate (60 % of the generator's own up, 40 % echo) are what ratios are taken from. bench/README.md says why.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.contestants import Contestant, Running, able, limits, rivals
from bench.cpu import LOAD_CPU, RELAY_CPU
from bench.load import SIZE_BYTES, WINDOW, Load, Sample, Shape
from bench.place import Place
from bench.report import report
from pyfastpath.tools.machine import card, commit

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
ROUNDS, FLOWS, WARMUP_S, MEASURE_S = 5, 1000, 0.6, 1.5
PACED_UP_SHARE = 0.6
PACED_ECHO_SHARE = 0.4  # at more the uvloop relay loses datagrams, and a run that loses is no sample
OWN_UP, OWN_ECHO = Shape("own up", echo=False), Shape("own echo", echo=True)
Samples = dict[str, dict[str, list[Sample]]]  # [relay][workload][round]


def own_rates(rounds: int) -> dict[str, list[Sample]]:
    """The generator straight to its sink: what it can do here and now."""
    found: dict[str, list[Sample]] = {OWN_UP.name: [], OWN_ECHO.name: []}
    for _ in range(rounds):
        load = Load("plain", FLOWS)
        try:
            load.open_flows(Running(load.backend, os.getpid()))
            for shape in (OWN_UP, OWN_ECHO):
                found[shape.name].append(load.measure(shape, None, WARMUP_S, MEASURE_S))
        finally:
            load.close()
    return found


def workloads(own: dict[str, list[Sample]]) -> list[Shape]:
    """Flood, and a share of the generator's own rate, up and echo; the rates hold for the whole run."""
    up, echo = (min(sample.sent_pps for sample in own[shape.name]) for shape in (OWN_UP, OWN_ECHO))
    return [
        Shape("flood up", echo=False),
        Shape("flood echo", echo=True),
        Shape("paced up", echo=False, rate_pps=int(PACED_UP_SHARE * up)),
        Shape("paced echo", echo=True, rate_pps=int(PACED_ECHO_SHARE * echo)),
    ]


def one_turn(contestant: Contestant, shapes: list[Shape]) -> dict[str, Sample]:
    """One relay, started anew, takes every workload."""
    load = Load(contestant.upstream, FLOWS)
    try:
        with contestant.start(Place(), load.backend, load.ufrags) as running:
            load.open_flows(running)
            return {shape.name: load.measure(shape, running.pid, WARMUP_S, MEASURE_S) for shape in shapes}
    finally:
        load.close()


def measure(ready: list[Contestant], rounds: int) -> tuple[list[Shape], dict[str, list[Sample]], Samples]:
    own = own_rates(2)
    shapes = workloads(own)
    samples: Samples = {each.name: {shape.name: [] for shape in shapes} for each in ready}
    for number in range(rounds):
        for each in ready:
            say(f"round {number + 1} of {rounds}: {each.name}")
            for name, sample in one_turn(each, shapes).items():
                samples[each.name][name].append(sample)
        for name, again in own_rates(1).items():
            own[name] += again
    return shapes, own, samples


def micro() -> list[dict[str, Any]]:
    """The micro benchmarks: nanoseconds an operation, median and least of 20 rounds."""
    say("micro benchmarks")
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "micro.json"
        command = [sys.executable, "-m", "pytest", "-q", "bench/micro", "--benchmark-enable"]
        subprocess.run([*command, f"--benchmark-json={out}"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        benchmarks = json.loads(out.read_text())["benchmarks"]
    return [
        {
            "name": each["name"].removeprefix("test_"),
            "median_ns": each["stats"]["median"] / each["extra_info"]["operations"] * 1e9,
            "min_ns": each["stats"]["min"] / each["extra_info"]["operations"] * 1e9,
        }
        for each in benchmarks
    ]


def say(text: str) -> None:
    sys.stderr.write(f"bench-smoke: {text}\n")


def check_machine() -> None:
    """Two CPUs and enough descriptors, or one clear sentence."""
    if not {RELAY_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
        raise SystemExit(
            "bench-smoke needs CPU 0 for the relay and CPU 1 for the load: this machine has less."
        )
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    if limits[1] < 4 * FLOWS:
        raise SystemExit(
            f"bench-smoke needs {4 * FLOWS} file descriptors, {limits[1]} are allowed: ulimit -n"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.smoke", description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="rounds of A B C")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON and the table")
    parser.add_argument("--limits", action="store_true", help="the C forwarders of bench/peers/c too")
    arguments = parser.parse_args()
    check_machine()
    machine, version, began = card(), commit(), datetime.now(UTC)
    ready, left_out = able(rivals() + (limits() if arguments.limits else []))
    small = micro()
    os.sched_setaffinity(0, {LOAD_CPU})
    shapes, own, samples = measure(ready, arguments.rounds)
    result = {
        "commit": version,
        "date": began.isoformat(timespec="seconds"),
        "machine": machine,
        "settings": {"flows": FLOWS, "size_bytes": SIZE_BYTES, "window": WINDOW, "rounds": arguments.rounds},
        "left_out": left_out,
        "workloads": [vars(shape) for shape in shapes],
        "micro": small,
        "own": {name: [each.as_dict() for each in found] for name, found in own.items()},
        "relays": {
            relay: {name: [each.as_dict() for each in found] for name, found in of.items()}
            for relay, of in samples.items()
        },
    }
    text = report(result)
    arguments.results.mkdir(parents=True, exist_ok=True)
    path = arguments.results / f"smoke-{began:%Y-%m-%d}-{version}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    sys.stdout.write(text)
    say(f"written: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")


if __name__ == "__main__":
    main()
