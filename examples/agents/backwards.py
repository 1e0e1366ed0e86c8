"""A custom agent: says what you said, backwards.

pyfastpath up --agent examples.agents.backwards:Backwards
"""

from __future__ import annotations

import numpy as np

from pyfastpath.transceiver.agent import Agent, AudioFrame, Pcm, ResponseRequest

LONGEST_FRAMES = 1500  # half a minute of 20 ms frames


class Backwards(Agent):
    """One object a call. Its methods are called by the event loop; none of them waits."""

    name = "backwards"
    rate_hz = 24_000

    def __init__(self) -> None:
        self.heard: list[Pcm] = []

    def hear(self, frame: AudioFrame) -> None:
        """Every 20 ms, whether the user speaks or not."""
        if frame.pcm is not None:
            self.heard = [*self.heard[-LONGEST_FRAMES:], frame.pcm]

    def user_started(self, time_ms: int) -> None:
        """Keep half a second from before: nobody begins at full volume."""
        self.heard = self.heard[-25:]

    def respond(self, request: ResponseRequest) -> None:
        """The user's turn is over: the answer is queued at once and leaves in real time."""
        self.call.say(np.concatenate(self.heard)[::-1], self.rate_hz)
        self.call.finish()
        self.heard = []
