"""From counts to figures: medians, intervals, and what is no measurement."""

import json
import math

import pytest

from pyfastpath.tools.bench.figures import (
    Interval,
    Row,
    Sample,
    cpu,
    figures,
    half_interval,
    invalid,
    row_json,
    throughput,
)
from pyfastpath.tools.bench.latency import Latency
from pyfastpath.tools.gate import FIGURES


def sample(**changes) -> Sample:
    facts = {
        "rate_pps": 1000,
        "seconds": 2.0,
        "sent": 2000,
        "forwarded": 2000,
        "lost": 0,
        "cpu_ns": 4_000_000,
        "latency": Latency.of([(10_000, 1990), (80_000, 10)]),
        "intervals": (Interval(1, 1000, 990, 1_980_000), Interval(1, 1000, 1010, 2_020_000)),
    }
    return Sample(**(facts | changes))


def row(**changes) -> Row:
    facts = {"path": "plain", "mode": "up", "paced": (sample(),), "own_pps": 5000.0}
    return Row(**(facts | changes))


def test_every_figure_that_a_gate_can_name_is_there():
    said = figures(row())
    assert set(said) == set(FIGURES)
    assert said["loss"] == 0
    assert said["pps"] == 1000
    assert said["cpu_ns"] == 2000
    assert said["p50_us"] == 10
    assert said["p999_us"] == 80
    assert said["max_us"] == 80


def test_samples_of_several_rounds_are_taken_together():
    slow = sample(forwarded=1000, lost=1000, sent=2000, cpu_ns=4_000_000, late=7)
    said = figures(row(paced=(sample(), slow, slow)))
    assert said["lost"] == 2000
    assert said["loss"] == pytest.approx(1 / 3)
    assert said["cpu_ns"] == 3000, "12 ms for 4,000 datagrams"
    assert said["pps"] == 500, "the median"
    assert said["late"] == 14


def test_throughput_is_the_floods_and_the_rest_is_not():
    flood = sample(rate_pps=0, sent=9000, forwarded=8000, lost=5, cpu_ns=None, intervals=())
    timed = sample(latency=Latency.of([(3000, 1)]))
    said = figures(row(floods=(flood,), timed=(timed,)))
    assert said["pps"] == 4000
    assert said["lost"] == 0
    assert said["p50_us"] == 3


def test_a_relay_that_nobody_can_see_has_no_cpu_figure():
    assert cpu([sample(cpu_ns=None)])[0] is None
    assert figures(row(paced=(sample(cpu_ns=None),)))["cpu_ns"] is None
    assert cpu([sample(forwarded=0)])[0] is None


def test_the_confidence_interval_is_students():
    assert math.isnan(half_interval([5.0]))
    assert half_interval([1.0, 1.0, 1.0]) == 0
    # Ten values with a standard deviation of 1: t(9) = 2.262.
    assert half_interval([9.0] * 5 + [11.0] * 5) == pytest.approx(2.262 * 1.0541 / math.sqrt(10), rel=0.01)
    assert half_interval([9.0, 11.0] * 50) == pytest.approx(1.96 * 1.005 / 10, rel=0.01)
    assert throughput(row())[1] == pytest.approx(12.71 * 14.142 / math.sqrt(2), rel=0.01)
    assert cpu([sample()])[1] == 0


@pytest.mark.parametrize(("sent", "bound"), [(7900, False), (8100, True)])
def test_a_flood_near_the_generators_own_rate_is_no_figure_of_the_relay(sent, bound):
    flood = sample(rate_pps=0, sent=sent, seconds=1.0)
    assert row(floods=(flood,), own_pps=10_000.0).generator_bound is bound
    assert not row(floods=(flood,), own_pps=None).generator_bound, "no relay: nothing to be bound by"


@pytest.mark.parametrize(
    ("changes", "own_pps", "said"),
    [
        ({}, 5000.0, None),
        ({"sent": 1990}, 5000.0, None),
        ({"sent": 1900}, 5000.0, "plain up: the generator held 0.9 k/s of the 1.0 k/s asked for"),
        ({"late": 90}, 5000.0, None),
        (
            {"late": 200, "late_max_us": 4500},
            5000.0,
            "plain up: 10% of the datagrams left more than 1 ms late",
        ),
        ({}, 1200.0, "leave the generator no headroom: its own rate here is 1.2 k/s"),
        ({"rate_pps": 0, "sent": 1}, 5000.0, None),
    ],
    ids=["good", "held", "not-held", "some-late", "late", "no-headroom", "flood"],
)
def test_an_overloaded_generator_is_told(changes, own_pps, said):
    one = sample(**changes)
    place = {"paced": (one,)} if one.rate_pps else {"paced": (), "floods": (one,)}
    found = invalid(row(own_pps=own_pps, **place))
    if said is None:
        assert found == []
    else:
        assert len(found) == 1
        assert said in found[0]


def test_a_row_is_json():
    known = json.loads(json.dumps(row_json(row(drops=(("oversize", 3),)))))
    assert known["figures"]["pps"] == 1000
    assert known["relay_dropped"] == {"oversize": 3}
    assert known["asked_pps"] == 1000
    assert known["samples"][0]["intervals"][0] == [1, 1000, 990, 1_980_000]
    assert known["latency_ns"] == [[10_000, 1990], [80_000, 10]]
    lonely = row_json(row(paced=(sample(intervals=()),)))
    assert lonely["pps_95"] is None, "JSON has no NaN"
