"""The conversation of an agent that answers turn by turn: the transceiver makes every event of it.

The gate finds the user's turns (or the client says where they end), each turn becomes an item and asks the
agent for a response, and speech during a response cuts it off. `states` has the table; this module does what
each step of it means for the client (events) and for agent and playout (commands).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from pyfastpath.transceiver.agent import Event, ResponseRequest
from pyfastpath.transceiver.dialogue import (
    CancelResponse,
    ClearOutput,
    Command,
    Ids,
    PassToAgent,
    Respond,
    UpdateSession,
)
from pyfastpath.transceiver.realtime.buffer import InputBuffer
from pyfastpath.transceiver.realtime.events import (
    AudioAppend,
    AudioClear,
    AudioCommit,
    ClientEvent,
    EventError,
    ItemCreate,
    ItemDelete,
    ItemRetrieve,
    ItemTruncate,
    Json,
    OutputClear,
    ResponseCancel,
    ResponseCreate,
    SessionUpdate,
    check_event,
    error_event,
    event_id_of,
    parse_object,
)
from pyfastpath.transceiver.realtime.items import Conversation, parse_item
from pyfastpath.transceiver.realtime.outbox import Outbox
from pyfastpath.transceiver.realtime.response import Reason, ResponseEvents
from pyfastpath.transceiver.realtime.session import default_session, turn_detection, update_session
from pyfastpath.transceiver.realtime.states import Happening, Response, Turn


class TurnDialogue:
    """See `dialogue.Dialogue`. `session`: what the client asked for when it made the call (may be empty).
    Raises EventError for a session object that cannot be."""

    def __init__(self, *, session: Json, ids: Ids, takes_turns: bool) -> None:
        self._session = update_session(default_session(ids("sess")), session)
        self._ids = ids
        self._takes_turns = takes_turns
        self._turn = Turn()
        self._conversation = Conversation()
        self._conversation_id = ids("conv")
        self._outbox = Outbox(ids)
        self._commands: deque[Command] = deque()
        self._response: ResponseEvents | None = None
        self._last_response_id: str | None = None
        self._cut_reason: Reason = "client_cancelled"
        self._sound_s = 0.0  # when the response under way began to be heard
        self._is_owed = False  # a turn ended while a response went on that was not to be interrupted
        self._input = InputBuffer(ids)

    @property
    def session(self) -> Json:
        """The session object in force."""
        return self._session

    def next_event(self) -> str | None:
        """The next message for the data channel."""
        return self._outbox.pop()

    def next_command(self) -> Command | None:
        """The next thing to do with agent and playout."""
        return self._commands.popleft() if self._commands else None

    def open(self, now: float) -> None:
        """The data channel is open."""
        if self._outbox.open():
            self._input.start(now)
            self._emit("session.created", session=self._session)

    def close(self, now: float) -> None:
        """The data channel is gone."""
        self._outbox.close()

    # ---- from the client --------------------------------------------------------------------------

    def receive(self, text: str, now: float) -> None:
        """A client event, or something that wants to be one."""
        event_id = None
        try:
            raw = parse_object(text)
            event_id = event_id_of(raw)
            event = check_event(raw)
            HANDLERS[type(event)](self, event, raw, now)
        except EventError as error:
            self._outbox.put(error_event(error, event_id))

    def _update_session(self, event: SessionUpdate, raw: Json, now: float) -> None:
        self._session = update_session(self._session, event.session)
        if turn_detection(self._session) is None:
            self._turn.happen(Happening.LISTENING_OFF)
        self._commands.append(UpdateSession(self._session))
        self._emit("session.updated", session=self._session)

    def _append(self, event: AudioAppend, raw: Json, now: float) -> None:
        self._input.append(event.audio)
        self._commands.append(PassToAgent(raw))

    def _commit(self, event: AudioCommit, raw: Json, now: float) -> None:
        self._input.require_utterance(now)
        self._commands.append(PassToAgent(raw))
        self._commit_input(now)

    def _clear_input(self, event: AudioClear, raw: Json, now: float) -> None:
        self._input.clear(now)
        self._commands.append(PassToAgent(raw))
        self._emit("input_audio_buffer.cleared")

    def _clear_output(self, event: OutputClear, raw: Json, now: float) -> None:
        if self._turn.response is Response.IDLE:
            self._commands.append(
                ClearOutput()
            )  # an agent that does not take turns may have queued something
        else:
            self._cut("client_cancelled")

    def _create_item(self, event: ItemCreate, raw: Json, now: float) -> None:
        item = parse_item(event.item)
        item["id"] = item.get("id") or self._ids("item")
        self._conversation.insert(item, event.previous_item_id)
        self._commands.append(PassToAgent(raw | {"item": item}))
        self._emit_item(item["id"])

    def _retrieve_item(self, event: ItemRetrieve, raw: Json, now: float) -> None:
        self._emit("conversation.item.retrieved", item=self._conversation.retrieve(event.item_id))

    def _truncate_item(self, event: ItemTruncate, raw: Json, now: float) -> None:
        self._conversation.truncate(event.item_id, event.content_index, event.audio_end_ms)
        self._commands.append(PassToAgent(raw))
        self._emit_truncated(event.item_id, event.content_index, event.audio_end_ms)

    def _delete_item(self, event: ItemDelete, raw: Json, now: float) -> None:
        self._conversation.delete(event.item_id)
        self._commands.append(PassToAgent(raw))
        self._emit("conversation.item.deleted", item_id=event.item_id)

    def _create_response(self, event: ResponseCreate, raw: Json, now: float) -> None:
        if not self._takes_turns:
            raise EventError("response_create_unsupported", "This call's agent does not answer in turns")
        if self._response:
            raise EventError(
                "conversation_already_has_active_response",
                f"Response {self._response.response_id} is in progress",
                "Wait for its response.done, or cancel it.",
            )
        self._respond(raw.get("response") or {})

    def _cancel_response(self, event: ResponseCancel, raw: Json, now: float) -> None:
        current = self._response
        if not current or self._turn.response is Response.CUT:
            raise EventError("response_cancel_not_active", "There is no response to cancel")
        if event.response_id not in (None, current.response_id):
            raise EventError(
                "response_cancel_not_active",
                f"Response {event.response_id!r} is not in progress, {current.response_id} is",
                param="response_id",
            )
        self._cut("client_cancelled")

    # ---- from the gate ----------------------------------------------------------------------------

    def speech_started(self, at_ms: int, now: float) -> None:
        """The user begins: whoever speaks is cut off, if the session wants that."""
        detection = turn_detection(self._session)
        if not detection or not self._turn.happen(Happening.SPEECH_STARTED):
            return
        self._emit("input_audio_buffer.speech_started", audio_start_ms=at_ms, item_id=self._input.item_id)
        if detection.interrupt_response:
            self._cut("turn_detected")

    def speech_stopped(self, at_ms: int, now: float) -> None:
        """The user's turn is over."""
        detection = turn_detection(self._session)
        if not detection or not self._turn.happen(Happening.SPEECH_STOPPED):
            return
        self._emit("input_audio_buffer.speech_stopped", audio_end_ms=at_ms, item_id=self._input.item_id)
        if not self._takes_turns:
            self._input.clear(now)
            return
        self._commit_input(now)
        if detection.create_response:
            self._respond({})

    # ---- from the playout -------------------------------------------------------------------------

    def playout_started(self, now: float) -> None:
        """The first frame of what the agent says leaves."""
        if not self._takes_turns or not self._turn.happen(Happening.SOUND):
            return
        self._sound_s = now
        self._emit_all(self._current({}).started())

    def playout_stopped(self, now: float) -> None:
        """The response has been said to its end."""
        response = self._response
        if not response or not self._turn.happen(Happening.PLAYED):
            return
        if response.is_audible:
            self._conversation.set_audio_ms(response.item_id, round((now - self._sound_s) * 1000))
        self._emit_all(response.over(None))
        if response.is_audible:
            self._emit("output_audio_buffer.stopped", response_id=response.response_id)
        self._end_response()

    def playout_cleared(self, played_ms: int, now: float) -> None:
        """The response was cut off after played_ms."""
        response = self._response
        if not response or not self._turn.happen(Happening.CLEARED):
            if played_ms:
                self._emit("output_audio_buffer.cleared", response_id=self._last_response_id)
            return
        self._emit_all(response.over(self._cut_reason))
        if response.is_audible:
            self._emit("output_audio_buffer.cleared", response_id=response.response_id)
            if response.item_id in self._conversation:
                self._conversation.truncate(response.item_id, 0, played_ms)
                self._emit_truncated(response.item_id, 0, played_ms)
        self._end_response()

    # ---- from the agent ---------------------------------------------------------------------------

    def agent_said_text(self, text: str) -> None:
        """Words of the response; of a new one if the agent speaks without having been asked."""
        if not self._takes_turns or self._turn.response is Response.CUT:
            return
        self._turn.happen(Happening.RESPOND)
        self._emit_all(self._current({}).text(text))

    def agent_finished(self) -> None:
        """No more audio comes; the response is over when what is queued has been played."""
        self._turn.happen(Happening.FINISH)

    def agent_event(self, event: Event) -> None:
        """An event as the agent made it. A finished function call becomes an item of the response."""
        named = dict(event)
        item = named.get("item")
        is_call = isinstance(item, dict) and item.get("type") == "function_call"
        if is_call and named.get("type") == "response.output_item.done" and self._response:
            named["item"] = {"id": self._ids("item"), **named["item"]}
            self._emit_all(self._response.tool_call(named, self._ids("call")))
        else:
            self._outbox.put(named)

    # ---- steps ------------------------------------------------------------------------------------

    def _respond(self, parameters: Json) -> None:
        if not self._turn.happen(Happening.RESPOND):
            self._is_owed = True
            return
        response = self._current(parameters)
        request = ResponseRequest(response.response_id, response.item_id, parameters)
        self._commands.append(Respond(request))

    def _current(self, parameters: Json) -> ResponseEvents:
        """The response under way; a new one if there is none."""
        if not self._response:
            self._response = ResponseEvents(
                self._ids("resp"),
                self._ids("item"),
                parameters=parameters,
                session=self._session,
                conversation_id=self._conversation_id,
                conversation=self._conversation,
            )
            self._emit_all(self._response.created())
        return self._response

    def _cut(self, reason: Reason) -> None:
        if self._turn.happen(Happening.CUT):
            self._is_owed = False
            self._cut_reason = reason
            self._commands.append(CancelResponse())

    def _end_response(self) -> None:
        if self._response:
            self._last_response_id = self._response.response_id
        self._response = None
        if self._is_owed:
            self._is_owed = False
            self._respond({})

    def _commit_input(self, now: float) -> None:
        """What the user said becomes an item."""
        item_id = self._input.item_id
        self._input.clear(now)
        previous = self._conversation.last_id
        self._conversation.insert(
            {
                "object": "realtime.item",
                "id": item_id,
                "type": "message",
                "role": "user",
                "status": "completed",
                "content": [{"type": "input_audio", "transcript": None}],
            }
        )
        self._emit("input_audio_buffer.committed", previous_item_id=previous, item_id=item_id)
        self._emit_item(item_id)

    # ---- events -----------------------------------------------------------------------------------

    def _emit(self, kind: str, **fields: Any) -> None:
        self._outbox.put({"type": kind, **fields})

    def _emit_all(self, events: Iterator[Json]) -> None:
        for event in events:
            self._outbox.put(event)

    def _emit_item(self, item_id: str) -> None:
        item = self._conversation.retrieve(item_id)
        previous = self._conversation.previous_of(item_id)
        self._emit("conversation.item.added", previous_item_id=previous, item=item)
        self._emit("conversation.item.done", previous_item_id=previous, item=item)

    def _emit_truncated(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        self._emit(
            "conversation.item.truncated",
            item_id=item_id,
            content_index=content_index,
            audio_end_ms=audio_end_ms,
        )


Handler = Callable[[TurnDialogue, Any, Json, float], None]
HANDLERS: Final[dict[type[ClientEvent], Handler]] = {
    SessionUpdate: TurnDialogue._update_session,
    AudioAppend: TurnDialogue._append,
    AudioCommit: TurnDialogue._commit,
    AudioClear: TurnDialogue._clear_input,
    OutputClear: TurnDialogue._clear_output,
    ItemCreate: TurnDialogue._create_item,
    ItemRetrieve: TurnDialogue._retrieve_item,
    ItemTruncate: TurnDialogue._truncate_item,
    ItemDelete: TurnDialogue._delete_item,
    ResponseCreate: TurnDialogue._create_response,
    ResponseCancel: TurnDialogue._cancel_response,
}
