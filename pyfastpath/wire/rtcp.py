"""RTCP (RFC 3550, section 6; feedback of RFC 4585) as an audio call uses it.

A compound is a list of packets. What is not needed is kept as it is: `Feedback` of another format, `Unknown`
of another type. Reduced-size RTCP (RFC 5506) is read too, so a compound need not begin with a report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from struct import Struct
from typing import Final

from pyfastpath.errors import WireError

SENDER_REPORT: Final = 200
RECEIVER_REPORT: Final = 201
SOURCE_DESCRIPTION: Final = 202
BYE: Final = 203
TRANSPORT_FEEDBACK: Final = 205  # RFC 4585, section 6.2
PAYLOAD_FEEDBACK: Final = 206  # RFC 4585, section 6.3

NACK_FORMAT: Final = 1
TRANSPORT_CC_FORMAT: Final = 15  # draft-holmer-rmcat-transport-wide-cc-extensions-01, section 3.1
CNAME: Final = 1

REPORTS_MAX: Final = 31
LOST_MAX: Final = (1 << 23) - 1

_HEADER: Final = Struct("!BBH")
_BLOCK: Final = Struct("!IB3sIIII")
_SENDER: Final = Struct("!IQIII")


@dataclass(frozen=True, slots=True)
class ReportBlock:
    """How the sender of the report received one source (RFC 3550, section 6.4.1)."""

    ssrc: int
    fraction_lost: int  # in 256ths, since the report before
    lost: int  # since the beginning; negative when duplicates outweigh losses; 24 bits
    highest_sequence: int  # 32 bits: cycles and sequence number
    jitter: int  # at the RTP clock
    last_report: int  # LSR: the middle 32 bits of the NTP time of the newest sender report; 0: none yet
    delay: int  # DLSR: since that came, in 65536ths of a second


@dataclass(frozen=True, slots=True)
class SenderReport:
    """What we (or they) sent, and blocks about what was received."""

    ssrc: int
    ntp: int  # 64 bits: seconds since 1900 and their 2^32ths
    rtp_timestamp: int
    packets: int
    octets: int  # of payload
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class ReceiverReport:
    """Blocks of somebody who sent nothing since the report before."""

    ssrc: int
    reports: tuple[ReportBlock, ...] = ()


@dataclass(frozen=True, slots=True)
class SourceDescription:
    """Chunks: (ssrc, ((item type, text), …)). Item type 1 is the CNAME."""

    chunks: tuple[tuple[int, tuple[tuple[int, bytes], ...]], ...]


@dataclass(frozen=True, slots=True)
class Bye:
    """These sources are gone."""

    ssrcs: tuple[int, ...]
    reason: bytes = b""


@dataclass(frozen=True, slots=True)
class Nack:
    """Generic NACK (RFC 4585, section 6.2.1): sequence numbers that are missed."""

    sender_ssrc: int
    media_ssrc: int
    lost: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Feedback:
    """Any other feedback message, of TRANSPORT_FEEDBACK or PAYLOAD_FEEDBACK; `fci` as it is."""

    packet_type: int
    format: int
    sender_ssrc: int
    media_ssrc: int
    fci: bytes = b""


@dataclass(frozen=True, slots=True)
class Unknown:
    """A packet of another type (XR, APP, …). `count`: the five bits behind the version."""

    packet_type: int
    count: int
    body: bytes = b""


RtcpPacket = SenderReport | ReceiverReport | SourceDescription | Bye | Nack | Feedback | Unknown


def parse_compound(data: bytes) -> list[RtcpPacket]:
    """Read all packets. WireError: empty or truncated, or a packet that its own length contradicts."""
    if not data:
        raise WireError("This RTCP compound is empty.")
    return [_parse_packet(*part) for part in _split(data)]


def _split(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(type, count, body without padding) of each packet."""
    at, end = 0, len(data)
    while at < end:
        if at + 4 > end:
            raise WireError("This RTCP compound ends inside a header.")
        first, kind, words = _HEADER.unpack_from(data, at)
        body = data[at + 4 : at + 4 + 4 * words]
        if first >> 6 != 2 or len(body) != 4 * words:
            raise WireError(f"RTCP packet {kind} is not of version 2, or ends behind its datagram.")
        if first & 0x20:
            if not body or not 0 < body[-1] <= len(body):
                raise WireError(f"The padding of RTCP packet {kind} is longer than the packet.")
            body = body[: -body[-1]]
        yield kind, first & 0x1F, body
        at += 4 + 4 * words


