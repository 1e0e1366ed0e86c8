"""What a page hears, taken out of the browser, and whether it is what was spoken.

The page's <audio> element is recorded with a MediaRecorder: an AudioContext stands still in a browser on a
machine without a sound card, a recorder does not.
"""

import base64
import io
import wave
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray
from playwright.sync_api import Page

from tests.support.speech import Pcm, likeness

RATE_HZ = 48_000
PIECE_S = 0.3  # a browser stretches and squeezes what it plays: whole utterances drift, pieces do not
RECORD = """
async (seconds) => {
  const recorder = new MediaRecorder(document.querySelector("audio").srcObject);
  const parts = [];
  recorder.ondataavailable = ({ data }) => parts.push(data);
  const stopped = new Promise((resolve) => (recorder.onstop = resolve));
  recorder.start();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  recorder.stop();
  await stopped;
  const bytes = new Uint8Array(await new Blob(parts).arrayBuffer());
  return btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
}
"""


def record(page: Page, seconds: float) -> Pcm:
    """So many seconds of what the page's <audio> element has, as mono PCM at RATE_HZ."""
    return decode(page.evaluate(RECORD, seconds))


def decode(recording: str) -> Pcm:
    """A MediaRecorder's container in base64 as mono PCM at RATE_HZ."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
    parts = [np.zeros(0, np.int16)]
    with av.open(io.BytesIO(base64.b64decode(recording))) as container:
        for frame in container.decode(audio=0):
            parts += [part.to_ndarray().reshape(-1) for part in resampler.resample(frame)]
    return np.concatenate(parts)


def loudest_hz(pcm: Pcm) -> float:
    """The loudest frequency of a recording; 0 for silence."""
    if not len(pcm) or np.abs(pcm).max() < 100:
        return 0.0
    return float(np.argmax(np.abs(np.fft.rfft(pcm.astype(np.float64)))) * RATE_HZ / len(pcm))


def words_come_back(heard: Pcm, spoken: Pcm) -> float:
    """How much of `spoken` stands in `heard`: the median likeness of its pieces, 0…1.

    The pieces must follow one another: each is looked for within half a second of its place after the first.
    """
    size = int(PIECE_S * RATE_HZ)
    pieces = [spoken[at : at + size] for at in range(0, len(spoken) - size, size)]
    loud = [n for n, piece in enumerate(pieces) if _energy(piece) > 0.2 * _energy(spoken)]
    anchor = max(loud, key=lambda n: likeness(heard, pieces[n])[0])
    _, found = likeness(heard, pieces[anchor])
    values = []
    for n in loud:
        place = found + (n - anchor) * size
        window = heard[max(0, place - RATE_HZ // 2) : place + size + RATE_HZ // 2]
        values.append(likeness(window, pieces[n])[0] if len(window) >= size else 0.0)
    return float(np.median(values))


def _energy(pcm: NDArray[np.int16]) -> float:
    return float(np.mean(np.square(pcm.astype(np.float64)))) if len(pcm) else 0.0


def write_microphone(path: Path, spoken: Pcm, pause_s: float) -> Path:
    """A WAV for Chromium's fake microphone, which plays it in a loop: the words, then the pause."""
    silence = np.zeros(int(pause_s * RATE_HZ), np.int16)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(RATE_HZ)
        out.writeframes(np.concatenate([spoken, silence]).tobytes())
    return path
