"""Stories of calls whose agent answers turn by turn: one story a test."""

from __future__ import annotations

import base64
import json

import pytest

from pyfastpath.transceiver.realtime.events import EVENT_BYTES_MAX, EventError
from pyfastpath.transceiver.realtime.turns import TurnDialogue
from tests.support.story import Story, counted_ids

MANUAL = {"audio": {"input": {"turn_detection": None}}}


def a_turn_of_the_user(story: Story) -> None:
    story.user_speaks()
    story.user_stops()


def an_answer_that_sounds(story: Story) -> None:
    a_turn_of_the_user(story)
    story.agent_sounds()
    story.skip()


# ---- turns ------------------------------------------------------------------------------------------


def test_a_whole_turn():
    story = Story()
    story.user_speaks(at_ms=1200)
    story.server_says("input_audio_buffer.speech_started", audio_start_ms=1200, item_id="item_1")
    story.silence()

    story.user_stops(at_ms=2600)
    story.server_says("input_audio_buffer.speech_stopped", audio_end_ms=2600, item_id="item_1")
    story.server_says("input_audio_buffer.committed", item_id="item_1", previous_item_id=None)
    user_item = {"id": "item_1", "type": "message", "role": "user", "status": "completed"}
    story.server_says("conversation.item.added", item=user_item, previous_item_id=None)
    story.server_says("conversation.item.done", item=user_item)
    story.server_says("response.created", response={"id": "resp_1", "status": "in_progress", "output": []})
    story.server_says("rate_limits.updated", rate_limits=[])
    story.silence()
    request = story.agent_is_asked()
    assert (request.response_id, request.item_id, request.parameters) == ("resp_1", "item_2", {})

    story.seconds_pass(0.1)
    story.agent_sounds()
    begun = {"id": "item_2", "role": "assistant", "status": "in_progress", "content": []}
    place = {"response_id": "resp_1", "output_index": 0}
    story.server_says("response.output_item.added", item=begun, **place)
    story.server_says("conversation.item.added", item=begun, previous_item_id="item_1")
    story.server_says(
        "response.content_part.added", item_id="item_2", content_index=0, part={"type": "audio"}
    )
    story.server_says("output_audio_buffer.started", response_id="resp_1")

    story.agent_writes("Good ")
    story.server_says("response.output_audio_transcript.delta", delta="Good ", item_id="item_2", **place)
    story.agent_writes("day")
    story.server_says("response.output_audio_transcript.delta", delta="day")
    story.agent_finishes()
    story.silence()

    story.seconds_pass(2)
    story.all_is_played()
    content = [{"type": "output_audio", "transcript": "Good day"}]
    said = {"id": "item_2", "status": "completed", "content": content}
    story.server_says("response.output_audio.done", item_id="item_2", content_index=0, **place)
    story.server_says("response.output_audio_transcript.done", transcript="Good day", **place)
    story.server_says("response.content_part.done", part={"type": "audio", "transcript": "Good day"}, **place)
    story.server_says("response.output_item.done", item=said, **place)
    story.server_says("conversation.item.done", item=said, previous_item_id="item_1")
    story.server_says(
        "response.done",
        response={"id": "resp_1", "status": "completed", "status_details": None, "output": [said]},
    )
    story.server_says("output_audio_buffer.stopped", response_id="resp_1")
    story.silence()
    assert not story.cancels


def test_the_next_turn_has_new_names():
    story = Story()
    an_answer_that_sounds(story)
    story.agent_finishes()
    story.all_is_played()
    story.skip()
    a_turn_of_the_user(story)
    story.server_says("input_audio_buffer.speech_started", item_id="item_3")
    story.server_says("input_audio_buffer.speech_stopped", item_id="item_3")
    story.server_says("input_audio_buffer.committed", item_id="item_3", previous_item_id="item_2")
    story.server_goes_on_to("response.created", response={"id": "resp_2"})


def test_an_answer_without_a_sound():
    story = Story()
    a_turn_of_the_user(story)
    story.skip()
    story.agent_finishes()
    story.all_is_played()
    story.server_says("response.done", response={"status": "completed", "output": []})
    story.silence()


def test_an_answer_of_words_only():
    story = Story()
    a_turn_of_the_user(story)
    story.skip()
    story.agent_writes("Hm")
    story.agent_finishes()
    story.all_is_played()
    assert "output_audio_buffer.started" not in story.skip()


