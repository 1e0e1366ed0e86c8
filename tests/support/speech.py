"""Audio for tests: speech of espeak-ng, and how alike two recordings are."""

import io
import subprocess
import wave
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tests.support.require import require

Pcm = NDArray[np.int16]
WORDS = "The quick brown fox jumps over the lazy dog, and nobody hears the network."


@cache
def speech(rate_hz: int, words: str = WORDS) -> Pcm:
    """The words as mono PCM at a rate, without the silence around them."""
    command = [require("espeak-ng"), "--stdout", "-s", "150", words]
    said = subprocess.run(command, capture_output=True, check=True, timeout=20).stdout
    with wave.open(io.BytesIO(said)) as file:
        from_hz = file.getframerate()
        pcm = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    loud = np.flatnonzero(np.abs(pcm) > 200)
    return resampled(pcm[loud[0] : loud[-1]], from_hz, rate_hz)


def resampled(pcm: Pcm, from_hz: int, to_hz: int) -> Pcm:
    """Linear interpolation: good enough to compare speech."""
    places = np.arange(len(pcm) * to_hz // from_hz) * (from_hz / to_hz)
    return np.interp(places, np.arange(len(pcm)), pcm).astype(np.int16)


def likeness(heard: Pcm, spoken: Pcm, *, within: int | None = None) -> tuple[float, int]:
    """The highest normalised correlation of `spoken` in `heard` (1.0: the same), and where that begins.

    within: look only at so many first places.
    """
    a, b = heard.astype(np.float64), spoken.astype(np.float64)
    size = 1 << (len(a) + len(b) - 1).bit_length()
    products = np.fft.irfft(np.fft.rfft(a, size) * np.conj(np.fft.rfft(b, size)), size)
    places = max(1, len(a) - len(b) + 1)
    sums = np.concatenate([[0.0], np.cumsum(np.square(a))])
    energies = sums[len(b) : len(b) + places] - sums[:places]
    values = products[:places] / np.sqrt(np.maximum(energies * np.dot(b, b), 1.0))
    best = int(np.argmax(values[:within]))
    return float(values[best]), best