def _parse_packet(kind: int, count: int, body: bytes) -> RtcpPacket:
    reader = _READERS.get(kind)
    return reader(count, body) if reader else Unknown(kind, count, body)


def _parse_sender_report(count: int, body: bytes) -> SenderReport:
    _check(SENDER_REPORT, len(body) >= _SENDER.size + _BLOCK.size * count)
    ssrc, ntp, timestamp, packets, octets = _SENDER.unpack_from(body)
    return SenderReport(ssrc, ntp, timestamp, packets, octets, _parse_reports(body, _SENDER.size, count))


def _parse_receiver_report(count: int, body: bytes) -> ReceiverReport:
    _check(RECEIVER_REPORT, len(body) >= 4 + _BLOCK.size * count)
    return ReceiverReport(_u32(body, 0), _parse_reports(body, 4, count))


def _check(kind: int, is_long_enough: bool) -> None:
    if not is_long_enough:
        raise WireError(f"RTCP packet {kind} is shorter than what it claims to carry.")


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "big")


def _parse_reports(body: bytes, at: int, count: int) -> tuple[ReportBlock, ...]:
    """A profile may append more behind the blocks (RFC 3550, section 6.4.3): not read."""
    blocks = []
    for start in range(at, at + count * _BLOCK.size, _BLOCK.size):
        ssrc, fraction, lost, highest, jitter, last, delay = _BLOCK.unpack_from(body, start)
        total = int.from_bytes(lost, "big", signed=True)
        blocks.append(ReportBlock(ssrc, fraction, total, highest, jitter, last, delay))
    return tuple(blocks)


def _parse_description(count: int, body: bytes) -> SourceDescription:
    return SourceDescription(tuple(_parse_chunks(body, count)))


def _parse_chunks(body: bytes, count: int) -> Iterator[tuple[int, tuple[tuple[int, bytes], ...]]]:
    """RFC 3550, section 6.5: items end with a zero byte, chunks at a multiple of four bytes."""
    at, end = 0, len(body)
    for _ in range(count):
        _check(SOURCE_DESCRIPTION, at + 4 <= end)
        ssrc, items, at = _u32(body, at), [], at + 4
        while at < end and body[at]:
            _check(SOURCE_DESCRIPTION, at + 2 <= end and at + 2 + body[at + 1] <= end)
            items.append((body[at], body[at + 2 : at + 2 + body[at + 1]]))
            at += 2 + body[at + 1]
        _check(SOURCE_DESCRIPTION, at < end)
        yield ssrc, tuple(items)
        at = at // 4 * 4 + 4


def _parse_bye(count: int, body: bytes) -> Bye:
    _check(BYE, len(body) >= 4 * count)
    reason = body[4 * count :]
    _check(BYE, not reason or len(reason) > reason[0])
    return Bye(tuple(_u32(body, 4 * n) for n in range(count)), reason[1 : 1 + reason[0]] if reason else b"")


def _parse_transport_feedback(count: int, body: bytes) -> Nack | Feedback:
    _check(TRANSPORT_FEEDBACK, len(body) >= 8)
    if count != NACK_FORMAT:
        return Feedback(TRANSPORT_FEEDBACK, count, _u32(body, 0), _u32(body, 4), body[8:])
    _check(TRANSPORT_FEEDBACK, len(body) % 4 == 0)
    return Nack(_u32(body, 0), _u32(body, 4), tuple(_parse_lost(body[8:])))


def _parse_payload_feedback(count: int, body: bytes) -> Feedback:
    _check(PAYLOAD_FEEDBACK, len(body) >= 8)
    return Feedback(PAYLOAD_FEEDBACK, count, _u32(body, 0), _u32(body, 4), body[8:])


