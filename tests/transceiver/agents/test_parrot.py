"""Parrot: the words come back when the user stops, all of them, and nothing else."""

import numpy as np
import pytest

from pyfastpath.transceiver.agent import ResponseRequest
from pyfastpath.transceiver.agents.parrot import UTTERANCE_MS_MAX, Parrot
from pyfastpath.transceiver.pipeline import PlayoutStarted, PlayoutStopped, SpeechStarted, SpeechStopped
from tests.support.listening import Line, encoded
from tests.support.speech import Pcm, likeness, speech

MANUAL = {"audio": {"input": {"turn_detection": None}}}
REQUEST = ResponseRequest("resp_1", "item_1", {})


def silence(milliseconds: int) -> Pcm:
    return np.zeros(24 * milliseconds, np.int16)


def say(line: Line, *parts: Pcm, first: int = 0, lose: int = 0) -> int:
    """The user speaks; every `lose`-th packet is lost."""
    packets: list[bytes | None] = [*encoded(np.concatenate(parts), loss_percent=10 if lose else 0)]
    if lose:
        packets[lose::lose] = [None] * len(packets[lose::lose])
    return line.stream(packets, first=first)


def test_the_words_come_back() -> None:
    line, words = Line(Parrot()), speech(24_000)
    say(line, silence(1_000), words, silence(700))
    line.run(len(words) / 24_000 + 2.0)
    assert [type(event) for event in line.events] == [
        SpeechStarted,
        SpeechStopped,
        PlayoutStarted,
        PlayoutStopped,
    ]
    heard = line.heard_back()
    alike, at = likeness(heard, words)
    assert alike > 0.8  # through two encoders and two decoders
    assert at < 24 * 500  # after the padding before the first word
    assert len(heard) < len(words) + 24 * 1_000  # and not much after the last


def test_the_words_come_back_through_losses() -> None:
    line, words = Line(Parrot()), speech(24_000)
    say(line, silence(1_000), words, silence(700), lose=12)
    line.run(len(words) / 24_000 + 2.0)
    assert line.counters.repaired["fec"] > 10
    assert likeness(line.heard_back(), words)[0] > 0.7


def test_each_utterance_comes_back_by_itself() -> None:
    words = [speech(24_000, "Good morning, dear parrot."), speech(24_000, "Seventeen packets are enough.")]
    line = Line(Parrot())
    first = say(line, silence(600), words[0], silence(3_500))
    one = line.heard_back()
    line.sent.clear()
    say(line, words[1], silence(3_500), first=first)
    other = line.heard_back()
    assert likeness(one, words[0])[0] > 0.8
    assert likeness(one, words[1][: len(one)])[0] < 0.5
    assert likeness(other, words[1])[0] > 0.8
    assert likeness(other, words[0][: len(other)])[0] < 0.5


def test_two_utterances_without_a_response_are_repeated_together() -> None:
    parrot = Parrot()
    line, words = Line(parrot), speech(24_000)[:24_000]
    parrot.takes_turns = False  # the line asks for no response by itself
    say(line, silence(600), words, silence(800), words, silence(800))
    parrot.respond(REQUEST)
    line.run(10.0)
    heard = line.heard_back()
    alike, at = likeness(heard, words, within=24_000)
    assert alike > 0.8
    assert likeness(heard[at + len(words) :], words)[0] > 0.8


def test_without_turn_detection_everything_since_the_last_response_is_repeated() -> None:
    parrot = Parrot()
    line, words = Line(parrot, session=MANUAL), speech(24_000)
    first = say(line, words)
    parrot.respond(REQUEST)
    line.run(10.0)
    assert likeness(line.heard_back(), words[:-2_400])[0] > 0.8
    line.sent.clear()
    more = speech(24_000, "And something else.")
    say(line, more, first=first)
    parrot.respond(REQUEST)
    line.run(10.0)
    assert likeness(line.heard_back(), more[:-2_400])[0] > 0.8
    assert len(line.heard_back()) < len(more) + 24 * 300


def test_with_nothing_heard_the_response_is_empty() -> None:
    parrot = Parrot()
    line = Line(parrot)
    parrot.respond(REQUEST)
    line.run(1.0)
    assert line.sent == []
    assert [type(event) for event in line.events] == [PlayoutStopped]


@pytest.mark.parametrize("session", [{}, MANUAL])
def test_memory_is_bounded_however_long_it_goes_on(session: dict[str, object]) -> None:
    parrot = Parrot()
    line = Line(parrot, session=session)
    noise = np.random.default_rng(1).integers(-4_000, 4_000, 24_000).astype(np.int16)
    packets = encoded(noise)
    number = 0
    for _ in range(45):
        number = line.stream(packets, first=number)
    parrot.respond(REQUEST)
    line.run(60.0)
    assert UTTERANCE_MS_MAX - 1_000 <= 20 * len(line.sent) <= UTTERANCE_MS_MAX


def test_after_the_call_nothing_is_kept() -> None:
    parrot = Parrot()
    line = Line(parrot, session=MANUAL)
    say(line, speech(24_000)[:24_000])
    parrot.stop()
    parrot.respond(REQUEST)
    line.run(1.0)
    assert line.sent == []
