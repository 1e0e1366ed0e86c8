"""Who gets the next call: least loaded, alive, up, of the nearest cluster; and who comes after it."""

from collections import Counter

import pytest

from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.placement import Placement, holder
from tests.registry.records import record

NOW = 100.0


def order(*records, cluster: int = 0) -> list[str]:
    return [one.id for one in Placement(cluster).order(records, NOW)]


def test_the_least_loaded_comes_first() -> None:
    assert order(
        record("a", sessions=50, capacity=100, heard_s=NOW),
        record("b", sessions=60, capacity=200, heard_s=NOW),
        record("c", sessions=1, capacity=2, heard_s=NOW),
    ) == ["b", "c", "a"]


def test_the_own_cluster_comes_before_any_other() -> None:
    records = (
        record("near", cluster=3, sessions=99, heard_s=NOW),
        record("far", cluster=2, sessions=0, heard_s=NOW),
    )
    assert order(*records, cluster=3) == ["near", "far"]
    assert order(*records, cluster=2) == ["far", "near"]


def test_the_dead_the_draining_and_the_full_get_nothing() -> None:
    assert order(
        record("dead", heard_s=NOW - 3.1),
        record("draining", state="draining", heard_s=NOW),
        record("stopping", state="stopping", heard_s=NOW),
        record("full", sessions=100, capacity=100, heard_s=NOW),
        record("none", capacity=0, heard_s=NOW),
        record("alive", sessions=99, heard_s=NOW - 2.9),
    ) == ["alive"]


@pytest.mark.parametrize(
    ("records", "why"),
    [
        ((), "no transceiver is alive"),
        ((record(heard_s=NOW - 4),), "no transceiver is alive"),
        ((record(state="draining", heard_s=NOW),), "every transceiver is draining"),
        ((record(sessions=100, heard_s=NOW), record("b", state="stopping", heard_s=NOW)), "is full"),
    ],
)
def test_when_nobody_can_the_reason_is_said(records, why: str) -> None:
    with pytest.raises(CallError, match=why) as refused:
        order(*records)
    assert refused.value.code == "no_capacity"
    assert refused.value.status == 503
    assert refused.value.headers()["Retry-After"] == "2"


def test_a_burst_between_two_announcements_spreads() -> None:
    placement = Placement(0)
    records = [record(id, sessions=10, heard_s=NOW) for id in "abcd"]
    got: Counter[str] = Counter()
    for _ in range(40):
        best = placement.order(records, NOW)[0]
        placement.placed(best)
        got[best.id] += 1
    assert got == dict.fromkeys("abcd", 10)


def test_a_burst_does_not_overfill() -> None:
    placement = Placement(0)
    records = [record("a", sessions=98, heard_s=NOW), record("b", sessions=99, heard_s=NOW)]
    for _ in range(3):
        placement.placed(placement.order(records, NOW)[0])
    with pytest.raises(CallError, match="full"):
        placement.order(records, NOW)


def test_an_announcement_replaces_what_was_counted() -> None:
    placement = Placement(0)
    old, other = record("a", sessions=0, heard_s=NOW), record("b", sessions=3, heard_s=NOW)
    for _ in range(5):
        placement.placed(old)
    assert placement.order([old, other], NOW)[0].id == "b"
    fresh = record("a", sessions=1, heard_s=NOW + 1)
    assert placement.order([fresh, other], NOW + 1)[0].id == "a"


def test_one_that_failed_comes_last_until_it_is_heard_again() -> None:
    placement = Placement(0)
    dead, alive = record("a", sessions=0, heard_s=NOW), record("b", cluster=9, sessions=90, heard_s=NOW)
    placement.failed(dead)
    assert [one.id for one in placement.order([dead, alive], NOW)] == ["b", "a"]
    back = record("a", sessions=0, heard_s=NOW + 1)
    assert [one.id for one in placement.order([back, alive], NOW + 1)] == ["a", "b"]


def test_what_is_known_of_the_gone_is_forgotten() -> None:
    placement = Placement(0)
    for number in range(50):
        placement.placed(record(f"t{number}", heard_s=NOW))
    placement.order([record("t1", heard_s=NOW)], NOW)
    assert list(placement._since) == ["t1"]


def test_the_holder_of_a_call_is_found_in_any_state() -> None:
    records = [
        record("a", cluster=1, xcvr=2, incarnation=3, state="stopping"),
        record("b", cluster=1, xcvr=3, incarnation=0),
    ]
    assert holder(records, 1, 2, 3) is records[0]
    assert holder(records, 1, 2, 4) is None, "started anew: the call is gone"
    assert holder(records, 0, 2, 3) is None
