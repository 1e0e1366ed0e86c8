"""Between the transceiver and whatever thinks: what an agent hears, and how it answers.

An agent is one object a call. The transceiver calls its methods, from the event loop, never from two
threads; the agent answers through its `Call`, at once or from a task of its own. Nothing here waits:

    class Shout(Agent):
        def respond(self, request):            # the user's turn is over
            self.call.say(LOUD_PCM, 24_000)    # queued, leaves in real time
            self.call.finish()                 # the response has no more audio

Audio is mono, 16-bit PCM as numpy int16 arrays of shape (samples,).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

Pcm = NDArray[np.int16]
Event = Mapping[str, Any]


@dataclass(slots=True)
class AudioFrame:
    """What one RTP packet brought, in order. A lost one is a frame too: `opus` empty, `pcm` concealed."""

    opus: bytes  # the Opus packet as the client sent it; empty when it was lost and nothing recovered it
    samples: int  # length at the 48 kHz RTP clock: 960 are 20 ms
    time_ms: int  # where the frame begins, from the first audio of the call
    level_dbov: int  # RFC 6464: 0 loudest … -127 silence
    pcm: Pcm | None = None  # at the agent's rate_hz; None for an agent that hears "opus"


@dataclass(frozen=True, slots=True)
class ResponseRequest:
    """A turn of the agent's begins. `parameters`: instructions etc. as response.create gave them."""

    response_id: str
    item_id: str
    parameters: Event


class Call(Protocol):
    """An agent's hands. Every method may be called at any time until `stop`; later calls do nothing."""

    @property
    def session(self) -> Event:
        """The session object in force (what session.created and session.updated show)."""

    def say(self, pcm: Pcm, rate_hz: int) -> None:
        """Queue audio of any length; 24,000 and 48,000 Hz are encoded as they are. It leaves in real time and
        is kept until then: 173 MB an hour at 24,000 Hz."""

    def say_opus(self, payload: bytes, samples: int) -> None:
        """Send an Opus packet as it is, at once; samples at 48 kHz. An empty one is as much silence.
        For agents that do not speak in turns."""

    def say_text(self, text: str) -> None:
        """The words of what is being said: transcript events of the response under way."""

    def finish(self) -> None:
        """The response under way has no more audio; it is over when what is queued has been played."""

    def send_event(self, event: Event) -> None:
        """An event for the client, as it is, over its data channel; dropped when the client has none."""

    def wake_in(self, seconds: float) -> None:
        """Ask for a call of `woken`; a later wish replaces an earlier one."""

    def hang_up(self, reason: str) -> None:
        """End the call."""


class Agent:
    """One conversation partner. Override what you need; the rest does nothing."""

    name: ClassVar[str] = ""
    hears: ClassVar[Literal["pcm", "opus"]] = "pcm"
    rate_hz: ClassVar[Literal[16_000, 24_000]] = 24_000
    takes_turns: ClassVar[bool] = True  # False: audio flows all the time and no response events are made
    owns_conversation: ClassVar[bool] = False  # True: an external server makes the conversation's events

    call: Call

    def start(self, call: Call) -> None:
        """The call is live: media flows from now on."""
        self.call = call

    def hear(self, frame: AudioFrame) -> None:
        """Every frame, in order, while the user speaks and while he is silent."""

    def user_started(self, time_ms: int) -> None:
        """The user began to speak at this position of the audio."""

    def user_stopped(self, time_ms: int) -> None:
        """The user stopped speaking; `respond` follows if the session wants a response to each turn."""

    def respond(self, request: ResponseRequest) -> None:
        """Answer: say() any number of times, then finish()."""

    def cancel(self, played_ms: int) -> None:
        """Stop answering: the user interrupted or the client asked. What was queued is gone already;
        played_ms of the response had been played."""

    def produce(self, samples: int) -> Pcm | None:
        """The next `samples` at rate_hz, asked for whenever nothing is queued; None: silence, send nothing.
        Only for agents that do not take turns."""
        return None

    def receive_event(self, event: Event) -> None:
        """A client event that the transceiver does not own itself (items, function call outputs, …)."""

    def woken(self) -> None:
        """The time asked for with `wake_in` has come."""

    def stop(self) -> None:
        """The call is over, maybe before it was live (no `start`). Release what you hold; nothing is called
        afterwards."""
