"""The session object: defaults, updates as the libraries send them, refusals, the beta interface's keys."""

from __future__ import annotations

import copy

import pytest

from pyfastpath.transceiver.realtime.events import EventError
from pyfastpath.transceiver.realtime.session import (
    SESSION_BYTES_MAX,
    SemanticVad,
    ServerVad,
    default_session,
    turn_detection,
    update_session,
)

# What @openai/agents-realtime 0.20 sends when its data channel opens.
AGENTS_SDK = {
    "type": "realtime",
    "instructions": "Be kind",
    "model": "gpt-realtime-2.1",
    "output_modalities": ["audio"],
    "audio": {
        "input": {
            "format": {"type": "audio/pcm", "rate": 24000},
            "noise_reduction": None,
            "transcription": {"model": "gpt-4o-mini-transcribe"},
            "turn_detection": {"type": "semantic_vad"},
        },
        "output": {"format": {"type": "audio/pcm", "rate": 24000}, "speed": 1},
    },
    "tools": [{"type": "function", "name": "f", "description": "", "parameters": {"type": "object"}}],
}


def test_the_defaults():
    session = default_session("sess_1")
    assert session["id"] == "sess_1"
    assert turn_detection(session) == ServerVad(0.5, 300, 500, create_response=True, interrupt_response=True)
    assert update_session(session, {}) == session


def test_the_update_of_the_agents_sdk():
    session = update_session(default_session("sess_1"), AGENTS_SDK)
    assert turn_detection(session) == SemanticVad()
    assert session["audio"]["input"]["turn_detection"]["interrupt_response"] is True  # defaults are shown
    assert session["tools"] == AGENTS_SDK["tools"]
    assert session["model"] == "gpt-realtime-2.1"
    assert session["id"] == "sess_1"
    again = update_session(session, {"type": "realtime", "tracing": "auto"})
    assert again == session | {"tracing": "auto"}


def test_an_update_changes_what_it_names_and_no_object_in_place():
    session = update_session(default_session("sess_1"), AGENTS_SDK)
    before = copy.deepcopy(session)
    changed = update_session(session, {"audio": {"output": {"voice": "verse"}}})
    assert changed["audio"]["output"] == before["audio"]["output"] | {"voice": "verse"}
    assert changed["audio"]["input"] == before["audio"]["input"]
    assert session == before


def test_turn_detection_is_replaced_as_a_whole():
    session = default_session("sess_1")
    first = {"audio": {"input": {"turn_detection": {"type": "server_vad", "silence_duration_ms": 900}}}}
    session = update_session(session, first)
    assert turn_detection(session) == ServerVad(silence_duration_ms=900)
    session = update_session(session, {"audio": {"input": {"turn_detection": {"type": "server_vad"}}}})
    assert turn_detection(session) == ServerVad()
    session = update_session(session, {"audio": {"input": {"turn_detection": None}}})
    assert turn_detection(session) is None


def test_what_nobody_knows_is_kept():
    update = {
        "reasoning": {"effort": "low"},
        "audio": {"input": {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 5}}},
    }
    session = update_session(default_session("sess_1"), update)
    assert session["reasoning"] == {"effort": "low"}
    assert session["audio"]["input"]["turn_detection"]["idle_timeout_ms"] == 5


def test_a_client_that_sends_our_object_back_changes_nothing():
    session = default_session("sess_1")
    assert update_session(session, session | {"id": "sess_mine", "object": "x", "expires_at": 0}) == session


def test_keys_of_the_beta_interface():
    beta = {
        "modalities": ["audio", "text"],
        "voice": "alloy",
        "speed": 1.2,
        "input_audio_format": "pcm16",
        "output_audio_format": "g711_ulaw",
        "input_audio_transcription": {"model": "whisper-1"},
        "turn_detection": {"type": "server_vad", "threshold": 0.7},
        "max_response_output_tokens": 100,
        "temperature": 0.8,
    }
    session = update_session(default_session("sess_1"), beta)
    assert session["output_modalities"] == ["audio"]
    assert session["max_output_tokens"] == 100
    assert session["audio"]["output"] == {"voice": "alloy", "speed": 1.2, "format": {"type": "audio/pcmu"}}
    assert session["audio"]["input"]["transcription"] == {"model": "whisper-1"}
    assert turn_detection(session) == ServerVad(threshold=0.7)
    assert "voice" not in session
    assert turn_detection(update_session(session, {"turn_detection": None})) is None


@pytest.mark.parametrize(
    ("update", "param"),
    [
        ({"type": "transcription"}, "session.type"),
        ({"instructions": 5}, "session.instructions"),
        ({"output_modalities": ["smell"]}, "session.output_modalities[0]"),
        ({"max_output_tokens": 0}, "session.max_output_tokens"),
        ({"tools": {}}, "session.tools"),
        ({"audio": None}, "session.audio"),
        ({"audio": {"output": {"speed": 9}}}, "session.audio.output.speed"),
        ({"audio": {"input": {"format": {"type": "audio/mp3"}}}}, "session.audio.input.format.type"),
        (
            {"audio": {"input": {"turn_detection": {"type": "psychic"}}}},
            "session.audio.input.turn_detection.type",
        ),
        ({"turn_detection": {"type": "server_vad", "threshold": -1}}, "session.turn_detection.threshold"),
        ({"turn_detection": 7}, "session.turn_detection"),
        ({"speed": "fast"}, "session.speed"),
        ({"notes": "x" * SESSION_BYTES_MAX}, "session"),
    ],
)
def test_a_wrong_value_is_named_as_the_client_wrote_it(update, param):
    with pytest.raises(EventError) as caught:
        update_session(default_session("sess_1"), update)
    assert caught.value.param == param
    if param != "session":
        assert caught.value.message.startswith(f"{param}:")


def test_a_session_does_not_grow_for_ever():
    session = default_session("sess_1")
    for number in range(5):
        session = update_session(session, {f"note_{number}": "x" * 50_000})
    with pytest.raises(EventError, match="at most"):
        update_session(session, {"one_more": "x" * 50_000})
