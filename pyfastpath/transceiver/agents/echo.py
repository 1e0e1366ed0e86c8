"""Sends back what it hears, packet by packet, undecoded: for tests of the way there and back."""

from typing import ClassVar, Literal

from pyfastpath.transceiver.agent import Agent, AudioFrame


class Echo(Agent):
    """Every packet returns as it came; a lost one returns as silence of its length."""

    name: ClassVar[str] = "echo"
    hears: ClassVar[Literal["pcm", "opus"]] = "opus"
    takes_turns: ClassVar[bool] = False

    def hear(self, frame: AudioFrame) -> None:
        """Back it goes."""
        self.call.say_opus(frame.opus, frame.samples)
