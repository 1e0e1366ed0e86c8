"""Tone bursts leave in real time, and the ear tells when each of them comes back."""

import asyncio
import time

import numpy as np
from aiortc import MediaStreamTrack
from av import AudioFrame

from pyfastpath.tools.tones import (
    BURST_EVERY_FRAMES,
    BURST_FRAMES,
    FRAME_SAMPLES,
    LOUD,
    BurstListener,
    ToneBursts,
)


async def test_a_burst_a_second_in_real_time():
    tone = ToneBursts()
    begin = time.perf_counter()
    frames = [await tone.recv() for _ in range(BURST_EVERY_FRAMES + 1)]
    assert time.perf_counter() - begin > 0.9
    peaks = [int(np.abs(frame.to_ndarray().astype(np.int32)).max()) for frame in frames]
    quiet = BURST_EVERY_FRAMES - BURST_FRAMES
    assert not any(peaks[:quiet])
    assert all(peak > LOUD for peak in peaks[quiet:BURST_EVERY_FRAMES])
    assert peaks[BURST_EVERY_FRAMES] == 0
    assert len(tone.started) == 1
    assert [frame.pts for frame in frames] == [n * FRAME_SAMPLES for n in range(len(frames))]


async def test_the_ear_hears_every_burst_once():
    class Ended(MediaStreamTrack):
        kind = "audio"

        def __init__(self) -> None:
            super().__init__()
            self.tone = ToneBursts()
            self.frames = 0

        async def recv(self) -> AudioFrame:
            self.frames += 1
            if self.frames > 2 * BURST_EVERY_FRAMES:
                raise asyncio.CancelledError
            return await self.tone.recv()

    track, listener = Ended(), BurstListener()
    await asyncio.gather(listener.listen(track), return_exceptions=True)
    assert len(listener.heard) == len(track.tone.started) == 2
    for heard, started in zip(listener.heard, track.tone.started, strict=True):
        assert 0 <= heard - started < 0.2
