"""`make bench`: our relay, its rivals and the C forwarders, interleaved, in three networks.

Round by round every contestant is started anew on CPU 0, takes the workloads of each scenario, and ends;
generator and sink share CPU 1. The generator's own rate without a relay is measured in every round and
topology. Who fails is written down, and the run goes on; ratios are taken inside a round. bench/scenarios.py
is the plan; bench/README.md says why.

Exit codes: 0 measured, 2 usage, 4 the generator could not hold its rate, or the machine refuses.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from bench.contestants import Contestant, Running, able
from bench.cpu import LOAD_CPU, RELAY_CPU, busy_ns
from bench.figures import NOBODY, overloaded
from bench.leaves import micro
from bench.limit import given_up_after
from bench.load import Load, Shape
from bench.newcomers import newcomers
from bench.publish import publish
from bench.record import Record, Turn
from bench.scenarios import (
    FLOOD_ECHO,
    FLOOD_UP,
    FULL,
    MEASURE_S,
    QUICK,
    WARMUP_S,
    Scenario,
    catalogue,
    chosen,
    planned_s,
    rated,
)
from bench.topology import NAMES, Topology, raised_buffers, topology
from pyfastpath.tools.bench.options import WINDOW
from pyfastpath.tools.machine import card, commit

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "bench" / "results"
ROUNDS, QUICK_ROUNDS = 3, 2
QUIET_S = 0.5
DESCRIPTORS_LEAST = 4096
INVALID = 4
ALLOWANCE_S = 45  # a turn may take this much longer than planned before it is given up
SETUP_MS_A_FLOW = 0.2


class Benchmark:
    """One run: what was planned, where it happens, and what came of it."""

    def __init__(self, record: Record, scenarios: list[Scenario], measure_s: float) -> None:
        self.record, self.scenarios, self.measure_s = record, scenarios, measure_s
        self.places: dict[str, Topology] = {}
        self.contestants: dict[str, Contestant] = {}
        self.began_s = time.monotonic()
        self.planned_s = 0.0

    def prepare(self, stack: ExitStack, rounds: int) -> None:
        """Networks and contestants; what is missing is left out, with its reason."""
        for name in sorted({name for each in self.scenarios for name in each.topologies}, key=NAMES.index):
            try:
                self.places[name] = stack.enter_context(topology(name))
            except (OSError, RuntimeError) as error:
                self.record.result["left_out"].append(f"topology {name}: {error}")
        for name, place in self.places.items():
            inject = place.generator.get("inject", "mmsg")
            self.record.result["topologies"][name] = {"clock": place.clock, "inject": inject}
        known = catalogue()
        wanted = dict.fromkeys(name for each in self.scenarios for name in each.contestants)
        self.record.result["left_out"] += [f"{name}: not built here" for name in wanted if name not in known]
        ready, left_out = able(known[name] for name in wanted if name in known)
        self.contestants = {each.name: each for each in ready}
        self.record.result["left_out"] += left_out
        self.planned_s = planned_s(self.scenarios, rounds, self.measure_s)

    def run(self, rounds: int) -> None:
        """Calibrates every topology, then round by round."""
        for name in list(self.places):
            self._calibrate(name)
            if len(self.record.result["own_pps"][name]) < len((FLOOD_UP, FLOOD_ECHO)):
                self.record.result["left_out"].append(f"topology {name}: no rate of the generator's own")
                del self.places[name]
        for number in range(rounds):
            for name in self.places:
                self._round(name, number)

    def _calibrate(self, name: str) -> None:
        """The generator's own rates, of which the schedules are a share."""
        turn = Turn("calibration", name, 0, NOBODY)
        self._turn(turn, Scenario("calibration", (name,), (NOBODY,), (FLOOD_UP, FLOOD_ECHO)))
        found = [each for each in self.record.result["samples"] if each["scenario"] == "calibration"]
        self.record.result["own_pps"][name] = {
            each["workload"]: each["sent_pps"] for each in found if each["topology"] == name
        }

    def _round(self, name: str, number: int) -> None:
        here = [each for each in self.scenarios if name in each.topologies and number < each.rounds]
        self._look_at_quiet(name, number)
        shapes = dict.fromkeys(shape for each in here for shape in each.shapes)
        floods = dict.fromkeys((FLOOD_UP, FLOOD_ECHO))
        self._turn(
            Turn("own", name, number, NOBODY), Scenario("own", (name,), (NOBODY,), (*(floods | shapes),))
        )
        for scenario in here:
            for who in scenario.contestants:
                if who in self.contestants:
                    self._turn(Turn(scenario.name, name, number, who), scenario)

    def _turn(self, turn: Turn, scenario: Scenario) -> None:
        """One contestant takes its workloads. Whatever goes wrong stays in this turn."""
        elapsed, planned = (time.monotonic() - self.began_s) / 60, self.planned_s / 60
        say(
            f"[{elapsed:.1f} of about {planned:.0f} min] round {turn.round + 1}, {turn.topology}, "
            f"{scenario.name}: {turn.contestant}"
        )
        own, before = self.record.result["own_pps"].get(turn.topology), children()
        try:
            shapes, whole = scenario.shapes, self.places[turn.topology].clock == "core"
            if own is not None:
                shapes = tuple(rated(each, own, whole_core=whole) for each in shapes)
            with given_up_after(ALLOWANCE_S + 3 * scenario.turn_s(self.measure_s)):
                self._measure(turn, scenario, shapes)
        except Exception as error:  # one contestant's failure is a result, not the run's end
            text = f"{type(error).__name__}: {error}"
            say(f"FAILED: {text}")
            self.record.failure(turn, text)
            end_children(before)
        self.record.save()

    def _measure(self, turn: Turn, scenario: Scenario, shapes: tuple[Shape, ...]) -> None:
        place = self.places[turn.topology]
        contestant = self.contestants.get(turn.contestant)
        with ExitStack() as stack:
            upstream = contestant.upstream if contestant else "plain"
            load = Load(upstream, place, scenario.traffic, alone=contestant is None)
            stack.callback(load.close)
            if contestant is None:
                running = Running(load.backend, 0)
            else:
                running = stack.enter_context(contestant.start(place.place, load.backend, load.ufrags))
            load.open_flows(running, 8000 + int(SETUP_MS_A_FLOW * scenario.traffic.flows))
            for shape in shapes:
                pid = running.pid or None
                sample = load.measure(shape, pid, WARMUP_S, self.measure_s)
                self.record.sample(turn, shape, scenario.traffic, sample)

    def _look_at_quiet(self, name: str, number: int) -> None:
        """How busy the relay's core is with nobody's load: what a whole core's figure holds of others."""
        before = busy_ns(RELAY_CPU)
        time.sleep(QUIET_S)
        share = (busy_ns(RELAY_CPU) - before) / 1e9 / QUIET_S
        self.record.result["quiet"].append({"topology": name, "round": number, "share": share})