def test_an_agent_that_speaks_first():
    story = Story()
    story.agent_finishes()  # say() and finish() at once: the first frame leaves a little later
    story.agent_sounds()
    story.server_says("response.created", response={"id": "resp_1"})
    story.server_goes_on_to("output_audio_buffer.started")
    story.all_is_played()
    story.server_goes_on_to("response.done", response={"status": "completed"})
    story.server_says("output_audio_buffer.stopped")
    assert not story.requests


def test_an_agent_that_speaks_first_with_words():
    story = Story()
    story.agent_writes("Hello")
    story.agent_finishes()
    story.agent_sounds()
    story.seconds_pass(1)
    story.all_is_played()
    story.server_says("response.created")
    done = story.server_goes_on_to("response.done", response={"status": "completed"})
    assert done["response"]["output"][0]["content"][0]["transcript"] == "Hello"


# ---- interruptions ----------------------------------------------------------------------------------


def test_the_user_interrupts():
    story = Story()
    a_turn_of_the_user(story)
    story.agent_sounds()
    story.agent_writes("A long story")
    story.skip()
    story.seconds_pass(0.74)

    story.user_speaks(at_ms=5000)
    assert story.cancels == [740]
    story.server_says("input_audio_buffer.speech_started", audio_start_ms=5000, item_id="item_3")
    story.server_goes_on_to("response.output_item.done", item={"id": "item_2", "status": "incomplete"})
    story.server_says("conversation.item.done")
    story.server_says(
        "response.done",
        response={
            "id": "resp_1",
            "status": "cancelled",
            "status_details": {"type": "cancelled", "reason": "turn_detected"},
        },
    )
    story.server_says("output_audio_buffer.cleared", response_id="resp_1")
    story.server_says("conversation.item.truncated", item_id="item_2", content_index=0, audio_end_ms=740)
    story.silence()

    story.user_stops(at_ms=6000)
    story.server_goes_on_to("response.created", response={"id": "resp_2"})


def test_the_user_interrupts_a_thought():
    story = Story()
    a_turn_of_the_user(story)
    story.skip()
    story.user_speaks()
    assert story.cancels == [0]
    story.server_says("input_audio_buffer.speech_started")
    story.server_says("response.done", response={"status": "cancelled", "output": []})
    story.silence()


def test_the_user_interrupts_the_last_words():
    """The agent has finished long ago, its audio is still being played: cut off all the same."""
    story = Story()
    an_answer_that_sounds(story)
    story.agent_finishes()
    story.seconds_pass(1)
    story.user_speaks()
    assert story.cancels == [1000]
    story.server_goes_on_to("response.done", response={"status": "cancelled"})
    story.server_says("output_audio_buffer.cleared")


def test_what_a_cut_off_agent_still_says_is_not_heard_of():
    story = Story()
    an_answer_that_sounds(story)
    story.user_speaks()
    story.skip()
    story.agent_finishes()
    story.all_is_played()
    story.silence()


