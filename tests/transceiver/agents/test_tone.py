"""Tone: a steady 440 Hz from the first moment."""

import numpy as np

from pyfastpath.transceiver.agents.tone import TONE_HZ, Tone
from tests.support.listening import Line


def loudest_hz(pcm: np.ndarray, rate_hz: int) -> float:
    return float(np.abs(np.fft.rfft(pcm)).argmax() * rate_hz / len(pcm))


def test_it_sounds_at_once_and_never_stops() -> None:
    line = Line(Tone())
    line.run(3.0)
    times = [round((at_s - 1000.0) / 0.02, 3) for at_s, *_ in line.sent]
    assert times[0] == 0
    assert times == list(range(len(times)))
    assert len(times) >= 150
    heard = line.heard_back()
    for second in (1, 2):
        part = heard[second * 24_000 : (second + 1) * 24_000]
        assert abs(loudest_hz(part, 24_000) - TONE_HZ) <= 1
    assert np.abs(heard[2_400:]).max() < 10_000  # no click where the second begins again


def test_its_pieces_join() -> None:
    one, other = Tone(), Tone()
    pieces = np.concatenate([one.produce(480) for _ in range(120)])
    assert np.array_equal(pieces, np.concatenate([other.produce(320) for _ in range(180)]))
    steps = np.abs(np.diff(pieces.astype(np.int32)))
    assert steps.max() < 2 * np.pi * TONE_HZ / 24_000 * 8_000 + 2
