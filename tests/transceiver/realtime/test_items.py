"""The conversation: order, bounds, and which items a client may write."""

from __future__ import annotations

import pytest

from pyfastpath.transceiver.realtime.events import EventError
from pyfastpath.transceiver.realtime.items import (
    CONVERSATION_BYTES_MAX,
    ITEMS_MAX,
    ROOT,
    Conversation,
    parse_item,
)


def message(item_id: str, text: str = "", role: str = "user") -> dict:
    kind = "output_text" if role == "assistant" else "input_text"
    return {"id": item_id, "type": "message", "role": role, "content": [{"type": kind, "text": text}]}


def conversation(*ids: str) -> Conversation:
    made = Conversation()
    for item_id in ids:
        made.insert(message(item_id))
    return made


def order(of: Conversation) -> list[str]:
    found: list[str] = []
    item_id = of.last_id
    while item_id:
        found.insert(0, item_id)
        item_id = of.previous_of(item_id)
    return found


@pytest.mark.parametrize(
    ("previous", "expected"),
    [(None, "abcx"), ("c", "abcx"), ("a", "axbc"), ("b", "abxc"), (ROOT, "xabc")],
)
def test_an_item_goes_where_it_is_put(previous, expected):
    talk = conversation("a", "b", "c")
    talk.insert(message("x"), previous)
    assert order(talk) == list(expected)


def test_the_first_of_all():
    talk = Conversation()
    talk.insert(message("x"), ROOT)
    assert (talk.last_id, talk.previous_of("x")) == ("x", None)


def test_no_place_no_item():
    talk = conversation("a")
    with pytest.raises(EventError) as caught:
        talk.insert(message("x"), "nowhere")
    assert caught.value.code == "item_create_invalid_previous_item_id"
    with pytest.raises(EventError) as caught:
        talk.insert(message("a"))
    assert caught.value.code == "item_already_exists"
    assert order(talk) == ["a"]


def test_the_oldest_are_forgotten_when_there_are_too_many():
    talk = Conversation()
    for number in range(ITEMS_MAX + 5):
        talk.insert(message(f"i{number}"))
    assert len(talk) == ITEMS_MAX
    assert order(talk)[0] == "i5"


def test_the_oldest_are_forgotten_when_they_are_too_large():
    talk = Conversation()
    for number in range(40):
        talk.insert(message(f"i{number}", "x" * 50_000))
    assert 18 <= len(talk) <= CONVERSATION_BYTES_MAX // 50_000
    assert talk.last_id == "i39"
    talk.replace(message("i39", "x" * CONVERSATION_BYTES_MAX))
    assert order(talk) == ["i39"]
    talk.replace(message("i39"))
    for number in range(15):
        talk.insert(message(f"j{number}", "x" * 50_000))
    assert len(talk) == 16  # what was forgotten no longer counts


def test_a_new_first_item_is_not_the_one_forgotten():
    talk = conversation(*(f"i{number}" for number in range(ITEMS_MAX)))
    talk.insert(message("x"), ROOT)
    assert "x" in talk
    assert "i0" not in talk


def test_audio_and_pictures_are_not_kept():
    talk = Conversation()
    parts = [{"type": "input_audio", "audio": "AAAA"}, {"type": "input_image", "image_url": "data:"}]
    talk.insert({"id": "a", "type": "message", "role": "user", "content": parts})
    kept = talk.retrieve("a")["content"]
    assert kept == [{"type": "input_audio", "transcript": None}, {"type": "input_image"}]


def test_truncation_takes_the_transcript():
    talk = Conversation()
    said = {"type": "output_audio", "transcript": "a b c"}
    talk.insert({"id": "a", "type": "message", "role": "assistant", "content": [said]})
    talk.truncate("a", 0, 5_000)  # nobody knows yet how long it is
    assert talk.retrieve("a")["content"] == [{"type": "output_audio", "transcript": None}]
    talk.set_audio_ms("a", 2_000)
    talk.truncate("a", 0, 2_050)
    for index, end_ms, param in ((0, 2_500, "audio_end_ms"), (1, 10, "content_index")):
        with pytest.raises(EventError) as caught:
            talk.truncate("a", index, end_ms)
        assert caught.value.param == param
    with pytest.raises(EventError) as caught:
        talk.truncate("b", 0, 0)
    assert caught.value.code == "item_truncate_invalid_item_id"


def test_items_that_a_client_may_write():
    for item in (
        message("a"),
        message("a", role="system"),
        message("a", role="assistant"),
        {"type": "function_call", "name": "f", "arguments": "{}", "call_id": "c"},
        {"type": "function_call_output", "call_id": "c", "output": "5"},
        {"type": "mcp_approval_response", "approval_request_id": "r", "approve": True},
    ):
        assert (
            parse_item(item) == {"object": "realtime.item", "status": "completed"} | item
            or "role" not in item
        )
        assert parse_item(item)["type"] == item["type"]


def test_beta_content_becomes_todays():
    item = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "x"}]}
    assert parse_item(item)["content"] == [{"type": "output_text", "text": "x"}]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({}, "item.type"),
        ({"type": "poem"}, "item.type"),
        ({"type": "message", "content": []}, "item.role"),
        ({"type": "message", "role": "poet", "content": []}, "item.role"),
        ({"type": "message", "role": "user", "content": [3]}, "item.content[0]"),
        ({"type": "message", "role": "user", "content": [{"type": "input_text"}]}, "item.content[0].text"),
        (
            {"type": "message", "role": "system", "content": [{"type": "input_audio"}]},
            "item.content[0].type",
        ),
        ({"type": "message", "role": "user", "content": [{"type": ["x"]}]}, "item.content[0].type"),
        ({"type": "function_call_output", "output": "5"}, "item.call_id"),
        ({"type": "message", "role": "user", "content": [], "id": "x" * 200}, "item.id"),
    ],
)
def test_an_item_that_is_wrong_is_refused_by_name(item, param):
    with pytest.raises(EventError) as caught:
        parse_item(item)
    assert caught.value.param == param
