"""The conversation of an agent whose external server speaks the Realtime WebSocket events.

That server owns turns, items and responses; its events and the client's pass unchanged. What it cannot know
is ours: what has really been played. So the audio stays here (deltas become frames, not events), the client
gets the output_audio_buffer events of WebRTC, and after an interruption the server is told, item by item, how
much of its answer was heard. The audio format towards the server is fixed, and its model is the operator's
choice: both are taken out of a client's session.update.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final, NamedTuple

from pyfastpath.transceiver.agent import Event
from pyfastpath.transceiver.dialogue import CancelResponse, ClearOutput, Command, Ids, PassToAgent
from pyfastpath.transceiver.realtime.events import EventError, Json, error_event, parse_object
from pyfastpath.transceiver.realtime.outbox import Outbox
from pyfastpath.transceiver.realtime.session import default_session, from_beta, update_session

# The GA and the beta interface's names of the same event.
AUDIO_DELTAS: Final = frozenset({"response.output_audio.delta", "response.audio.delta"})
NOT_THE_CLIENTS: Final = frozenset({"model", "input_audio_format", "output_audio_format"})
BASE64_CHARACTERS_PER_MS: Final = 64  # 24 kHz × 2 bytes = 48 bytes, 4 characters for each 3


class Segment(NamedTuple):
    """A run of audio from the server: which part of which item, and its length."""

    response_id: str
    item_id: str
    content_index: int
    length_ms: float


class BridgeDialogue:
    """See `dialogue.Dialogue`. `session`: what the client asked for when it made the call. Turns are the
    server's business, so the gate's findings are ignored. Raises EventError for a session object that cannot
    be: now that still answers the client's request, later the server would refuse it in the call."""

    def __init__(self, *, session: Json, ids: Ids, takes_turns: bool = True) -> None:
        update_session(default_session(""), session)
        self._session = dict(session)
        self._outbox = Outbox(ids)
        self._commands: deque[Command] = deque()
        self._has_server_session = False
        self._early_error: Json | None = None
        self._segments: list[Segment] = []  # of answers that are queued or being played
        self._is_audible = False
        self._is_generating = False  # the server has a response under way

    @property
    def session(self) -> Json:
        """The client's wish until the server has said what is in force."""
        return self._session

    def next_event(self) -> str | None:
        """The next message for the data channel."""
        return self._outbox.pop()

    def next_command(self) -> Command | None:
        """The next thing to do with agent and playout."""
        return self._commands.popleft() if self._commands else None

    def open(self, now: float) -> None:
        """The data channel is open. Of what the server said before, its newest session and its last error
        are told now: a server that refuses a call does so at once, before any data channel is there."""
        if not self._outbox.open():
            return
        if self._has_server_session:
            self._emit("session.created", session=self._session)
        if self._early_error:
            self._outbox.put(self._early_error)
            self._early_error = None

    def close(self, now: float) -> None:
        """The data channel is gone."""
        self._outbox.close()

    # ---- from the client --------------------------------------------------------------------------

    def receive(self, text: str, now: float) -> None:
        """A client event: for us if it is about playing, else for the server."""
        try:
            raw = parse_object(text)
        except EventError as error:
            self._outbox.put(error_event(error, None))
            return
        if raw["type"] == "output_audio_buffer.clear":
            self._cut()
        elif raw["type"] == "session.update":
            self._commands.append(PassToAgent(raw | {"session": session_for_server(raw.get("session"))}))
        else:
            self._commands.append(PassToAgent(raw))

    # ---- from the gate and the playout ------------------------------------------------------------

    def speech_started(self, at_ms: int, now: float) -> None:
        """The server hears for itself."""

    def speech_stopped(self, at_ms: int, now: float) -> None:
        """The server hears for itself."""

    def playout_started(self, now: float) -> None:
        """The first frame of an answer leaves."""
        if self._segments:
            self._is_audible = True
            self._emit("output_audio_buffer.started", response_id=self._segments[0].response_id)

    def playout_stopped(self, now: float) -> None:
        """All of an answer has been played; the next one may be queued already."""
        if self._segments:
            played = self._segments[0].response_id
            if self._is_audible:
                self._emit("output_audio_buffer.stopped", response_id=played)
            self._segments = [segment for segment in self._segments if segment.response_id != played]
        self._is_audible = False

    def playout_cleared(self, played_ms: int, now: float) -> None:
        """Everything queued was cut off: tell the client, and the server what of it was heard."""
        if self._is_audible:
            self._emit("output_audio_buffer.cleared", response_id=self._segments[0].response_id)
        for item_id, content_index, heard_ms in _heard(self._segments, played_ms):
            truncate = {"item_id": item_id, "content_index": content_index, "audio_end_ms": heard_ms}
            self._commands.append(PassToAgent({"type": "conversation.item.truncate", **truncate}))
        self._segments = []
        self._is_audible = False

    # ---- from the server, by way of the agent -----------------------------------------------------

    def agent_said_text(self, text: str) -> None:
        """The server sends transcripts as events of its own."""

    def agent_finished(self) -> None:
        """The server's response.done says the same."""

    def agent_event(self, event: Event) -> None:
        """An event of the server. Audio deltas are only noted: the agent says them. The rest goes on."""
        kind = event.get("type")
        if kind in AUDIO_DELTAS:
            self._note(_segment(event))
            return
        session: Any = event.get("session")
        if kind in ("session.created", "session.updated") and isinstance(session, dict):
            self._session = session
            self._has_server_session = True
        elif kind == "response.created":
            self._is_generating = True
        elif kind == "response.done":
            self._is_generating = False
        if kind == "error" and not self._outbox.is_open:
            self._early_error = dict(event)
        self._outbox.put(dict(event))
        if kind == "input_audio_buffer.speech_started" and interrupts(self._session):
            self._cut()

    # ---- steps ------------------------------------------------------------------------------------

    def _cut(self) -> None:
        if self._is_generating:
            self._commands.append(CancelResponse())
        elif self._segments:
            self._commands.append(ClearOutput())

    def _note(self, new: Segment) -> None:
        last = self._segments[-1] if self._segments else None
        if last and last[:3] == new[:3]:  # one segment a content part, however many deltas it comes in
            self._segments[-1] = last._replace(length_ms=last.length_ms + new.length_ms)
        else:
            self._segments.append(new)

    def _emit(self, kind: str, **fields: Any) -> None:
        self._outbox.put({"type": kind, **fields})


