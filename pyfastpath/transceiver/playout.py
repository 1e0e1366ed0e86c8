"""What an agent says, on its way out: queued as PCM, encoded frame by frame as its time comes.

    playout.say(pcm, 24_000); playout.finish()          one response: any number of say, one finish
    for payload, timestamp, marker in playout.frames_to_send(now): ...
    playout.get_timer()                                 when the next frame is due

RTP time runs on while nothing is said: the first packet after a silence has a timestamp later by as long as
the silence was, and the marker (RFC 3551, section 4.1). A late timer catches up at most LATE_S; what is later
than that becomes a silence, because by then the ear has heard one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice
from typing import Any, Final

import numpy as np

from pyfastpath.transceiver.agent import Pcm
from pyfastpath.transceiver.opus import CLOCK_HZ, FRAME_SAMPLES, Encoder

FRAME_S: Final = FRAME_SAMPLES / CLOCK_HZ
LATE_S: Final = 3 * FRAME_S
_LATE_SAMPLES: Final = 3 * FRAME_SAMPLES
SPEECH_S_MAX: Final = 600  # queued: nobody speaks further ahead of the ear
_SPEECH_SAMPLES_MAX: Final = SPEECH_S_MAX * CLOCK_HZ

Frame = tuple[bytes, int, bool]  # payload, RTP timestamp, marker


class PlayoutStarted:
    """The first frame of a response leaves."""


class PlayoutStopped:
    """The last frame of a response is over. Said once for each `finish` that nothing cleared."""


PlayoutEvent = PlayoutStarted | PlayoutStopped
STARTED: Final = PlayoutStarted()
STOPPED: Final = PlayoutStopped()


class _Response:
    """What was said between two `finish`: chunks of audio, each at its rate."""

    __slots__ = ("chunks", "finished", "frames", "offset", "samples")

    def __init__(self) -> None:
        self.chunks: deque[tuple[Pcm, int]] = deque()
        self.offset = 0  # samples of the first chunk that are out
        self.finished = False
        self.frames = 0  # how many left
        self.samples = 0  # that wait, at 48 kHz

    def add(self, pcm: Pcm, rate_hz: int) -> None:
        """More audio."""
        self.chunks.append((pcm, rate_hz))
        self.samples += len(pcm) * (CLOCK_HZ // rate_hz)

    @property
    def rate_hz(self) -> int:
        """Of what comes next."""
        return self.chunks[0][1]

    def has_frame(self) -> bool:
        """A whole frame, or a last part of one."""
        if not self.chunks:
            return False
        pcm, rate_hz = self.chunks[0]
        if self.finished:
            return True
        missing = rate_hz * FRAME_SAMPLES // CLOCK_HZ - (len(pcm) - self.offset)
        for following, other_hz in islice(self.chunks, 1, None):
            if missing <= 0 or other_hz != rate_hz:  # another rate: padded, as a frame has only one
                return True
            missing -= len(following)
        return missing <= 0

    def take(self, samples: int) -> Pcm:
        """The next frame; a part of one is padded with silence."""
        pcm, rate_hz = self.chunks[0]
        end = self.offset + samples
        if end <= len(pcm):  # the usual case: no copy
            frame = pcm[self.offset : end]
            self._skip(samples)
            return frame
        frame, filled = np.zeros(samples, np.int16), 0
        while self.chunks and self.chunks[0][1] == rate_hz and filled < samples:
            part = self.chunks[0][0][self.offset : self.offset + samples - filled]
            frame[filled : filled + len(part)] = part
            filled += len(part)
            self._skip(len(part))
        return frame

    def _skip(self, samples: int) -> None:
        self.offset += samples
        self.samples -= samples * (CLOCK_HZ // self.rate_hz)
        if self.offset >= len(self.chunks[0][0]):
            self.chunks.popleft()
            self.offset = 0


class Playout:
    """One call's way out. timestamp: where RTP time begins, random. make_encoder: rate -> Encoder.

    produce: asked for each frame of an agent that speaks all the time, at `produce_hz`; None is silence.
    events: where its events go, should somebody else's be among them. drop: told how many samples, at
    48 kHz, were said when too much waited already.
    """

    def __init__(
        self,
        *,
        timestamp: int,
        make_encoder: Callable[[int], Encoder] = Encoder,
        produce: Callable[[int], Pcm | None] | None = None,
        produce_hz: int = 24_000,
        events: deque[Any] | None = None,
        drop: Callable[[int], None] = lambda samples: None,
    ) -> None:
        self._first_timestamp = timestamp
        self._make_encoder = make_encoder
        self._produce = produce
        self._produce_hz = produce_hz
        self._drop = drop
        self._encoders: dict[int, Encoder] = {}
        self._loss_percent = 0
        self._responses: deque[_Response] = deque()
        self._ready: list[tuple[bytes, int]] = []  # Opus packets of the agent's own, with their samples
        self._ready_samples = 0
        self._events: deque[PlayoutEvent] = deque() if events is None else events
        self._began_s: float | None = None
        self._due_s = 0.0  # when the next frame's time has come
        self._position = 0  # of the next frame, in samples since `start`
        self._is_resuming = True

    def start(self, now: float) -> None:
        """RTP time runs from now on. Before that nothing leaves."""
        self._began_s = now
        self._due_s = now

    # ---- what the agent does ----------------------------------------------------------------------

    def say(self, pcm: Pcm, rate_hz: int) -> None:
        """Queue mono 16-bit audio of any length, at a rate Opus knows. ValueError: another shape or rate."""
        if rate_hz not in {8_000, 12_000, 16_000, 24_000, 48_000}:
            raise ValueError(f"{rate_hz} Hz is no rate of Opus: say 16000, 24000 or 48000")
        if pcm.ndim != 1 or pcm.dtype != np.int16:
            raise ValueError(f"audio is an int16 array of one dimension, not {pcm.dtype} of {pcm.ndim}")
        samples = len(pcm) * (CLOCK_HZ // rate_hz)
        if samples + sum([one.samples for one in self._responses]) > _SPEECH_SAMPLES_MAX:
            self._drop(samples)
        elif samples:
            self._open().add(pcm.copy(), rate_hz)  # the agent may go on using its array

    def say_opus(self, payload: bytes, samples: int) -> None:
        """An Opus packet that leaves with the next frames_to_send; an empty one is as much silence."""
        self._ready_samples += samples
        if self._ready_samples > _SPEECH_SAMPLES_MAX:
            self._ready_samples -= samples
            self._drop(samples)
        else:
            self._ready.append((payload, samples))

    def finish(self) -> None:
        """The response has no more audio; what is said next belongs to another one."""
        self._open().finished = True

    def clear(self, now: float) -> int:
        """Drop everything queued. How many milliseconds of the response under way have been played."""
        played_ms = 0
        if self._responses and self._responses[0].frames:
            left_s = min(max(self._due_s - now, 0.0), FRAME_S)  # the last frame is still being played
            played_ms = int(1000 * (self._responses[0].frames * FRAME_S - left_s))
        self._responses.clear()
        self._ready.clear()
        self._ready_samples = 0
        return played_ms

    def expect_loss(self, percent: int) -> None:
        """What the client's reports say it loses of what we send: the encoder then spends bits on FEC."""
        self._loss_percent = percent
        for encoder in self._encoders.values():
            encoder.expect_loss(percent)

    # ---- the clock --------------------------------------------------------------------------------

    def get_timer(self) -> float | None:
        """When frames_to_send has something: in the past if at once, None if only the agent can tell."""
        if self._began_s is None:
            return None
        if self._ready:
            return 0.0
        if self._produce is not None:
            return self._due_s
        if not self._responses:
            return None
        first = self._responses[0]
        return self._due_s if first.finished or first.has_frame() else None

    def frames_to_send(self, now: float) -> list[Frame]:
        """Everything whose time has come."""
        out: list[Frame] = []
        if self._began_s is None:
            return out
        if self._ready:
            self._pass(now, out)
        if self._responses or self._produce is not None:
            self._pace(now, out)
        return out

    def next_event(self) -> PlayoutEvent | None:
        """The oldest event, None when there is none."""
        return self._events.popleft() if self._events else None

    # ---- inside -----------------------------------------------------------------------------------

    def _open(self) -> _Response:
        """The response that is being said: the newest, unless it is finished."""
        if not self._responses or self._responses[-1].finished:
            self._responses.append(_Response())
        return self._responses[-1]

    def _pass(self, now: float, out: list[Frame]) -> None:
        """The agent's own packets, one after the other; RTP time follows the clock when it fell behind. What
        comes all at once, as an echo does after a gap that was waited for, is no silence."""
        assert self._began_s is not None
        ready, self._ready, self._ready_samples = self._ready, [], 0
        here, position = int((now - self._began_s) * CLOCK_HZ), self._position
        waiting = sum([samples for _, samples in ready[:-1]]) if len(ready) > 1 else 0
        if here - position - waiting > _LATE_SAMPLES:
            position, self._is_resuming = here, True
        for payload, samples in ready:
            if payload:
                out.append((payload, self._first_timestamp + position & 0xFFFFFFFF, self._is_resuming))
                self._is_resuming = False
            position += samples
        self._position = position
        self._due_s = now

    def _pace(self, now: float, out: list[Frame]) -> None:
        """One frame each 20 ms, as long as there is something to say."""
        while self._due_s <= now:
            payload = self._next_payload()
            if payload is None:
                if not self._responses and self._produce is not None:
                    self._due_s = now + FRAME_S  # ask again when a silent frame is over
                    self._is_resuming = True
                return
            gap = now - self._due_s >= LATE_S or self._is_resuming
            if gap:
                self._resume(now)
            out.append((payload, self._first_timestamp + self._position & 0xFFFFFFFF, gap))
            self._is_resuming = False
            self._position += FRAME_SAMPLES
            self._due_s += FRAME_S

    def _resume(self, now: float) -> None:
        """After a silence: this frame's time is now. RTP time never runs back."""
        assert self._began_s is not None
        self._due_s = now
        self._position = max(self._position, int((now - self._began_s) * CLOCK_HZ))

    def _next_payload(self) -> bytes | None:
        """The next frame of what was said, else of what is produced; says when a response begins and ends."""
        while self._responses:
            response = self._responses[0]
            if response.has_frame():
                if not response.frames:
                    self._events.append(STARTED)
                response.frames += 1
                encoder = self._encoder(response.rate_hz)
                return encoder.encode(response.take(encoder.frame_samples))
            if not response.finished:
                return None
            self._responses.popleft()
            self._events.append(STOPPED)
        if self._produce is None:
            return None
        encoder = self._encoder(self._produce_hz)
        pcm = self._produce(encoder.frame_samples)
        return None if pcm is None else encoder.encode(pcm)

    def _encoder(self, rate_hz: int) -> Encoder:
        """One for each rate, made when it is first spoken at."""
        encoder = self._encoders.get(rate_hz)
        if encoder is None:
            encoder = self._encoders[rate_hz] = self._make_encoder(rate_hz)
            encoder.expect_loss(self._loss_percent)
        return encoder
