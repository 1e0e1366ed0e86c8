"""What is said leaves frame by frame at real time; RTP time tells the silences between."""

import random

import numpy as np
import pytest

from pyfastpath.transceiver.opus import Decoder, packet_samples
from pyfastpath.transceiver.playout import Frame, Playout, PlayoutStarted, PlayoutStopped
from tests.support.speech import Pcm, likeness, speech

FIRST = 0xFFFF_FF00  # RTP time wraps within the first second


class Clock:
    """Virtual time: calls frames_to_send when its timer says so, or each step."""

    def __init__(self, playout: Playout, now: float = 1000.0) -> None:
        self.playout, self.now = playout, now
        playout.start(now)
        self.sent: list[tuple[float, Frame]] = []
        self.events: list[tuple[float, type]] = []

    def run(self, seconds: float) -> list[Frame]:
        """By its own timers, for so long. What left meanwhile."""
        before, end = len(self.sent), self.now + seconds
        self.poll()
        while (due := self.playout.get_timer()) is not None and due <= end:
            assert due > self.now
            self.now = due
            self.poll()
        self.now = end
        return [frame for _, frame in self.sent[before:]]

    def poll(self) -> list[Frame]:
        frames = self.playout.frames_to_send(self.now)
        self.sent += [(self.now, frame) for frame in frames]
        while (event := self.playout.next_event()) is not None:
            self.events.append((round(self.now - 1000.0, 3), type(event)))
        return frames


