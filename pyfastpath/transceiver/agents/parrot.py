"""Repeats what the user said when he stops: the whole conversation without any model."""

from __future__ import annotations

from collections import deque
from typing import ClassVar, Final

import numpy as np

from pyfastpath.transceiver.agent import Agent, AudioFrame, Pcm, ResponseRequest

UTTERANCE_MS_MAX: Final = 30_000  # of a longer one the parrot knows only the end
_WAITING_MS: Final = 1_000  # kept while nobody speaks: what a start may reach back to
_QUIET_DBOV: Final = -55  # after the last frame louder than this …
_TAIL_MS: Final = 200  # … so much is repeated, not the silence that ended the turn


class Parrot(Agent):
    """Records an utterance, from its start to its end, and says it again.

    Without turn detection (turn_detection null, the client asks for responses itself) nobody says where an
    utterance begins: then it is everything since the last response.
    """

    name: ClassVar[str] = "parrot"

    def __init__(self) -> None:
        self._said = Recording()  # utterances that are over and not repeated yet
        self._heard = Recording()
        self._is_speaking = False

    def hear(self, frame: AudioFrame) -> None:
        """Keep it; the oldest go."""
        self._heard.append(frame)
        keeps_all = self._is_speaking or self._is_manual()
        self._heard.shorten(UTTERANCE_MS_MAX if keeps_all else _WAITING_MS)

    def user_started(self, time_ms: int) -> None:
        """The utterance begins here; what was before it is forgotten."""
        self._is_speaking = True
        self._heard.begin_at(time_ms)

    def user_stopped(self, time_ms: int) -> None:
        """The utterance is over; what was heard since belongs to the next one."""
        self._is_speaking = False
        self._heard.move_before(time_ms, self._said)
        self._said.shorten(UTTERANCE_MS_MAX)

    def respond(self, request: ResponseRequest) -> None:
        """Say it again."""
        if self._is_speaking or self._is_manual():
            self._heard.move_before(self._heard.end_ms, self._said)
        pcm = self._said.audible()
        self._said.clear()
        if len(pcm):
            self.call.say(pcm, self.rate_hz)
        self.call.finish()

    def stop(self) -> None:
        """Nothing is kept."""
        self._said.clear()
        self._heard.clear()

    def _is_manual(self) -> bool:
        audio_input = self.call.session.get("audio", {}).get("input", {})
        return audio_input.get("turn_detection", {}) is None


class Recording:
    """Frames in order, with their whole length at hand."""

    def __init__(self) -> None:
        self._frames: deque[AudioFrame] = deque()
        self._length_ms = 0

    def append(self, frame: AudioFrame) -> None:
        """At the end."""
        self._frames.append(frame)
        self._length_ms += frame.samples // 48

    def shorten(self, longest_ms: int) -> None:
        """Drop the oldest until it is no longer than this."""
        while self._length_ms > longest_ms:
            self._take()

    def begin_at(self, time_ms: int) -> None:
        """Drop what is over by then."""
        while self._frames and _end_ms(self._frames[0]) <= time_ms:
            self._take()

    def move_before(self, time_ms: int, other: Recording) -> None:
        """Frames that begin before this time go over to another recording."""
        while self._frames and self._frames[0].time_ms < time_ms:
            other.append(self._take())

    @property
    def end_ms(self) -> int:
        """Where it ends; 0 when it is empty."""
        return _end_ms(self._frames[-1]) if self._frames else 0

    def audible(self) -> Pcm:
        """The audio, without the silence at its end."""
        loud = (_end_ms(frame) for frame in self._frames if frame.level_dbov > _QUIET_DBOV)
        end_ms = max(loud, default=0) + _TAIL_MS
        pcm = [frame.pcm for frame in self._frames if frame.pcm is not None and frame.time_ms < end_ms]
        return np.concatenate(pcm) if pcm else np.empty(0, np.int16)

    def clear(self) -> None:
        """Forget all of it."""
        self._frames.clear()
        self._length_ms = 0

    def _take(self) -> AudioFrame:
        frame = self._frames.popleft()
        self._length_ms -= frame.samples // 48
        return frame


def _end_ms(frame: AudioFrame) -> int:
    return frame.time_ms + frame.samples // 48
