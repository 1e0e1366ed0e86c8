"""Stories of calls whose conversation an external server owns: what passes, and what is ours."""

from __future__ import annotations

import base64
import json

import pytest

from pyfastpath.transceiver.realtime.bridge import BridgeDialogue
from pyfastpath.transceiver.realtime.events import EventError
from tests.support.story import Story, counted_ids

MANUAL = {"audio": {"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}}}


def a_bridge(*, opened: bool = True, **session: object) -> Story:
    return Story(BridgeDialogue(session=session, ids=counted_ids()), opened=opened)


def audio_comes(story: Story, length_ms: int, *, response: str = "resp_a", item: str = "item_a") -> None:
    """The server's audio, 100 ms a delta, faster than real time."""
    for _ in range(length_ms // 100):
        story.agent_sends(
            "response.output_audio.delta",
            response_id=response,
            item_id=item,
            output_index=0,
            content_index=0,
            delta=base64.b64encode(bytes(4800)).decode(),
        )


def an_answer_begins(story: Story, length_ms: int) -> None:
    story.agent_sends("response.created", response={"id": "resp_a"})
    audio_comes(story, length_ms)
    story.agent_sounds()
    story.skip()


def test_what_is_not_ours_passes_both_ways_unchanged():
    story = a_bridge()
    client_events = [
        {"type": "conversation.item.create", "item": {"type": "function_call_output", "output": "5"}},
        {"type": "response.create", "event_id": "mine", "response": {"instructions": "x"}},
        {"type": "response.cancel"},
        {"type": "input_audio_buffer.append", "audio": "AAAA"},
        {"type": "something.new", "deep": {"list": [1, None, "é"]}},
    ]
    for event in client_events:
        story.client_writes(json.dumps(event))
        assert story.passed.popleft() == event
    story.silence()
    server_events = [
        {"type": "response.function_call_arguments.done", "event_id": "theirs", "arguments": "{}"},
        {"type": "conversation.item.input_audio_transcription.completed", "transcript": "é", "event_id": "e"},
        {"type": "rate_limits.updated", "rate_limits": [], "event_id": "f"},
        {"type": "response.output_audio.done", "event_id": "g"},
        {"type": "response.done", "response": {"output": [{"type": "function_call"}]}, "event_id": "h"},
        {"type": "error", "error": {"message": "no"}, "event_id": "i"},
    ]
    for event in server_events:
        story.dialogue.agent_event(event)
        assert json.loads(story.dialogue.next_event() or "") == event
    assert not story.requests
    assert not story.cancels


def test_audio_is_not_an_event():
    story = a_bridge()
    audio_comes(story, 300)
    story.agent_sends("response.audio.delta", delta="AAAA")  # the beta interface's name
    story.silence()


def test_an_answer_is_played():
    story = a_bridge()
    story.agent_sends("response.created", response={"id": "resp_a"})
    audio_comes(story, 400)
    story.agent_sounds()
    story.agent_sends("response.done", response={"id": "resp_a"})
    story.agent_finishes()
    story.seconds_pass(0.4)
    story.all_is_played()
    story.server_says("response.created")
    story.server_says("output_audio_buffer.started", response_id="resp_a")
    story.server_says("response.done")
    story.server_says("output_audio_buffer.stopped", response_id="resp_a")
    story.silence()


def test_a_response_of_function_calls_is_not_played():
    story = a_bridge()
    story.agent_sends("response.created", response={"id": "resp_a"})
    story.agent_sends("response.done", response={"id": "resp_a"})
    story.all_is_played()
    assert story.skip() == ["response.created", "response.done"]


def test_speech_cuts_an_answer_that_is_still_generated():
    story = a_bridge()
    an_answer_begins(story, 2_000)
    story.seconds_pass(0.74)
    story.agent_sends("input_audio_buffer.speech_started", audio_start_ms=5000, item_id="item_u")
    assert story.cancels == [740]
    story.server_says("input_audio_buffer.speech_started", audio_start_ms=5000)
    story.server_says("output_audio_buffer.cleared", response_id="resp_a")
    story.silence()
    story.agent_gets("conversation.item.truncate", item_id="item_a", content_index=0, audio_end_ms=740)
    assert not story.passed


def test_speech_cuts_an_answer_of_which_only_the_sound_is_left():
    story = a_bridge()
    an_answer_begins(story, 2_000)
    story.agent_sends("response.done", response={"id": "resp_a"})
    story.agent_finishes()
    story.seconds_pass(0.5)
    story.agent_sends("input_audio_buffer.speech_started", audio_start_ms=1)
    assert (story.cancels, story.clears) == ([], 1)
    story.agent_gets("conversation.item.truncate", item_id="item_a", audio_end_ms=500)


def test_speech_cuts_a_thought():
    story = a_bridge()
    story.agent_sends("response.created", response={"id": "resp_a"})
    story.agent_sends("input_audio_buffer.speech_started", audio_start_ms=1)
    assert story.cancels == [0]
    assert "output_audio_buffer.cleared" not in story.skip()
    assert not story.passed


def test_speech_in_silence_cuts_nothing():
    story = a_bridge()
    story.agent_sends("input_audio_buffer.speech_started", audio_start_ms=1)
    assert (story.cancels, story.clears) == ([], 0)


@pytest.mark.parametrize(
    "session", [MANUAL, {"turn_detection": {"type": "server_vad", "interrupt_response": False}}]
)
def test_speech_that_must_not_interrupt(session):
    story = a_bridge()
    story.agent_sends("session.updated", session=session)
    an_answer_begins(story, 1_000)
    story.agent_sends("input_audio_buffer.speech_started", audio_start_ms=1)
    assert (story.cancels, story.clears) == ([], 0)


def test_our_own_gate_has_no_say():
    story = a_bridge()
    an_answer_begins(story, 1_000)
    story.user_speaks()
    story.user_stops()
    story.silence()
    assert (story.cancels, story.clears) == ([], 0)


def test_the_client_interrupts():
    story = a_bridge()
    an_answer_begins(story, 2_000)
    story.seconds_pass(0.3)
    story.client_says("response.cancel")
    story.client_says("output_audio_buffer.clear")
    assert story.cancels == [300]
    story.server_says("output_audio_buffer.cleared", response_id="resp_a")
    story.agent_gets("response.cancel")
    story.agent_gets("conversation.item.truncate", audio_end_ms=300)
    assert not story.passed


def test_an_answer_of_two_items_is_truncated_where_it_was_cut():
    story = a_bridge()
    story.agent_sends("response.created", response={"id": "resp_a"})
    audio_comes(story, 500, item="item_a")
    audio_comes(story, 500, item="item_b")
    audio_comes(story, 500, item="item_c")
    story.agent_sounds()
    story.seconds_pass(0.8)
    story.client_says("output_audio_buffer.clear")
    story.agent_gets("conversation.item.truncate", item_id="item_b", audio_end_ms=300)
    story.agent_gets("conversation.item.truncate", item_id="item_c", audio_end_ms=0)
    assert not story.passed


def test_an_answer_behind_another_one():
    """The server's second answer is here before the first has been played to its end."""
    story = a_bridge()
    an_answer_begins(story, 500)
    story.agent_sends("response.done", response={"id": "resp_a"})
    story.agent_sends("response.created", response={"id": "resp_b"})
    audio_comes(story, 500, response="resp_b", item="item_b")
    story.skip()
    story.seconds_pass(0.5)
    story.all_is_played()
    story.server_says("output_audio_buffer.stopped", response_id="resp_a")
    story.agent_sounds()
    story.server_says("output_audio_buffer.started", response_id="resp_b")
    story.seconds_pass(0.2)
    story.client_says("output_audio_buffer.clear")
    story.server_says("output_audio_buffer.cleared", response_id="resp_b")
    story.agent_gets("conversation.item.truncate", item_id="item_b", audio_end_ms=200)


def test_a_session_update_goes_without_model_and_formats():
    story = a_bridge()
    pcmu = {"type": "audio/pcmu"}
    story.client_says(
        "session.update",
        session={
            "type": "realtime",
            "model": "gpt-9",
            "instructions": "x",
            "audio": {
                "input": {"format": pcmu, "turn_detection": None},
                "output": {"format": pcmu, "voice": "v"},
            },
        },
    )
    assert story.passed.popleft()["session"] == {
        "type": "realtime",
        "instructions": "x",
        "audio": {"input": {"turn_detection": None}, "output": {"voice": "v"}},
    }
    story.client_says("session.update", session={"voice": "v", "input_audio_format": "g711_ulaw", "audio": 3})
    assert story.passed.popleft()["session"] == {"voice": "v", "audio": 3}
    story.client_says("session.update", session=4)
    story.agent_gets("session.update", session=4)  # the server's to refuse


def test_the_session_is_the_servers():
    story = a_bridge(instructions="wish")
    assert story.dialogue.session == {"instructions": "wish"}
    story.silence()
    story.agent_sends("session.created", session={"id": "theirs"})
    story.server_says("session.created", session={"id": "theirs"})
    assert story.dialogue.session == {"id": "theirs"}


@pytest.mark.parametrize(
    "session", [{"audio": 5}, {"turn_detection": {"type": "server_vad", "threshold": "x"}}]
)
def test_a_session_that_cannot_be_is_refused_with_the_call(session):
    with pytest.raises(EventError):
        a_bridge(**session)


def test_a_data_channel_that_comes_after_the_servers_session():
    story = a_bridge(opened=False)
    story.agent_sends("session.created", session={"id": "theirs", "voice": "a"})
    story.agent_sends("session.updated", session={"id": "theirs", "voice": "b"})
    story.agent_sends("rate_limits.updated")
    story.client_opens()
    story.server_says("session.created", session={"id": "theirs", "voice": "b"})
    story.silence()
    story.client_opens()
    story.silence()


def test_an_error_before_the_data_channel_is_told_when_it_opens():
    story = a_bridge(opened=False)
    story.agent_sends("error", error={"message": "refused"})
    story.client_opens()
    story.server_says("error", error={"message": "refused"})
    story.client_closes()
    story.client_opens()
    story.silence()


def test_a_mistake_of_the_client_is_answered_here():
    story = a_bridge()
    story.client_writes("{")
    story.server_refuses("invalid_json")
    assert not story.passed


def test_events_of_the_server_that_are_not_what_they_should_be():
    story = a_bridge()
    for fields in ({"delta": None}, {"content_index": "x", "delta": 5}, {"item_id": 4}):
        story.agent_sends("response.output_audio.delta", **fields)
    for fields in ({"session": 5}, {"session": {"audio": 4}}, {"session": {"audio": {"input": 4}}}):
        story.agent_sends("session.updated", **fields)
        story.agent_sends("input_audio_buffer.speech_started")
    story.agent_sends("response.created")
    story.client_says("output_audio_buffer.clear")
    assert story.cancels == [0]
