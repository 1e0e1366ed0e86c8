"""The ordered buffer: order out of any order, gaps that wait 60 ms and no longer, wraps, bounds, counts."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.jitter import CAPACITY, GAP_WAIT_S, JUMP, Frame, JitterBuffer, Lost, OrderedBuffer

Out = Frame[str] | Lost[str]


class Bench:
    """A buffer, and the packets of one sender: number n is sequence first+n, timestamp 960 n, content "n"."""

    def __init__(self, first: int = 100) -> None:
        self.counters = Counters()
        self.buffer: JitterBuffer[str] = OrderedBuffer(self.counters)
        self.first = first
        self.now = 1000.0

    def receive(self, *numbers: int) -> list[Out]:
        """As the pipeline does it: what comes out at once."""
        out: list[Out] = []
        for number in numbers:
            sequence, timestamp = self.first + number & 0xFFFF, 960 * number & 0xFFFFFFFF
            if self.buffer.passes(sequence, timestamp):
                out.append(Frame(sequence, timestamp, str(number)))
            else:
                self.buffer.insert(sequence, timestamp, str(number), self.now)
            out += self.pops()
        return out

    def copy(self, number: int) -> None:
        sequence, timestamp = self.first + number & 0xFFFF, 960 * number & 0xFFFFFFFF
        self.buffer.insert(sequence, timestamp, str(number), self.now, is_copy=True)

    def pops(self) -> list[Out]:
        out = []
        while (released := self.buffer.pop(self.now)) is not None:
            out.append(released)
        return out

    def wait(self, seconds: float) -> list[Out]:
        self.now += seconds
        return self.pops()


def names(out: list[Out]) -> list[str]:
    """The contents; a lost one as "-"."""
    return [each.content if isinstance(each, Frame) else "-" for each in out]


def test_in_order_is_at_once() -> None:
    bench = Bench()
    assert names(bench.receive(*range(10))) == [str(number) for number in range(10)]
    assert bench.buffer.get_timer() is None
    assert bench.counters.jitter_buffer_released == 10
    assert bench.counters.jitter_buffer_delay_s == 0


def test_only_the_first_packet_takes_the_long_way() -> None:
    bench = Bench()
    assert not bench.buffer.passes(bench.first, 0)
    bench.receive(0)
    assert bench.buffer.passes(bench.first + 1, 960)
    assert not bench.buffer.passes(bench.first + 3, 2880)


def test_a_gap_holds_what_is_behind_it() -> None:
    bench = Bench()
    assert names(bench.receive(0, 2, 3)) == ["0"]
    assert bench.buffer.get_timer() == bench.now + GAP_WAIT_S
    bench.now += 0.02
    assert names(bench.receive(1)) == ["1", "2", "3"]
    assert bench.buffer.get_timer() is None
    assert bench.counters.jitter_buffer_delay_s == pytest.approx(0.04)
    assert names(bench.receive(4)) == ["4"]


def test_a_gap_is_given_up_after_60_ms() -> None:
    bench = Bench()
    bench.receive(0, 3)
    assert bench.wait(GAP_WAIT_S - 0.001) == []
    released = bench.wait(0.001)
    assert released == [
        Lost(101, 960, 960, None),  # nothing right behind it
        Lost(102, 1920, 960, "3"),  # the in-band FEC of 3 may carry it
        Frame(103, 2880, "3"),
    ]
    assert names(bench.receive(4)) == ["4"]
    assert bench.counters.rtp_lost == 2


def test_each_gap_has_its_own_time() -> None:
    bench = Bench()
    bench.receive(0, 2)
    bench.now += 0.04
    assert bench.receive(4) == []
    assert names(bench.wait(0.02)) == ["-", "2"]
    assert bench.buffer.get_timer() == pytest.approx(bench.now + 0.04)
    assert names(bench.wait(0.04)) == ["-", "4"]


def test_late_and_duplicate_are_told_apart() -> None:
    bench = Bench()
    bench.receive(0, 2)
    bench.wait(0.06)
    assert bench.receive(1) == []
    assert (bench.counters.rtp_late, bench.counters.rtp_duplicated) == (1, 0)
    assert bench.receive(1, 2, 0) == []
    assert (bench.counters.rtp_late, bench.counters.rtp_duplicated) == (1, 3)
    bench.receive(5, 5)  # waiting, and again
    assert bench.counters.rtp_duplicated == 4


def test_a_copy_fills_a_gap_before_its_time() -> None:
    bench = Bench()
    bench.receive(0)
    assert bench.buffer.wants(bench.first + 1)
    assert not bench.buffer.wants(bench.first)
    bench.copy(0)
    bench.copy(1)
    assert not bench.buffer.wants(bench.first + 1)
    bench.copy(1)
    assert names(bench.receive(2)) == ["1", "2"]
    assert bench.counters.repaired["red"] == 1
    assert bench.counters.rtp_duplicated == 0
    assert bench.receive(1) == []  # the packet itself, too late to be of use
    assert bench.counters.rtp_duplicated == 1


def test_a_call_does_not_begin_with_a_copy() -> None:
    bench = Bench()
    bench.copy(0)
    assert not bench.buffer.wants(bench.first)
    assert names(bench.receive(1)) == ["1"]


@pytest.mark.parametrize("first", [65_530, 0, 32_760])
def test_wraps(first: int) -> None:
    bench = Bench(first)
    bench.receive(0)
    assert names(bench.receive(*range(1, 8), 9, 8, *range(10, 20))) == [
        str(number) for number in range(1, 20)
    ]
    released = bench.receive(21) + bench.wait(0.06)
    assert [each.sequence for each in released] == [first + 20 & 0xFFFF, first + 21 & 0xFFFF]


def test_timestamps_wrap() -> None:
    counters = Counters()
    buffer: OrderedBuffer[str] = OrderedBuffer(counters)
    buffer.insert(1, 2**32 - 960, "a", 0.0)
    buffer.insert(3, 960, "c", 0.0)
    assert buffer.pop(0.0) == Frame(1, 2**32 - 960, "a")
    assert buffer.pop(0.06) == Lost(2, 0, 960, "c")


def test_timestamps_that_make_no_sense() -> None:
    buffer: OrderedBuffer[str] = OrderedBuffer(Counters())
    buffer.insert(1, 96_000, "a", 0.0)
    buffer.insert(3, 0, "c", 0.0)
    buffer.pop(0.0)
    assert buffer.pop(0.06) == Lost(2, 96_960, 960, "c")


def test_after_an_outage_nothing_is_waited_for() -> None:
    bench = Bench()
    bench.receive(0)
    assert names(bench.receive(JUMP + 2, JUMP + 3)) == [str(JUMP + 2), str(JUMP + 3)]
    assert (bench.counters.rtp_lost, bench.counters.rtp_late) == (JUMP + 1, 0)


def test_a_straggler_does_not_turn_the_clock_back() -> None:
    bench = Bench()
    bench.receive(*range(300))
    assert bench.receive(10, 11, 12) == []
    assert names(bench.receive(300)) == ["300"]


def test_another_source() -> None:
    bench = Bench(first=40_000)
    bench.receive(0, 1, 3)
    bench.buffer.restart()
    bench.first = 7
    assert names(bench.receive(0, 1)) == ["0", "1"]
    assert bench.buffer.get_timer() is None


def test_a_full_buffer_gives_up_its_gap_at_once() -> None:
    bench = Bench()
    bench.receive(0)
    assert bench.receive(*range(2, CAPACITY + 1)) == []
    assert names(bench.receive(CAPACITY + 1))[:2] == ["-", "2"]


@given(st.randoms(use_true_random=False), st.integers(0, 65_535), st.integers(0, 30), st.integers(0, 6))
def test_any_network(rng: random.Random, first: int, loss_percent: int, disorder: int) -> None:
    """20 ms packets with losses, reordering, duplicates: what comes out is in order, each at most once, each
    packet of the middle is a frame or a loss, and nothing waits longer than it may."""
    sent = [(number * 0.02 + rng.randrange(disorder * 20 + 1) / 1000, number) for number in range(80)]
    arrivals = sorted(each for each in sent[1:] if rng.randrange(100) >= loss_percent)
    arrivals += [each for each in arrivals if rng.randrange(100) < 5]
    bench = Bench(first)
    out = bench.receive(0)
    for at, number in sorted(arrivals):
        due = bench.buffer.get_timer()
        if due is not None and due <= 1000.0 + at:
            bench.now = due
            out += bench.pops()
        bench.now = 1000.0 + at
        out += bench.receive(number)
        assert (bench.buffer.get_timer() or bench.now) <= bench.now + GAP_WAIT_S
    out += bench.wait(1.0)
    assert [each.sequence for each in out] == [first + number & 0xFFFF for number in range(len(out))]
    for number, each in enumerate(out):
        assert each.timestamp == 960 * number
        if isinstance(each, Frame):
            assert each.content == str(number)
    assert bench.buffer.get_timer() is None
    frames = sum(isinstance(each, Frame) for each in out)
    assert bench.counters.rtp_lost == len(out) - frames
    assert bench.counters.jitter_buffer_released == frames
    assert frames + bench.counters.rtp_late + bench.counters.rtp_duplicated == len(arrivals) + 1
