"""When a load run may send, by schedule or by window; time is an argument."""

import pytest
from fastpath._testing.load import Pace
from hypothesis import given
from hypothesis import strategies as st

START_NS = 1_000_000
STALL_NS = 100_000_000
LOOK_NS = 5_000_000


def test_a_schedule_has_one_datagram_due_at_once_and_then_by_its_rate():
    pace = Pace(rate_pps=1000)
    assert pace.allowance(START_NS) == 1
    assert pace.allowance(START_NS + 9_999_999) == 10
    pace.note(10, START_NS + 9_999_999)
    assert pace.allowance(START_NS + 9_999_999) == 0
    assert pace.allowance(START_NS + 10_000_000) == 1
    assert pace.intended_ns(5, 0) == START_NS + 15_000_000


def test_what_is_sent_a_millisecond_late_is_counted():
    pace = Pace(rate_pps=1000)
    pace.note(1, START_NS + 1_000_000)
    assert pace.late == (0, 1_000_000)
    pace.note(2, START_NS + 4_000_001)
    assert pace.late == (2, 3_000_001)
    pace.note(3, START_NS + 5_000_001)  # the last of them was due a moment ago
    assert pace.late == (4, 3_000_001)


@given(
    st.integers(1, 5_000_000),
    st.lists(st.integers(1, 50_000_000), min_size=1, max_size=20),
    st.integers(0, 40),
)
def test_an_intended_time_is_never_in_the_future(rate_pps, steps_ns, days):
    """Also not after days, when a double no longer holds every nanosecond of the product."""
    pace, now_ns = Pace(rate_pps=rate_pps), START_NS + days * 86_400_000_000_000
    for step_ns in steps_ns:
        now_ns += step_ns
        may = pace.allowance(now_ns)
        if may:
            assert pace.intended_ns(may - 1, now_ns) <= now_ns + 2
            assert pace.intended_ns(may, now_ns) >= now_ns - 2
        pace.note(may, now_ns)


def test_a_rest_ends_when_the_next_is_due_or_after_a_millisecond():
    pace = Pace(rate_pps=2000)
    pace.note(1, START_NS)
    assert pace.rest_ns(START_NS) == 500_000
    assert pace.rest_ns(START_NS + 500_000) == 0
    slow = Pace(rate_pps=10)
    slow.note(1, START_NS)
    assert slow.rest_ns(START_NS) == 1_000_000
    assert Pace(window=1).rest_ns(START_NS) == 1_000_000


def test_a_window_leaves_what_is_not_settled():
    pace = Pace(window=100, settled=40)
    assert pace.allowance(START_NS) == 100
    pace.note(100, START_NS)
    assert (pace.allowance(START_NS), pace.flying()) == (0, 100)
    pace.settled += 31
    assert pace.allowance(START_NS) == 0  # less than half a batch: not worth a system call
    pace.settled += 1
    assert pace.allowance(START_NS) == 32
    assert pace.late == (0, 0)


@pytest.mark.parametrize("window", [1, 31, 32])
def test_a_window_below_half_a_batch_opens_when_it_is_empty(window):
    pace = Pace(window=window)
    pace.note(window, START_NS)
    pace.settled += window - 1
    assert pace.allowance(START_NS) == 0
    pace.settled += 1
    assert pace.allowance(START_NS) == window


def watch(pace, from_ns, until_ns):
    """What the window allows at each look."""
    return {pace.allowance(now_ns) for now_ns in range(from_ns, until_ns + 1, LOOK_NS)}


def test_a_window_without_progress_is_written_off():
    pace = Pace(window=64)
    pace.note(64, START_NS)
    pace.settled += 1
    assert watch(pace, START_NS + 1, START_NS + 1 + STALL_NS) == {0}
    assert pace.allowance(START_NS + 2 + STALL_NS) == 64
    assert (pace.written_off, pace.flying()) == (63, 0)


def test_time_in_which_nobody_looked_writes_nothing_off():
    """The machine stood still: what was sent waits at a socket, and is not lost."""
    pace = Pace(window=64)
    pace.note(64, START_NS)
    assert pace.allowance(START_NS + 100 * STALL_NS) == 0
    assert watch(pace, START_NS + 100 * STALL_NS, START_NS + 101 * STALL_NS - LOOK_NS) == {0}
    assert pace.written_off == 0
    assert pace.allowance(START_NS + 101 * STALL_NS) == 64


def test_what_arrives_after_it_was_written_off_does_not_open_the_window_further():
    pace = Pace(window=64)
    pace.note(64, START_NS)
    assert watch(pace, START_NS, START_NS + STALL_NS + LOOK_NS) == {0, 64}
    pace.settled += 64
    assert pace.flying() == 0
    assert pace.allowance(START_NS + STALL_NS + LOOK_NS) == 64


def test_limit_and_duration_end_a_run():
    pace = Pace(window=512, limit=10, duration_ns=1000)
    assert pace.allowance(START_NS) == 10
    pace.note(10, START_NS)
    assert pace.over(START_NS)
    assert not Pace(duration_ns=1000).over(START_NS + 999)
    assert Pace(duration_ns=1000).over(START_NS + 1000)


def test_without_a_count_nothing_flies():
    pace = Pace(rate_pps=1000, counted=False)
    pace.note(100, START_NS)
    assert pace.flying() == 0
