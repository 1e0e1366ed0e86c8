"""The plan of a run: who is in it exists, and it ends within the time that was promised."""

import pytest

from bench.scenarios import (
    FULL,
    PACED_UP,
    PACED_UP_PPS,
    QUICK,
    VOICE_UP,
    catalogue,
    chosen,
    planned_s,
    rated,
)
from bench.targets import TARGETS
from bench.topology import NAMES


@pytest.mark.parametrize("scenarios", [FULL, QUICK], ids=["full", "quick"])
def test_everybody_in_a_scenario_exists_and_can_hold_its_flows(scenarios):
    known = catalogue()
    for each in scenarios:
        assert set(each.topologies) <= set(NAMES)
        for name in each.contestants:
            assert known[name].name == name
            assert known[name].flows_max >= each.traffic.flows, f"{name} in {each.name}"


@pytest.mark.parametrize(
    ("scenarios", "rounds", "minutes"), [(FULL, 3, 30), (QUICK, 2, 5)], ids=["full", "quick"]
)
def test_a_run_fits_its_time(scenarios, rounds, minutes):
    assert planned_s(scenarios, rounds) < minutes * 60


def test_every_target_is_measured_by_the_full_run():
    measured = {
        (topology, name, shape.name)
        for each in FULL
        if each.name == "relays"
        for topology in each.topologies
        for name in each.contestants
        for shape in each.shapes
    }
    for each in TARGETS:
        for who in (each.ours, each.theirs):
            assert (each.topology, who, each.workloads[-1]) in measured, each


def test_only_some_contestants_scenarios_and_topologies():
    found = chosen(FULL, ("nginx",), ("rps",))
    assert [(each.name, each.topologies, each.contestants) for each in found] == [
        ("relays", ("rps",), ("nginx stream",))
    ]
    assert {each.name for each in chosen(FULL, ("scale",), ())} == {"scale"}
    assert chosen(FULL, ("nobody",), ()) == []
    assert chosen(FULL, (), ()) == list(FULL)


def test_a_schedule_is_a_share_of_the_generators_own_rate_but_never_more_than_all_can_carry():
    assert rated(PACED_UP, {"flood up": 100_000.0}).rate_pps == 60_000
    assert rated(PACED_UP, {"flood up": 1_000_000.0}).rate_pps == PACED_UP_PPS
    assert rated(PACED_UP, {"flood up": 1_000_000.0}, whole_core=True).rate_pps == 0.6 * PACED_UP_PPS
    assert rated(VOICE_UP, {}) == VOICE_UP
