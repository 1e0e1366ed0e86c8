"""What the transceiver runs while its capacity is measured with Opus both ways."""

from __future__ import annotations

from typing import ClassVar, Literal

from pyfastpath.transceiver.agent import Agent, AudioFrame


class Repeat(Agent):
    """Hears PCM and says each frame again: one frame decoded and one encoded for every packet there and back.

    24 kHz both ways, as a model of the Realtime kind would have it.
    """

    name: ClassVar[str] = "repeat"
    hears: ClassVar[Literal["pcm", "opus"]] = "pcm"
    rate_hz: ClassVar[Literal[16_000, 24_000]] = 24_000
    takes_turns: ClassVar[bool] = False

    def hear(self, frame: AudioFrame) -> None:
        """Said in real time, like everything an agent says."""
        if frame.pcm is not None:
            self.call.say(frame.pcm, self.rate_hz)
