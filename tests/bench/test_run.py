"""A run goes on when somebody fails, writes what it has as it goes, and says when it is worth nothing."""

import json
import os
import subprocess
import time
from contextlib import contextmanager

import pytest

from bench import run
from bench.contestants import Contestant, Running
from bench.limit import GivenUpError, given_up_after
from bench.load import Shape
from bench.record import Record
from bench.run import Benchmark, children, end_children
from bench.scenarios import Scenario
from bench.topology import Topology
from tests.support.require import require

WIRE, BROKEN = "the wire", "the broken one"
UP = Shape("voice up", echo=False, rate_pps=5000)


@contextmanager
def wire(place, backend, ufrags):
    """No relay at all: clients send to the backend."""
    yield Running(backend, os.getpid())


@contextmanager
def broken(place, backend, ufrags):
    """Leaves a child behind and fails."""
    subprocess.Popen(["sleep", "60"])
    raise RuntimeError("no such luck")
    yield


@pytest.fixture
def benchmark_of(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "QUIET_S", 0.01)
    monkeypatch.setattr(run, "WARMUP_S", 0.05)

    def made(**starts):
        record = Record(tmp_path, "smoke", "abc", {}, {})
        scenario = Scenario("relays", ("loopback",), (BROKEN, WIRE), (UP,), rounds=2)
        benchmark = Benchmark(record, [scenario], measure_s=0.1)
        benchmark.places = {"loopback": Topology("loopback")}
        benchmark.contestants = {
            name: Contestant(name, "plain", start) for name, start in ((WIRE, wire), (BROKEN, broken))
        }
        return benchmark

    return made


def test_one_contestants_failure_is_written_down_and_the_others_go_on(benchmark_of):
    benchmark = benchmark_of()
    benchmark.run(rounds=2)
    found = benchmark.record.result
    assert [(each["contestant"], each["round"], each["error"]) for each in found["failures"]] == [
        (BROKEN, number, "RuntimeError: no such luck") for number in (0, 1)
    ]
    measured = [each for each in found["samples"] if each["contestant"] == WIRE]
    assert [each["round"] for each in measured] == [0, 1]
    assert all(each["forwarded"] and not each["lost"] for each in measured)
    own = [each for each in found["samples"] if each["scenario"] == "own"]
    assert {each["workload"] for each in own} == {"flood up", "flood echo", "voice up"}
    assert found["own_pps"]["loopback"].keys() == {"flood up", "flood echo"}
    assert len(found["quiet"]) == 2


def test_a_scenarios_rounds_are_at_most_its_own(benchmark_of):
    benchmark = benchmark_of()
    benchmark.scenarios = [Scenario("relays", ("loopback",), (WIRE,), (UP,), rounds=1)]
    benchmark.run(rounds=2)
    assert len([each for each in benchmark.record.result["samples"] if each["contestant"] == WIRE]) == 1


def test_what_there_is_lies_on_disk_after_every_turn(benchmark_of, tmp_path):
    benchmark = benchmark_of()
    seen = []
    turn = benchmark._turn

    def watched(*arguments):
        turn(*arguments)
        (path,) = tmp_path.glob("*.partial.json")
        seen.append(len(json.loads(path.read_text())["samples"]))

    benchmark._turn = watched
    benchmark.run(rounds=1)
    assert seen == [2, 5, 5, 6]  # calibration, the generator's own, the broken one, the wire
    path = benchmark.record.finish()
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    document = json.loads(path.read_text())
    assert document["finished"]
    assert len(document["samples"]) == 6


def test_who_hangs_is_given_up():
    began = time.monotonic()
    with pytest.raises(GivenUpError), given_up_after(0.1):
        time.sleep(5)
    assert time.monotonic() - began < 3
    with given_up_after(0.05):
        pass
    time.sleep(0.1)  # nothing rings afterwards


def test_children_a_turn_left_behind_are_ended_and_no_others():
    older, before = subprocess.Popen(["sleep", "60"]), children()
    newer = subprocess.Popen(["sleep", "60"])
    try:
        assert before == children() - {newer.pid}
        end_children(before)
        with pytest.raises(ProcessLookupError):
            os.kill(newer.pid, 0)
        assert older.poll() is None
    finally:
        older.kill()
        older.wait()
        newer.wait()


def test_a_topology_that_cannot_be_made_is_left_out(benchmark_of, monkeypatch):
    @contextmanager
    def refused(name):
        raise PermissionError("not allowed")
        yield

    monkeypatch.setattr(run, "topology", refused)
    benchmark = benchmark_of()
    benchmark.places = {}
    with run.ExitStack() as stack:
        benchmark.prepare(stack, rounds=1)
    assert benchmark.places == {}
    assert "topology loopback: not allowed" in benchmark.record.result["left_out"]
    assert f"{WIRE}: not built here" in benchmark.record.result["left_out"]


def test_nothing_left_to_measure_is_a_usage_error(capsys):
    assert run.main(["--only", "nobody of that name"]) == 2
    said = capsys.readouterr().err
    assert "leave nothing to measure; --only knows" in said
    assert "C trunk" in said
    assert "latency" in said
    with pytest.raises(SystemExit) as ended:
        run.main(["--topology", "the moon"])
    assert ended.value.code == 2


def test_nothing_there_to_show_is_a_usage_error(capsys, tmp_path):
    assert run.main(["--render", str(tmp_path / "no.json")]) == 2
    assert "there is no file" in capsys.readouterr().err


@pytest.mark.slow
def test_the_program_measures_a_relay_and_writes_its_table(tmp_path):
    """The command itself, on a machine that may be busy: measured (0) or not validly (4), never broken."""
    require("gcc")
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    command = [run.sys.executable, "-m", "bench.run", "--quick", "--rounds=1", "--measure-s=0.1"]
    options = ["--topology=loopback", "--only=C mmsg, one socket", f"--results={tmp_path}", "--no-micro"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in {0, 4}, done.stderr
    (path,) = tmp_path.glob("smoke-*.json")
    document = json.loads(path.read_text())
    assert document["failures"] == []
    assert {each["contestant"] for each in document["samples"]} == {"no relay", "C mmsg, one socket"}
    assert path.with_suffix(".md").read_text() == done.stdout
