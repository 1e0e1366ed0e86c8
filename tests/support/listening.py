"""A real agent behind a real pipeline in virtual time: packets in, packets out. What a session does between
them and the dialogue is done here in a few lines, so that a test sees the audio alone."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pyfastpath.transceiver.agent import Agent, AudioFrame, Event, Pcm, ResponseRequest
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.opus import Decoder, Encoder
from pyfastpath.transceiver.pipeline import Pipeline, PipelineEvent, SpeechStarted, SpeechStopped
from pyfastpath.wire.offer import AudioOffer, parse_offer
from pyfastpath.wire.rtp import RtpPacket, build_audio_level

VECTORS = Path(__file__).parent.parent / "vectors" / "sdp"
OPUS, RED, DIGITS = 111, 63, 110  # Chromium's payload types
SSRC = 0x1234_5678
SEQUENCE, TIMESTAMP = 0xFFF0, 0xFFFF_F000  # both wrap soon


def chromium_audio() -> AudioOffer:
    """What Chromium offers: Opus 111, RED 63, telephone-event 110 and 126."""
    return parse_offer((VECTORS / "chromium-audio.sdp").read_bytes().decode()).audio


def packet(
    number: int, payload: bytes, *, kind: int = OPUS, samples: int = 0, marker: bool = False
) -> RtpPacket:
    """The number-th packet of a stream of 20 ms frames, or one whose RTP time is given from its beginning."""
    timestamp = TIMESTAMP + (samples or 960 * number) & 0xFFFFFFFF
    return RtpPacket(kind, marker, SEQUENCE + number & 0xFFFF, timestamp, SSRC, payload)


def encoded(pcm: Pcm, rate_hz: int = 24_000, *, loss_percent: int = 0) -> list[bytes]:
    """PCM as Opus packets; the last one is padded."""
    encoder = Encoder(rate_hz)
    encoder.expect_loss(loss_percent)
    size = encoder.frame_samples
    whole = np.concatenate([pcm, np.zeros(-len(pcm) % size, np.int16)])
    return [encoder.encode(whole[at : at + size]) for at in range(0, len(whole), size)]


class Listener(Agent):
    """Keeps what it hears."""

    takes_turns = False

    def __init__(self) -> None:
        self.frames: list[AudioFrame] = []

    def hear(self, frame: AudioFrame) -> None:
        self.frames.append(frame)

    def pcm(self) -> Pcm:
        return np.concatenate([frame.pcm for frame in self.frames if frame.pcm is not None])


class OpusListener(Listener):
    """The same without decoding."""

    hears = "opus"


class Line:
    """An agent on the line. It is its agent's Call; responses are asked for when the user stops."""

    def __init__(self, agent: Agent, *, session: dict[str, Any] | None = None, **parts: Any) -> None:
        self.session: Event = session if session is not None else {}
        self.counters = Counters()
        self.agent = agent
        self.pipeline = Pipeline(agent, chromium_audio(), counters=self.counters, **parts)
        self.now = 1000.0
        self.events: list[PipelineEvent] = []
        self.sent: list[tuple[float, bytes, int, bool]] = []
        self.pipeline.configure(self.session)
        self.pipeline.start(self.now)
        agent.start(self)

    # ---- what the agent does ----

    def say(self, pcm: Pcm, rate_hz: int) -> None:
        self.pipeline.say(pcm, rate_hz)

    def say_opus(self, payload: bytes, samples: int) -> None:
        self.pipeline.say_opus(payload, samples)

    def say_text(self, text: str) -> None: ...

    def finish(self) -> None:
        self.pipeline.finish()

    def send_event(self, event: Event) -> None: ...

    def wake_in(self, seconds: float) -> None: ...

    def hang_up(self, reason: str) -> None: ...

    # ---- what the client does ----

    def hear(self, packet: RtpPacket, level: int | None = None) -> None:
        """One packet, now."""
        self.pipeline.receive(packet, None if level is None else build_audio_level(True, level), self.now)
        self._advance()

    def stream(self, payloads: Iterable[bytes | None], *, first: int = 0, level: int | None = None) -> int:
        """One packet each 20 ms, None being lost; the number of the next one."""
        number = first
        for number, payload in enumerate(payloads, start=first):
            if payload is not None:
                self.hear(packet(number, payload), level)
            self.run(0.02)
        return number + 1

    def run(self, seconds: float) -> None:
        """Let time pass; timers fire when they are due."""
        end = self.now + seconds
        while (due := self.pipeline.get_timer()) is not None and due <= end:
            self.now = max(self.now, due)
            self.pipeline.handle_timer(self.now)
            self._advance()
        self.now = end

    def heard_back(self, rate_hz: int = 24_000) -> Pcm:
        """What the client hears, silences included."""
        decoder, parts, expected = Decoder(rate_hz), [], None
        for _, payload, timestamp, _ in self.sent:
            if expected is not None and timestamp != expected:
                parts.append(np.zeros((timestamp - expected & 0xFFFFFFFF) * rate_hz // 48_000, np.int16))
            parts.append(decoder.decode(payload))
            expected = timestamp + 960 & 0xFFFFFFFF
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)

    def _advance(self) -> None:
        while True:
            self.sent += [(self.now, *frame) for frame in self.pipeline.frames_to_send(self.now)]
            event = self.pipeline.next_event()
            if event is None:
                return
            self.events.append(event)
            if isinstance(event, SpeechStarted):
                self.agent.user_started(event.at_ms)
            elif isinstance(event, SpeechStopped):
                self.agent.user_stopped(event.at_ms)
                if self.agent.takes_turns:
                    self.agent.respond(ResponseRequest("resp_1", "item_1", {}))
