"""RTCP of a session: numbers as RFC 3550 (and aiortc) has them, reports and feedback when they are due."""

import random
from pathlib import Path
from types import SimpleNamespace

import aiortc.rtcrtpreceiver
import pytest
from aiortc.rtp import RtpPacket as AiortcPacket
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.errors import WireError
from pyfastpath.transceiver import reception as module
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.reception import Reception, Source
from pyfastpath.wire import rtcp, rtp, twcc
from pyfastpath.wire.offer import TRANSPORT_CC, AudioOffer
from tests.support.pcap import read_capture

OURS, THEIRS = 0x11111111, 0x22222222
WALL_S = 1_700_000_000.0  # minus the monotonic clock
NOW = 5000.0


def audio(*, nack: bool = False, transport_cc: bool = False) -> AudioOffer:
    return AudioOffer(
        mid="0",
        direction="sendrecv",
        opus_payload_type=111,
        opus_parameters={},
        red_payload_type=None,
        telephone_event={},
        extensions={TRANSPORT_CC: 3},
        nack=nack,
        transport_cc=transport_cc,
        ssrcs=(THEIRS,),
    )


def reception(*, ssrc: int = OURS, nack: bool = False, transport_cc: bool = False) -> Reception:
    return Reception(
        audio(nack=nack, transport_cc=transport_cc),
        ssrc=ssrc,
        cname="us",
        ntp_offset_s=WALL_S,
        counters=Counters(),
    )


def packet(
    number: int, *, ssrc: int = THEIRS, timestamp: int | None = None, wide: int | None = None
) -> rtp.RtpPacket:
    data = rtp.build_packet(
        111,
        False,
        number & 0xFFFF,
        960 * number & 0xFFFFFFFF if timestamp is None else timestamp & 0xFFFFFFFF,
        ssrc,
        b"opus",
        extensions=None if wide is None else {3: (wide & 0xFFFF).to_bytes(2, "big")},
    )
    return rtp.parse_packet(data)


def compound(said: list[bytes]) -> list[rtcp.RtcpPacket]:
    [data] = said
    return rtcp.parse_compound(data)


def report_of(heard: Reception, now: float) -> rtcp.ReportBlock:
    first = compound(heard.rtcp_to_send(now))[0]
    assert isinstance(first, rtcp.ReceiverReport | rtcp.SenderReport)
    [block] = first.reports
    return block


# ---- statistics ---------------------------------------------------------------------------------------


NETWORK = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, 60), st.integers(-3, 3)), min_size=2, max_size=60
)


@given(st.integers(0, 65_535), NETWORK)
def test_numbers_are_aiortcs(first: int, steps: list[tuple[int, int, int]]) -> None:
    """Gaps, reordering (a negative third number) and any spacing; sequence numbers may wrap."""
    clock = SimpleNamespace(time=lambda: at)
    numbers, number = [], 0
    for step, wait_ms, back in steps:
        number += step
        numbers.append((max(0, number + min(back, 0)), wait_ms))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiortc.rtcrtpreceiver, "time", clock)
        theirs = aiortc.rtcrtpreceiver.StreamStatistics(48_000)
        ours: Source | None = None
        at = 100.0
        for number, wait_ms in numbers:
            at += wait_ms / 1000
            sequence, timestamp = first + number & 0xFFFF, 960 * number
            arrived = rtp.RtpPacket(111, False, sequence, timestamp, THEIRS, b"")
            ours = ours or Source(arrived, at)
            ours.update(sequence, timestamp, at)
            theirs.add(AiortcPacket(111, 0, sequence, timestamp, THEIRS))
    assert ours is not None
    block = ours.report(at)
    assert block.lost == ours.lost == theirs.packets_lost
    assert block.fraction_lost == min(255, theirs.fraction_lost)
    assert block.highest_sequence == theirs.cycles + theirs.max_seq
    assert block.jitter == pytest.approx(theirs.jitter, abs=3)  # aiortc's is in integers


def test_a_steady_stream_has_no_jitter_and_no_loss() -> None:
    heard = reception()
    for number in range(100):
        heard.received(packet(number), NOW + number * 0.02)
    assert (heard.packets_received, heard.packets_lost) == (100, 0)
    assert heard.jitter_s == pytest.approx(0, abs=1e-9)


