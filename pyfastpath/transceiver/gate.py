"""Who speaks: a gate on the level of each frame, above a noise floor that it learns.

The level is the client's own measurement (RFC 6464) where it sends one, else `level_of(pcm)`. Positions are
milliseconds of the call's audio; an event says where speech begins, padding before it included, or where the
silence after it ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from pyfastpath.transceiver.agent import Pcm

SILENCE_DBOV: Final = -127

_ONSET_MS: Final = 60  # as much sound makes speech of it; a click is shorter
_MARGIN_DB: Final = 10.0  # above the floor, at the default threshold of 0.5
_QUIETEST_DBOV: Final = -50.0  # nothing below is speech, however quiet the room
_THRESHOLD_DB: Final = 40.0  # how far a threshold of 1.0 lies above one of 0.0
_HYSTERESIS_DB: Final = 4.0  # speech goes on at a lower level than it begins
_FLOOR_LEAST_DBOV: Final = -75.0
_FLOOR_MOST_DBOV: Final = -25.0
_FALL: Final = 0.2  # of the distance, a frame: the floor follows the quietest moments at once …
_RISE_DB_S: Final = 3.0  # … and noise that stays within seconds,
_RISE_SPEAKING_DB_S: Final = 0.5  # but a long sentence does not become the floor


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The user began to speak at this position, prefix padding included."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The user has been silent up to this position, for as long as a turn's end takes."""

    at_ms: int


SpeechEvent = SpeechStarted | SpeechStopped


def level_of(pcm: Pcm) -> int:
    """Level of a frame in dBov, 0 … -127 (RFC 6464: relative to a full-scale square wave)."""
    samples = pcm.astype(np.float32)
    energy = float(np.dot(samples, samples))
    if energy <= 0.0:
        return SILENCE_DBOV
    return max(SILENCE_DBOV, min(0, round(10.0 * math.log10(energy / len(pcm)) - 90.309)))  # 20 log10(32768)


class EnergyGate:
    """Speech or not, frame by frame. threshold 0 … 1 as in server_vad: higher needs louder speech."""

    __slots__ = (
        "_floor_dbov",
        "_loud_ms",
        "_offset_db",
        "_prefix_ms",
        "_quiet_ms",
        "_silence_ms",
        "_since_ms",
        "is_open",
    )

    def __init__(self, *, threshold: float = 0.5, prefix_ms: int = 300, silence_ms: int = 500) -> None:
        self.is_open = False  # the user is speaking
        self._floor_dbov = -60.0
        self._loud_ms = 0  # sound while the gate is shut
        self._quiet_ms = 0  # silence while it is open
        self._since_ms = 0  # where the last speech ended: padding does not reach back over it
        self.configure(threshold=threshold, prefix_ms=prefix_ms, silence_ms=silence_ms)

    def configure(self, *, threshold: float, prefix_ms: int, silence_ms: int) -> None:
        """Change the settings; speech that is under way goes on."""
        self._offset_db = (threshold - 0.5) * _THRESHOLD_DB
        self._prefix_ms = prefix_ms
        self._silence_ms = silence_ms

    @property
    def silence_s(self) -> float:
        """How long a silence ends a turn."""
        return self._silence_ms / 1000

    def hear(self, level_dbov: int, time_ms: int, frame_ms: int) -> SpeechEvent | None:
        """One frame that begins at time_ms. Frames whose level is not known are left out, not guessed."""
        opens_at = self._floor_dbov + _MARGIN_DB
        opens_at = (opens_at if opens_at > _QUIETEST_DBOV else _QUIETEST_DBOV) + self._offset_db
        self._learn(level_dbov, frame_ms)
        if not self.is_open:
            if level_dbov < opens_at:
                self._loud_ms = max(0, self._loud_ms - frame_ms)
                return None
            self._loud_ms += frame_ms
            return self._open(time_ms + frame_ms) if self._loud_ms >= _ONSET_MS else None
        if level_dbov >= opens_at - _HYSTERESIS_DB:
            self._quiet_ms = 0
            return None
        self._quiet_ms += frame_ms
        return self.shut(time_ms + frame_ms) if self._quiet_ms >= self._silence_ms else None

    def shut(self, at_ms: int) -> SpeechStopped | None:
        """End the speech under way, if there is one: also when no frame comes any more."""
        if not self.is_open:
            return None
        self.is_open = False
        self._loud_ms = 0
        self._since_ms = at_ms
        return SpeechStopped(at_ms)

    def _open(self, now_ms: int) -> SpeechStarted:
        self.is_open = True
        self._quiet_ms = 0
        return SpeechStarted(max(self._since_ms, now_ms - self._loud_ms - self._prefix_ms, 0))

    def _learn(self, level_dbov: int, frame_ms: int) -> None:
        """The floor falls fast and rises slowly, slower still while somebody speaks."""
        floor = self._floor_dbov
        if level_dbov < floor:
            floor += (level_dbov - floor) * _FALL
            self._floor_dbov = floor if floor > _FLOOR_LEAST_DBOV else _FLOOR_LEAST_DBOV
        else:
            floor += (_RISE_SPEAKING_DB_S if self.is_open else _RISE_DB_S) * frame_ms / 1000
            self._floor_dbov = min(floor, level_dbov, _FLOOR_MOST_DBOV)
