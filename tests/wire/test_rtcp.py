"""RTCP: read as aiortc reads it, built as aiortc builds it, and nothing but WireError for the rest."""

from collections.abc import Sequence

import pytest
from aiortc import rtp as aiortc
from hypothesis import given
from hypothesis import strategies as st
from scapy.contrib.rtcp import RTCP

from pyfastpath.errors import WireError
from pyfastpath.wire import rtcp

U8, U16, U32, U64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
LOST = st.integers(-(2**23), 2**23 - 1)
BLOCKS = st.lists(st.builds(rtcp.ReportBlock, U32, U8, LOST, U32, U32, U32, U32), max_size=4).map(tuple)
SENDER_REPORTS = st.builds(rtcp.SenderReport, U32, U64, U32, U32, U32, BLOCKS)
RECEIVER_REPORTS = st.builds(rtcp.ReceiverReport, U32, BLOCKS)
ITEMS = st.lists(st.tuples(st.integers(1, 8), st.binary(max_size=20)), max_size=3).map(tuple)
DESCRIPTIONS = st.builds(rtcp.SourceDescription, st.lists(st.tuples(U32, ITEMS), max_size=3).map(tuple))
BYES = st.builds(rtcp.Bye, st.lists(U32, max_size=4).map(tuple), st.binary(max_size=20))
WORDS = st.binary(max_size=12).map(lambda data: data[: len(data) // 4 * 4])
FEEDBACKS = st.builds(rtcp.Feedback, st.just(205), st.integers(2, 31), U32, U32, WORDS) | st.builds(
    rtcp.Feedback, st.just(206), st.integers(0, 31), U32, U32, WORDS
)
UNKNOWN = st.builds(rtcp.Unknown, st.integers(207, 223), st.integers(0, 31), WORDS)
PACKETS = SENDER_REPORTS | RECEIVER_REPORTS | DESCRIPTIONS | BYES | FEEDBACKS | UNKNOWN


@given(st.lists(PACKETS, min_size=1, max_size=4))
def test_what_is_built_is_read_back(packets: list[rtcp.RtcpPacket]) -> None:
    assert rtcp.parse_compound(rtcp.build_compound(packets)) == packets


def as_aiortc(block: rtcp.ReportBlock) -> aiortc.RtcpReceiverInfo:
    return aiortc.RtcpReceiverInfo(
        ssrc=block.ssrc,
        fraction_lost=block.fraction_lost,
        packets_lost=block.lost,
        highest_sequence=block.highest_sequence,
        jitter=block.jitter,
        lsr=block.last_report,
        dlsr=block.delay,
    )


@given(SENDER_REPORTS, RECEIVER_REPORTS, st.lists(U32, max_size=5))
def test_reports_and_byes_are_aiortcs_both_ways(
    sender: rtcp.SenderReport, receiver: rtcp.ReceiverReport, gone: list[int]
) -> None:
    info = aiortc.RtcpSenderInfo(sender.ntp, sender.rtp_timestamp, sender.packets, sender.octets)
    theirs = [
        aiortc.RtcpSrPacket(sender.ssrc, info, [as_aiortc(block) for block in sender.reports]),
        aiortc.RtcpRrPacket(receiver.ssrc, [as_aiortc(block) for block in receiver.reports]),
        aiortc.RtcpByePacket(gone),
    ]
    ours = [sender, receiver, rtcp.Bye(tuple(gone))]
    data = b"".join(bytes(packet) for packet in theirs)
    assert rtcp.build_compound(ours) == data
    assert rtcp.parse_compound(data) == ours


@given(U32, st.lists(st.tuples(st.integers(1, 8), st.binary(max_size=20)), min_size=1, max_size=3))
def test_a_description_is_aiortcs(ssrc: int, items: list[tuple[int, bytes]]) -> None:
    """aiortc ends the items with two zero bytes, we with one: the same to a reader."""
    description = rtcp.SourceDescription(((ssrc, tuple(items)),))
    theirs = aiortc.RtcpSdesPacket([aiortc.RtcpSourceInfo(ssrc, list(items))])
    assert rtcp.parse_compound(bytes(theirs)) == [description]
    [read] = aiortc.RtcpPacket.parse(rtcp.build_compound([description]))
    assert isinstance(read, aiortc.RtcpSdesPacket)
    assert [(chunk.ssrc, chunk.items) for chunk in read.chunks] == [(ssrc, items)]


def test_scapy_reads_a_compound() -> None:
    block = rtcp.ReportBlock(7, 25, 1000, 0x10005, 80, 0x11112222, 65536)
    sender = rtcp.SenderReport(9, 0xE0000000_80000000, 48000, 50, 8000, (block,))
    read = RTCP(rtcp.build_compound([sender]))
    assert (read.packet_type, read.count, read.sourcesync) == (200, 1, 9)
    info, found = read.sender_info, read.report_blocks[0]
    assert bytes(info)[:8].hex() == "e000000080000000"
    assert (info.rtp_timestamp, info.sender_packet_count, info.sender_octet_count) == (48000, 50, 8000)
    assert (found.sourcesync, found.fraction_lost, found.cumulative_lost) == (7, 25, 1000)
    assert (found.highest_seqnum_recv, found.interarrival_jitter) == (0x10005, 80)
    assert (found.last_SR_timestamp, found.delay_since_last_SR) == (0x11112222, 65536)


LOSSES = st.lists(st.integers(0, 120), min_size=1, max_size=30, unique=True).map(sorted)


@given(U16, LOSSES)
def test_nacks_past_a_wrap(first: int, distances: list[int]) -> None:
    lost = tuple(first + distance & 0xFFFF for distance in distances)
    data = rtcp.build_compound([rtcp.Nack(1, 2, lost)])
    assert rtcp.parse_compound(data) == [rtcp.Nack(1, 2, lost)]
    [read] = aiortc.RtcpPacket.parse(data)
    assert isinstance(read, aiortc.RtcpRtpfbPacket)
    assert [sequence & 0xFFFF for sequence in read.lost] == list(lost)


@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=10).map(lambda lost: sorted(set(lost))))
def test_nacks_are_aiortcs(lost: Sequence[int]) -> None:
    theirs = bytes(aiortc.RtcpRtpfbPacket(1, 1, 2, list(lost)))
    assert rtcp.build_compound([rtcp.Nack(1, 2, tuple(lost))]) == theirs


