"""The road of the audio inside a session: packets → order → repair → decode → gate → agent, and back out.

    pipeline.receive(packet, level, now)      one RTP packet; the agent hears what is in order
    pipeline.frames_to_send(now)              what the agent said, as far as its time has come
    pipeline.next_event()                     speech began or ended, a digit, playout began or ended
    pipeline.get_timer() / handle_timer(now)

An agent that hears "opus" gets the packets as they are: nothing is decoded. A gap is filled, in this order,
by a late packet, a redundant copy (RED), the copy in the next packet (in-band FEC), concealment.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pyfastpath.errors import WireError
from pyfastpath.transceiver.agent import Agent, AudioFrame, Pcm
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.gate import SILENCE_DBOV, EnergyGate, SpeechStarted, SpeechStopped, level_of
from pyfastpath.transceiver.jitter import Frame, JitterBuffer, Lost, OrderedBuffer
from pyfastpath.transceiver.opus import (
    CLOCK_HZ,
    FRAME_SAMPLES,
    PACKET_SAMPLES_MAX,
    Decoder,
    Encoder,
    OpusError,
    carries_fec,
    packet_samples,
)
from pyfastpath.transceiver.playout import Frame as OutgoingFrame
from pyfastpath.transceiver.playout import Playout, PlayoutStarted, PlayoutStopped
from pyfastpath.wire.offer import AudioOffer
from pyfastpath.wire.red import parse_red
from pyfastpath.wire.rtp import RtpPacket, audio_level

__all__ = [
    "Dtmf",
    "Pipeline",
    "PipelineEvent",
    "PlayoutStarted",
    "PlayoutStopped",
    "SpeechStarted",
    "SpeechStopped",
]

# What a packet is to the jitter buffer. Everything with a sequence number goes through it: a digit or an
# unknown payload that did not would look like a loss.
_AUDIO: Final = 0
_DIGIT: Final = 1
_DIGIT_MARKED: Final = 2
_NOTHING: Final = 3
_Content = tuple[int, bytes, int | None]  # one of these, payload, level in dBov if the client said it

_DIGITS: Final = "0123456789*#ABCD"  # RFC 4733, section 3.2
_SAMPLES_PER_MS: Final = CLOCK_HZ // 1000
_FILLED_SAMPLES_MAX: Final = CLOCK_HZ  # a longer silence without packets is no discontinuous transmission
_CREDIT_SAMPLES_MAX: Final = 3 * CLOCK_HZ  # filled at once: the longest outage that still counts as losses
_LEAP_SAMPLES_MAX: Final = 3_600 * CLOCK_HZ  # and a leap of more than an hour is another beginning
_STEP: Final = 120  # concealment comes in multiples of 2.5 ms


@dataclass(frozen=True, slots=True)
class Dtmf:
    """A key was pressed (RFC 4733): one of 0-9 * # A-D, said once however many packets tell it."""

    digit: str
    at_ms: int


PipelineEvent = SpeechStarted | SpeechStopped | Dtmf | PlayoutStarted | PlayoutStopped


