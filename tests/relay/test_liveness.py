"""What trunk links say, merged over shards."""

from typing import Any

import numpy as np
import pytest

from pyfastpath.relay import layout
from pyfastpath.relay.liveness import Finding, merge_links

NOW = 1_000_000


def links(*rows: dict[str, Any], index: int = 5) -> Any:
    """fp_trunk_link[shards, backends] with one row a shard at `index`."""
    table = np.zeros((len(rows), layout.BACKENDS), layout.TRUNK_LINK)
    for shard, row in enumerate(rows):
        for name, value in row.items():
            table[name][shard, index] = value
    return table


def heard(ago_ms: int, now_ms: int = NOW, **more: Any) -> dict[str, Any]:
    return {"heard_ms": (now_ms - ago_ms) & 0xFFFFFFFF, "pings": 10, "pongs": 9, **more}


def record(ago_ms: int, state: int, incarnation: int, **more: Any) -> dict[str, Any]:
    return heard(
        ago_ms, state_ms=NOW - ago_ms, state=state, cluster=1, xcvr=2, incarnation=incarnation, **more
    )


def test_who_was_never_talked_to_is_not_mentioned() -> None:
    assert merge_links(links({}, {}), NOW) == {}


def test_pinged_but_never_heard() -> None:
    assert merge_links(links({"pings": 3}, {}), NOW) == {5: Finding(None, None, pings=3)}


@pytest.mark.parametrize(("ago_ms", "state"), [(0, "up"), (2999, "up"), (3000, "down"), (90_000, "down")])
def test_three_seconds_of_silence(ago_ms: int, state: str) -> None:
    assert merge_links(links(heard(ago_ms), heard(90_000)), NOW)[5].heard == state


def test_the_newest_record_of_any_shard_counts() -> None:
    found = merge_links(links(record(900, 1, 3), record(100, 2, 4, sessions=7, capacity=9)), NOW)[5]
    assert found == Finding("draining", (1, 2, 4), 7, 9, pings=20, pongs=18)


@pytest.mark.parametrize(("state", "means"), [(1, "up"), (2, "draining"), (3, "down"), (77, "down")])
def test_what_a_backend_says_of_itself(state: int, means: str) -> None:
    assert merge_links(links(record(10, state, 0)), NOW)[5].heard == means


def test_a_silent_backend_is_down_whatever_it_said_last() -> None:
    assert merge_links(links(record(5000, 1, 0)), NOW)[5].heard == "down"


def test_an_old_record_says_nothing_of_who_answers_now() -> None:
    row = record(10_001, 2, 4, sessions=7) | {"heard_ms": NOW - 5}
    assert merge_links(links(row), NOW) == {5: Finding("up", None, pings=10, pongs=9)}


def test_the_round_trip_is_that_of_a_shard_that_has_one() -> None:
    assert merge_links(links(heard(10), heard(500, rtt_us=250)), NOW)[5].rtt_us == 250


def test_the_clock_may_wrap() -> None:
    assert merge_links(links(heard(100, now_ms=50)), 50)[5].heard == "up"
    assert merge_links(links(heard(4000, now_ms=50)), 50)[5].heard == "down"
