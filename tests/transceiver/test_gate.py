"""The gate: speech opens it, pauses between words do not shut it, noise and clicks do not open it."""

import numpy as np
import pytest

from pyfastpath.transceiver.gate import EnergyGate, SpeechEvent, SpeechStarted, SpeechStopped, level_of
from tests.support.speech import speech

FRAME_MS = 20


def events(gate: EnergyGate, *stretches: tuple[float, int], begin_ms: int = 0) -> list[SpeechEvent]:
    """What it says to (level, milliseconds) one after the other."""
    said, at = [], begin_ms
    for level, length_ms in stretches:
        for _ in range(length_ms // FRAME_MS):
            event = gate.hear(round(level), at, FRAME_MS)
            said += [event] if event else []
            at += FRAME_MS
    return said


def test_a_word_opens_and_silence_shuts() -> None:
    said = events(EnergyGate(), (-70, 2_000), (-30, 1_000), (-70, 1_000))
    assert said == [SpeechStarted(2_000 - 300), SpeechStopped(3_500)]


def test_padding_never_reaches_before_the_call_or_into_the_last_speech() -> None:
    said = events(EnergyGate(prefix_ms=300, silence_ms=100), (-70, 100), (-30, 500), (-70, 200), (-30, 500))
    assert said == [SpeechStarted(0), SpeechStopped(700), SpeechStarted(700)]


def test_pauses_between_words_belong_to_the_speech() -> None:
    words = [(-30, 300), (-70, 480)] * 5
    said = events(EnergyGate(), (-70, 1_000), *words, (-70, 500))
    assert [type(event) for event in said] == [SpeechStarted, SpeechStopped]


def test_a_click_is_no_speech() -> None:
    assert events(EnergyGate(), *[(-70, 200), (-20, 40)] * 20) == []


def test_noise_that_stays_becomes_the_floor() -> None:
    gate = EnergyGate()
    said = events(gate, (-70, 1_000), (-44, 60_000))
    assert [type(event) for event in said] == [SpeechStarted, SpeechStopped]
    assert said[1].at_ms < 45_000
    assert events(gate, (-44, 10_000)) == []
    assert [type(event) for event in events(gate, (-30, 500))] == [SpeechStarted]


def test_the_floor_is_learnt_before_anybody_speaks() -> None:
    gate = EnergyGate()
    assert events(gate, (-55, 3_000)) == []
    assert events(gate, *[(-50, 200), (-55, 200)] * 10) == []
    assert [type(event) for event in events(gate, (-35, 200))] == [SpeechStarted]


def test_a_long_sentence_does_not_become_the_floor() -> None:
    assert len(events(EnergyGate(), (-60, 1_000), (-25, 30_000))) == 1


def test_a_muted_microphone_does_not_make_whispers_loud() -> None:
    assert events(EnergyGate(), (-127, 10_000), (-60, 5_000)) == []


def test_threshold_and_silence_can_be_set() -> None:
    quiet = ((-70, 1_000), (-46, 1_000), (-70, 1_000))
    assert len(events(EnergyGate(threshold=0.5), *quiet)) == 2
    assert events(EnergyGate(threshold=0.8), *quiet) == []
    assert len(events(EnergyGate(threshold=0.2), (-70, 1_000), (-58, 1_000), (-75, 1_000))) == 2
    gate = EnergyGate()
    events(gate, (-70, 1_000), (-30, 1_000))
    gate.configure(threshold=0.5, prefix_ms=0, silence_ms=200)
    assert gate.silence_s == 0.2
    assert events(gate, (-70, 1_000), (-30, 200), begin_ms=2_000) == [
        SpeechStopped(2_200),
        SpeechStarted(3_000),
    ]


def test_when_frames_cease_it_can_be_shut() -> None:
    gate = EnergyGate()
    assert gate.shut(100) is None
    events(gate, (-70, 1_000), (-30, 1_000))
    assert gate.is_open
    assert gate.shut(2_500) == SpeechStopped(2_500)
    assert not gate.is_open


def test_levels_are_those_of_rfc_6464() -> None:
    assert level_of(np.zeros(480, np.int16)) == -127
    assert level_of(np.array([], np.int16)) == -127
    assert level_of(np.full(480, -32768, np.int16)) == 0
    sine = (32767 * np.sin(np.arange(480) * 2 * np.pi / 48)).astype(np.int16)
    assert level_of(sine) == -3
    assert level_of((sine // 100).astype(np.int16)) == -43
    assert level_of(np.array([1] + [0] * 479, np.int16)) == -117


@pytest.mark.parametrize("noise", [0, 30])
def test_spoken_words_are_found_where_they_are(noise: int) -> None:
    random = np.random.default_rng(7)
    spoken = speech(16_000)
    pcm = np.concatenate([np.zeros(32_000, np.int16), spoken, np.zeros(32_000, np.int16)])
    pcm = (pcm + random.normal(0, noise, len(pcm))).astype(np.int16)
    gate, said = EnergyGate(), []
    for at in range(0, len(pcm) - 320, 320):
        event = gate.hear(level_of(pcm[at : at + 320]), at // 16, FRAME_MS)
        said += [event] if event else []
    end_ms = 2_000 + len(spoken) // 16
    started, stopped = said
    assert 1_600 <= started.at_ms <= 1_900
    assert end_ms + 300 <= stopped.at_ms <= end_ms + 600
