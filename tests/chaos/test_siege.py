"""Who judges an attack: a datagram under a wrong name, or none, is noticed."""

import itertools
import time
from collections import Counter
from dataclasses import replace
from math import inf

import pytest

from tests.chaos.attacks.siege import Still, felt, judged
from tests.chaos.outcome import Outcome
from tests.support.rig import until

KEPT = Outcome("an attack", "live calls", 1, 100, 100, 0, 0, 0, 0, None, None)
EXPECTED = Counter({"bad_token": 7, "unknown_flow": 2, "": 5})  # five are to pass


def verdict(outcome: Outcome = KEPT, grown_mib: float = 0.0, **found: int) -> str:
    return judged(outcome, EXPECTED, {"bad_token": 7, "unknown_flow": 2} | found, grown_mib, 8.0).broken


def test_exact_books_keep_every_promise() -> None:
    assert verdict() == ""


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"bad_token": 6}, "under its name"),
        ({"bad_token": 8}, "another reason"),
        ({"unknown_flow": 1, "bad_stun": 1}, "another reason"),
        ({"send_blocked": 1}, "another reason"),
    ],
)
def test_a_datagram_under_another_name_is_noticed(found: dict[str, int], said: str) -> None:
    assert said in verdict(**found)


def test_what_the_kernel_dropped_may_be_missing_once() -> None:
    two = replace(KEPT, kernel_dropped=2)
    assert verdict(two, bad_token=5) == ""
    assert "not provable: whose 2" in judged(two, EXPECTED, {}, 0.0, 8.0).note
    assert judged(KEPT, EXPECTED, {}, 0.0, 8.0).note == ""
    assert "under its name" in verdict(replace(two, arrived=99, lost=1), bad_token=5)


def test_what_was_shed_may_be_missing_under_its_name_but_not_of_a_call() -> None:
    assert verdict(bad_token=5, shed_unknown=2) == ""
    assert "under its name" in verdict(bad_token=4, shed_unknown=2)
    assert "live call" in verdict(replace(KEPT, arrived=98, lost=2), bad_token=7, shed_voice=2)


def test_a_lost_call_and_growing_memory_are_noticed() -> None:
    assert "live call" in verdict(replace(KEPT, arrived=99, lost=1))
    assert "misrouted" in verdict(replace(KEPT, misrouted=1))
    assert "memory" in verdict(grown_mib=8.1)


def test_a_goal_that_is_missed_is_said() -> None:
    assert felt([900.0], [1000.0]).endswith(" 1,000 µs (1,000): 0.9 x")
    assert felt([2000.0], [1000.0]).endswith(" 2.0 x")
    assert felt([2600.0], [1000.0]).endswith(" 2.6 x, goal 2 x missed")
    assert felt([inf], [1000.0]).endswith(" inf x, goal 2 x missed")
    assert felt([2600.0], [inf]).endswith(" inf µs (inf)")


def test_an_attack_that_silences_most_turns_misses_the_goal() -> None:
    assert felt([inf, 900.0, inf, inf, 900.0], [1000.0]).endswith("goal 2 x missed")
    assert felt([inf, 900.0, inf, 900.0, 900.0], [1000.0]).endswith(" 0.9 x")


def test_a_turn_in_which_the_machine_stood_still_is_said_and_decides_nothing() -> None:
    said = felt([900.0, 20_000.0, 1_100.0], [1_000.0, 1_000.0, 9_000.0])
    assert "1,100 µs (worst turn 20,000)" in said
    assert said.endswith("1,000 µs (9,000): 1.1 x")


def test_what_moves_is_not_still() -> None:
    still, moved = Still(0.05), itertools.count()
    began_s = time.monotonic()
    while time.monotonic() - began_s < 0.1:
        assert not still.so_far(next(moved), 0)
    until(lambda: still.so_far(7, 0), "nothing moves")
    assert not still.so_far(7, 1)
