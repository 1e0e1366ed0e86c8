"""Client events read from text: what is accepted, and the code and parameter of what is not."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.transceiver.realtime.events import (
    EVENT_BYTES_MAX,
    KINDS,
    EventError,
    ItemTruncate,
    SessionUpdate,
    check_event,
    error_event,
    event_id_of,
    parse_object,
)
from pyfastpath.types import NESTING_MAX


def test_the_events_of_the_design_are_known():
    assert set(KINDS) == {
        "session.update",
        "input_audio_buffer.append",
        "input_audio_buffer.commit",
        "input_audio_buffer.clear",
        "conversation.item.create",
        "conversation.item.retrieve",
        "conversation.item.truncate",
        "conversation.item.delete",
        "response.create",
        "response.cancel",
        "output_audio_buffer.clear",
    }


def test_an_event_is_checked_and_keeps_what_nobody_knows():
    raw = parse_object('{"type": "session.update", "event_id": "e", "session": {"x": 1}, "later": true}')
    event = check_event(raw)
    assert isinstance(event, SessionUpdate)
    assert event.session == {"x": 1}
    assert event_id_of(raw) == "e"
    assert raw["later"] is True


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"content_index": 0, "audio_end_ms": 1}, "missing_required_parameter", "item_id"),
        ({"item_id": "", "content_index": 0, "audio_end_ms": 1}, "invalid_value", "item_id"),
        ({"item_id": "a", "content_index": -1, "audio_end_ms": 1}, "invalid_value", "content_index"),
        ({"item_id": "a", "content_index": 0, "audio_end_ms": "1"}, "invalid_value", "audio_end_ms"),
        ({"item_id": "a", "content_index": 0, "audio_end_ms": -1}, "invalid_value", "audio_end_ms"),
        ({"item_id": "a", "content_index": 0, "audio_end_ms": 1, "event_id": 5}, "invalid_value", "event_id"),
    ],
)
def test_a_wrong_field_is_named(fields, code, param):
    with pytest.raises(EventError) as caught:
        check_event({"type": "conversation.item.truncate", **fields})
    assert (caught.value.code, caught.value.param) == (code, param)
    assert param in str(caught.value)


def test_a_right_one_is_taken():
    raw = {"type": "conversation.item.truncate", "item_id": "a", "content_index": 0, "audio_end_ms": 1500}
    event = check_event(raw)
    assert isinstance(event, ItemTruncate)
    assert event.audio_end_ms == 1500


def test_an_unknown_event_is_told_which_are_known():
    with pytest.raises(EventError, match="response\\.create") as caught:
        check_event({"type": "response.invent"})
    assert caught.value.code == "unknown_event"


def test_nesting_ends_before_the_stack_does():
    def nested(levels: int) -> str:
        return '{"type": "x", "a": ' + "[" * (levels - 1) + "]" * (levels - 1) + "}"

    parse_object(nested(NESTING_MAX))
    for levels in (NESTING_MAX + 1, 5_000, 100_000):
        with pytest.raises(EventError, match="nested deeper"):
            parse_object(nested(levels))


def test_size_is_counted_in_bytes():
    longest = json.dumps({"type": "x", "a": ""})
    parse_object(longest.replace('""', '"' + "a" * (EVENT_BYTES_MAX - len(longest)) + '"'))
    for filler in ("a" * EVENT_BYTES_MAX, "€" * (EVENT_BYTES_MAX // 3)):
        with pytest.raises(EventError) as caught:
            parse_object(json.dumps({"type": "x", "a": filler}, ensure_ascii=False))
        assert caught.value.code == "event_too_large"


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        assert isinstance(parse_object(text)["type"], str)
    except EventError as error:
        assert error.code in {"invalid_json", "missing_required_parameter"}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(
    st.sampled_from(sorted(KINDS)),
    st.dictionaries(
        st.sampled_from(["session", "item", "item_id", "audio", "response", "content_index", "audio_end_ms"]),
        JSON,
    ),
)
def test_any_fields_are_taken_or_refused_with_a_parameter(kind, fields):
    raw = parse_object(json.dumps({"type": kind, **fields}))
    try:
        check_event(raw)
    except EventError as error:
        assert error.param
        assert error_event(error, None)["error"]["message"]