class Pipeline:
    """One call's audio, both ways. timestamp: where the RTP time of what we send begins, random."""

    def __init__(
        self,
        agent: Agent,
        audio: AudioOffer,
        *,
        counters: Counters,
        timestamp: int = 0,
        make_decoder: Callable[[int], Decoder] = Decoder,
        make_encoder: Callable[[int], Encoder] = Encoder,
    ) -> None:
        self._agent = agent
        self._hear = agent.hear
        self._counters = counters
        self._opus = audio.opus_payload_type
        self._red = audio.red_payload_type
        self._telephone_event = frozenset(audio.telephone_event)
        self._buffer: JitterBuffer[_Content] = OrderedBuffer(counters)
        self._decodes = agent.hears == "pcm"
        self._make_decoder = make_decoder
        self._decoder: Decoder | None = None
        self._gate: EnergyGate | None = EnergyGate()
        self._events: deque[PipelineEvent] = deque()
        self._playout = Playout(
            timestamp=timestamp,
            make_encoder=make_encoder,
            produce=_produce_of(agent),
            produce_hz=agent.rate_hz,
            events=self._events,
            drop=self._drop_speech,
        )
        self._is_begun = False
        self._position = 0  # of the next frame, in samples at 48 kHz since the first one
        self._timestamp = 0  # that it should have
        self._heard_s = 0.0  # when the last packet came
        self._credit = _CREDIT_SAMPLES_MAX  # that may be filled in where nothing came
        self._credited_s = 0.0
        self._digit: tuple[int, int, bool] | None = None  # code, timestamp, is over

    def start(self, now: float) -> None:
        """Media flows from now on."""
        self._playout.start(now)

    def configure(self, session: Mapping[str, Any]) -> None:
        """Turn detection of the Realtime session object: none at all, or the gate with its settings."""
        detection = session.get("audio", {}).get("input", {}).get("turn_detection", {})
        if detection is None:
            self._gate = None
            return
        if self._gate is None:
            self._gate = EnergyGate()
        self._gate.configure(
            threshold=detection.get("threshold", 0.5),
            prefix_ms=detection.get("prefix_padding_ms", 300),
            silence_ms=detection.get("silence_duration_ms", 500),
        )

    # ---- in ---------------------------------------------------------------------------------------

    def receive(self, packet: RtpPacket, level: bytes | None, now: float) -> None:
        """One packet of the client's audio; level: its ssrc-audio-level element (RFC 6464), if it has one."""
        self._heard_s = now
        level_dbov = None if level is None else audio_level(level)[1]
        if packet.payload_type == self._opus and self._buffer.passes(packet.sequence, packet.timestamp):
            self._take_audio(packet.timestamp, packet.payload, level_dbov)
        else:
            self._insert(packet, level_dbov, now)

    def _insert(self, packet: RtpPacket, level_dbov: int | None, now: float) -> None:
        """What is not Opus in order."""
        payload, kind = packet.payload, _AUDIO
        if packet.payload_type == self._red:
            newest = self._open_red(packet, now)
            if newest is None:
                return
            payload = newest
        elif packet.payload_type in self._telephone_event:
            kind = _DIGIT_MARKED if packet.marker else _DIGIT
        elif packet.payload_type != self._opus:
            kind = _NOTHING
        if self._buffer.passes(packet.sequence, packet.timestamp):
            self._take(packet.timestamp, (kind, payload, level_dbov))
            return
        self._buffer.insert(packet.sequence, packet.timestamp, (kind, payload, level_dbov), now)
        self._release(now)

    def restart(self) -> None:
        """Another source (SSRC) begins; the position goes on."""
        self._buffer.restart()
        self._is_begun = False
        self._digit = None

    # ---- out --------------------------------------------------------------------------------------

    def say(self, pcm: Pcm, rate_hz: int) -> None:
        """See Playout.say, as with the three that follow."""
        self._playout.say(pcm, rate_hz)

    def say_opus(self, payload: bytes, samples: int) -> None:
        """An Opus packet, at once."""
        self._playout.say_opus(payload, samples)

    def _drop_speech(self, samples: int) -> None:
        self._counters.speech_dropped_s["queue_full"] += samples / CLOCK_HZ

    def finish(self) -> None:
        """The response has no more audio."""
        self._playout.finish()

    def clear(self, now: float) -> int:
        """Drop what is queued; milliseconds that were played of the response under way."""
        return self._playout.clear(now)

    def expect_loss(self, percent: int) -> None:
        """What the client's reports say it loses of what we send."""
        self._playout.expect_loss(percent)

    def frames_to_send(self, now: float) -> list[OutgoingFrame]:
        """(payload, RTP timestamp, marker) of everything whose time has come."""
        return self._playout.frames_to_send(now)

    # ---- time and events --------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When to call handle_timer and frames_to_send; in the past: at once."""
        due, gap_s, gate = self._playout.get_timer(), self._buffer.get_timer(), self._gate
        if gap_s is not None and (due is None or gap_s < due):
            due = gap_s
        if gate is not None and gate.is_open:
            shuts_s = self._heard_s + gate.silence_s
            if due is None or shuts_s < due:
                due = shuts_s
        return due

    def handle_timer(self, now: float) -> None:
        """A gap has waited long enough; or nothing comes any more while the user seemed to speak."""
        self._release(now)
        gate = self._gate
        if gate is not None and gate.is_open and now >= self._heard_s + gate.silence_s:
            self._tell(gate.shut(self._position // _SAMPLES_PER_MS))

    def next_event(self) -> PipelineEvent | None:
        """The oldest event, None when there is none."""
        return self._events.popleft() if self._events else None

    # ---- inside: order and repair -----------------------------------------------------------------

    def _open_red(self, packet: RtpPacket, now: float) -> bytes | None:
        """The newest block; older ones fill gaps that wait for them. One block is one packet's frame, so the
        one before the newest belongs to the packet before this one, and so on."""
        try:
            *copies, newest = parse_red(packet.payload)
        except WireError:
            return None
        for distance, block in enumerate(reversed(copies), start=1):
            sequence = packet.sequence - distance & 0xFFFF
            if block.payload_type == self._opus and block.data and self._buffer.wants(sequence):
                timestamp = packet.timestamp - block.timestamp_offset & 0xFFFFFFFF
                self._buffer.insert(sequence, timestamp, (_AUDIO, block.data, None), now, is_copy=True)
        return newest.data if newest.payload_type == self._opus else None

    def _release(self, now: float) -> None:
        """Take everything that is in order, or given up."""
        while (released := self._buffer.pop(now)) is not None:
            if isinstance(released, Frame):
                self._take(released.timestamp, released.content)
            else:
                self._fill(released)

    def _take(self, timestamp: int, content: _Content) -> None:
        """The next packet in order."""
        kind, payload, level = content
        if kind == _AUDIO:
            self._take_audio(timestamp, payload, level)
        elif kind != _NOTHING:
            self._take_digit(timestamp, payload, is_marked=kind == _DIGIT_MARKED)

    def _take_audio(self, timestamp: int, payload: bytes, level: int | None) -> None:
        if timestamp != self._timestamp or not self._is_begun:
            self._follow(timestamp)
        samples = packet_samples(payload)
        if not samples:
            self._conceal(FRAME_SAMPLES, None)
            return
        pcm = None
        if self._decodes:
            try:
                pcm = self._decoding.decode(payload)
            except OpusError:
                self._conceal(samples, None)
                return
            if level is None:
                level = level_of(pcm)
        self._pass_on(payload, samples, level, pcm)

    def _fill(self, lost: Lost[_Content]) -> None:
        """A packet that did not come."""
        if not self._is_begun:
            return
        samples = lost.samples
        if samples % _STEP or not 0 < samples <= PACKET_SAMPLES_MAX:
            samples = FRAME_SAMPLES
        self._timestamp = lost.timestamp
        if not self._afford(samples):
            self._skip(samples)
            return
        following = lost.following
        self._conceal(samples, following[1] if following is not None and following[0] == _AUDIO else None)

    def _conceal(self, samples: int, following: bytes | None) -> None:
        """Something in the place of what is missing, from the copy in the packet behind it if it has one."""
        pcm = None
        repair = "concealed"
        if self._decodes:
            if following is not None and carries_fec(following):
                pcm = self._recovered(following, samples)
                repair = "fec" if pcm is not None else repair
            if pcm is None:
                pcm = self._decoding.conceal(samples)
        self._counters.repaired[repair] += 1
        self._pass_on(b"", samples, None, pcm)

    def _recovered(self, following: bytes, samples: int) -> Pcm | None:
        try:
            return self._decoding.recover(following, samples)
        except OpusError:
            return None

    def _follow(self, timestamp: int) -> None:
        """RTP time moved by itself: the client sent nothing for a while, or began anew."""
        ahead = (timestamp - self._timestamp + 0x8000_0000 & 0xFFFFFFFF) - 0x8000_0000
        if self._is_begun and 0 < ahead <= _FILLED_SAMPLES_MAX and self._afford(ahead):
            self._pause(ahead)
        elif self._is_begun and 0 < ahead <= _LEAP_SAMPLES_MAX:
            self._position += ahead
        self._is_begun = True
        self._timestamp = timestamp

    def _afford(self, samples: int) -> bool:
        """Nothing is filled in faster than time goes by: a packet whose numbers leap must not cost what
        dozens do."""
        earned = int((self._heard_s - self._credited_s) * CLOCK_HZ)
        self._credited_s = self._heard_s
        self._credit = min(self._credit + earned, _CREDIT_SAMPLES_MAX)
        if samples > self._credit:
            return False
        self._credit -= samples
        return True

    def _skip(self, samples: int) -> None:
        """Time that nobody hears anything of."""
        self._position += samples
        self._timestamp = self._timestamp + samples & 0xFFFFFFFF

    def _pause(self, samples: int) -> None:
        """The silence of discontinuous transmission: comfort noise for those who hear PCM."""
        while samples:
            length = min(samples, FRAME_SAMPLES) if self._decodes else samples
            pcm = None
            if self._decodes:
                pcm = self._decoding.conceal(max(_STEP, length - length % _STEP))
            self._pass_on(b"", length, SILENCE_DBOV, pcm)
            samples -= length

    # ---- inside: to the agent ---------------------------------------------------------------------

    @property
    def _decoding(self) -> Decoder:
        """Made for the first frame: many agents never need one."""
        if self._decoder is None:
            self._decoder = self._make_decoder(self._agent.rate_hz)
        return self._decoder

    def _pass_on(self, payload: bytes, samples: int, level: int | None, pcm: Pcm | None) -> None:
        """One frame to the gate and to the agent. A level that nobody knows is no silence to the gate."""
        time_ms = self._position // _SAMPLES_PER_MS
        self._position += samples
        self._timestamp = self._timestamp + samples & 0xFFFFFFFF
        if level is None:
            level = SILENCE_DBOV
        elif self._gate is not None:
            event = self._gate.hear(level, time_ms, samples // _SAMPLES_PER_MS)
            if event is not None:
                self._events.append(event)
        self._hear(AudioFrame(payload, samples, time_ms, level, pcm))

    def _take_digit(self, timestamp: int, payload: bytes, *, is_marked: bool) -> None:
        """RFC 4733, section 2.5: every packet of an event repeats it under the timestamp of its beginning; a
        long one goes on under another timestamp, without the marker (2.5.1.3)."""
        if len(payload) < 4 or payload[0] >= len(_DIGITS):
            return
        code, is_over = payload[0], payload[1] >= 0x80
        before, self._digit = self._digit, (code, timestamp, is_over)
        if before is not None:
            if timestamp == before[1]:
                return
            if code == before[0] and not before[2] and not is_marked:
                return
        self._events.append(Dtmf(_DIGITS[code], self._position // _SAMPLES_PER_MS))

    def _tell(self, event: PipelineEvent | None) -> None:
        if event is not None:
            self._events.append(event)


def _produce_of(agent: Agent) -> Callable[[int], Pcm | None] | None:
    """Agents that take turns, or that leave `produce` as it is, need not be asked fifty times a second."""
    if agent.takes_turns or type(agent).produce is Agent.produce:
        return None
    return agent.produce
