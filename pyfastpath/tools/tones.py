"""Audio for scripted calls by aiortc: tone bursts that go out in real time, and an ear for them."""

from __future__ import annotations

import asyncio
import fractions
import time
from typing import Final

import numpy as np
from aiortc import MediaStreamTrack
from av import AudioFrame

RATE_HZ: Final = 48_000
FRAME_SAMPLES: Final = 960  # 20 ms
TONE_HZ: Final = 440
BURST_EVERY_FRAMES: Final = 50
BURST_FRAMES: Final = 10
LOUD: Final = 3_000  # of 32,767; the bursts peak at 16,000
SILENCE_BEFORE_BURST_S: Final = 0.2


class ToneBursts(MediaStreamTrack):
    """200 ms of tone each second, in real time; remembers when each burst began."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self.started: list[float] = []
        self._frame = 0
        self._begin = 0.0
        phase = 2 * np.pi * TONE_HZ * np.arange(FRAME_SAMPLES * BURST_FRAMES) / RATE_HZ
        self._burst = (16_000 * np.sin(phase)).astype(np.int16).reshape(BURST_FRAMES, FRAME_SAMPLES)

    async def recv(self) -> AudioFrame:
        """The next 20 ms, when their time has come."""
        now = time.perf_counter()
        self._begin = self._begin or now
        await asyncio.sleep(max(0.0, self._begin + self._frame * FRAME_SAMPLES / RATE_HZ - now))
        place = self._frame % BURST_EVERY_FRAMES - (BURST_EVERY_FRAMES - BURST_FRAMES)
        samples = self._burst[place] if place >= 0 else np.zeros(FRAME_SAMPLES, np.int16)
        if place == 0:
            self.started.append(time.perf_counter())
        frame = AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate = RATE_HZ
        frame.time_base = fractions.Fraction(1, RATE_HZ)
        frame.pts = self._frame * FRAME_SAMPLES
        self._frame += 1
        return frame


class BurstListener:
    """Notes when the echo becomes loud after silence."""

    def __init__(self) -> None:
        self.heard: list[float] = []
        self._last_loud = 0.0

    async def listen(self, track: MediaStreamTrack) -> None:
        """Run until the track ends."""
        while True:
            frame = await track.recv()
            assert isinstance(frame, AudioFrame)
            samples = np.abs(frame.to_ndarray().astype(np.int32)).reshape(-1)
            loud = np.flatnonzero(samples > LOUD)
            if not loud.size:
                continue
            now = time.perf_counter()
            if now - self._last_loud > SILENCE_BEFORE_BURST_S:
                into_frame = loud[0] / samples.size * FRAME_SAMPLES / RATE_HZ
                self.heard.append(now + into_frame)
            self._last_loud = now
