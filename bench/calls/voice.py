"""Opus packets of something like speech, made here so that every machine sends the same: a voiced sound with
syllables, a little noise and pauses. Silence would cost an encoder nothing, and white noise too much."""

from __future__ import annotations

from functools import cache

import numpy as np

from pyfastpath.transceiver.gate import level_of
from pyfastpath.transceiver.opus import Encoder

RATE_HZ = 48_000
SECONDS = 4
PITCH_HZ = 118
FORMANTS_HZ = (650, 1_100, 2_400)
SYLLABLES_HZ = 4.0
SEED = 20_250_101


@cache
def voice() -> tuple[tuple[bytes, int], ...]:
    """(packet of 20 ms, its level in dBov), 32 kbit/s; after the last one the first follows."""
    encoder = Encoder(RATE_HZ)
    pcm = _sound()
    frames = [pcm[at : at + encoder.frame_samples] for at in range(0, len(pcm), encoder.frame_samples)]
    return tuple((encoder.encode(frame), level_of(frame)) for frame in frames)


def _sound() -> np.ndarray:
    time_s = np.arange(RATE_HZ * SECONDS) / RATE_HZ
    noise = np.random.default_rng(SEED).normal(0.0, 1.0, len(time_s))
    glide = PITCH_HZ * (time_s + 0.02 * np.sin(2 * np.pi * 0.5 * time_s))
    sound = sum(_strength(number * PITCH_HZ) * np.sin(2 * np.pi * number * glide) for number in range(1, 40))
    syllables = np.clip(np.sin(2 * np.pi * SYLLABLES_HZ * time_s), 0.0, 1.0)
    phrases = (time_s % 2.0) < 1.6
    voiced = sound / np.max(np.abs(sound)) * syllables * phrases
    return (18_000 * voiced + 60 * noise).astype(np.int16)


def _strength(hertz: float) -> float:
    """Of a harmonic: near a formant it is strong."""
    return sum(1 / (1 + ((hertz - formant) / 120) ** 2) for formant in FORMANTS_HZ) + 0.02