def session_for_server(session: Any) -> Any:
    """A client's session object as the server gets it: without model and formats, for GA and beta servers.
    What is no object is passed on, for the server to refuse."""
    if not isinstance(session, dict):
        return session
    wanted = {key: value for key, value in session.items() if key not in NOT_THE_CLIENTS}
    if isinstance(wanted.get("audio"), dict):
        wanted["audio"] = {name: _without_format(part) for name, part in wanted["audio"].items()}
    return wanted


def _without_format(part: Any) -> Any:
    return {k: v for k, v in part.items() if k != "format"} if isinstance(part, dict) else part


def interrupts(session: Json) -> bool:
    """Whether the server cuts its response off when the user speaks; it does unless told otherwise."""
    audio = from_beta(session).get("audio")
    given = audio.get("input") if isinstance(audio, dict) else None
    detection = given.get("turn_detection") if isinstance(given, dict) else None
    return not isinstance(detection, dict) or detection.get("interrupt_response", True) is not False


def _segment(event: Event) -> Segment:
    delta = event.get("delta")
    index = event.get("content_index")
    return Segment(
        str(event.get("response_id") or ""),
        str(event.get("item_id") or ""),
        index if isinstance(index, int) else 0,
        len(delta) / BASE64_CHARACTERS_PER_MS if isinstance(delta, str) else 0.0,
    )


def _heard(segments: list[Segment], played_ms: float) -> list[tuple[str, int, int]]:
    """(item, content part, ms heard) of each part that was not heard to its end; segments as played."""
    found = []
    for segment in segments:
        heard_ms = min(segment.length_ms, played_ms)
        played_ms -= heard_ms
        if heard_ms < segment.length_ms:
            found.append((segment.item_id, segment.content_index, int(heard_ms)))
    return found
