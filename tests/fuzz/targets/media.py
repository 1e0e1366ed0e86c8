"""RTP, RTCP, RED and transport-wide feedback: read, or refused with a WireError; what was read survives the
writer."""

from collections.abc import Iterator
from contextlib import suppress

from pyfastpath.errors import WireError
from pyfastpath.wire import red, rtcp, rtp, twcc

BYTES_MAX = 1500
SMOKE_RUNS = 2000
ON_DATA_PLANE = False
CRASHERS: dict[str, bytes] = {}

RTP, RTCP, RED, TWCC = range(4)


def seeds() -> Iterator[bytes]:
    """The first byte chooses the reader."""
    for packet in (
        rtp.build_packet(111, True, 1, 2, 3, b"opus", extensions={1: b"\x80", 14: bytes(16)}, csrcs=(1, 2)),
        rtp.build_packet(
            63, False, 65535, 2**32 - 1, 3, b"", extensions={200: b"two bytes"}, padding_bytes=4
        ),
    ):
        yield bytes([RTP]) + packet
    block = rtcp.ReportBlock(1, 2, -3, 4, 5, 6, 7)
    packets = [
        rtcp.SenderReport(1, 2, 3, 4, 5, (block,)),
        rtcp.ReceiverReport(1, (block, block)),
        rtcp.SourceDescription(((1, ((rtcp.CNAME, b"name"),)), (2, ()))),
        rtcp.Nack(1, 2, (3, 4, 19, 20, 65535, 0)),
        rtcp.Feedback(rtcp.PAYLOAD_FEEDBACK, 1, 2, 3, b"four"),
        rtcp.Unknown(204, 1, b"name"),
        rtcp.Bye((1, 2), b"gone"),
    ]
    yield bytes([RTCP]) + rtcp.build_compound(packets)
    yield from (bytes([RTCP]) + rtcp.build_compound([packet]) for packet in packets)
    yield bytes([RED]) + red.build_red([red.Block(111, 1920, b"old"), red.Block(111, 0, b"new")])
    for message in twcc.compose([(n, n * 80 * (n % 5)) for n in range(40) if n % 7], 1):
        yield bytes([TWCC]) + twcc.build_feedback(message)


def one_input(data: bytes) -> None:
    if data:
        with suppress(WireError):
            CHECKS[data[0] & 3](data[1:])


def check_rtp(data: bytes) -> None:
    packet = rtp.parse_packet(data)
    rtp.is_rtcp(data)
    for identifier, value in packet.extensions.items():
        assert packet.extension(identifier) == value
        voice, level_dbov = rtp.audio_level(value)
        assert -127 <= level_dbov <= 0
        assert voice in {True, False}
    fields = packet.payload_type, packet.marker, packet.sequence, packet.timestamp, packet.ssrc
    extensions = {key: value for key, value in packet.extensions.items() if key < 256}
    built = rtp.build_packet(*fields, packet.payload, extensions=extensions, csrcs=packet.csrcs)
    again = rtp.parse_packet(built)
    assert again.extensions == extensions
    assert (again.payload, again.csrcs) == (packet.payload, packet.csrcs)
    assert fields == (again.payload_type, again.marker, again.sequence, again.timestamp, again.ssrc)


def check_rtcp(data: bytes) -> None:
    packets = rtcp.parse_compound(data)
    odd = any(len(packet.body) % 4 for packet in packets if isinstance(packet, rtcp.Unknown))
    odd |= any(len(packet.fci) % 4 for packet in packets if isinstance(packet, rtcp.Feedback))
    if not odd:  # padding within what is kept as it is
        again = rtcp.parse_compound(rtcp.build_compound(packets))
        assert list(map(each_once, again)) == list(map(each_once, packets))


def each_once(packet: rtcp.RtcpPacket) -> object:
    """A NACK that names a number twice is built again so that it names it once."""
    if isinstance(packet, rtcp.Nack):
        return packet.sender_ssrc, packet.media_ssrc, set(packet.lost)
    return packet


def check_red(data: bytes) -> None:
    blocks = red.parse_red(data)
    assert sum(len(block.data) for block in blocks) < len(data)
    assert red.build_red(blocks) == data


def check_twcc(data: bytes) -> None:
    feedback = twcc.parse_feedback(data)
    assert len(list(feedback.arrivals())) == len(feedback.deltas)
    if feedback.deltas:
        assert twcc.parse_feedback(twcc.build_feedback(feedback)) == feedback


CHECKS = {RTP: check_rtp, RTCP: check_rtcp, RED: check_red, TWCC: check_twcc}
