"""Transport-wide feedback: the draft's chunks by hand, any losses and reorderings both ways, wraps."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyfastpath.errors import WireError
from pyfastpath.wire import twcc
from pyfastpath.wire.twcc import TransportFeedback

DELTA = st.none() | st.integers(0, 255) | st.integers(-(2**15), 2**15 - 1)
RUNS = st.lists(st.tuples(DELTA, st.integers(1, 40)), min_size=1, max_size=12).map(
    lambda runs: tuple(delta for delta, length in runs for _ in range(length))
)
FEEDBACKS = st.builds(
    TransportFeedback, st.integers(0, 2**16 - 1), st.integers(0, 2**24 - 1), st.integers(0, 255), RUNS
)

# Each made by hand from the pictures of section 3.1.
VECTORS = {
    "a run of small deltas": (
        "0005 0003 000001 07  2003  04 05 06 000000",
        TransportFeedback(5, 1, 7, (4, 5, 6)),
    ),
    "a run of lost ones between": (  # the draft's: 00 00000011011101 is a run of 221 lost
        "fffe 00df 00000a ff  2001 00dd 4001  10 fffe 00",
        TransportFeedback(65534, 10, 255, (16, *[None] * 221, -2)),
    ),
    "a vector of one-bit symbols": (  # the draft's 10 01111100011100
        "0000 000e 000000 00  9f1c  01 02 03 04 05 06 07 08 0000",
        TransportFeedback(0, 0, 0, (None, 1, 2, 3, 4, 5, None, None, None, 6, 7, 8, None, None)),
    ),
    "a vector of two-bit symbols": (  # the draft's 11 00 10 01 01 01 00 00
        "0000 0007 000000 00  c950  0100 01 02 03 000000",
        TransportFeedback(0, 0, 0, (None, 256, 1, 2, 3, None, None)),
    ),
}


@pytest.mark.parametrize("name", ["a run of small deltas", "a vector of one-bit symbols"])
def test_vectors_are_built(name: str) -> None:
    data, feedback = VECTORS[name]
    assert twcc.build_feedback(feedback).hex() == data.replace(" ", "")


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_are_read(name: str) -> None:
    data, feedback = VECTORS[name]
    assert twcc.parse_feedback(bytes.fromhex(data)) == feedback


@given(FEEDBACKS)
@example(TransportFeedback(0, 0, 0, (None,) * 65535))
@example(TransportFeedback(0, 0, 0, (1,) * 8191 + (None,)))
def test_what_is_built_is_read_back(feedback: TransportFeedback) -> None:
    data = twcc.build_feedback(feedback)
    assert len(data) % 4 == 0
    assert twcc.parse_feedback(data) == feedback
    assert twcc.parse_feedback(data + bytes(4)) == feedback


def test_chunks_are_few() -> None:
    """Twenty packets of a quiet 400 ms cost one run; a single loss among them one vector more at most."""
    quiet = twcc.build_feedback(TransportFeedback(0, 0, 0, (80,) * 20))
    assert len(quiet) == 8 + 2 + 20 + 2
    lossy = twcc.build_feedback(TransportFeedback(0, 0, 0, (80,) * 5 + (None,) + (80,) * 14))
    assert len(lossy) == 8 + 4 + 19 + 1


ARRIVALS = st.lists(st.tuples(st.integers(1, 30), st.integers(-300, 70_000)), min_size=1, max_size=40)


@given(st.integers(0, 2**32), st.integers(0, 2**40), ARRIVALS, st.integers(0, 255))
def test_composed_messages_say_what_arrived_when(
    sequence: int, ticks: int, steps: list[tuple[int, int]], count: int
) -> None:
    """Losses by steps of more than one, reordering by negative times, pauses of many seconds."""
    arrivals = []
    for step, later in steps:
        sequence, ticks = sequence + step, max(0, ticks + later)
        arrivals.append((sequence, ticks))
    messages = twcc.compose(arrivals, count)
    read = [twcc.parse_feedback(twcc.build_feedback(message)) for message in messages]
    assert read == messages
    assert [message.count for message in messages] == [count + n & 0xFF for n in range(len(messages))]
    modulus = 2**24 * twcc.REFERENCE_TICKS
    said = [(number, at % modulus) for message in read for number, at in message.arrivals() if at is not None]
    assert said == [(number & 0xFFFF, at % modulus) for number, at in arrivals]
    for message in read:
        assert message.deltas[0] is not None
        assert message.deltas[-1] is not None


def test_a_pause_begins_another_message() -> None:
    first, second = twcc.compose([(10, 300), (11, 300 + 0x8000)], 4)
    assert first == TransportFeedback(10, 1, 4, (44,))
    assert second == TransportFeedback(11, 129, 5, (44,))


def test_losses_before_the_first_arrival() -> None:
    assert twcc.compose([(10, 300)], 0, first=7) == [TransportFeedback(7, 1, 0, (None, None, None, 44))]
    assert twcc.compose([(10, 300)], 0, first=10) == [TransportFeedback(10, 1, 0, (44,))]
    assert twcc.compose([(10, 300)], 0, first=12) == [TransportFeedback(10, 1, 0, (44,))]
    pause = twcc.compose([(10, 300), (11, 300 + 0x8000)], 4, first=9)
    assert [message.base_sequence for message in pause] == [9, 11]


def test_nothing_arrived() -> None:
    assert twcc.compose([], 0) == []
    assert twcc.compose([], 0, first=7) == []


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda tail: bytes(3) + b"\x09" + bytes(4) + tail))
def test_random_bytes_are_feedback_or_a_wire_error(data: bytes) -> None:
    try:
        feedback = twcc.parse_feedback(data)
    except WireError:
        return
    if feedback.deltas:
        assert twcc.parse_feedback(twcc.build_feedback(feedback)) == feedback


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("0000 0001 000000", "inside its header"),
        ("0000 0001 000000 00", "inside its chunks"),
        ("0000 0001 000000 00 0000", "inside its chunks"),  # a run of none
        ("0000 0001 000000 00 2001", "inside its deltas"),
        ("0000 0001 000000 00 4001 00", "inside its deltas"),
        ("0000 0001 000000 00 6001 0000", "reserved symbol"),
    ],
)
def test_what_does_not_fit_is_refused(data: str, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        twcc.parse_feedback(bytes.fromhex(data))


@pytest.mark.parametrize("deltas", [(), (None,) * 65536, (0x8000,), (-0x8001,)])
def test_what_does_not_fit_is_not_built(deltas: tuple[int | None, ...]) -> None:
    with pytest.raises(ValueError):
        twcc.build_feedback(TransportFeedback(0, 0, 0, deltas))
