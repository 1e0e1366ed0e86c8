"""One call from its offer to its end: the connection, the audio, the dialogue and the agent, put together.

Pure, with the same five verbs as a connection. What concerns the outside comes as events: PathAdded and
PathRemoved (whose datagrams are ours), DataReceived and TextToSend (the data channel, whose SCTP lives in
the I/O floor), StateChanged.

    created ──first check──▶ connecting ──DTLS done──▶ live ──▶ closing ──datagrams sent──▶ closed
       └── no check in 30 s ──┴── no keys in 30 s ──────┴── hang-up, consent, agent, too long ──▲
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Any, Final

from pyfastpath.transceiver.agent import Agent, Event, Pcm
from pyfastpath.transceiver.connection import Connection, ConnectionEvent, Outgoing
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.dialogue import (
    CancelResponse,
    ClearOutput,
    Dialogue,
    PassToAgent,
    Respond,
    UpdateSession,
)
from pyfastpath.transceiver.events import (
    Connected,
    DataReceived,
    Ended,
    HandshakeBegun,
    LossReported,
    State,
    StateChanged,
    TextToSend,
)
from pyfastpath.transceiver.ice import PathAdded, PathRemoved, PathSelected
from pyfastpath.transceiver.path import Path
from pyfastpath.transceiver.pipeline import (
    Dtmf,
    Pipeline,
    PipelineEvent,
    PlayoutStarted,
    PlayoutStopped,
    SpeechStarted,
    SpeechStopped,
)
from pyfastpath.transceiver.playout import Frame
from pyfastpath.wire.offer import AUDIO_LEVEL, Offer
from pyfastpath.wire.rtp import RtpPacket

SETUP_S: Final = 30.0  # a session that nobody checks, or whose handshake stalls, is given up
SessionEvent = PathAdded | PathRemoved | DataReceived | TextToSend | StateChanged


class Session:
    """A call. `woken`: the agent wants something done outside of the five verbs, call `advance`."""

    def __init__(
        self,
        connection: Connection,
        pipeline: Pipeline,
        dialogue: Dialogue,
        agent: Agent,
        *,
        offer: Offer,
        counters: Counters,
        longest_s: float,
        now: float,
        woken: Callable[[], None],
    ) -> None:
        self.connection = connection
        self.pipeline = pipeline
        self.dialogue = dialogue
        self.agent = agent
        self.state: State = "created"
        self.reason = ""
        self.steps_ms: dict[str, float] = {}
        self._level_extension = offer.audio.extensions.get(AUDIO_LEVEL)
        self._counters = counters
        self._longest_s = longest_s
        self.began_s = now
        self._deadline_s = now + SETUP_S
        self._heard_ssrc: int | None = None
        self._wake_s = inf
        self._has_sent = False
        self._woken = woken
        self._is_busy = False
        self._wishes: deque[tuple[str, Any]] = deque()
        self._events: deque[SessionEvent] = deque()

    # ---- the five verbs ---------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, path: Path, now: float) -> None:
        """One datagram from the client."""
        self.connection.receive_datagram(data, path, now)
        self.advance(now)

    def datagrams_to_send(self, now: float) -> list[Outgoing]:
        """(path, datagram, confirmed), oldest first. After `closing` these are the last ones."""
        if self.state == "closing":
            self._enter("closed", now)
        return self.connection.datagrams_to_send(now)

    def get_timer(self) -> float | None:
        """When to call handle_timer; None once it is closed."""
        if self.state == "closed":
            return None
        due = self._wake_s if self._wake_s < self._deadline_s else self._deadline_s
        time = self.connection.get_timer()
        if time is not None and time < due:
            due = time
        time = self.pipeline.get_timer()
        return time if time is not None and time < due else due

    def handle_timer(self, now: float) -> None:
        """Whatever is due: retransmissions, reports, the next frame, the agent's wish, a deadline."""
        self.connection.handle_timer(now)
        self.pipeline.handle_timer(now)
        if self._wake_s <= now:
            self._wake_s = inf
            self.agent.woken()
        if self._deadline_s <= now:
            reasons: dict[State, str] = {
                "created": "no_check",
                "connecting": "no_handshake",
                "live": "too_long",
            }
            self.close(reasons.get(self.state, "closed"), now)
        self.advance(now)

    def next_event(self) -> SessionEvent | None:
        """The oldest event, None when there is none."""
        return self._events.popleft() if self._events else None

    # ---- from the outside -------------------------------------------------------------------------

    def data_opened(self, now: float) -> None:
        """The client's data channel is open."""
        self._step("data", now)
        self.dialogue.open(now)
        self.advance(now)

    def data_closed(self, now: float) -> None:
        """The client closed its data channel; the call goes on."""
        self.dialogue.close(now)
        self.advance(now)

    def receive_text(self, text: str, now: float) -> None:
        """A message from the client's data channel."""
        self._counters.data_received += 1
        self.dialogue.receive(text, now)
        self.advance(now)

    def close(self, reason: str, now: float) -> None:
        """End the call; its last datagrams wait in datagrams_to_send. Does nothing the second time."""
        if self.state in ("closing", "closed"):
            return
        self.connection.close(reason, now)
        self.reason = reason
        self._enter("closing", now)
        self.agent.stop()

    def abandon(self, now: float) -> None:
        """Closed without a word: for a session that cannot even say goodbye."""
        self.reason = "fault"
        self._enter("closed", now)

    def advance(self, now: float) -> None:
        """Carry everything from part to part until all are quiet."""
        self._is_busy = True
        try:
            self._carry(now)
            if self.state == "live":
                frames = self.pipeline.frames_to_send(now)
                if frames:
                    self._send(frames, now)
                event = self.pipeline.next_event()  # also without a frame: a response may end in silence
                if event is not None:
                    self._follow_pipeline(event, now)
                    self._carry(now)
        finally:
            self._is_busy = False

    def _send(self, frames: list[Frame], now: float) -> None:
        send_audio = self.connection.send_audio
        for payload, timestamp, marker in frames:
            if send_audio(payload, timestamp, marker, now) and not self._has_sent:
                self._has_sent = True
                self._step("media_out", now)

    def _carry(self, now: float) -> None:
        """What one part says may move another: back to the first one after each. An agent that was told of
        the end hears nothing more, whatever still waits."""
        connection, pipeline, wishes = self.connection, self.pipeline, self._wishes
        while self.state not in ("closing", "closed"):
            event = connection.next_event()
            if event.__class__ is RtpPacket:  # there are thousands of these and few of the others
                self._hear(event, now)
            elif event is not None:
                self._follow_connection(event, now)
            elif wishes:
                self._grant(*wishes.popleft(), now)
            elif (said := pipeline.next_event()) is not None:
                self._follow_pipeline(said, now)
            elif not self._from_dialogue(now):
                return

    # ---- from part to part ------------------------------------------------------------------------

    def _follow_connection(self, event: ConnectionEvent, now: float) -> None:
        if isinstance(event, PathAdded | PathRemoved | DataReceived):
            if self.state == "created" and isinstance(event, PathAdded):
                self._step("check", now)
                self._enter("connecting", now)
            self._events.append(event)
        elif isinstance(event, PathSelected):
            self._step("path", now)
        elif isinstance(event, HandshakeBegun):
            self._step("handshake", now)
        elif isinstance(event, Connected):
            self._step("keys", now)
            self._enter("live", now)
            self.pipeline.configure(self.dialogue.session)
            self.pipeline.start(now)
            self.agent.start(SessionCall(self))
        elif isinstance(event, LossReported):
            self.pipeline.expect_loss(event.percent)
        elif isinstance(event, Ended):
            self.close(event.reason, now)

    def _hear(self, packet: RtpPacket, now: float) -> None:
        if packet.ssrc != self._heard_ssrc:
            if self._heard_ssrc is None:
                self._step("media_in", now)
            else:
                self.pipeline.restart()
            self._heard_ssrc = packet.ssrc
        self.pipeline.receive(packet, packet.extension(self._level_extension), now)

    def _follow_pipeline(self, event: PipelineEvent, now: float) -> None:
        if isinstance(event, SpeechStarted):
            self.dialogue.speech_started(event.at_ms, now)
            self.agent.user_started(event.at_ms)
        elif isinstance(event, SpeechStopped):
            self.agent.user_stopped(event.at_ms)
            self.dialogue.speech_stopped(event.at_ms, now)
        elif isinstance(event, PlayoutStarted):
            self.dialogue.playout_started(now)
        elif isinstance(event, PlayoutStopped):
            self.dialogue.playout_stopped(now)
        elif isinstance(event, Dtmf):
            self.dialogue.agent_event(
                {"type": "input_audio_buffer.dtmf_event_received", "event": event.digit, "at_ms": event.at_ms}
            )

    def _from_dialogue(self, now: float) -> bool:
        text = self.dialogue.next_event()
        if text is not None:
            self._counters.data_sent += 1
            self._events.append(TextToSend(text))
            return True
        command = self.dialogue.next_command()
        if command is None:
            return False
        if isinstance(command, Respond):
            self.agent.respond(command.request)
        elif isinstance(command, CancelResponse | ClearOutput):
            self._cut(now, is_cancel=isinstance(command, CancelResponse))
        elif isinstance(command, PassToAgent):
            self.agent.receive_event(command.event)
        elif isinstance(command, UpdateSession):
            self.pipeline.configure(command.session)
        return True

    def _cut(self, now: float, *, is_cancel: bool) -> None:
        """Nothing of what is queued will be heard."""
        played_ms = self.pipeline.clear(now)
        if is_cancel:
            self.agent.cancel(played_ms)
        self.dialogue.playout_cleared(played_ms, now)

    def _grant(self, wish: str, value: Any, now: float) -> None:
        """What the agent asked for meanwhile."""
        if wish == "wake":
            self._wake_s = now + value
        elif wish == "hang_up":
            self.close(value, now)

    # ---- steps and states -------------------------------------------------------------------------

    def _step(self, name: str, now: float) -> None:
        """Note when a step of the set-up was first reached."""
        if name not in self.steps_ms:
            self.steps_ms[name] = round((now - self.began_s) * 1000, 3)
            self._counters.setup_step_s[name].observe(now - self.began_s)
            if name == "keys":
                self._counters.handshake_s.observe(
                    (self.steps_ms["keys"] - self.steps_ms["handshake"]) / 1000
                )
            self._events.append(StateChanged(self.state, self.reason, dict(self.steps_ms)))

    def _enter(self, state: State, now: float) -> None:
        self.state = state
        self._deadline_s = now + (self._longest_s if state == "live" else SETUP_S)
        self._events.append(StateChanged(state, self.reason, dict(self.steps_ms)))