def silence(milliseconds: int, rate_hz: int = 24_000) -> Pcm:
    return np.zeros(rate_hz * milliseconds // 1000, np.int16)


@pytest.fixture
def playout() -> Playout:
    return Playout(timestamp=FIRST)


def test_nothing_is_sent_and_no_timer_runs_while_nothing_is_said(playout: Playout) -> None:
    assert playout.get_timer() is None
    playout.say(silence(20), 24_000)
    assert (playout.get_timer(), playout.frames_to_send(5.0)) == (None, [])  # not started
    playout.clear(5.0)
    playout.start(10.0)
    assert (playout.get_timer(), playout.frames_to_send(10.0)) == (None, [])


def test_speech_leaves_at_real_time_and_comes_back(playout: Playout) -> None:
    clock, spoken = Clock(playout), speech(24_000)
    playout.say(spoken, 24_000)
    playout.finish()
    clock.run(10.0)
    times = [round(at_s - 1000.0, 3) for at_s, _ in clock.sent]
    assert times == [round(0.02 * n, 3) for n in range(len(times))]
    timestamps = [timestamp for _, (_, timestamp, _) in clock.sent]
    assert timestamps == [FIRST + 960 * n & 0xFFFFFFFF for n in range(len(times))]
    assert [marker for _, (_, _, marker) in clock.sent] == [True] + [False] * (len(times) - 1)
    decoder = Decoder(24_000)
    heard = np.concatenate([decoder.decode(payload) for _, (payload, _, _) in clock.sent])
    assert len(heard) - 480 < len(spoken) <= len(heard)
    assert likeness(heard, spoken[:40_000], within=480)[0] > 0.9
    assert clock.events == [(0.0, PlayoutStarted), (round(0.02 * len(times), 3), PlayoutStopped)]


def test_pieces_of_any_length_are_joined(playout: Playout) -> None:
    clock, spoken = Clock(playout), speech(24_000)[:24_000]
    at = 0
    for length in [1, 479, 480, 481, 10, 10, 10, 3_000, 7, 24_000]:
        playout.say(spoken[at : at + length], 24_000)
        at += length
    playout.finish()
    clock.run(2.0)
    whole = Playout(timestamp=FIRST)
    other = Clock(whole)
    whole.say(spoken, 24_000)
    whole.finish()
    other.run(2.0)
    assert [frame for _, frame in clock.sent] == [frame for _, frame in other.sent]


def test_a_part_of_a_frame_waits_for_more_or_for_the_end(playout: Playout) -> None:
    clock = Clock(playout)
    playout.say(silence(30), 24_000)
    assert len(clock.run(0.1)) == 1
    assert playout.get_timer() is None
    playout.say(silence(10), 24_000)
    assert len(clock.run(0.1)) == 1
    playout.say(silence(10), 24_000)
    assert clock.run(0.1) == []
    playout.finish()
    assert len(clock.run(0.1)) == 1
    assert clock.events[-1][1] is PlayoutStopped


def test_a_frame_has_one_rate(playout: Playout) -> None:
    clock = Clock(playout)
    playout.say(silence(30, 24_000), 24_000)
    playout.say(silence(30, 16_000), 16_000)
    playout.finish()
    frames = clock.run(1.0)
    assert len(frames) == 4  # two of each, the last padded
    assert all(packet_samples(payload) == 960 for payload, _, _ in frames)


def test_the_array_may_be_used_again(playout: Playout) -> None:
    loud = (8_000 * np.sin(np.arange(4_800) / 9)).astype(np.int16)
    mine = loud.copy()
    clock = Clock(playout)
    playout.say(mine, 24_000)
    mine[:] = 0
    decoder = Decoder(24_000)
    heard = np.concatenate([decoder.decode(payload) for payload, _, _ in clock.run(1.0)])
    assert np.abs(heard).max() > 4_000


def test_rtp_time_runs_on_in_silence_and_the_marker_says_so(playout: Playout) -> None:
    clock = Clock(playout)
    playout.say(silence(40), 24_000)
    first = clock.run(1.5)
    playout.say(silence(40), 24_000)
    second = clock.run(0.5)
    assert [marker for _, _, marker in first + second] == [True, False, True, False]
    assert second[0][1] - first[0][1] & 0xFFFFFFFF == 1.5 * 48_000


def test_a_chunk_that_comes_just_in_time_leaves_no_gap(playout: Playout) -> None:
    clock = Clock(playout)
    for _ in range(10):  # 40 ms of audio each 40 ms, 15 ms late
        playout.say(silence(40), 24_000)
        clock.run(0.04 if len(clock.sent) else 0.055)
    timestamps = [timestamp - FIRST & 0xFFFFFFFF for _, (_, timestamp, _) in clock.sent]
    assert timestamps == [960 * n for n in range(20)]
    assert sum(marker for _, (_, _, marker) in clock.sent) == 1


@pytest.mark.parametrize(
    ("late_ms", "frames", "gap"), [(5, 1, False), (45, 3, False), (60, 1, True), (500, 1, True)]
)
def test_a_late_timer_catches_up_three_frames_at_most(
    playout: Playout, late_ms: int, frames: int, gap: bool
) -> None:
    clock = Clock(playout)
    playout.say(silence(2_000), 24_000)
    clock.run(0.999)
    assert len(clock.sent) == 50
    clock.now = 1001.0 + late_ms / 1000  # the timer was for 1001.0
    out = clock.poll()
    assert len(out) == frames
    assert [marker for _, _, marker in out] == [gap] + [False] * (frames - 1)
    want = 48_000 + (late_ms * 48 if gap else 0)
    assert out[0][1] - FIRST & 0xFFFFFFFF == pytest.approx(want, abs=1)
    following = clock.run(0.1)
    assert following[0][1] - out[-1][1] & 0xFFFFFFFF == 960
    assert playout.get_timer() == pytest.approx(clock.now, abs=0.021)


def test_clear_says_what_was_played_and_drops_the_rest(playout: Playout) -> None:
    clock = Clock(playout)
    playout.say(silence(2_000), 24_000)
    playout.finish()
    clock.run(0.51)
    assert len(clock.sent) == 26
    assert playout.clear(clock.now) == 510
    assert playout.get_timer() is None
    assert clock.run(1.0) == []
    assert [kind for _, kind in clock.events] == [PlayoutStarted]  # no stop of what was cleared
    assert playout.clear(clock.now) == 0


def test_clear_of_what_ran_dry_counts_what_was_played(playout: Playout) -> None:
    clock = Clock(playout)
    playout.say(silence(100), 24_000)
    clock.run(1.0)
    assert playout.clear(clock.now) == 100


def test_responses_follow_one_another(playout: Playout) -> None:
    clock = Clock(playout)
    for _ in range(2):
        playout.say(silence(100), 24_000)
        playout.finish()
    clock.run(1.0)
    assert clock.events == [
        (0.0, PlayoutStarted),
        (0.1, PlayoutStopped),
        (0.1, PlayoutStarted),
        (0.2, PlayoutStopped),
    ]
    assert [frame[1] - FIRST & 0xFFFFFFFF for _, frame in clock.sent] == [960 * n for n in range(10)]
    assert playout.clear(clock.now) == 0


def test_a_response_without_audio_ends_at_once(playout: Playout) -> None:
    clock = Clock(playout)
    playout.finish()
    assert playout.get_timer() is not None
    assert clock.run(0.1) == []
    assert clock.events == [(0.0, PlayoutStopped)]


def test_opus_of_the_agents_own_leaves_at_once(playout: Playout) -> None:
    clock = Clock(playout)
    sent = []
    for n in range(10):
        playout.say_opus(b"x%d" % n, 960)
        assert playout.get_timer() == 0.0
        sent += clock.poll()
        clock.now += 0.02 + (0.005 if n % 2 else -0.005)
    assert sent == [(b"x%d" % n, FIRST + 960 * n & 0xFFFFFFFF, n == 0) for n in range(10)]
    assert playout.get_timer() is None


def test_an_empty_packet_is_silence(playout: Playout) -> None:
    clock = Clock(playout)
    for payload in (b"a", b"", b"b"):
        playout.say_opus(payload, 960)
    assert [(payload, timestamp - FIRST & 0xFFFFFFFF) for payload, timestamp, _ in clock.poll()] == [
        (b"a", 0),
        (b"b", 1920),
    ]


def test_opus_after_a_pause_is_as_much_later(playout: Playout) -> None:
    clock = Clock(playout)
    playout.say_opus(b"a", 960)
    clock.poll()
    clock.now += 3.0
    playout.say_opus(b"b", 960)
    playout.say_opus(b"c", 960)
    assert clock.poll() == [
        (b"b", FIRST + 144_000 & 0xFFFFFFFF, True),
        (b"c", FIRST + 144_960 & 0xFFFFFFFF, False),
    ]


def test_opus_that_comes_all_at_once_leaves_no_gap(playout: Playout) -> None:
    clock = Clock(playout)
    playout.say_opus(b"a", 960)
    clock.poll()
    clock.now += 0.3
    for _ in range(14):
        playout.say_opus(b"b", 960)
    assert [timestamp - FIRST & 0xFFFFFFFF for _, timestamp, _ in clock.poll()] == [
        960 * n for n in range(1, 15)
    ]


def test_an_agent_that_speaks_all_the_time_is_asked_for_each_frame() -> None:
    answers = [silence(20, 16_000)] * 5 + [None] * 10 + [silence(20, 16_000)] * 5
    asked = []

    def produce(samples: int) -> Pcm | None:
        asked.append(samples)
        return answers[len(asked) - 1] if len(asked) <= len(answers) else None

    playout = Playout(timestamp=FIRST, produce=produce, produce_hz=16_000)
    clock = Clock(playout)
    clock.run(0.5)
    assert set(asked) == {320}
    assert [round((at_s - 1000.0) * 50) for at_s, _ in clock.sent] == [0, 1, 2, 3, 4, 15, 16, 17, 18, 19]
    timestamps = [timestamp - FIRST & 0xFFFFFFFF for _, (_, timestamp, _) in clock.sent]
    assert timestamps == pytest.approx([960 * n for n in (0, 1, 2, 3, 4, 15, 16, 17, 18, 19)], abs=2)
    assert [n for n, (_, (_, _, marker)) in enumerate(clock.sent) if marker] == [0, 5]
    assert clock.events == []


def test_expected_losses_reach_every_encoder() -> None:
    spoken = speech(24_000)[:24_000]

    def sent(loss_percent: int, *, before: bool) -> list[Frame]:
        playout = Playout(timestamp=0)
        if before:
            playout.expect_loss(loss_percent)
        playout.say(spoken[:480], 24_000)
        clock = Clock(playout)
        clock.run(0.01)
        if not before:
            playout.expect_loss(loss_percent)
        playout.say(spoken[480:], 24_000)
        clock.run(2.0)
        return [frame for _, frame in clock.sent]

    careless = sent(0, before=True)
    assert sent(20, before=True) != careless
    assert sent(20, before=False) != careless
    assert sent(0, before=False) == careless


@pytest.mark.parametrize(
    ("pcm", "rate_hz"),
    [
        (np.zeros(10, np.int16), 44_100),
        (np.zeros(10, np.float32), 24_000),
        (np.zeros((10, 2), np.int16), 24_000),
    ],
)
def test_what_cannot_be_said_is_refused(playout: Playout, pcm: Pcm, rate_hz: int) -> None:
    with pytest.raises(ValueError, match=r"Hz is no rate|one dimension"):
        playout.say(pcm, rate_hz)


# ---- too much -----------------------------------------------------------------------------------------


def test_what_is_said_too_far_ahead_is_dropped_and_counted() -> None:
    dropped: list[int] = []
    playout = Playout(timestamp=FIRST, drop=dropped.append)
    clock, minute = Clock(playout), np.zeros(60 * 8_000, np.int16)
    for _ in range(12):
        playout.say(minute, 8_000)
    assert dropped == [60 * 48_000] * 2
    clock.run(1.0)  # fifty frames are out: so much fits again, and no more
    playout.say(minute[:8_000], 8_000)
    assert len(dropped) == 2
    playout.say(minute[:8_000], 8_000)
    assert dropped[2:] == [48_000]
    playout.clear(clock.now)
    playout.say(minute, 8_000)
    assert len(dropped) == 3


def test_all_responses_count_together_at_whatever_rate() -> None:
    dropped: list[int] = []
    playout = Playout(timestamp=FIRST, drop=dropped.append)
    for rate_hz in (8_000, 16_000, 24_000, 48_000) * 3:
        playout.say(np.zeros(60 * rate_hz, np.int16), rate_hz)
        playout.finish()
    assert dropped == [60 * 48_000] * 2


def test_packets_of_the_agents_own_are_bounded_alike() -> None:
    dropped: list[int] = []
    playout = Playout(timestamp=FIRST, drop=dropped.append)
    for _ in range(30_010):
        playout.say_opus(b"x", 960)
    assert dropped == [960] * 10
    playout.start(0.0)
    assert len(playout.frames_to_send(0.0)) == 30_000
    playout.say_opus(b"x", 960)
    assert len(dropped) == 10


def test_a_random_load_never_counts_wrong() -> None:
    """What is counted as waiting is what waits."""
    draw = random.Random(9)
    playout = Playout(timestamp=FIRST)
    clock = Clock(playout)
    for _ in range(300):
        for _ in range(draw.randrange(4)):
            rate_hz = draw.choice((8_000, 16_000, 24_000))
            playout.say(silence(draw.randrange(200))[: draw.randrange(1, 2000)], rate_hz)
        if draw.random() < 0.2:
            playout.finish()
        clock.run(draw.choice((0.0, 0.02, 0.1)))
        for response in playout._responses:
            waiting = sum(len(pcm) * (48_000 // rate_hz) for pcm, rate_hz in response.chunks)
            if response.chunks:
                waiting -= response.offset * (48_000 // response.rate_hz)
            assert response.samples == waiting
