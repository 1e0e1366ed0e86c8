"""From packets to what an agent hears, whatever the network does to them, and back."""

from itertools import pairwise
from typing import NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfastpath.transceiver.agent import Agent, Pcm
from pyfastpath.transceiver.gate import SpeechStarted, SpeechStopped
from pyfastpath.transceiver.opus import Decoder
from pyfastpath.transceiver.pipeline import Dtmf, PlayoutStarted, PlayoutStopped
from pyfastpath.wire.red import Block, build_red
from tests.support.listening import DIGITS, OPUS, RED, Line, Listener, OpusListener, encoded, packet
from tests.support.speech import likeness, speech

SPOKEN = 24_000  # samples of speech in most tests: one second


def spoken(loss_percent: int = 0) -> list[bytes]:
    return encoded(speech(24_000)[: 3 * SPOKEN], loss_percent=loss_percent)


def decoded(packets: list[bytes]) -> list[Pcm]:
    decoder = Decoder(24_000)
    return [decoder.decode(payload) for payload in packets]


def error_of(heard: Pcm, wanted: Pcm) -> float:
    difference = heard.astype(np.float64) - wanted
    return float(np.dot(difference, difference))


def refuse(rate_hz: int) -> NoReturn:
    raise AssertionError(f"nobody needs a codec at {rate_hz} Hz here")


# ---- the way in -------------------------------------------------------------------------------------


def test_an_agent_that_hears_opus_gets_the_packets_and_no_codec_is_made() -> None:
    agent = OpusListener()
    line = Line(agent, make_decoder=refuse, make_encoder=refuse)
    packets = spoken()
    line.stream(packets, level=-30)
    assert [frame.opus for frame in agent.frames] == packets
    assert [frame.time_ms for frame in agent.frames] == [20 * n for n in range(len(packets))]
    assert {(frame.samples, frame.level_dbov, frame.pcm) for frame in agent.frames} == {(960, -30, None)}


def test_an_agent_that_hears_pcm_gets_what_was_spoken() -> None:
    agent = Listener()
    line = Line(agent)
    packets = spoken()
    line.stream(packets)
    assert np.array_equal(agent.pcm(), np.concatenate(decoded(packets)))
    assert likeness(agent.pcm(), speech(24_000)[:SPOKEN], within=480)[0] > 0.9
    loud = [frame.level_dbov for frame in agent.frames]
    assert max(loud) > -25
    assert line.counters.repaired == {"red": 0, "fec": 0, "concealed": 0}


def test_packets_out_of_order_are_heard_in_order() -> None:
    agent = Listener()
    line = Line(agent)
    packets = spoken()[:10]
    for number in (0, 2, 1, 3, 6, 5, 4, 7, 7, 2, 9, 8):
        line.hear(packet(number, packets[number]))
    assert np.array_equal(agent.pcm(), np.concatenate(decoded(packets)))
    assert [frame.time_ms for frame in agent.frames] == [20 * n for n in range(10)]


def test_a_gap_waits_and_is_then_concealed() -> None:
    agent = Listener()
    line = Line(agent)
    packets = spoken()[:20]
    line.stream([*packets[:10], None])
    for number in (11, 12):
        line.hear(packet(number, packets[number]))
        assert len(agent.frames) == 10
    assert line.pipeline.get_timer() == pytest.approx(line.now + 0.06)
    line.run(0.06)
    assert [frame.time_ms for frame in agent.frames] == [20 * n for n in range(13)]
    lost = agent.frames[10]
    assert (lost.opus, lost.samples, lost.level_dbov) == (b"", 960, -127)
    assert lost.pcm is not None
    assert len(lost.pcm) == 480
    assert line.counters.repaired["concealed"] == 1


def test_a_single_loss_is_recovered_by_the_copy_in_the_next_packet() -> None:
    packets = spoken(loss_percent=20)
    clean = decoded(packets)
    loud = [n for n in range(10, 120) if np.abs(clean[n]).max() > 4_000]
    by_copy = by_guess = 0.0
    for lost in loud[::5]:
        with_fec = Listener()
        line = Line(with_fec)
        line.stream([*packets[:lost], None, *packets[lost + 1 : lost + 2]])
        line.run(0.1)
        assert line.counters.repaired == {"red": 0, "fec": 1, "concealed": 0}
        concealing = Decoder(24_000)
        for payload in packets[:lost]:
            concealing.decode(payload)
        assert with_fec.frames[lost].pcm is not None
        by_copy += error_of(with_fec.frames[lost].pcm, clean[lost])
        by_guess += error_of(concealing.conceal(960), clean[lost])
    assert by_copy < 0.5 * by_guess