def test_jitter_of_the_rfc() -> None:
    """Each packet 5 ms early, then 5 ms late: D is 10 ms each time, and J tends to it (RFC 3550, 6.4.1)."""
    heard = reception()
    for number in range(200):
        heard.received(packet(number), NOW + number * 0.02 + (0.005 if number % 2 else 0))
    assert heard.jitter_s == pytest.approx(0.005, rel=0.01)


def test_a_telephone_event_is_no_jitter() -> None:
    heard = reception()
    for number in range(50):
        heard.received(packet(number, timestamp=48_000), NOW + number * 0.02)
    assert heard.jitter_s == 0


def test_fractions_count_from_report_to_report() -> None:
    heard = reception()
    for number in (0, 1, 3, 4):  # one of five
        heard.received(packet(number), NOW)
    block = report_of(heard, heard.due_s)
    assert (block.fraction_lost, block.lost) == (51, 1)
    heard.received(packet(5), NOW + 1)
    block = report_of(heard, heard.due_s)
    assert (block.fraction_lost, block.lost) == (0, 1)
    heard.received(packet(2), NOW + 4)  # late, but here
    assert report_of(heard, heard.due_s).lost == heard.packets_lost == 0


def test_a_sender_that_jumps_begins_again() -> None:
    heard = reception()
    for number in (0, 2, 10_000, 10_001, 10_003):
        heard.received(packet(number), NOW)
    assert heard.packets_lost == 2
    block = report_of(heard, heard.due_s)
    assert (block.lost, block.highest_sequence) == (2, 10_003)


def test_each_source_has_its_block() -> None:
    heard = reception()
    for number in range(3):
        heard.received(packet(number), NOW)
        heard.received(packet(number + 500, ssrc=7), NOW)
    heard.received(packet(503, ssrc=7), NOW)
    [report, _] = compound(heard.rtcp_to_send(heard.due_s))
    assert isinstance(report, rtcp.ReceiverReport)
    assert {(block.ssrc, block.highest_sequence) for block in report.reports} == {(THEIRS, 2), (7, 503)}
    assert heard.packets_received == 7


def test_a_real_call_of_chromium_over_loopback() -> None:
    """Headers and extensions of SRTP are in the clear: what a real browser's audio is measured to be."""
    capture = read_capture(Path(__file__).parents[1] / "pcaps" / "chromium-dtls12.pcap", 40_000)
    heard = reception(nack=True, transport_cc=True)
    told: list[int] = []
    for each in capture.datagrams:
        if each.upstream and each.payload[0] >> 6 == 2 and not rtp.is_rtcp(each.payload):
            now = each.time_us / 1e6
            for data in heard.rtcp_to_send(now):
                told += [number for number, _ in feedback_in(data)]
            heard.received(rtp.parse_packet(each.payload), now)
    assert heard.packets_received > 400
    assert heard.packets_lost == 0
    assert 0 < heard.jitter_s < 0.02
    assert told == [told[0] + place & 0xFFFF for place in range(len(told))]
    assert len(told) > heard.packets_received - 20


def feedback_in(data: bytes) -> list[tuple[int, int | None]]:
    feedbacks = [said for said in rtcp.parse_compound(data) if isinstance(said, rtcp.Feedback)]
    return [arrival for said in feedbacks for arrival in twcc.parse_feedback(said.fci).arrivals()]


# ---- reports ------------------------------------------------------------------------------------------


def test_nothing_is_due_before_the_first_packet() -> None:
    heard = reception(nack=True, transport_cc=True)
    assert heard.get_timer() is None
    assert heard.rtcp_to_send(NOW) == []


def test_reports_are_due_after_half_a_second_and_then_about_every_two_and_a_half() -> None:
    heard = reception()
    heard.received(packet(0), NOW)
    assert heard.get_timer() == NOW + 0.5
    assert heard.rtcp_to_send(NOW + 0.49) == []
    at, waits = NOW, []
    for _ in range(50):
        due = heard.get_timer()
        assert due is not None
        waits.append(due - at)
        at = due
        assert isinstance(compound(heard.rtcp_to_send(at))[0], rtcp.ReceiverReport)
    assert min(waits[1:]) >= 1.875
    assert max(waits[1:]) <= 3.125
    assert sum(waits[1:]) / 49 == pytest.approx(2.5, abs=0.2)
    assert len(set(waits)) > 40


