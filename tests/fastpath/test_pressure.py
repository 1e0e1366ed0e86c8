"""A worker's pressure in virtual time: stories with their numbers, and the twin for everything else."""

import itertools
from collections.abc import Callable

import pytest
from fastpath._testing.leaves import Pressure
from hypothesis import given
from hypothesis import strategies as st

from tests.model.pressure import (
    BULK,
    FALL_MS,
    LOOK_MS,
    NEW,
    NOTHING,
    RELAPSE_MS,
    RISE_MS,
    RTCP,
    VIDEO,
    VOICE,
    Evidence,
)
from tests.model.pressure import Pressure as Model

LIVE = Evidence(received=1000, forwarded=1000)  # all that comes is forwarded
DROPS = Evidence(dropped=1, received=1000, forwarded=1000)


class Story:
    """A worker that turns once a millisecond."""

    def __init__(self) -> None:
        self.pressure, self.now_ms, self.levels = Pressure(), 1_000_000, [NOTHING]

    def turns(self, ms: int, full: bool, evidence: Callable[[int], Evidence] = lambda _: LIVE) -> None:
        """`evidence`: of the look in this millisecond."""
        for _ in range(ms):
            self.now_ms += 1
            if self.pressure.turn(self.now_ms, full):
                seen = evidence(self.now_ms)
                self.pressure.look(
                    self.now_ms, seen.waiting_bytes, seen.dropped, seen.received, seen.forwarded
                )
            if self.pressure.level != self.levels[-1]:
                self.levels.append(self.pressure.level)

    def rise_to(self, level: int) -> None:
        while self.pressure.level < level:
            self.turns(LOOK_MS, True, lambda _: DROPS)


@pytest.fixture
def story() -> Story:
    return Story()


def test_a_burst_that_is_worked_off_is_no_overload(story: Story) -> None:
    """One second of full batches after an engine's start, while the queue shrinks at every look."""
    left = itertools.count(10_000_000, -1000)
    story.turns(1000, True, lambda _: Evidence(next(left), received=64, forwarded=64))
    assert story.levels == [NOTHING]


def test_full_batches_that_alternate_with_short_ones_are_no_overload(story: Story) -> None:
    for _ in range(500):
        story.turns(3, True, lambda _: DROPS)
        story.turns(1, False)
    assert story.levels == [NOTHING]


def test_a_queue_that_only_grows_sheds_step_by_step_but_never_voice(story: Story) -> None:
    waiting = itertools.count(0, 1000)
    story.turns(3000, True, lambda _: Evidence(next(waiting), received=64, forwarded=64))
    assert story.levels == list(range(VIDEO + 1))


def test_each_step_has_its_time(story: Story) -> None:
    story.turns(RISE_MS + LOOK_MS, True)
    assert story.levels == [NOTHING]
    story.turns(1, True)
    assert story.levels == [NOTHING, 1]
    story.turns(RISE_MS - 1, True)
    assert story.levels == [NOTHING, 1]
    story.turns(1, True)
    assert story.levels == [NOTHING, 1, 2]


def test_what_the_kernel_drops_brings_every_step_at_once(story: Story) -> None:
    story.turns(VOICE * LOOK_MS + 1, True, lambda _: DROPS)
    assert story.levels == list(range(VOICE + 1))
    story.turns(200, True, lambda _: DROPS)
    assert story.pressure.level == VOICE


def test_a_flood_that_is_refused_costs_no_live_call(story: Story) -> None:
    """Less than a fourth of what comes is forwarded: shedding some of that would not help."""
    story.turns(2000, True, lambda _: Evidence(0, 1000, 1000, 249))
    assert story.levels == [NOTHING, 1, NEW]
    story.turns(LOOK_MS, True, lambda _: Evidence(0, 1000, 1000, 250))
    assert story.pressure.level == BULK


def test_empty_queues_take_every_step_back_within_100_ms(story: Story) -> None:
    story.rise_to(VOICE)
    story.turns(VOICE * FALL_MS, False)
    assert story.levels == [*range(VOICE + 1), *range(VOICE - 1, -1, -1)]


def test_a_worker_that_slept_through_it_has_fallen_all_the_same(story: Story) -> None:
    story.rise_to(VOICE)
    story.now_ms += 10_000
    story.turns(1, False)
    assert story.pressure.level == NOTHING


def test_a_step_taken_back_too_early_returns_at_once_and_no_further(story: Story) -> None:
    story.rise_to(RTCP)
    story.turns(FALL_MS, False)
    assert story.pressure.level == VIDEO
    story.turns(LOOK_MS + 1, True)
    assert story.pressure.level == RTCP
    story.turns(5 * RISE_MS, True)
    assert story.pressure.level == RTCP
    story.turns(RTCP * FALL_MS, False)
    story.turns(RELAPSE_MS, False)
    assert story.pressure.level == NOTHING
    story.turns(LOOK_MS + 1, True)
    assert story.pressure.level == NOTHING


EVIDENCE = st.builds(
    Evidence,
    st.sampled_from([0, 1, 64_000, 64_001, 16 << 20]),
    st.sampled_from([0, 0, 0, 1, 500]),
    st.sampled_from([0, 1, 64, 1000]),
    st.sampled_from([0, 1, 16, 249, 250, 1000]),
)
TURNS = st.lists(
    st.tuples(
        st.sampled_from([0, 1, 1, 4, 5, 9, 10, 19, 20, 21, 99, 100, 101, 999, 5000]),
        st.sampled_from([True, True, True, False]),
        EVIDENCE,
    ),
    max_size=120,
)


@given(turns=TURNS, start_ms=st.sampled_from([0, 1_000_000, 2**32 - 500]))
def test_the_twin_says_the_same(turns: list[tuple[int, bool, Evidence]], start_ms: int) -> None:
    real, model, now_ms = Pressure(), Model(), start_ms
    for after_ms, full, seen in turns:
        now_ms += after_ms
        before = model.level
        due = model.turn(now_ms, full)
        assert real.turn(now_ms & 0xFFFFFFFF, full) == due
        if due:
            model.look(now_ms, seen)
            real.look(now_ms & 0xFFFFFFFF, seen.waiting_bytes, seen.dropped, seen.received, seen.forwarded)
        assert real.level == model.level <= before + 1