def test_of_a_longer_gap_the_last_frame_is_recovered() -> None:
    line = Line(Listener())
    packets: list[bytes | None] = [*spoken(loss_percent=20)]
    packets[50:53] = [None, None, None]
    line.stream(packets[:60])
    line.run(0.1)
    assert line.counters.repaired == {"red": 0, "fec": 1, "concealed": 2}


def with_red(packets: list[bytes], number: int, copies: int) -> bytes:
    """As Chromium sends it: the newest frame and copies of those before."""
    first = max(0, number - copies)
    return build_red([Block(OPUS, 960 * (number - n), packets[n]) for n in range(first, number + 1)])


@pytest.mark.parametrize("kind", [Listener, OpusListener])
def test_red_recovers_everything_its_copies_reach(kind: type[Listener]) -> None:
    agent = kind()
    line = Line(agent)
    packets = spoken()[:100]
    for number in range(100):
        if number % 3 == 0 or number == 98:  # one of three is lost, and the one before the last as well
            line.hear(packet(number, with_red(packets, number, 2), kind=RED))
        line.run(0.02)
    assert [frame.opus for frame in agent.frames] == packets
    assert line.counters.repaired["red"] == 65
    assert line.counters.rtp_duplicated == 0


def test_red_without_losses_changes_nothing() -> None:
    agent = OpusListener()
    line = Line(agent)
    packets = spoken()[:50]
    for number in range(50):
        line.hear(packet(number, with_red(packets, number, 1), kind=RED))
    assert [frame.opus for frame in agent.frames] == packets
    assert line.counters.repaired["red"] == 0


def test_a_silence_without_packets_keeps_its_length() -> None:
    """Discontinuous transmission: sequence numbers go on, RTP time leaps."""
    for agent in (Listener(), OpusListener()):
        line = Line(agent)
        packets = spoken()[:10]
        line.stream(packets[:5])
        line.hear(packet(5, packets[5], samples=960 * 25))
        times = [frame.time_ms for frame in agent.frames]
        assert sum(frame.samples for frame in agent.frames) == 960 * 26
        assert times[-1] == 500
        assert times == sorted(times)
        if isinstance(agent, OpusListener):
            assert [(frame.opus, frame.samples) for frame in agent.frames[5:]] == [
                (b"", 960 * 20),
                (packets[5], 960),
            ]
        else:
            assert len(agent.pcm()) == 480 * 26
        assert line.counters.repaired["concealed"] == 0


def test_after_a_long_absence_time_has_passed_but_nothing_is_invented() -> None:
    agent = Listener()
    line = Line(agent)
    packets = spoken()
    line.stream(packets[:5])
    line.run(30.0)
    line.hear(packet(5, packets[5], samples=960 * 5 + 30 * 48_000))
    assert [frame.time_ms for frame in agent.frames] == [0, 20, 40, 60, 80, 30_100]


def test_nothing_is_filled_in_faster_than_time_goes_by() -> None:
    """Else a client whose timestamps or sequence numbers leap makes dozens of frames out of each packet."""
    for agent in (Listener(), OpusListener()):
        line = Line(agent)
        payload = spoken()[0]
        for number in range(200):
            line.hear(packet(number, payload, samples=960 + 48_000 * number))
        assert len(agent.frames) <= 200 + 150, "three seconds at once, as after an outage"
        assert agent.frames[-1].time_ms == 199_000, "time has passed all the same"
        leapt = len(agent.frames)
        for number in range(200, 10_200, 100):  # 99 lost each time
            line.hear(packet(number, payload, samples=960 + 48_000 * 200 + 960 * number))
            line.run(0.1)
        assert line.counters.rtp_lost == 99 * 99
        assert len(agent.frames) - leapt <= 100 + 150 + 50 * 10
        assert agent.frames[-1].time_ms == 200_000 + 20 * 10_100


def test_rtp_time_that_begins_anew_does_not_turn_back_the_position() -> None:
    agent = OpusListener()
    line = Line(agent)
    line.stream([b"\x78x"] * 5)
    line.hear(packet(5, b"\x78x", samples=2**31 + 1))
    line.hear(packet(6, b"\x78x", samples=2**31 + 961))
    assert [frame.time_ms for frame in agent.frames] == [20 * n for n in range(7)]


def test_another_source_goes_on_where_the_last_one_ended() -> None:
    agent = OpusListener()
    line = Line(agent)
    line.stream([b"\x78x"] * 5)
    line.pipeline.restart()
    for number in (20_000, 20_001):
        line.hear(packet(number, b"\x78y"))
    assert [frame.time_ms for frame in agent.frames] == [20 * n for n in range(7)]


