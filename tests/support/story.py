"""Conversations as stories: what the client says, what is heard and played, what the server says.

    story.user_speaks()
    story.server_says("input_audio_buffer.speech_started", audio_start_ms=1000)

A story carries out a dialogue's commands the way a session does. Ids are counted, so that they can be named:
the first response is resp_1. `server_says` takes the next event off the data channel and compares the fields
that are given, at any depth; `silence` is the claim that there is none.
"""

from __future__ import annotations

import itertools
import json
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

from pyfastpath.transceiver.agent import ResponseRequest
from pyfastpath.transceiver.dialogue import (
    CancelResponse,
    ClearOutput,
    Dialogue,
    PassToAgent,
    Respond,
    UpdateSession,
)
from pyfastpath.transceiver.realtime.turns import TurnDialogue


def counted_ids() -> Callable[[str], str]:
    """item_1, item_2, resp_1, …"""
    counters: defaultdict[str, itertools.count[int]] = defaultdict(lambda: itertools.count(1))
    return lambda prefix: f"{prefix}_{next(counters[prefix])}"


def matches(found: Any, wanted: Any) -> bool:
    """Whether everything in `wanted` is in `found`; lists are compared item by item, in full."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return all(key in found and matches(found[key], value) for key, value in wanted.items())
    if isinstance(wanted, list) and isinstance(found, list):
        return len(found) == len(wanted) and all(map(matches, found, wanted))
    return bool(found == wanted)


class Story:
    """One call. The data channel is open and greeted unless `opened` is False."""

    def __init__(
        self,
        dialogue: Dialogue | None = None,
        *,
        opened: bool = True,
        takes_turns: bool = True,
        **session: Any,
    ) -> None:
        self.dialogue = dialogue or TurnDialogue(session=session, ids=counted_ids(), takes_turns=takes_turns)
        self.now = 100.0
        self.requests: deque[ResponseRequest] = deque()
        self.passed: deque[Any] = deque()
        self.cancels: list[int] = []
        self.clears = 0
        self.updates: list[dict[str, Any]] = []
        self._sounding_since: float | None = None
        if opened:
            self.dialogue.open(self.now)
            self._carry_out()
            if dialogue is None:
                self.server_says("session.created")

    # ---- what happens -----------------------------------------------------------------------------

    def client_says(self, kind: str, /, **fields: Any) -> None:
        """An event over the data channel."""
        self.client_writes(json.dumps({"type": kind, **fields}))

    def client_writes(self, text: str) -> None:
        """Any text over the data channel."""
        self.dialogue.receive(text, self.now)
        self._carry_out()

    def client_opens(self) -> None:
        """A data channel opens."""
        self.dialogue.open(self.now)

    def client_closes(self) -> None:
        """It is gone."""
        self.dialogue.close(self.now)

    def seconds_pass(self, seconds: float) -> None:
        """The clock goes on, and what plays is played."""
        self.now += seconds

    def user_speaks(self, at_ms: int = 1000) -> None:
        """The gate opens."""
        self.dialogue.speech_started(at_ms, self.now)
        self._carry_out()

    def user_stops(self, at_ms: int = 2000) -> None:
        """The gate closes."""
        self.dialogue.speech_stopped(at_ms, self.now)
        self._carry_out()

    def agent_sounds(self) -> None:
        """The first frame of an answer leaves."""
        self._sounding_since = self.now
        self.dialogue.playout_started(self.now)
        self._carry_out()

    def agent_writes(self, text: str) -> None:
        """Words of the answer."""
        self.dialogue.agent_said_text(text)
        self._carry_out()

    def agent_finishes(self) -> None:
        """The agent has no more."""
        self.dialogue.agent_finished()
        self._carry_out()

    def all_is_played(self) -> None:
        """The queue has run dry after the agent finished."""
        self._sounding_since = None
        self.dialogue.playout_stopped(self.now)
        self._carry_out()

    def agent_sends(self, kind: str, /, **fields: Any) -> None:
        """An event of the agent's own."""
        self.dialogue.agent_event({"type": kind, **fields})
        self._carry_out()

    # ---- what comes of it -------------------------------------------------------------------------

    def server_says(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        """The next event is of this kind and has these fields."""
        text = self.dialogue.next_event()
        assert text is not None, f"silence instead of {kind}"
        event: dict[str, Any] = json.loads(text)
        assert event["type"] == kind, f"{event} instead of {kind}"
        assert matches(event, fields), f"{event} without {fields}"
        assert event["event_id"], event
        return event

    def server_goes_on_to(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        """The same, after events that this story is not about."""
        skipped = []
        while (text := self.dialogue.next_event()) is not None:
            event: dict[str, Any] = json.loads(text)
            if event["type"] == kind:
                assert matches(event, fields), f"{event} without {fields}"
                return event
            skipped.append(event["type"])
        raise AssertionError(f"no {kind} after {skipped}")

    def server_refuses(self, code: str, param: str | None = None, event_id: str | None = None) -> str:
        """The next event is an error; returns its sentence."""
        event = self.server_says("error", error={"code": code, "param": param, "event_id": event_id})
        assert event["error"]["type"] == "invalid_request_error"
        message: str = event["error"]["message"]
        return message

    def silence(self) -> None:
        """The server has nothing more to say."""
        assert self.dialogue.next_event() is None

    def skip(self) -> list[str]:
        """The kinds of all events that wait."""
        return [json.loads(text)["type"] for text in iter(self.dialogue.next_event, None)]

    def agent_is_asked(self) -> ResponseRequest:
        """The agent was asked for a response."""
        assert self.requests, "nobody asked the agent"
        return self.requests.popleft()

    def agent_gets(self, kind: str, /, **fields: Any) -> dict[str, Any]:
        """The next event passed to the agent."""
        assert self.passed, f"the agent got nothing instead of {kind}"
        event: dict[str, Any] = self.passed.popleft()
        assert event["type"] == kind, event
        assert matches(event, fields), f"{event} without {fields}"
        return event

    def _carry_out(self) -> None:
        while (command := self.dialogue.next_command()) is not None:
            match command:
                case Respond(request):
                    self.requests.append(request)
                case CancelResponse() | ClearOutput():
                    self._clear(is_cancel=isinstance(command, CancelResponse))
                case PassToAgent(event):
                    self.passed.append(event)
                case UpdateSession(session):
                    self.updates.append(session)

    def _clear(self, *, is_cancel: bool) -> None:
        began, self._sounding_since = self._sounding_since, None
        played_ms = 0 if began is None else round((self.now - began) * 1000)
        if is_cancel:
            self.cancels.append(played_ms)
        else:
            self.clears += 1
        self.dialogue.playout_cleared(played_ms, self.now)
