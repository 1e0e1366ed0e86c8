"""The road of media into a session: SRTP refuses by a name what is not authentic; authentic packets,
whatever is in them, pass reception and jitter buffer; each is released, lost, late or a duplicate, and the
reports can be read."""

from collections.abc import Iterator

from pyfastpath.errors import WireError
from pyfastpath.transceiver.counters import DROP_REASONS, Counters
from pyfastpath.transceiver.jitter import Frame, OrderedBuffer
from pyfastpath.transceiver.keys import SrtpKeys, SrtpProfile
from pyfastpath.transceiver.reception import Reception
from pyfastpath.transceiver.srtp import SrtpError, SrtpSession
from pyfastpath.wire import red, rtcp, rtp
from pyfastpath.wire.offer import TRANSPORT_CC, AudioOffer
from tests.fuzz.tape import Tape

BYTES_MAX = 4096
SMOKE_RUNS = 400
ON_DATA_PLANE = False
CRASHERS: dict[str, bytes] = {}

OURS = 0x11111111
SSRCS = (1, 2, OURS)
PROFILES = list(SrtpProfile)
FORGED, SEALED, FORGED_RTCP, SEALED_RTCP, ANY_SEALED, LATER = range(6)
RED_TYPE = 63
AUDIO = AudioOffer(
    mid="0",
    direction="sendrecv",
    opus_payload_type=111,
    opus_parameters={},
    red_payload_type=RED_TYPE,
    telephone_event={},
    extensions={TRANSPORT_CC: 3},
    nack=True,
    transport_cc=True,
    ssrcs=(1,),
)


def seeds() -> Iterator[bytes]:
    """The profile, then what arrives."""
    packet = rtp.build_packet(111, False, 1, 960, 1, b"opus", extensions={3: b"\0\1"})
    report = rtcp.build_compound([rtcp.SenderReport(1, 2, 3, 4, 5), rtcp.Nack(1, OURS, (1, 2, 3))])
    for profile in range(len(PROFILES)):
        for kind, data in (
            (FORGED, packet),
            (FORGED_RTCP, report),
            (SEALED_RTCP, report),
            (ANY_SEALED, packet),
        ):
            yield bytes([profile, kind]) + len(data).to_bytes(2, "big") + data
        numbers = (0, 1, 2, 5, 4, 4, 9, 200, 8, 65535)
        sealed = b"".join(bytes([SEALED, 0, n >> 8, n & 255, 7, 0, 2]) + b"xy" for n in numbers)
        yield bytes([profile]) + sealed + bytes([LATER, 60]) + sealed + bytes([LATER, 255])


def one_input(data: bytes) -> None:
    tape = Tape(data)
    call = Call(PROFILES[tape.number() % len(PROFILES)])
    while tape.left:
        call.happen(tape)
    call.end()


class Call:
    """One session's receiving side, and the client's keys."""

    def __init__(self, profile: SrtpProfile) -> None:
        size = profile.key_bytes + profile.salt_bytes
        keys = SrtpKeys(profile, bytes([1]) * size, bytes([2]) * size)
        self.here, self.client = SrtpSession(keys), SrtpSession(keys.swapped())
        self.counters = Counters()
        self.reception = Reception(AUDIO, ssrc=OURS, cname="us", ntp_offset_s=1.7e9, counters=self.counters)
        self.buffer: OrderedBuffer[bytes] = OrderedBuffer(self.counters)
        self.now = 5000.0
        self.last: int | None = None
        self.inserted = self.released = 0

    def happen(self, tape: Tape) -> None:
        what = tape.number() % 6
        if what == LATER:
            self.now += tape.number() / 50
        elif what in {FORGED, FORGED_RTCP}:
            data = tape.piece()
            self.refused(data, what == FORGED_RTCP)
        elif what == SEALED:
            ssrc, sequence, stamp = tape.choose(SSRCS), tape.number(2), tape.number() * 960
            payload_type = RED_TYPE if stamp == 960 else 111
            extensions = {3: tape.take(1 + tape.below(4))}
            packet = rtp.build_packet(
                payload_type, False, sequence, stamp, ssrc, tape.take(8), extensions=extensions
            )
            self.receive(packet)
        elif what == ANY_SEALED:
            self.receive(tape.piece()[:1400])
        else:
            self.receive_rtcp(tape.piece()[:1400])
        self.release()

    def refused(self, data: bytes, is_rtcp: bool) -> None:
        """Nobody without the keys gets anything in."""
        try:
            (self.here.unprotect_rtcp if is_rtcp else self.here.unprotect)(data)
        except SrtpError as error:
            assert error.reason in dict(DROP_REASONS)
            return
        raise AssertionError("unauthentic bytes were taken")

    def sealed(self, data: bytes, is_rtcp: bool = False) -> bytes | None:
        """Authentic, or what libsrtp will not seal."""
        try:
            sealed = (self.client.protect_rtcp if is_rtcp else self.client.protect)(data)
            return (self.here.unprotect_rtcp if is_rtcp else self.here.unprotect)(sealed)
        except SrtpError as error:
            assert error.reason in dict(DROP_REASONS)
            return None

    def receive(self, data: bytes) -> None:
        plain = self.sealed(data)
        if plain is None:
            return
        assert plain == data
        try:
            packet = rtp.parse_packet(plain)
        except WireError:
            return
        self.reception.received(packet, self.now)
        if self.buffer.passes(packet.sequence, packet.timestamp):
            self.in_order(packet.sequence)
        else:
            self.buffer.insert(packet.sequence, packet.timestamp, packet.payload, self.now)
        if packet.payload_type == RED_TYPE:
            self.copies(packet)

    def copies(self, packet: rtp.RtpPacket) -> None:
        try:
            *older, _ = red.parse_red(packet.payload)
        except WireError:
            return
        for back, block in enumerate(reversed(older), start=1):
            stamp = packet.timestamp - block.timestamp_offset & 0xFFFFFFFF
            self.buffer.insert(packet.sequence - back & 0xFFFF, stamp, block.data, self.now, is_copy=True)

    def receive_rtcp(self, data: bytes) -> None:
        plain = self.sealed(data, is_rtcp=True)
        if plain is None:
            return
        try:
            for sequence in self.reception.receive_rtcp(plain, self.now):
                assert 0 <= sequence <= 0xFFFF
        except WireError:
            pass

    def release(self) -> None:
        for compound in self.reception.rtcp_to_send(self.now):
            rtcp.parse_compound(compound)
            assert len(compound) <= 1480  # what SRTCP carries
        while (item := self.buffer.pop(self.now)) is not None:
            assert 0 <= item.sequence <= 0xFFFF
            assert 0 <= item.timestamp <= 0xFFFFFFFF
            if isinstance(item, Frame):
                self.released += 1

    def in_order(self, sequence: int) -> None:
        assert self.buffer.get_timer() is None
        assert not self.buffer.wants(sequence)

    def end(self) -> None:
        """All that waits comes out in time; nothing is due that was not asked for."""
        self.now += 1
        self.release()
        assert self.buffer.get_timer() is None
        assert self.reception.packets_lost >= 0
        rtcp.parse_compound(self.reception.goodbye(self.now))