def test_what_is_no_opus_is_concealed() -> None:
    agent = Listener()
    line = Line(agent)
    packets = spoken()[:4]
    line.stream([packets[0], b"", b"\xff", b"\xfb\x01" + bytes(2_000), packets[1]])
    assert [frame.time_ms for frame in agent.frames] == [0, 20, 40, 60, 80]
    assert [frame.opus == b"" for frame in agent.frames] == [False, True, True, True, False]
    assert line.counters.repaired["concealed"] == 3


def test_broken_red_is_a_loss_and_an_unknown_payload_is_nothing() -> None:
    agent = OpusListener()
    line = Line(agent)
    line.stream([b"\x78a", b"\x78b"])
    line.hear(packet(2, b"\xff\xff", kind=RED))
    line.hear(packet(3, build_red([Block(0, 0, b"pcmu")]), kind=RED))
    line.hear(packet(4, b"?", kind=13))
    for number in (5, 6):
        line.hear(packet(number, b"\x78c"))
    line.run(0.1)
    assert [frame.opus for frame in agent.frames] == [b"\x78a", b"\x78b", b"", b"", b"", b"\x78c", b"\x78c"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([OPUS, RED, DIGITS, 13]), st.integers(0, 400), st.binary(max_size=30)))
)
def test_whatever_arrives_time_only_goes_on(arrivals: list[tuple[int, int, bytes]]) -> None:
    agent = Listener()
    line = Line(agent)
    for kind, number, payload in arrivals:
        line.hear(packet(number, payload, kind=kind))
        line.run(0.005)
    line.run(1.0)
    times = [(frame.time_ms, frame.time_ms + frame.samples // 48) for frame in agent.frames]
    assert all(before[1] <= after[0] + 1 for before, after in pairwise(times))
    assert all(frame.pcm is not None for frame in agent.frames)
    assert line.pipeline.get_timer() is None or line.pipeline.get_timer() > line.now


# ---- digits -----------------------------------------------------------------------------------------


def digit(line: Line, first: int, code: int, packets: int, *, samples: int, ends: bool = True) -> int:
    """One key press as Chromium sends it: updates, then three packets with the E bit."""
    for n in range(packets):
        is_end = ends and n >= packets - 3
        payload = bytes([code, 0x8A if is_end else 0x0A]) + (960 * (n + 1) & 0xFFFF).to_bytes(2, "big")
        line.hear(packet(first + n, payload, kind=DIGITS, samples=samples, marker=n == 0))
        line.run(0.02)
    return first + packets


def test_a_digit_is_said_once_and_its_packets_are_no_loss() -> None:
    agent = OpusListener()
    line = Line(agent)
    number = line.stream([b"\x78x"] * 10)
    number = digit(line, number, 5, 8, samples=960 * number)
    number = digit(line, number, 5, 8, samples=960 * number)  # the same key again
    number = digit(line, number, 11, 8, samples=960 * number)
    line.stream([b"\x78x"] * 5, first=number)
    assert line.events == [Dtmf("5", 200), Dtmf("5", 200), Dtmf("#", 200)]
    assert [frame.time_ms for frame in agent.frames[-5:]] == [20 * n for n in range(34, 39)]
    assert line.counters.rtp_lost == 0


def test_a_key_held_long_is_one_digit() -> None:
    line = Line(OpusListener())
    number = digit(line, 0, 1, 60, samples=960, ends=False)
    for segment in (1, 2):
        for n in range(30):
            is_end = segment == 2 and n >= 27
            payload = bytes([1, 0x8A if is_end else 0x0A, 0x10, n])
            line.hear(packet(number, payload, kind=DIGITS, samples=960 + 65_535 * segment))
            number += 1
    assert line.events == [Dtmf("1", 0)]


@pytest.mark.parametrize("payload", [b"", b"\x05\x0a\x00", b"\x10\x0a\x00\xa0"])
def test_what_is_no_digit_is_not_said(payload: bytes) -> None:
    line = Line(OpusListener())
    line.hear(packet(0, payload, kind=DIGITS, marker=True))
    assert line.events == []


# ---- who speaks -------------------------------------------------------------------------------------


def stretches(line: Line, *levels: tuple[int, int]) -> None:
    number = 0
    for level, frames in levels:
        number = line.stream([b"\x78x"] * frames, first=number, level=level)


def test_the_level_extension_opens_and_shuts_the_gate() -> None:
    line = Line(OpusListener())
    stretches(line, (-70, 50), (-30, 50), (-70, 50))
    assert line.events == [SpeechStarted(700), SpeechStopped(2_500)]


def test_without_the_extension_pcm_tells_and_opus_does_not() -> None:
    silence = encoded(np.zeros(24_000, np.int16))
    hearing, deaf = Line(Listener()), Line(OpusListener())
    for line in (hearing, deaf):
        number = line.stream(silence)
        number = line.stream(spoken(), first=number)
        line.stream(silence, first=number)
    assert [type(event) for event in hearing.events] == [SpeechStarted, SpeechStopped]
    assert deaf.events == []


def test_lost_frames_are_no_silence() -> None:
    line = Line(OpusListener())
    number = line.stream([b"\x78x"] * 50, level=-70)
    number = line.stream([b"\x78x"] * 50, first=number, level=-30)
    for n in range(200):
        if n % 4 == 0:
            line.hear(packet(number + n, b"\x78x"), -30)
        line.run(0.02)
    assert [type(event) for event in line.events] == [SpeechStarted]


def test_when_nothing_comes_any_more_the_user_has_stopped() -> None:
    line = Line(OpusListener())
    stretches(line, (-70, 50), (-30, 50))
    line.run(5.0)
    assert line.events == [SpeechStarted(700), SpeechStopped(2_000)]
    assert line.pipeline.get_timer() is None


def test_turn_detection_is_configured_by_the_session() -> None:
    def session(detection: object) -> dict[str, object]:
        return {"audio": {"input": {"turn_detection": detection}}}

    manual = Line(OpusListener(), session=session(None))
    stretches(manual, (-70, 50), (-30, 50), (-70, 50))
    assert manual.events == []
    quick = {"type": "server_vad", "prefix_padding_ms": 100, "silence_duration_ms": 200, "threshold": 0.5}
    line = Line(OpusListener(), session=session(quick))
    stretches(line, (-70, 50), (-30, 50), (-70, 50))
    assert line.events == [SpeechStarted(900), SpeechStopped(2_200)]
    semantic = Line(OpusListener(), session=session({"type": "semantic_vad"}))
    stretches(semantic, (-70, 50), (-30, 50), (-70, 50))
    assert semantic.events == [SpeechStarted(700), SpeechStopped(2_500)]


def test_turn_detection_can_be_switched_off_and_on_in_speech() -> None:
    line = Line(OpusListener())
    stretches(line, (-70, 50), (-30, 50))
    line.pipeline.configure({"audio": {"input": {"turn_detection": None}}})
    line.run(5.0)
    line.pipeline.configure({"audio": {"input": {"turn_detection": {"type": "server_vad"}}}})
    line.stream([b"\x78x"] * 100, first=100, level=-30)
    assert line.events == [SpeechStarted(700), SpeechStarted(1_700)]


# ---- the way out ------------------------------------------------------------------------------------


def test_what_the_agent_says_leaves_in_real_time() -> None:
    line = Line(Listener())
    said = speech(24_000)[:SPOKEN]
    line.say(said, 24_000)
    line.finish()
    line.run(2.0)
    assert [round((at_s - 1000.0) / 0.02, 3) for at_s, *_ in line.sent] == list(range(50))
    assert likeness(line.heard_back(), said[: SPOKEN - 480], within=480)[0] > 0.9
    assert [type(event) for event in line.events] == [PlayoutStarted, PlayoutStopped]
    line.say(said, 24_000)
    line.run(0.5)
    assert line.pipeline.clear(line.now) == 500
    line.run(1.0)
    assert len(line.sent) == 76


def test_rtp_time_begins_where_it_is_told_and_losses_reach_the_encoder() -> None:
    careful, careless = Line(Listener(), timestamp=77), Line(Listener(), timestamp=77)
    careful.pipeline.expect_loss(20)
    for line in (careful, careless):
        line.say(speech(24_000)[:SPOKEN], 24_000)
        line.run(1.0)
        assert line.sent[0][2] == 77
    assert [sent[1] for sent in careful.sent] != [sent[1] for sent in careless.sent]


class Hum(Agent):
    """Speaks all the time."""

    takes_turns = False
    rate_hz = 16_000

    def produce(self, samples: int) -> Pcm:
        return np.zeros(samples, np.int16)


class Shy(Hum):
    """Would, but takes turns."""

    takes_turns = True


def test_only_an_agent_that_speaks_all_the_time_is_asked_to() -> None:
    humming, shy, silent = Line(Hum()), Line(Shy()), Line(Listener())
    for line in (humming, shy, silent):
        line.run(1.0)
    assert (len(humming.sent), len(shy.sent), len(silent.sent)) == (51, 0, 0)
    assert silent.pipeline.get_timer() is None