def test_who_sends_reports_what_he_sent() -> None:
    heard = reception()
    for number in range(10):
        heard.sent(80, 960 * number, NOW + 0.02 * number)
    report, description = compound(heard.rtcp_to_send(NOW + 0.5))
    assert isinstance(report, rtcp.SenderReport)
    assert (report.ssrc, report.packets, report.octets) == (OURS, 10, 800)
    assert report.rtp_timestamp == 960 * 9 + round((0.5 - 0.18) * 48_000)
    assert report.ntp / 2**32 == pytest.approx(NOW + 0.5 + WALL_S + 2_208_988_800, abs=1e-5)
    assert description == rtcp.SourceDescription(((OURS, ((1, b"us"),)),))
    assert isinstance(compound(heard.rtcp_to_send(heard.due_s))[0], rtcp.ReceiverReport)  # nothing sent since


def test_two_of_them_find_their_round_trip() -> None:
    """30 ms there, 50 ms back; what the other side waits before it answers does not count."""
    one, other = reception(ssrc=1), reception(ssrc=2)
    one.sent(80, 0, NOW)
    other.received(packet(0, ssrc=1), NOW + 0.03)
    assert other.receive_rtcp(one.rtcp_to_send(NOW + 0.5)[0], NOW + 0.53) == ()
    [reply] = other.rtcp_to_send(NOW + 1.9)
    one.receive_rtcp(reply, NOW + 1.95)
    assert one.round_trip_s == pytest.approx(0.08, abs=0.001)
    assert one._counters.round_trip_s.count == 1
    assert other.round_trip_s is None


def test_a_block_about_something_else_is_no_round_trip() -> None:
    heard = reception()
    for block in (
        rtcp.ReportBlock(OURS, 0, 5, 0, 0, 0, 0),  # never saw a sender report
        rtcp.ReportBlock(OURS, 64, 6, 0, 0, 0x12345678, 0),  # hours ago
        rtcp.ReportBlock(THEIRS, 128, 9, 0, 0, 1, 0),
    ):
        heard.receive_rtcp(rtcp.build_compound([rtcp.ReceiverReport(THEIRS, (block,))]), NOW)
    assert heard.round_trip_s is None
    assert heard.lost_percent == 25


def test_goodbye() -> None:
    heard = reception()
    heard.sent(80, 0, NOW)
    report, _, bye = rtcp.parse_compound(heard.goodbye(NOW + 1))
    assert isinstance(report, rtcp.SenderReport)
    assert bye == rtcp.Bye((OURS,))


# ---- feedback -----------------------------------------------------------------------------------------


def feedback_of(heard: Reception, now: float) -> twcc.TransportFeedback:
    report, _, feedback = compound(heard.rtcp_to_send(now))
    assert isinstance(report, rtcp.ReceiverReport | rtcp.SenderReport)
    assert isinstance(feedback, rtcp.Feedback)
    assert (feedback.packet_type, feedback.format) == (205, 15)
    assert (feedback.sender_ssrc, feedback.media_ssrc) == (OURS, THEIRS)
    return twcc.parse_feedback(feedback.fci)


def test_feedback_comes_250_ms_after_the_first_arrival_and_not_in_silence() -> None:
    heard = reception(transport_cc=True)
    for number in range(5):
        heard.received(packet(number, wide=65_533 + number), NOW + 0.02 * number)
    assert heard.get_timer() == pytest.approx(NOW + 0.25)
    feedback = feedback_of(heard, NOW + 0.25)
    arrivals = list(feedback.arrivals())
    assert [number for number, _ in arrivals] == [65_533, 65_534, 65_535, 0, 1]
    times = [at for _, at in arrivals if at is not None]
    assert [later - times[0] for later in times] == [0, 80, 160, 240, 320]
    assert heard.get_timer() == NOW + 0.5  # the report
    heard.received(packet(5, wide=65_538), NOW + 0.1)
    heard.received(packet(6, wide=65_539), NOW + 0.2)
    assert heard.get_timer() == pytest.approx(NOW + 0.35)
    assert feedback_of(heard, heard.due_s).count == 1


