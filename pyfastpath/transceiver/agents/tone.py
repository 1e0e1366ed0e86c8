"""A steady tone from the first moment on: for measuring how fast a call is set up."""

from typing import ClassVar, Final, Literal

import numpy as np

from pyfastpath.transceiver.agent import Agent, Pcm

TONE_HZ: Final = 440
_RATE_HZ: Final = 24_000
_AMPLITUDE: Final = 8_000
# Two seconds of it: each is whole periods, so that the second continues the first.
_SECONDS: Final[Pcm] = (_AMPLITUDE * np.sin(2 * np.pi * TONE_HZ / _RATE_HZ * np.arange(2 * _RATE_HZ))).astype(
    np.int16
)


class Tone(Agent):
    """440 Hz, all the time. Hears nothing."""

    name: ClassVar[str] = "tone"
    hears: ClassVar[Literal["pcm", "opus"]] = "opus"  # so that nothing is decoded
    rate_hz: ClassVar[Literal[16_000, 24_000]] = _RATE_HZ
    takes_turns: ClassVar[bool] = False

    def __init__(self) -> None:
        self._at = 0

    def produce(self, samples: int) -> Pcm:
        """The next piece of the tone, of at most a second."""
        at = self._at
        self._at = (at + samples) % _RATE_HZ
        return _SECONDS[at : at + samples]
