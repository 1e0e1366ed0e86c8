"""How well a session hears its client, and what it tells him about it: RTCP both ways (RFC 3550, section 6).

    reception.received(packet, now); reception.sent(payload_bytes, timestamp, now)
    reception.receive_rtcp(compound, now)     -> sequence numbers the client asks for again
    reception.get_timer() -> when;  reception.rtcp_to_send(now) -> compounds

Reports: the first 0.5 s after the first packet of either direction, then about every 2.5 s. Transport-wide
feedback: 250 ms after the first arrival it tells of, so never in silence. Generic NACKs: at once. The latter
two only where negotiated. What is due at one moment travels as one compound.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Final

from pyfastpath.transceiver.counters import Counters
from pyfastpath.wire import rtcp, twcc
from pyfastpath.wire.offer import TRANSPORT_CC, AudioOffer
from pyfastpath.wire.rtp import RtpPacket

CLOCK_HZ: Final = 48_000  # of Opus, and of what travels beside it
FIRST_REPORT_S: Final = 0.5
REPORT_S: Final = 2.5  # half of RFC 3550's minimum: 25 kbit/s of RTCP would be a lot, 0.4 are not
FEEDBACK_S: Final = 0.25  # as libwebrtc for the bit rate of a voice (5 % of it, 50 to 250 ms)
FEEDBACK_ARRIVALS_MAX: Final = 64  # of one message, which has to fit a datagram; then it is due at once
FEEDBACK_GAP_MAX: Final = 500  # packets; a number farther from the newest one begins anew
NACK_TRIES: Final = 2
NACK_AGAIN_S: Final = 0.020  # at least; the round trip when it is longer
NACK_LIFE_S: Final = 0.060  # the jitter buffer waits no longer for a packet
NACK_GAP_MAX: Final = 16  # of one gap, the newest
NACK_MAX: Final = 64  # of all gaps: a message has to fit a datagram
DROPOUT_MAX: Final = 3000  # packets; RFC 3550, appendix A.1
ROUND_TRIP_MAX_S: Final = 30.0  # a longer one is a report about something else

_NTP_UNIX_S: Final = 2_208_988_800  # from 1900 to 1970


class Source:
    """One SSRC as RFC 3550, appendix A.3 and A.8, counts it."""

    __slots__ = (
        "_arrival",
        "_base",
        "_expected_before",
        "_lost_before",
        "_received",
        "_received_before",
        "_report_at_s",
        "_report_ntp",
        "_timestamp",
        "highest",
        "jitter",
        "received",
        "ssrc",
    )

    def __init__(self, packet: RtpPacket, now: float) -> None:
        self.ssrc = packet.ssrc
        self.highest = packet.sequence - 1  # extended: cycles and sequence number
        self.received = 0  # all of them
        self.jitter = 0.0  # at the RTP clock
        self._base = packet.sequence
        self._received = 0  # since the base
        self._lost_before = 0  # before the base
        self._expected_before = self._received_before = 0  # at the report before
        self._timestamp = packet.timestamp
        self._arrival = now * CLOCK_HZ
        self._report_ntp = 0  # LSR of the newest sender report; 0: none yet
        self._report_at_s = 0.0

    def update(self, sequence: int, timestamp: int, now: float) -> int:
        """Count a packet. The distance from the highest sequence number: 1 in order, more after a gap, 0 or
        less for one that is late."""
        self.received += 1
        self._received += 1
        distance = sequence - self.highest & 0xFFFF
        if distance >= 0x8000:
            return distance - 0x10000
        if distance > DROPOUT_MAX:
            self._begin_again(distance)
        self.highest += distance
        if timestamp != self._timestamp:  # a telephone event keeps it: it says nothing about transit
            arrival = now * CLOCK_HZ
            sent = (timestamp - self._timestamp + 0x80000000 & 0xFFFFFFFF) - 0x80000000
            change = abs(arrival - self._arrival - sent)
            if change < 5 * CLOCK_HZ:  # more is another clock, not jitter
                self.jitter += (change - self.jitter) / 16
            self._timestamp = timestamp
            self._arrival = arrival
        return distance

    def _begin_again(self, distance: int) -> None:
        self._lost_before = self.lost + 1  # the packet in hand is counted already
        self._base = self.highest + distance
        self._received = 1
        self._expected_before = self._received_before = 0

    @property
    def lost(self) -> int:
        """Since the first packet; less than 0 after duplicates."""
        return self._lost_before + self.highest + 1 - self._base - self._received

    def receive_report(self, ntp: int, now: float) -> None:
        """Its sender report came: what our next block refers to."""
        self._report_ntp = ntp >> 16 & 0xFFFFFFFF
        self._report_at_s = now

    def report(self, now: float) -> rtcp.ReportBlock:
        """The block of a report; the next one's fraction counts from here."""
        expected = self.highest + 1 - self._base
        expected_now = expected - self._expected_before
        lost_now = expected_now - (self._received - self._received_before)
        self._expected_before, self._received_before = expected, self._received
        delay = round((now - self._report_at_s) * 0x10000) if self._report_ntp else 0
        return rtcp.ReportBlock(
            self.ssrc,
            min(255, (lost_now << 8) // expected_now) if expected_now > 0 and lost_now > 0 else 0,
            self.lost,
            self.highest & 0xFFFFFFFF,
            int(self.jitter),
            self._report_ntp,
            min(delay, 0xFFFFFFFF),
        )


class Arrivals:
    """When packets arrived, by their transport-wide numbers, until the sender is told."""

    def __init__(self) -> None:
        self.waiting: list[tuple[bytes, float]] = []  # (a packet's element, when), as they came
        self._newest: int | None = None  # unwrapped
        self._told: int | None = None  # the number after the last one told
        self._messages = 0

    def take(self) -> list[twcc.TransportFeedback]:
        """Everything since the last time."""
        arrivals = sorted(self._unwrapped().items())
        self.waiting.clear()
        if not arrivals:
            return []
        messages = twcc.compose(arrivals, self._messages, self._told)
        self._messages += len(messages)
        self._told = max(self._told or 0, arrivals[-1][0] + 1)
        return messages

    def _unwrapped(self) -> dict[int, int]:
        """Number -> ticks. The first arrival of a number counts; one far from the others begins anew."""
        ticks: dict[int, int] = {}
        for element, now in self.waiting:
            number = int.from_bytes(element[:2], "big")
            newest = number if self._newest is None else self._newest
            ahead = (number - newest + 0x8000 & 0xFFFF) - 0x8000
            number = newest + ahead
            if not -FEEDBACK_GAP_MAX <= ahead <= FEEDBACK_GAP_MAX:
                ticks.clear()
                self._told = None
                self._newest = number
            elif ahead >= 0:
                self._newest = number
            ticks.setdefault(number, int(now * twcc.TICKS_PER_SECOND))
        return ticks


class Missing:
    """Sequence numbers to ask for again, each twice at most and only while it would still be of use."""

    def __init__(self) -> None:
        self._asked: dict[int, tuple[int, float, float]] = {}  # extended -> tries, next at, useless at

    def add(self, highest: int, distance: int, now: float) -> None:
        """A packet came this far ahead; `highest` is its own number."""
        count = min(distance - 1, NACK_GAP_MAX, NACK_MAX - len(self._asked))
        for number in range(highest - count, highest):
            self._asked[number] = (0, now, now + NACK_LIFE_S)

    def found(self, number: int) -> None:
        """It came late, or again."""
        self._asked.pop(number, None)

    @property
    def due_s(self) -> float:
        """When to ask next."""
        return min((at for _, at, _ in self._asked.values()), default=inf)

    def take(self, now: float, again_s: float) -> tuple[int, ...]:
        """Those whose time has come. Asked often enough, or too late: forgotten."""
        due = []
        for number, (tries, at, end) in list(self._asked.items()):
            if at <= now < end:
                due.append(number & 0xFFFF)
            if at <= now:
                del self._asked[number]
                if tries + 1 < NACK_TRIES and now + again_s < end:
                    self._asked[number] = (tries + 1, now + again_s, end)
        return tuple(due)


class Reception:
    """RTCP of one session. `ssrc` and `cname` are ours; wall clock = `now` + ntp_offset_s."""

    def __init__(
        self, audio: AudioOffer, *, ssrc: int, cname: str, ntp_offset_s: float, counters: Counters
    ) -> None:
        self.due_s = inf  # when rtcp_to_send has something
        self.packets_sent = 0
        self.round_trip_s: float | None = None
        self.lost_percent = 0  # of our packets, since the report before, as the client says
        self._ssrc = ssrc
        description = rtcp.SourceDescription(((ssrc, ((rtcp.CNAME, cname.encode()),)),))
        self._description = rtcp.build_compound([description])
        self._nothing_to_report = rtcp.build_compound([rtcp.ReceiverReport(ssrc), description])
        self._ntp_offset_s = ntp_offset_s
        self._counters = counters
        self._sources: dict[int, Source] = {}
        self._source: Source | None = None  # of the newest packet
        self._arrivals_id = audio.extensions.get(TRANSPORT_CC) if audio.transport_cc else None
        self._arrivals = Arrivals()
        self._missing = Missing() if audio.nack else None
        self._octets_sent = 0
        self._sent_timestamp = 0
        self._sent_at_s = 0.0
        self._reported_sent = 0
        self._report_s = self._feedback_s = inf
        self._dither = ssrc

    # ---- what happens -----------------------------------------------------------------------------

    def received(self, packet: RtpPacket, now: float) -> None:
        """An authentic packet, before the jitter buffer."""
        self._counters.rtp_received += 1
        source = self._source
        if source is None or source.ssrc != packet.ssrc:
            source = self._source = self._sources.setdefault(packet.ssrc, Source(packet, now))
            self._begin(now)
        distance = source.update(packet.sequence, packet.timestamp, now)
        if distance != 1 and self._missing is not None:
            self._note_gap(self._missing, source.highest, distance, now)
        if self._arrivals_id is not None:
            element = packet.extension(self._arrivals_id)
            if element is not None:
                self._note_arrival(element, now)

    def _note_gap(self, missing: Missing, highest: int, distance: int, now: float) -> None:
        if distance <= 0:
            missing.found(highest + distance)
        elif distance <= DROPOUT_MAX:
            missing.add(highest, distance, now)
            self.due_s = min(self.due_s, now)

    def _note_arrival(self, element: bytes, now: float) -> None:
        waiting = self._arrivals.waiting
        if not waiting:
            self._feedback_s = now + FEEDBACK_S
            self.due_s = min(self.due_s, self._feedback_s)
        if len(waiting) < FEEDBACK_ARRIVALS_MAX:
            waiting.append((element, now))
        if len(waiting) >= FEEDBACK_ARRIVALS_MAX:
            self._feedback_s = self.due_s = now

    def sent(self, payload_bytes: int, timestamp: int, now: float) -> None:
        """A packet of ours left."""
        self._counters.rtp_sent += 1
        self.packets_sent += 1
        self._octets_sent += payload_bytes
        self._sent_timestamp = timestamp
        self._sent_at_s = now
        if self.packets_sent == 1:
            self._begin(now)

    def receive_rtcp(self, data: bytes, now: float) -> tuple[int, ...]:
        """What the client reports; gives the sequence numbers of ours that it asks for again. WireError."""
        wanted: list[int] = []
        for packet in rtcp.parse_compound(data):
            if isinstance(packet, rtcp.SenderReport | rtcp.ReceiverReport):
                self._receive_report(packet, now)
            elif isinstance(packet, rtcp.Nack) and packet.media_ssrc == self._ssrc:
                wanted += packet.lost
        return tuple(wanted)

    def _receive_report(self, report: rtcp.SenderReport | rtcp.ReceiverReport, now: float) -> None:
        if isinstance(report, rtcp.SenderReport) and report.ssrc in self._sources:
            self._sources[report.ssrc].receive_report(report.ntp, now)
        for block in report.reports:
            if block.ssrc != self._ssrc:
                continue
            self.lost_percent = -(-100 * block.fraction_lost // 256)  # a little is not nothing
            round_trip = ((self._ntp(now) >> 16) - block.last_report - block.delay & 0xFFFFFFFF) / 0x10000
            if block.last_report and round_trip < ROUND_TRIP_MAX_S:
                self.round_trip_s = round_trip
                self._counters.round_trip_s.observe(round_trip)

    # ---- what is known ----------------------------------------------------------------------------

    @property
    def packets_received(self) -> int:
        """Of all sources."""
        return sum(source.received for source in self._sources.values())

    @property
    def packets_lost(self) -> int:
        """On the way from the client."""
        return max(0, sum(source.lost for source in self._sources.values()))

    @property
    def jitter_s(self) -> float:
        """Interarrival jitter of the source heard last."""
        return self._source.jitter / CLOCK_HZ if self._source else 0.0

    # ---- what is said -----------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When rtcp_to_send has something to say."""
        return None if self.due_s == inf else self.due_s

    def rtcp_to_send(self, now: float) -> list[bytes]:
        """Everything that is due, as one compound; none before that."""
        if now < self.due_s:
            return []
        head = b""
        if self._report_s <= now:
            head = rtcp.build_compound([self._report(now)]) + self._description
        rest = rtcp.build_compound(self._feedback(now))
        self.due_s = min(self._report_s, self._feedback_s, self._missing.due_s if self._missing else inf)
        # A compound begins with a report and a description (RFC 3550, section 6.1), due or not.
        return [(head or self._nothing_to_report) + rest] if head or rest else []

    def goodbye(self, now: float) -> bytes:
        """The last compound: a report, and BYE."""
        report = rtcp.build_compound([self._report(now)])
        return report + self._description + rtcp.build_compound([rtcp.Bye((self._ssrc,))])

    def _begin(self, now: float) -> None:
        if self._report_s == inf:
            self._report_s = now + FIRST_REPORT_S
            self.due_s = min(self.due_s, self._report_s)

    def _report(self, now: float) -> rtcp.RtcpPacket:
        """SR when something was sent since the report before (RFC 3550, section 6.4), else RR."""
        self._dither = self._dither * 1_103_515_245 + 12_345 & 0x7FFFFFFF
        self._report_s = now + REPORT_S * (0.75 + self._dither / 0x100000000)  # apart from other sessions
        blocks = tuple(source.report(now) for source in self._sources.values())
        if self._source is not None:
            self._counters.jitter_s.observe(self.jitter_s)
        if self.packets_sent == self._reported_sent:
            return rtcp.ReceiverReport(self._ssrc, blocks)
        self._reported_sent = self.packets_sent
        timestamp = self._sent_timestamp + round((now - self._sent_at_s) * CLOCK_HZ)
        return rtcp.SenderReport(
            self._ssrc, self._ntp(now), timestamp & 0xFFFFFFFF, self.packets_sent, self._octets_sent, blocks
        )

    def _feedback(self, now: float) -> Iterator[rtcp.RtcpPacket]:
        media_ssrc = self._source.ssrc if self._source else 0
        if self._missing is not None:
            lost = self._missing.take(now, max(NACK_AGAIN_S, self.round_trip_s or 0.0))
            if lost:
                yield rtcp.Nack(self._ssrc, media_ssrc, lost)
        if self._feedback_s <= now:
            self._feedback_s = inf
            for message in self._arrivals.take():
                yield rtcp.Feedback(
                    rtcp.TRANSPORT_FEEDBACK,
                    rtcp.TRANSPORT_CC_FORMAT,
                    self._ssrc,
                    media_ssrc,
                    twcc.build_feedback(message),
                )

    def _ntp(self, now: float) -> int:
        """64 bits: seconds since 1900, and their 2^32ths."""
        return int((now + self._ntp_offset_s + _NTP_UNIX_S) * 0x100000000) & 0xFFFFFFFFFFFFFFFF