def test_a_nack_takes_as_few_pairs_as_it_can() -> None:
    data = rtcp.build_compound(
        [rtcp.Nack(1, 2, (65530, 65531, 10, 27))]
    )  # 10 is 16 behind 65530, 27 is 17 behind 10
    assert data.hex() == "81cd00040000000100000002fffa8001001b0000"


def test_padding_is_taken_off() -> None:
    data = bytes.fromhex("a0c90002 00000005 00000004")  # a receiver report and one word of padding
    assert rtcp.parse_compound(data) == [rtcp.ReceiverReport(5)]


def test_losses_are_clamped_to_24_bits() -> None:
    for lost, carried in ((2**30, 2**23 - 1), (-(2**30), -(2**23))):
        report = rtcp.ReceiverReport(1, (rtcp.ReportBlock(2, 0, lost, 0, 0, 0, 0),))
        [read] = rtcp.parse_compound(rtcp.build_compound([report]))
        assert isinstance(read, rtcp.ReceiverReport)
        assert read.reports[0].lost == carried


RANDOM = st.binary(max_size=100)
HEADED = st.builds(
    lambda count, kind, words, tail: bytes([0x80 | count, kind, 0, words]) + tail,
    st.integers(0, 63),
    st.integers(199, 207),
    st.integers(0, 12),
    RANDOM,
)


@given(RANDOM | HEADED)
def test_random_bytes_are_packets_or_a_wire_error(data: bytes) -> None:
    try:
        packets = rtcp.parse_compound(data)
    except WireError:
        return
    assert packets
    rtcp.build_compound(packets)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        ("", "empty"),
        ("80c9", "inside a header"),
        ("40c90001 00000001", "version 2"),
        ("80c90002 00000001", "version 2"),  # a word is missing
        ("a0c90001 00000000", "padding"),
        ("a0c90000", "padding"),
        ("a0c90001 00000005", "padding"),
        ("81c90001 00000001", "201 is shorter"),
        ("80c90000", "201 is shorter"),
        ("80c80001 00000001", "200 is shorter"),
        ("81ca0000", "202 is shorter"),
        ("81ca0001 00000001", "202 is shorter"),  # items without their end
        ("81ca0002 00000001 01050000", "202 is shorter"),
        ("81cb0000", "203 is shorter"),
        ("80cb0001 05616263", "203 is shorter"),  # a reason of five bytes, three are there
        ("81cd0001 00000001", "205 is shorter"),
        ("81ce0001 00000001", "206 is shorter"),
    ],
)
def test_what_does_not_fit_is_refused(data: str, complaint: str) -> None:
    with pytest.raises(WireError, match=complaint):
        rtcp.parse_compound(bytes.fromhex(data))


def test_more_than_31_of_anything_is_not_built() -> None:
    with pytest.raises(ValueError, match="at most 31"):
        rtcp.build_compound([rtcp.Bye(tuple(range(32)))])
    with pytest.raises(ValueError, match="multiple of 4"):
        rtcp.build_compound([rtcp.Unknown(207, 0, b"abc")])