def test_losses_between_two_feedbacks_are_told_and_a_late_one_too() -> None:
    heard = reception(transport_cc=True)
    heard.received(packet(0, wide=10), NOW)
    feedback_of(heard, NOW + 0.25)
    heard.received(packet(2, wide=13), NOW + 0.26)
    feedback = feedback_of(heard, NOW + 0.51)
    assert [(number, at is not None) for number, at in feedback.arrivals()] == [
        (11, False),
        (12, False),
        (13, True),
    ]
    heard.received(packet(1, wide=11), NOW + 0.52)
    feedback = feedback_of(heard, NOW + 0.77)
    assert [(number, at is not None) for number, at in feedback.arrivals()] == [(11, True)]
    heard.received(packet(3, wide=14), NOW + 0.78)
    assert feedback_of(heard, NOW + 1.03).base_sequence == 14


def test_no_feedback_unless_negotiated() -> None:
    heard = reception()
    heard.received(packet(0, wide=1), NOW)
    assert heard.get_timer() == NOW + 0.5
    assert len(compound(heard.rtcp_to_send(NOW + 0.5))) == 2


@given(st.lists(st.tuples(st.integers(0, 65_535), st.integers(0, 20)), min_size=1, max_size=300))
def test_any_numbers_fit_a_datagram(numbers: list[tuple[int, int]]) -> None:
    """A client may number as it likes, and lose what it likes: compounds stay small and parse."""
    heard = reception(nack=True, transport_cc=True)
    now = NOW
    for wide, wait_ms in numbers:
        now += wait_ms / 1000
        heard.received(packet(wide, wide=wide), now)
        for data in heard.rtcp_to_send(now):
            assert len(data) <= 1200
            for said in rtcp.parse_compound(data):
                if isinstance(said, rtcp.Feedback):
                    twcc.parse_feedback(said.fci)


# ---- NACK ---------------------------------------------------------------------------------------------


def nacked(heard: Reception, now: float) -> tuple[int, ...]:
    return tuple(
        sequence
        for data in heard.rtcp_to_send(now)
        for said in rtcp.parse_compound(data)
        if isinstance(said, rtcp.Nack)
        for sequence in said.lost
    )


def test_a_gap_is_asked_for_at_once_once_more_and_then_no_longer() -> None:
    heard = reception(nack=True)
    heard.received(packet(65_534), NOW)
    heard.received(packet(65_537), NOW + 0.02)
    assert heard.get_timer() == NOW + 0.02
    assert nacked(heard, NOW + 0.02) == (65_535, 0)
    assert heard.get_timer() == pytest.approx(NOW + 0.04)
    heard.received(packet(65_535), NOW + 0.03)  # it helped
    assert nacked(heard, heard.due_s) == (0,)
    assert heard.get_timer() == NOW + 0.5
    assert nacked(heard, NOW + 0.5) == ()


def test_what_comes_too_late_to_be_asked_for_is_forgotten() -> None:
    heard = reception(nack=True)
    heard.received(packet(0), NOW)
    heard.received(packet(2), NOW)
    assert nacked(heard, NOW + 0.07) == ()
    assert heard.get_timer() == NOW + 0.5


def test_no_nack_unless_negotiated() -> None:
    heard = reception()
    heard.received(packet(0), NOW)
    heard.received(packet(2), NOW)
    assert heard.get_timer() == NOW + 0.5


def test_what_the_client_asks_for() -> None:
    heard = reception()
    data = rtcp.build_compound(
        [rtcp.ReceiverReport(THEIRS), rtcp.Nack(THEIRS, OURS, (5, 6)), rtcp.Nack(1, 2, (9,))]
    )
    assert heard.receive_rtcp(data, NOW) == (5, 6)


# ---- memory and garbage -------------------------------------------------------------------------------


def test_memory_is_bounded() -> None:
    heard = reception(nack=True, transport_cc=True)
    rng = random.Random(5)
    number = 0
    for _ in range(5000):  # nothing is taken meanwhile
        number += rng.randrange(1, 3000)
        heard.received(packet(number, wide=rng.randrange(65_536)), NOW)
    assert heard._missing is not None
    assert len(heard._missing._asked) <= module.NACK_MAX
    assert len(heard._arrivals.waiting) <= module.FEEDBACK_ARRIVALS_MAX


@given(st.binary(max_size=80) | st.binary(max_size=80).map(lambda tail: b"\x81\xc8\x00\x0c" + tail))
def test_garbage_is_a_wire_error(data: bytes) -> None:
    heard = reception()
    try:
        heard.receive_rtcp(data, NOW)
    except WireError:
        return
