"""Who speaks when, and what the client is told about it: the contract between a session and its dialogue.

A dialogue never touches audio. It is told what happened (the client wrote, the user began to speak, what
the agent says began to play) and answers with two kinds of values: texts for the data channel (`next_event`)
and commands that the session carries out on agent and playout (`next_command`). Times are seconds of one
monotonic clock (`now`) or milliseconds of the call's received audio (`at_ms`).

Two dialogues exist: `realtime.turns` for agents that answer turn by turn and leave the conversation to the
transceiver, `realtime.bridge` for agents whose external server makes the conversation's events itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from pyfastpath.transceiver.agent import Event, ResponseRequest

# Names a new thing: "event", "item", "resp", "sess", "conv", "call" -> that word, "_", random characters.
Ids = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Respond:
    """Call `agent.respond(request)`."""

    request: ResponseRequest


@dataclass(frozen=True, slots=True)
class CancelResponse:
    """Drop what is queued to be played, call `agent.cancel(played_ms)`, say `playout_cleared(played_ms)`:
    always, and exactly once, even if nothing had been queued."""


@dataclass(frozen=True, slots=True)
class ClearOutput:
    """The same without `agent.cancel`: the agent has nothing left to cancel."""


@dataclass(frozen=True, slots=True)
class PassToAgent:
    """Call `agent.receive_event(event)`."""

    event: Event


@dataclass(frozen=True, slots=True)
class UpdateSession:
    """The session object in force is this one now: the gate's turn detection, the agent's `call.session`."""

    session: dict[str, Any]


Command = Respond | CancelResponse | ClearOutput | PassToAgent | UpdateSession


class Dialogue(Protocol):
    """What a session says to its dialogue. No method raises for what a client does wrong."""

    @property
    def session(self) -> dict[str, Any]:
        """The session object in force, as `session.created` shows it. Replaced, never changed in place."""

    def open(self, now: float) -> None:
        """A data channel is open; `session.created` goes first. A second one changes nothing."""

    def close(self, now: float) -> None:
        """The data channel is gone; events are dropped until another one opens. The call goes on."""

    def receive(self, text: str, now: float) -> None:
        """A message of the client. Whatever it is, the call goes on; a mistake is answered with `error`."""

    def speech_started(self, at_ms: int, now: float) -> None:
        """The gate heard the user begin to speak."""

    def speech_stopped(self, at_ms: int, now: float) -> None:
        """The gate heard the user end."""

    def playout_started(self, now: float) -> None:
        """The first frame of what the agent said leaves."""

    def playout_stopped(self, now: float) -> None:
        """All that was queued has been played and the agent has finished. Said after each `agent_finished`
        that nothing cleared, also when nothing had been queued."""

    def playout_cleared(self, played_ms: int, now: float) -> None:
        """The queue was dropped after played_ms of it: the answer to CancelResponse and ClearOutput."""

    def agent_said_text(self, text: str) -> None:
        """Words of what the agent is saying."""

    def agent_finished(self) -> None:
        """The agent has no more audio for the response under way."""

    def agent_event(self, event: Event) -> None:
        """An event that the agent made, or that its external server sent."""

    def next_event(self) -> str | None:
        """The next message for the data channel (JSON), or None."""

    def next_command(self) -> Command | None:
        """The next thing to do with agent and playout, or None. Ask again: one may lead to another."""