def children() -> set[int]:
    """The processes this one started and has not waited for."""
    tasks = Path("/proc/self/task").iterdir()
    found: set[int] = set()
    for task in tasks:
        with suppress(OSError):  # a thread may end between the list and the look
            found |= {int(child) for child in (task / "children").read_text().split()}
    return found


def end_children(before: set[int]) -> None:
    """Kills and reaps what a failed turn left behind: children that were not there before it."""
    for child in children() - before:
        try:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        except OSError:
            continue  # whoever started it has waited for it already


def say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")


def check_machine() -> None:
    """Two CPUs and enough descriptors, or one clear sentence and exit 4."""
    if not {RELAY_CPU, LOAD_CPU} <= os.sched_getaffinity(0):
        say(f"needs CPU {RELAY_CPU} for the relay and CPU {LOAD_CPU} for the load: this machine has less.")
        raise SystemExit(INVALID)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    if most < DESCRIPTORS_LEAST:
        say(f"needs {DESCRIPTORS_LEAST} file descriptors, {most} are allowed: ulimit -n")
        raise SystemExit(INVALID)


def arguments_of(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.run", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the short list of scenarios (make bench-smoke)")
    parser.add_argument(
        "--rounds", type=int, help=f"rounds of A B C, at most ({ROUNDS}, quick {QUICK_ROUNDS})"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="contestants whose name holds this, or a scenario",
    )
    parser.add_argument("--topology", action="append", default=[], choices=NAMES)
    parser.add_argument("--measure-s", type=float, default=MEASURE_S, help="measured time of a workload")
    parser.add_argument("--no-micro", action="store_true", help="leave out leaves, tables, newcomers")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for JSON, table and plots")
    parser.add_argument(
        "--render", type=Path, metavar="JSON", help="measure nothing: table and plots of a file"
    )
    arguments = parser.parse_args(argv)
    arguments.rounds = arguments.rounds or (QUICK_ROUNDS if arguments.quick else ROUNDS)
    return arguments


def main(argv: list[str] | None = None) -> int:
    """The whole run; its exit code."""
    arguments = arguments_of(argv)
    if arguments.render:
        if not arguments.render.is_file():
            say(f"--render: there is no file {arguments.render}; results lie in {RESULTS}")
            return 2
        sys.stdout.write(publish(arguments.render, json.loads(arguments.render.read_text())))
        return 0
    scenarios = chosen(QUICK if arguments.quick else FULL, tuple(arguments.only), tuple(arguments.topology))
    if not scenarios:
        plan = QUICK if arguments.quick else FULL
        known = {name for each in plan for name in (each.name, *each.contestants)}
        say(f"--only and --topology leave nothing to measure; --only knows {' · '.join(sorted(known))}")
        return 2
    check_machine()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with ExitStack() as stack:
        refused = stack.enter_context(raised_buffers())
        record = Record(
            arguments.results,
            "smoke" if arguments.quick else "bench",
            commit(),
            card(),
            settings_of(arguments),
        )
        record.result["left_out"] += refused
        benchmark = Benchmark(record, scenarios, arguments.measure_s)
        os.sched_setaffinity(0, {LOAD_CPU})
        benchmark.prepare(stack, arguments.rounds)
        benchmark.run(arguments.rounds)
    if not arguments.no_micro:
        record.result["micro"] = micro(record.result["left_out"])
        record.result["newcomers"] = newcomers(record.result["left_out"])
    path = record.finish()
    sys.stdout.write(publish(path, record.result))
    say(f"written: {path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}")
    for reason in (late := overloaded(record.result)):
        say(f"invalid: {reason}")
    return INVALID if late else 0


def settings_of(arguments: argparse.Namespace) -> dict[str, object]:
    return {
        "rounds": arguments.rounds,
        "warmup_s": WARMUP_S,
        "measure_s": arguments.measure_s,
        "window": WINDOW,
        "only": arguments.only,
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        say("interrupted: what was measured is in the results folder as *.partial.json (--render shows it)")
        sys.exit(128 + signal.SIGINT)
