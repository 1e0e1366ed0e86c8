"""An allowance: never more than was promised, never less than the average."""

from __future__ import annotations

import random

from pyfastpath.transceiver.allowance import Allowance


def test_a_burst_and_then_the_average() -> None:
    allowance = Allowance(100, 250)
    assert [allowance.take(5.0) for _ in range(300)] == [True] * 250 + [False] * 50
    assert sum(allowance.take(5.5) for _ in range(300)) == 50
    assert sum(allowance.take(5.5) for _ in range(300)) == 0
    assert sum(allowance.take(100.0) for _ in range(300)) == 250, "no more than a burst is saved up"


def test_an_even_stream_below_the_rate_is_never_refused() -> None:
    allowance = Allowance(100, 20)
    assert all(allowance.take(number / 99) for number in range(10_000))


def test_a_clock_that_stands_still_or_runs_back_grants_nothing() -> None:
    allowance = Allowance(100, 10)
    assert sum(allowance.take(5.0) for _ in range(100)) == 10
    assert sum(allowance.take(4.0) for _ in range(100)) == 0


def test_a_random_load_gets_no_more_than_two_bursts_beyond_the_rate_in_any_window() -> None:
    draw, allowance, now = random.Random(8), Allowance(100, 50), 0.0
    granted: list[float] = []
    for _ in range(3000):
        now += draw.choice((0.0, 0.0, 0.001, 0.01, 0.5))
        granted += [now for _ in range(draw.randrange(30)) if allowance.take(now)]
    for first in range(0, len(granted), 97):
        for last in range(first, len(granted), 89):
            assert last - first + 1 <= 2 * 50 + (granted[last] - granted[first]) * 100 + 1