def test_the_user_may_not_interrupt():
    story = Story(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
    an_answer_that_sounds(story)
    a_turn_of_the_user(story)
    assert not story.cancels
    assert "response.created" not in story.skip()
    story.agent_finishes()
    story.all_is_played()
    story.server_goes_on_to("response.done", response={"status": "completed"})
    story.server_says("output_audio_buffer.stopped")
    story.server_says("response.created", response={"id": "resp_2"})  # the turn that had to wait
    assert len(story.requests) == 2
    story.agent_finishes()
    story.all_is_played()
    story.server_goes_on_to("response.done", response={"id": "resp_2"})
    story.silence()


def test_a_turn_that_waits_is_forgotten_when_the_client_wants_silence():
    story = Story(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": False}}})
    an_answer_that_sounds(story)
    a_turn_of_the_user(story)
    story.client_says("output_audio_buffer.clear")
    assert "response.created" not in story.skip()
    assert len(story.requests) == 1


def test_the_client_interrupts():
    """What the Agents SDK's interrupt() sends."""
    story = Story()
    an_answer_that_sounds(story)
    story.seconds_pass(0.3)
    story.client_says("response.cancel")
    story.client_says("output_audio_buffer.clear")
    assert story.cancels == [300]
    story.server_goes_on_to(
        "response.done",
        response={"status": "cancelled", "status_details": {"reason": "client_cancelled"}},
    )
    story.server_says("output_audio_buffer.cleared", response_id="resp_1")
    story.server_says("conversation.item.truncated", audio_end_ms=300)
    story.silence()


def test_the_client_only_clears_the_output():
    story = Story()
    an_answer_that_sounds(story)
    story.client_says("output_audio_buffer.clear")
    assert story.cancels == [0]
    story.server_goes_on_to("response.done", response={"status": "cancelled"})
    story.server_says("output_audio_buffer.cleared", response_id="resp_1")


def test_clearing_silence_is_no_event():
    story = Story()
    story.client_says("output_audio_buffer.clear")
    story.silence()
    assert (story.clears, story.cancels) == (1, [])


def test_cancelling_nothing_is_refused():
    story = Story()
    story.client_says("response.cancel", event_id="mine")
    story.server_refuses("response_cancel_not_active", event_id="mine")


def test_cancelling_another_response_is_refused():
    story = Story()
    an_answer_that_sounds(story)
    story.client_says("response.cancel", response_id="resp_77")
    assert "resp_1" in story.server_refuses("response_cancel_not_active", param="response_id")
    assert not story.cancels
    story.client_says("response.cancel", response_id="resp_1")
    assert story.cancels == [0]


# ---- turns that the client ends ---------------------------------------------------------------------


def test_a_turn_without_detection():
    story = Story(**MANUAL)
    a_turn_of_the_user(story)  # the gate may say what it likes
    story.silence()
    story.seconds_pass(2)
    story.client_says("input_audio_buffer.commit")
    story.agent_gets("input_audio_buffer.commit")
    story.server_says("input_audio_buffer.committed", item_id="item_1", previous_item_id=None)
    story.server_says("conversation.item.added")
    story.server_says("conversation.item.done")
    story.silence()
    assert not story.requests
    story.client_says("response.create", response={"instructions": "Be brief", "metadata": {"a": "b"}})
    story.server_says("response.created", response={"id": "resp_1", "metadata": {"a": "b"}})
    assert story.agent_is_asked().parameters == {"instructions": "Be brief", "metadata": {"a": "b"}}


def test_a_commit_of_nothing_is_refused():
    story = Story(**MANUAL)
    story.seconds_pass(0.05)
    story.client_says("input_audio_buffer.commit")
    assert "50 ms" in story.server_refuses("input_audio_buffer_commit_empty")
    story.silence()


def test_audio_over_the_data_channel_can_be_committed():
    story = Story(**MANUAL)
    audio = base64.b64encode(bytes(4800)).decode()
    story.client_says("input_audio_buffer.append", audio=audio)
    story.agent_gets("input_audio_buffer.append", audio=audio)
    story.client_says("input_audio_buffer.commit")
    story.server_says("input_audio_buffer.committed")


def test_a_cleared_input_begins_anew():
    story = Story(**MANUAL)
    story.seconds_pass(2)
    story.client_says("input_audio_buffer.clear")
    story.server_says("input_audio_buffer.cleared")
    story.agent_gets("input_audio_buffer.clear")
    story.client_says("input_audio_buffer.commit")
    story.server_refuses("input_audio_buffer_commit_empty")


def test_turns_found_but_not_answered():
    story = Story(audio={"input": {"turn_detection": {"type": "server_vad", "create_response": False}}})
    a_turn_of_the_user(story)
    story.server_goes_on_to("conversation.item.done")
    story.silence()
    story.client_says("response.create")
    story.server_says("response.created")
    story.agent_is_asked()


def test_one_response_at_a_time():
    story = Story()
    an_answer_that_sounds(story)
    story.client_says("response.create", event_id="second")
    message = story.server_refuses("conversation_already_has_active_response", event_id="second")
    assert "resp_1" in message
    assert len(story.requests) == 1


def test_detection_switched_off_in_the_middle_of_a_word():
    story = Story()
    story.user_speaks()
    story.client_says("session.update", session=MANUAL)
    story.skip()
    story.user_stops()
    story.silence()
    story.client_says(
        "session.update", session={"audio": {"input": {"turn_detection": {"type": "server_vad"}}}}
    )
    story.skip()
    story.user_speaks()
    story.server_says("input_audio_buffer.speech_started")


def test_an_agent_that_takes_no_turns():
    story = Story(takes_turns=False)
    story.agent_sounds()
    story.agent_writes("la la")
    story.silence()
    story.user_speaks()
    story.server_says("input_audio_buffer.speech_started")
    story.user_stops()
    story.server_says("input_audio_buffer.speech_stopped")
    story.silence()
    story.client_says("response.create")
    story.server_refuses("response_create_unsupported")
    assert not story.requests


# ---- the session ------------------------------------------------------------------------------------


def test_the_session_is_shown_and_updated():
    story = Story(opened=False)
    story.client_opens()
    created = story.server_says("session.created")["session"]
    assert created["id"].startswith("sess_")
    assert created["object"] == "realtime.session"
    story.client_says(
        "session.update", session={"type": "realtime", "instructions": "Sing", "tools": [{"a": 1}]}
    )
    updated = story.server_says("session.updated")["session"]
    assert updated == created | {"instructions": "Sing", "tools": [{"a": 1}]}
    assert story.updates == [updated]
    assert story.dialogue.session == updated


def test_a_wrong_update_names_its_parameter_and_changes_nothing():
    story = Story()
    before = story.dialogue.session
    wrong = {
        "instructions": "x",
        "audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": 7}}},
    }
    story.client_says("session.update", session=wrong, event_id="e7")
    story.server_refuses("invalid_value", param="session.audio.input.turn_detection.threshold", event_id="e7")
    story.silence()
    assert story.dialogue.session == before
    assert not story.updates