class SessionCall:
    """The agent's hands (transceiver/agent.py: Call). After the end of the session they move nothing: an
    agent may have a task that goes on speaking."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def session(self) -> Event:
        return self._session.dialogue.session

    def say(self, pcm: Pcm, rate_hz: int) -> None:
        if self._session.state == "live":
            self._session.pipeline.say(pcm, rate_hz)
            self._wish()

    def say_opus(self, payload: bytes, samples: int) -> None:
        session = self._session
        if session.state == "live":
            session.pipeline.say_opus(payload, samples)
            if not session._is_busy:
                session._woken()

    def say_text(self, text: str) -> None:
        if self._session.state == "live":
            self._session.dialogue.agent_said_text(text)
            self._wish()

    def finish(self) -> None:
        if self._session.state == "live":
            self._session.pipeline.finish()
            self._session.dialogue.agent_finished()
            self._wish()

    def send_event(self, event: Event) -> None:
        if self._session.state == "live":
            self._session.dialogue.agent_event(event)
            self._wish()

    def wake_in(self, seconds: float) -> None:
        self._wish("wake", seconds)

    def hang_up(self, reason: str) -> None:
        self._wish("hang_up", reason)

    def _wish(self, wish: str = "", value: Any = None) -> None:
        """Inside of `advance` it is granted at once; from a task of the agent's own the endpoint is told."""
        session = self._session
        if session.state != "live":
            return
        if wish:
            session._wishes.append((wish, value))
        if not session._is_busy:
            session._woken()
