"""What a run may claim: ratios inside a round, nothing from a relay that was not the narrow place."""

import pytest

from bench.figures import Cell, added_us, cost_ratio, faults, generator_bound, overloaded
from tests.support.bench_samples import own, result, rounds, sample

OURS, THEIRS = "fastpath trunk", "Go relay"


def ratio(found, workload="paced up"):
    return cost_ratio(found, Cell("loopback", OURS, workload), Cell("loopback", THEIRS, workload))


def test_a_ratio_is_taken_round_by_round():
    found = result(rounds(OURS, "paced up", 1000, 1000, 2000), rounds(THEIRS, "paced up", 5000, 4000, 10_000))
    assert ratio(found).values == (0.2, 0.25, 0.2)
    assert ratio(found).median == 0.2


def test_samples_of_another_topology_scenario_or_number_of_flows_stay_apart():
    found = result(
        rounds(OURS, "paced up", 1000),
        rounds(THEIRS, "paced up", 5000),
        rounds(OURS, "paced up", 9000, topology="rps"),
        rounds(OURS, "paced up", 9000, scenario="scale"),
        rounds(OURS, "paced up", 9000, flows=100_000),
    )
    assert ratio(found).values == (0.2,)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"lost": 101}, "lost 0.1%"),
        ({"duplicates": 1}, "duplicates 1"),
        ({"misrouted": 3}, "misrouted 3"),
        ({"sent_pps": 118_000}, "the generator could not hold its rate"),
        ({"forwarded": 0}, "nothing arrived"),
        ({"forwarded_pps": 113_000}, "it carried 113 k/s"),
        ({"others_share": None, "cpu_ns": 960_000_000}, "the core was full"),
    ],
)
def test_a_faulty_sample_is_no_figure_and_its_round_enters_no_ratio(change, fault):
    bad = sample(THEIRS, "paced up", 5000, 0, **change)
    assert faults(bad) == [fault]
    found = result(rounds(OURS, "paced up", 1000, 1000), [bad], [sample(THEIRS, "paced up", 4000, 1)])
    assert ratio(found).values == (0.25,)
    alone = ratio(result(rounds(OURS, "paced up", 1000, 1000), [bad]))
    assert alone.values == ()
    assert alone.why == f"{THEIRS}: {fault}"


def test_both_ways_must_carry_twice_the_schedule():
    assert faults(sample(THEIRS, "paced echo", 5000)) == []
    assert faults(sample(THEIRS, "paced echo", 5000, forwarded_pps=60_000)) == ["it carried 60 k/s"]


def test_a_relay_may_fill_a_core_that_is_not_counted_as_a_whole():
    assert faults(sample(THEIRS, "paced up", 5000, cpu_ns=960_000_000)) == []


def test_a_loss_of_one_in_a_thousand_is_shown_elsewhere_and_no_fault():
    assert faults(sample(OURS, "paced up", 1000, lost=100)) == []


@pytest.mark.parametrize(("reached_pps", "bound"), [(160_001, True), (160_000, False)])
def test_a_flood_nearer_than_four_fifths_to_the_generators_own_is_no_figure_of_the_relay(reached_pps, bound):
    found = result(
        own("flood up", 200_000),
        rounds(OURS, "flood up", 1000, sent_pps=reached_pps),
        rounds(THEIRS, "flood up", 5000),
    )
    assert generator_bound(found, Cell("loopback", OURS, "flood up")) is bound
    assert bool(ratio(found, "flood up").values) is not bound
    if bound:
        assert ratio(found, "flood up").why == f"{OURS} reached over 80% of the generator's own rate"


def test_a_flood_without_the_generators_own_rate_proves_nothing():
    assert generator_bound(result(rounds(OURS, "flood up", 1)), Cell("loopback", OURS, "flood up"))


def test_a_schedule_is_never_generator_bound():
    found = result(own("paced up", 120_000), rounds(OURS, "paced up", 1000))
    assert not generator_bound(found, Cell("loopback", OURS, "paced up"))


def test_who_was_not_measured_is_named():
    assert ratio(result(rounds(OURS, "paced up", 1))).why == f"{THEIRS} was not measured"


def test_added_latency_is_beyond_that_without_a_relay_in_the_same_round():
    found = result(
        [
            sample("no relay", "latency up", 0, number, scenario="own", p50_us=10.0 * number)
            for number in (1, 2)
        ],
        [sample(OURS, "latency up", 1, number, p50_us=100.0) for number in (1, 2, 3)],
    )
    assert added_us(found, Cell("loopback", OURS, "latency up")).values == (90.0, 80.0)


def test_a_generator_that_missed_its_schedule_without_a_relay_makes_the_run_invalid():
    relays = rounds(OURS, "paced up", 1000)
    assert overloaded(result(own("paced up", 119_000), relays)) == []
    late = overloaded(result(own("paced up", 118_000), relays))
    assert late == ["loopback, paced up: the generator sent 118,000 of 120,000 a second"]


def test_a_run_without_any_relay_is_invalid():
    assert overloaded(result(own("flood up"))) == ["no relay was measured"]