def test_a_session_wrong_from_the_start():
    with pytest.raises(EventError) as caught:
        TurnDialogue(session={"tools": "hammer"}, ids=counted_ids(), takes_turns=True)
    assert caught.value.param == "session.tools"


# ---- items ------------------------------------------------------------------------------------------


def user_text(text: str, **fields: object) -> dict[str, object]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **fields}


def test_items_come_and_go():
    story = Story()
    story.client_says("conversation.item.create", item=user_text("one", id="a"))
    story.server_says(
        "conversation.item.added", item={"id": "a", "status": "completed"}, previous_item_id=None
    )
    story.server_says("conversation.item.done", item={"id": "a"})
    story.agent_gets("conversation.item.create", item={"id": "a"})
    story.client_says("conversation.item.create", item=user_text("two"))
    story.server_says("conversation.item.added", item={"id": "item_1"}, previous_item_id="a")
    story.server_says("conversation.item.done")
    story.client_says("conversation.item.create", item=user_text("zero", id="z"), previous_item_id="root")
    story.server_says("conversation.item.added", item={"id": "z"}, previous_item_id=None)
    story.server_says("conversation.item.done")
    story.client_says("conversation.item.retrieve", item_id="a")
    story.server_says("conversation.item.retrieved", item=user_text("one", id="a"))
    story.client_says("conversation.item.delete", item_id="a")
    story.server_says("conversation.item.deleted", item_id="a")
    story.client_says("conversation.item.retrieve", item_id="a", event_id="gone")
    story.server_refuses("item_retrieve_invalid_item_id", param="item_id", event_id="gone")
    story.client_says("conversation.item.delete", item_id="a")
    story.server_refuses("item_delete_invalid_item_id", param="item_id")
    story.silence()


def test_a_text_message_is_answered():
    """What the Agents SDK's sendMessage sends."""
    story = Story()
    story.client_says("conversation.item.create", item=user_text("Hello"))
    story.client_says("response.create", event_id="agents_js_response_create_1")
    story.server_goes_on_to("response.created")
    story.agent_gets("conversation.item.create", item=user_text("Hello", id="item_1"))
    story.agent_is_asked()


def test_an_item_is_truncated():
    story = Story()
    an_answer_that_sounds(story)
    story.agent_writes("Three seconds of words")
    story.agent_finishes()
    story.seconds_pass(3)
    story.all_is_played()
    story.skip()
    truncate = {"item_id": "item_2", "content_index": 0}
    story.client_says("conversation.item.truncate", **truncate, audio_end_ms=9000)
    assert "3000 ms" in story.server_refuses("invalid_value", param="audio_end_ms")
    story.client_says("conversation.item.truncate", **truncate, audio_end_ms=1500)
    story.server_says("conversation.item.truncated", **truncate, audio_end_ms=1500)
    story.agent_gets("conversation.item.truncate", audio_end_ms=1500)
    story.client_says("conversation.item.retrieve", item_id="item_2")  # the SDK asks at once
    content = [{"type": "output_audio", "transcript": None}]
    story.server_says("conversation.item.retrieved", item={"id": "item_2", "content": content})
    story.client_says("conversation.item.truncate", **truncate | {"item_id": "item_1"}, audio_end_ms=1)
    story.server_refuses("invalid_value", param="item_id")


def test_an_item_deleted_while_it_is_said():
    story = Story()
    an_answer_that_sounds(story)
    story.client_says("conversation.item.delete", item_id="item_2")
    story.server_says("conversation.item.deleted")
    story.user_speaks()
    story.server_goes_on_to("response.output_item.done")
    story.server_says("response.done", response={"status": "cancelled"})
    story.server_says("output_audio_buffer.cleared")
    story.silence()