def _parse_lost(fci: bytes) -> Iterator[int]:
    """Pairs of a sequence number and a mask of the sixteen behind it."""
    for at in range(0, len(fci), 4):
        pair = _u32(fci, at)
        first = pair >> 16
        yield first
        for bit in range(16):
            if pair >> bit & 1:
                yield first + bit + 1 & 0xFFFF


_READERS: Final[dict[int, Callable[[int, bytes], RtcpPacket]]] = {
    SENDER_REPORT: _parse_sender_report,
    RECEIVER_REPORT: _parse_receiver_report,
    SOURCE_DESCRIPTION: _parse_description,
    BYE: _parse_bye,
    TRANSPORT_FEEDBACK: _parse_transport_feedback,
    PAYLOAD_FEEDBACK: _parse_payload_feedback,
}


def build_compound(packets: Iterable[RtcpPacket]) -> bytes:
    """One datagram of them, in this order. ValueError: more than 31 of what a packet counts."""
    return b"".join(_build_packet(packet) for packet in packets)


def _build_packet(packet: RtcpPacket) -> bytes:
    if isinstance(packet, SenderReport):
        ntp, rest = packet.ntp, (packet.rtp_timestamp, packet.packets, packet.octets)
        body = _SENDER.pack(packet.ssrc, ntp, *(value & 0xFFFFFFFF for value in rest))
        return _frame(SENDER_REPORT, len(packet.reports), body + _build_reports(packet.reports))
    if isinstance(packet, ReceiverReport):
        body = packet.ssrc.to_bytes(4, "big") + _build_reports(packet.reports)
        return _frame(RECEIVER_REPORT, len(packet.reports), body)
    if isinstance(packet, SourceDescription):
        return _frame(SOURCE_DESCRIPTION, len(packet.chunks), _build_chunks(packet))
    if isinstance(packet, Bye):
        body = b"".join(ssrc.to_bytes(4, "big") for ssrc in packet.ssrcs)
        if packet.reason:
            body += _pad(bytes([len(packet.reason)]) + packet.reason)
        return _frame(BYE, len(packet.ssrcs), body)
    if isinstance(packet, Nack):
        fci = _build_lost(packet.lost)
        packet = Feedback(TRANSPORT_FEEDBACK, NACK_FORMAT, packet.sender_ssrc, packet.media_ssrc, fci)
    if isinstance(packet, Feedback):
        body = packet.sender_ssrc.to_bytes(4, "big") + packet.media_ssrc.to_bytes(4, "big") + packet.fci
        return _frame(packet.packet_type, packet.format, body)
    return _frame(packet.packet_type, packet.count, packet.body)


def _frame(kind: int, count: int, body: bytes) -> bytes:
    if count > REPORTS_MAX or len(body) % 4:
        raise ValueError(f"RTCP packet {kind} counts at most 31 and is a multiple of 4 bytes long")
    return _HEADER.pack(0x80 | count, kind, len(body) // 4) + body


def _pad(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _build_reports(reports: Iterable[ReportBlock]) -> bytes:
    return b"".join(
        _BLOCK.pack(
            block.ssrc,
            block.fraction_lost,
            max(-LOST_MAX - 1, min(block.lost, LOST_MAX)).to_bytes(3, "big", signed=True),
            block.highest_sequence,
            block.jitter,
            block.last_report,
            block.delay,
        )
        for block in reports
    )


def _build_chunks(packet: SourceDescription) -> bytes:
    return b"".join(
        _pad(
            ssrc.to_bytes(4, "big")
            + b"".join(bytes([kind, len(text)]) + text for kind, text in items)
            + b"\0"  # ends the items; padding may follow
        )
        for ssrc, items in packet.chunks
    )


def _build_lost(lost: Iterable[int]) -> bytes:
    """As few pairs as the order allows: a mask reaches sixteen numbers behind its first, past a wrap too."""
    pairs: list[tuple[int, int]] = []
    for sequence in lost:
        distance = sequence - pairs[-1][0] & 0xFFFF if pairs else 0
        if 1 <= distance <= 16:
            pairs[-1] = (pairs[-1][0], pairs[-1][1] | 1 << distance - 1)
        else:
            pairs.append((sequence, 0))
    return b"".join((first << 16 | mask).to_bytes(4, "big") for first, mask in pairs)
