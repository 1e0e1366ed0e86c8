"""A session from offer to end in virtual time: states, steps, agents, the data channel's texts."""

from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest

from pyfastpath.transceiver.agent import Agent, AudioFrame, ResponseRequest
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.agents.tone import Tone
from pyfastpath.transceiver.events import StateChanged
from pyfastpath.transceiver.requests import CreateSession, SessionError
from pyfastpath.wire import rtcp
from tests.support.rtc_call import LONGEST_S, Call
from tests.support.rtc_client import certificate


class Recorder(Agent):
    """Remembers what it is told."""

    name: ClassVar[str] = "recorder"

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []
        self.frames: list[AudioFrame] = []

    def start(self, call):
        super().start(call)
        self.told.append(("start", None))

    def hear(self, frame):
        self.frames.append(frame)

    def user_started(self, time_ms):
        self.told.append(("user_started", time_ms))

    def user_stopped(self, time_ms):
        self.told.append(("user_stopped", time_ms))

    def respond(self, request: ResponseRequest):
        self.told.append(("respond", request.response_id))
        self.call.say(np.zeros(24_000, np.int16), 24_000)
        self.call.finish()

    def cancel(self, played_ms):
        self.told.append(("cancel", played_ms))

    def receive_event(self, event):
        self.told.append(("event", event["type"]))

    def woken(self):
        self.told.append(("woken", None))

    def stop(self):
        self.told.append(("stop", None))

    @property
    def words(self) -> list[str]:
        return [word for word, _ in self.told]


class Twice(Recorder):
    """Says two things at once."""

    def woken(self):
        for frames in (3, 5):
            self.call.say(np.full(480 * frames, 1000, np.int16), 24_000)
            self.call.finish()


class Leaver(Recorder):
    """Hangs up when the user has spoken."""

    def user_stopped(self, time_ms):
        super().user_stopped(time_ms)
        self.call.hang_up("agent")


def test_states_and_steps_in_their_order():
    call = Call(Recorder())
    assert call.state == "created"
    call.up(call.client.check())
    assert call.state == "connecting"
    call.up(*call.client.start_dtls(call.now))
    call.run(0.2)
    assert call.state == "live"
    call.speak(0.1, -30)
    call.server.close("hangup", call.now)
    call.settle()
    assert call.state == "closed"
    changes = call.take(StateChanged)
    states = list(dict.fromkeys(change.state for change in changes))
    assert states == ["created", "connecting", "live", "closing", "closed"]
    assert changes[-1].reason == "hangup"
    steps = changes[-1].steps_ms
    assert list(steps) == ["check", "path", "handshake", "keys", "media_in"]
    assert sorted(steps.values()) == list(steps.values())
    counted = {name for name, histogram in call.counters.setup_step_s.items() if histogram.count}
    assert counted == steps.keys()
    assert call.counters.handshake_s.count == 1
    assert call.counters.handshake_s.sum == pytest.approx((steps["keys"] - steps["handshake"]) / 1000)


def test_messages_of_the_data_channel_are_counted():
    call = Call(Recorder())
    call.connect()
    session = call.made.session
    session.data_opened(call.now)
    session.receive_text('{"type": "nonsense"}', call.now)
    session.receive_text("nothing", call.now)
    call.settle()
    assert [text["type"] for text in call.texts] == ["session.created", "error", "error"]
    assert (call.counters.data_received, call.counters.data_sent) == (2, 3)


def test_echo_sends_back_the_very_packets():
    call = Call(Echo())
    call.connect()
    call.up(call.client.audio(b"\x78one"), call.client.audio(b"\x78two"))
    call.run(0.05)
    assert [packet.payload for packet in call.client.received] == [b"\x78one", b"\x78two"]
    first, second = call.client.received
    assert second.sequence == first.sequence + 1 & 0xFFFF


def test_tone_speaks_without_being_spoken_to():
    call = Call(Tone())
    call.connect()
    call.run(1.0)
    assert 45 <= len(call.client.received) <= 65
    stamps = [packet.timestamp for packet in call.client.received]
    assert {(b - a) & 0xFFFFFFFF for a, b in pairwise(stamps)} == {960}


def test_a_turn_from_speech_to_answer():
    agent = Recorder()
    call = Call(agent)
    call.connect()
    call.made.session.data_opened(call.now)
    call.speak(0.5, -90)
    call.speak(1.0, -20)
    call.speak(2.5, -90)
    assert agent.words[:4] == ["start", "user_started", "user_stopped", "respond"]
    assert all(frame.pcm is not None for frame in agent.frames)
    types = [text["type"] for text in call.texts]
    order = [
        "session.created",
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "response.created",
        "output_audio_buffer.started",
        "response.done",
        "output_audio_buffer.stopped",
    ]
    assert [kind for kind in types if kind in order] == order
    assert len(call.client.received) >= 50


def test_speaking_over_the_agent_cuts_him_off():
    agent = Recorder()
    agent.respond = lambda request: agent.call.say(np.zeros(24_000 * 10, np.int16), 24_000)
    call = Call(agent)
    call.connect()
    call.made.session.data_opened(call.now)
    call.speak(0.5, -90)
    call.speak(1.0, -20)
    call.speak(1.5, -90)
    heard = len(call.client.received)
    assert heard > 20
    call.speak(1.0, -20)
    after = len(call.client.received)
    call.speak(0.5, -20)
    assert len(call.client.received) == after
    assert "cancel" in agent.words
    done = [text for text in call.texts if text["type"] == "response.done"]
    assert done[-1]["response"]["status"] == "cancelled"
    assert "output_audio_buffer.cleared" in [text["type"] for text in call.texts]


