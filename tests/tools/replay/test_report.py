"""The verdict: what passes, what fails, what cannot be judged, and how each is told."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from pyfastpath.tools.gate import parse_gates
from pyfastpath.tools.junit import junit
from pyfastpath.tools.replay.report import (
    FAILED,
    FAULTS_SHOWN,
    FIGURES,
    INVALID,
    NEVER,
    PASSED,
    UNREACHABLE,
    Fault,
    Outcome,
    Way,
    to_cases,
    to_document,
    to_text,
)

GOOD = Outcome(
    file="calls.pcap",
    calls=2,
    flows=3,
    datagrams=100,
    recorded_s=9.5,
    skipped={"of no call": 7},
    signed=4,
    unsigned=0,
    target="a relay of its own",
    mode="plain",
    backends=2,
    sessions=10,
    turns=1,
    calls_played=2,
    speed=1.0,
    seed=3,
    planned_up=600,
    planned_down=400,
    up=Way(sent=600, delivered=600),
    down=Way(sent=400, delivered=400),
    unroutable=0,
    moved=0,
    elapsed_s=10.0,
    timed=900,
    held_back=100,
    starved=0,
    blocked=0,
    timing_us={"p50": 4.0, "p99": 80.0, "max": 900.0},
    latency_us={"p50": 30.0, "p90": 50.0, "p99": 90.0, "p999": 300.0, "max": 1000.0},
    drops={},
)
LOST = Fault("lost", True, 7, "127.2.0.8:4000", 1, "abcd", 4711, 1.25, "never came out in time")


def broken(**way: int) -> Outcome:
    """As GOOD, but what is named here of the way up."""
    count = way.get("lost", 0) + way.get("corrupted", 0) + way.get("misrouted", 0)
    return replace(GOOD, up=Way(sent=600, delivered=600 - count, **way), faults=(LOST,))


def test_everything_as_it_should_be_passes() -> None:
    assert GOOD.exit_code == PASSED
    text = to_text(GOOD)
    assert "verdict    PASSED" in text
    assert "600 of 600 delivered (100 %), each once, unchanged, in order" in text
    assert "left out   7 of no call" in text
    assert "timing     after the recorded time: p50 4 µs, p99 80 µs; " in text
    assert "10 % waited for what they answer, or for room" in text
    assert max(map(len, text.splitlines())) <= 110


@pytest.mark.parametrize("name", [name for name in NEVER if name not in {"unroutable", "unsent"}])
def test_one_datagram_fails_it(name: str) -> None:
    outcome = broken(**{name: 1})
    assert outcome.exit_code == FAILED
    assert f"verdict    FAILED: {name} is 1: fails at {name}>0" in to_text(outcome)


def test_datagrams_that_could_not_be_sent_fail_it() -> None:
    unheard = replace(GOOD, down=Way(sent=390, delivered=390), unroutable=10)
    assert [str(item.gate) for item in unheard.judgements() if item.failed] == ["unroutable>0"]
    left = replace(GOOD, down=Way(sent=390, delivered=390))
    assert [str(item.gate) for item in left.judgements() if item.failed] == ["unsent>0"]
    assert "10 datagrams were left" in to_text(left)


@pytest.mark.parametrize(
    ("gate", "code"),
    [("loss>0.01", PASSED), ("loss>0.0001", FAILED), ("lost>1", PASSED), ("p99_us>500", FAILED)],
)
def test_a_gate_replaces_the_rule_for_its_figure(gate: str, code: int) -> None:
    outcome = replace(broken(lost=1), gates=tuple(parse_gates([gate], FIGURES)))
    assert outcome.exit_code == code


def test_a_gate_on_what_was_not_measured_fails() -> None:
    outcome = replace(GOOD, speed=0.0, timing_us={}, gates=tuple(parse_gates(["timing_p99_us>100"], FIGURES)))
    assert outcome.exit_code == FAILED


def test_every_figure_is_measured() -> None:
    assert set(GOOD.figures()) == set(FIGURES)
    assert None not in GOOD.figures().values()


def test_nothing_arrived() -> None:
    silent = replace(GOOD, up=Way(sent=3, lost=3), down=Way(), unroutable=3, planned_down=3)
    assert silent.exit_code == UNREACHABLE
    assert "UNREACHABLE: nothing that was sent to a relay of its own came out" in to_text(silent)
    assert "--trunk-key" not in to_text(silent)
    assert "Its trunk has a key: pass it, --trunk-key" in to_text(replace(silent, drops={"bad_tag": 2}))


@pytest.mark.parametrize(
    "change",
    [{"timing_us": {"p50": 20_000.0, "p99": 30_000.0, "max": 1e6}}, {"starved": 101}],
    ids=["late", "starved"],
)
def test_a_replay_that_did_not_keep_its_times_is_invalid(change: dict) -> None:
    outcome = replace(GOOD, **change)
    assert outcome.exit_code == INVALID
    assert "INVALID: " in to_text(outcome)
    assert replace(outcome, speed=0.0).exit_code == PASSED  # at full speed there are none


def test_faults_are_named_and_a_screen_is_not_overrun() -> None:
    text = to_text(replace(broken(lost=1), faults=(LOST,) * 50))
    where = "frame 4711 of call 1 (abcd), session 7 (127.2.0.8:4000), at 1.250000 s"
    assert f"faults     lost up: {where}: never came out in time" in text
    assert text.count("frame 4711") == FAULTS_SHOWN
    stranger = Fault("stranger", False, -1, "", -1, "", -1, 0.5, "20 bytes that nobody sent")
    assert str(stranger) == "stranger down at 0.500000 s: 20 bytes that nobody sent"


def test_what_stays_as_captured_and_what_the_relay_says_is_told() -> None:
    text = to_text(replace(GOOD, unsigned=6, drops={"no_route": 3}, sessions=1, calls_played=1, turns=4))
    assert "recomputed in 4 of 10 STUN messages, kept in the others: no password" in text
    assert "dropped 3 no_route" in text
    assert "1 session, 4 times (1 call unplayed) at 1×" in text


def test_the_document_is_json_with_everything() -> None:
    said = json.loads(
        json.dumps(to_document(replace(broken(lost=1), gates=tuple(parse_gates(["p99_us>5"])))))
    )
    assert (said["exit_code"], said["up"]["lost"], said["faults"][0]["frame"]) == (FAILED, 1, 4711)
    assert said["passed"] is False
    assert said["figures"]["loss"] == 0.001
    assert {"gate": "p99_us>5", "value": 90.0, "failed": True} in said["judgements"]


def test_junit_has_a_case_a_rule() -> None:
    suite = ElementTree.fromstring(junit("replay", to_cases(broken(lost=1)))).find("testsuite")
    assert suite is not None
    assert suite.get("time") == "10.000"
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == (str(len(NEVER)), "1", "0")
    failed = next(case for case in suite if case.get("name") == "lost>0")
    assert failed.findtext("failure") == "lost is 1: fails at lost>0"
    assert "frame 4711" in (failed.findtext("system-out") or "")


def test_what_this_machine_did_not_send_is_not_the_relays_loss() -> None:
    outcome = replace(broken(lost=2), blocked=2)
    assert outcome.exit_code == INVALID
    assert "INVALID: this machine had no room to send 2 of 1,000 datagrams" in to_text(outcome)


def test_junit_of_a_run_that_cannot_be_judged_is_an_error() -> None:
    cases = to_cases(replace(GOOD, starved=500))
    assert all(case.error and not case.failure for case in cases)