def test_a_function_call_and_its_output():
    story = Story()
    a_turn_of_the_user(story)
    story.skip()
    call = {"type": "function_call", "name": "weather", "arguments": "{}"}
    story.agent_sends("response.output_item.done", item=call)
    story.server_says("response.output_item.added", item={"status": "in_progress"}, output_index=0)
    story.server_says("conversation.item.added", item={"name": "weather"}, previous_item_id="item_1")
    done = story.server_says("response.output_item.done", response_id="resp_1", item={"status": "completed"})
    story.server_says("conversation.item.done", item={"name": "weather"})
    story.agent_finishes()
    story.all_is_played()
    story.server_says("response.done", response={"status": "completed", "output": [{"name": "weather"}]})
    output = {"type": "function_call_output", "call_id": done["item"]["call_id"], "output": "rain"}
    story.client_says("conversation.item.create", item=output)
    story.agent_gets("conversation.item.create", item=output)
    story.client_says("response.create")
    story.server_goes_on_to("response.created", response={"id": "resp_2"})


def test_a_response_beside_the_conversation():
    story = Story()
    story.client_says("response.create", response={"conversation": "none"})
    story.agent_sounds()
    story.agent_finishes()
    story.all_is_played()
    created = story.server_says("response.created")
    assert created["response"]["conversation_id"] is None
    kinds = story.skip()
    assert "response.output_item.done" in kinds
    assert not [kind for kind in kinds if kind.startswith("conversation.item")]


def test_an_event_of_the_agents_own_passes():
    story = Story()
    story.agent_sends("weather.changed", sky="grey")
    story.server_says("weather.changed", sky="grey")


# ---- mistakes, after which the call goes on ---------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "code", "param"),
    [
        ("{", "invalid_json", None),
        ("[]", "invalid_json", None),
        ("[" * 300_0, "invalid_json", None),
        ("\ud800", "invalid_json", None),
        ("{}", "missing_required_parameter", "type"),
        ('{"type": 5}', "missing_required_parameter", "type"),
        ('{"type": "session.explode"}', "unknown_event", "type"),
        ('{"type": "session.update"}', "missing_required_parameter", "session"),
        ('{"type": "session.update", "session": 4}', "invalid_value", "session"),
        ('{"type": "conversation.item.create"}', "missing_required_parameter", "item"),
        ('{"type": "conversation.item.create", "item": {"type": "poem"}}', "invalid_value", "item.type"),
        ('{"type": "conversation.item.retrieve"}', "missing_required_parameter", "item_id"),
        ('{"type": "input_audio_buffer.append", "audio": "#"}', "invalid_value", "audio"),
        ('{"type": "input_audio_buffer.append", "audio": "QUJD"}', "invalid_value", "audio"),
        ('{"type": "response.create", "response": {"metadata": 3}}', "invalid_value", "response.metadata"),
    ],
)
def test_a_mistake_is_answered_and_the_call_goes_on(text, code, param):
    story = Story()
    story.client_writes(text)
    story.server_refuses(code, param)
    story.silence()
    a_turn_of_the_user(story)
    story.server_goes_on_to("response.created")


def test_an_event_that_is_too_large():
    story = Story()
    story.client_says("conversation.item.create", item=user_text("x" * EVENT_BYTES_MAX))
    story.server_refuses("event_too_large")
    story.client_writes(json.dumps({"type": "a" * (EVENT_BYTES_MAX // 2), "é": "é" * 20}, ensure_ascii=False))
    assert len(story.server_refuses("unknown_event", param="type")) < 1000
    story.client_writes("é" * (EVENT_BYTES_MAX - 100))  # few enough characters, too many bytes
    story.server_refuses("event_too_large")


# ---- data channels ----------------------------------------------------------------------------------


def test_a_second_data_channel_changes_nothing():
    story = Story()
    story.client_opens()
    story.silence()


def test_a_call_without_a_data_channel_is_answered_all_the_same():
    """A WHIP client opens none: no events pile up, the agent is asked and interrupted."""
    story = Story(opened=False)
    for _ in range(3):
        a_turn_of_the_user(story)
        story.agent_is_asked()
        story.agent_sounds()
        story.agent_writes("hello")
        story.seconds_pass(0.5)
    story.user_speaks()
    assert story.cancels == [500, 500, 500]
    story.silence()


def test_a_data_channel_that_comes_late_or_again():
    story = Story(opened=False)
    an_answer_that_sounds(story)
    story.client_opens()
    story.server_says("session.created")
    story.agent_finishes()
    story.all_is_played()
    story.server_goes_on_to("response.done")
    story.client_closes()
    a_turn_of_the_user(story)
    story.client_opens()
    story.server_says("session.created")
    story.silence()