def test_the_agents_own_tasks_wake_the_endpoint_and_are_granted_later():
    agent = Recorder()
    call = Call(agent)
    call.connect()
    before = call.woken
    agent.call.wake_in(0.5)
    assert call.woken == before + 1
    call.made.session.advance(call.now)
    call.run(0.4)
    assert "woken" not in agent.words
    call.run(0.2)
    assert "woken" in agent.words
    agent.call.hang_up("agent")
    call.made.session.advance(call.now)
    call.settle()
    assert (call.state, call.made.session.reason) == ("closed", "agent")
    assert call.client.is_closed
    assert agent.words[-1] == "stop"
    woken = call.woken
    agent.call.say(np.ones(480_000, np.int16), 24_000)  # nothing happens, and nothing is kept
    agent.call.say_opus(b"\x78", 960)
    agent.call.finish()
    agent.call.wake_in(0.0)
    assert call.server.get_timer() is None
    assert call.made.session.pipeline.get_timer() is None
    assert call.woken == woken


def test_each_finish_ends_what_was_said_before_it():
    agent = Twice()
    call = Call(agent)
    call.connect()
    call.made.session.data_opened(call.now)
    agent.call.wake_in(0.1)
    call.made.session.advance(call.now)
    call.run(1.0)
    types = [text["type"] for text in call.texts]
    assert types.count("response.created") == types.count("response.done") == 2
    assert types.count("output_audio_buffer.stopped") == 2
    assert len(call.client.received) == 8


def test_an_agent_that_hung_up_is_told_nothing_more():
    agent = Leaver()
    call = Call(agent)
    call.connect()
    call.speak(0.5, -90)
    call.speak(1.0, -20)
    call.speak(1.5, -90)
    assert agent.words == ["start", "user_started", "user_stopped", "stop"]


@pytest.mark.parametrize(("until", "reason"), [("created", "no_check"), ("connecting", "no_handshake")])
def test_nobody_waits_for_ever(until, reason):
    call = Call(Recorder())
    if until == "connecting":
        call.up(call.client.check())
        for _ in range(7):
            call.run(5)
            call.up(call.client.check())  # alive, but without a handshake
    else:
        call.run(31)
    assert (call.state, call.made.session.reason) == ("closed", reason)


def test_a_call_may_be_too_long():
    call = Call(Recorder())
    call.connect()
    while call.state == "live" and call.now < 1000 + LONGEST_S + 10:
        call.up(call.client.check())
        call.run(5)
    assert call.made.session.reason == "too_long"


def test_a_bad_offer_is_refused_with_its_line():
    call = Call(Recorder())
    text = call.request.offer.replace("a=rtcp-mux\r\n", "")
    with pytest.raises(SessionError) as caught:
        call.answering.answer(CreateSession(2, "", "xxxx", text, ()), 0.0, lambda: None)
    assert caught.value.code == "no_rtcp_mux"
    assert caught.value.line > 0


@pytest.mark.parametrize(
    ("before", "after", "code"),
    [
        (certificate().fingerprint[1].hex(":").upper(), ":".join(["0A"] * 32), "bad_fingerprint"),
        ("a=mid:1", "a=mid:7", "bad_sdp"),
    ],
    ids=["another certificate", "other sections"],
)
def test_an_ice_restart_by_another_connections_offer_is_refused(before, after, code):
    """Nobody would answer its handshake, and its checks would keep a dead call."""
    call = Call(Recorder())
    call.connect()
    with pytest.raises(SessionError) as caught:
        call.answering.restart(call.made, "fresh", call.client.offer().replace(before, after), ())
    assert caught.value.code == code
    assert call.made.version == 1
    assert not call.made.session.connection._ice.owns("fresh")
    assert call.answering.restart(call.made, "fresh", call.client.offer(), ()).startswith("v=0")


def test_a_bad_session_object_is_refused_by_name():
    call = Call(Recorder())
    wanted = {"audio": {"input": {"turn_detection": {"type": "telepathy"}}}}
    with pytest.raises(SessionError, match="turn_detection"):
        call.answering.answer(CreateSession(2, "", "xxxx", call.request.offer, (), wanted), 0.0, lambda: None)


def test_the_sessions_first_turn_detection_counts_from_the_start():
    agent = Recorder()
    call = Call(agent, {"type": "realtime", "audio": {"input": {"turn_detection": None}}})
    call.connect()
    call.speak(1.0, -20)
    call.speak(1.5, -90)
    assert agent.words == ["start"]
    assert len(agent.frames) > 100


def test_loss_that_the_client_reports_reaches_the_encoder(monkeypatch):
    call = Call(Recorder())
    call.connect()
    told = []
    monkeypatch.setattr(call.made.session.pipeline, "expect_loss", told.append)
    for lost in (64, 64, 0):
        block = rtcp.ReportBlock(call.made.session.connection.ssrc, lost, 10, 100, 0, 0, 0)
        report = rtcp.build_compound([rtcp.ReceiverReport(call.client.ssrc, (block,))])
        call.up(call.client.srtp.protect_rtcp(report))
    assert told == [25, 0]


def test_a_response_without_audio_ends_at_once():
    agent = Recorder()
    agent.respond = lambda request: agent.call.finish()
    call = Call(agent)
    call.connect()
    call.made.session.data_opened(call.now)
    call.made.session.receive_text('{"type": "response.create"}', call.now)
    call.settle()
    assert "response.done" in [text["type"] for text in call.texts]
