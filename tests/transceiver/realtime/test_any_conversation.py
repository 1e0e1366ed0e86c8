"""Whatever order things happen in, a client's view of a conversation adds up.

Random conversations: user, client, agent and playout act as they can in that moment (the playout is a queue
with a clock, as in `playout`). After each the events are read back as a client would.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfastpath.transceiver.realtime.bridge import BridgeDialogue
from tests.support.story import Story, counted_ids

ACTIONS = {
    "user speaks": lambda story: story.user_speaks(),
    "user stops": lambda story: story.user_stops(),
    "frame leaves": lambda story: story.agent_sounds(),
    "words": lambda story: story.agent_writes("word "),
    "agent finishes": lambda story: story.agent_finishes(),
    "queue runs dry": lambda story: story.all_is_played(),
    "time": lambda story: story.seconds_pass(0.2),
    "commit": lambda story: story.client_says("input_audio_buffer.commit"),
    "create": lambda story: story.client_says("response.create"),
    "cancel": lambda story: story.client_says("response.cancel"),
    "clear": lambda story: story.client_says("output_audio_buffer.clear"),
    "item": lambda story: story.client_says(
        "conversation.item.create",
        item={"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
    ),
    "delete": lambda story: story.client_says("conversation.item.delete", item_id="item_2"),
    "truncate": lambda story: story.client_says(
        "conversation.item.truncate", item_id="item_2", content_index=0, audio_end_ms=100
    ),
    "call": lambda story: story.agent_sends(
        "response.output_item.done", item={"type": "function_call", "name": "f", "arguments": "{}"}
    ),
    "manual": lambda story: story.client_says("session.update", session={"turn_detection": None}),
    "automatic": lambda story: story.client_says(
        "session.update", session={"turn_detection": {"type": "server_vad"}}
    ),
    "polite": lambda story: story.client_says(
        "session.update", session={"turn_detection": {"type": "server_vad", "interrupt_response": False}}
    ),
    "nonsense": lambda story: story.client_says("nonsense"),
}


def all_events(story: Story) -> list[dict[str, Any]]:
    return [json.loads(text) for text in iter(story.dialogue.next_event, None)]


class Reader:
    """A client that believes what it is told, and complains where it does not add up."""

    def __init__(self) -> None:
        self.active: str | None = None
        self.sounding: str | None = None
        self.items: dict[str, bool] = {}  # id -> done
        self.seen: Counter[str] = Counter()
        self.open_items: set[str] = set()

    def read(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        assert self.seen[event["event_id"]] == 0
        self.seen[event["event_id"]] += 1
        if kind == "response.created":
            assert self.active is None
            self.active = event["response"]["id"]
        elif kind == "response.done":
            assert event["response"]["id"] == self.active
            assert not self.open_items
            self.active = None
        elif kind == "response.output_item.done" and "response_id" not in event:
            assert self.active is None  # an agent's own event outside of a response passes as it is
        elif kind.startswith("response."):
            assert event["response_id"] == self.active
            if kind == "response.output_item.added":
                self.open_items.add(event["item"]["id"])
            elif kind == "response.output_item.done":
                self.open_items.remove(event["item"]["id"])
        elif kind == "output_audio_buffer.started":
            assert self.sounding is None
            self.sounding = event["response_id"]
        elif kind in ("output_audio_buffer.stopped", "output_audio_buffer.cleared"):
            assert self.active is None
            assert event["response_id"] == self.sounding
            self.sounding = None
        else:
            self.read_item(kind, event)

    def read_item(self, kind: str, event: dict[str, Any]) -> None:
        if kind == "conversation.item.added":
            assert event["item"]["id"] not in self.items
            assert event["previous_item_id"] is None or event["previous_item_id"] in self.items
            self.items[event["item"]["id"]] = False
        elif kind == "conversation.item.done":
            assert self.items[event["item"]["id"]] is False
            self.items[event["item"]["id"]] = True
        elif kind == "conversation.item.deleted":
            del self.items[event["item_id"]]
        elif kind == "conversation.item.truncated":
            assert event["item_id"] in self.items


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(sorted(ACTIONS)), max_size=40), st.booleans())
def test_every_response_and_item_that_begins_ends(actions, takes_turns):
    story = Story(takes_turns=takes_turns)
    reader = Reader()
    for action in actions:
        ACTIONS[action](story)
        for event in all_events(story):
            reader.read(event)
    story.client_says("output_audio_buffer.clear")
    story.client_says("session.update", session={"turn_detection": None})
    story.client_says("output_audio_buffer.clear")  # a turn that was owed may have begun meanwhile
    for event in all_events(story):
        reader.read(event)
    assert reader.active is None
    assert reader.sounding is None
    assert all(reader.items.values())


@pytest.mark.parametrize("takes_turns", [True, False])
def test_three_steps_in_every_order(takes_turns):
    """Short, but complete: a shrunk failure of the test above is one of these."""
    steps = [name for name in ACTIONS if name not in ("item", "nonsense", "time")]
    for actions in itertools.product(steps, repeat=3):
        story = Story(takes_turns=takes_turns)
        reader = Reader()
        for action in actions:
            ACTIONS[action](story)
            for event in all_events(story):
                reader.read(event)


SERVER_EVENTS = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "response.created",
                "response.done",
                "response.output_audio.delta",
                "input_audio_buffer.speech_started",
                "session.updated",
                "error",
                "rate_limits.updated",
            ]
        )
    },
    optional={
        "response_id": st.sampled_from(["a", "b"]) | st.none() | st.integers(),
        "item_id": st.sampled_from(["x", "y"]) | st.none(),
        "delta": st.sampled_from(["AAAA" * 100, "", None, 5]),
        "session": st.sampled_from(
            [{}, None, {"audio": []}, {"turn_detection": {"interrupt_response": False}}]
        ),
        "content_index": st.integers() | st.none(),
    },
)


@settings(max_examples=200, deadline=None)
@given(st.lists(SERVER_EVENTS | st.sampled_from(sorted(ACTIONS)), max_size=30))
def test_a_bridge_survives_any_server(steps):
    story = Story(BridgeDialogue(session={}, ids=counted_ids()))
    sounding = 0
    for step in steps:
        if isinstance(step, str):
            ACTIONS[step](story)
        else:
            story.dialogue.agent_event(step)
        for event in all_events(story):
            sounding += event["type"] == "output_audio_buffer.started"
            sounding -= event["type"] in ("output_audio_buffer.stopped", "output_audio_buffer.cleared")
            assert sounding >= 0
    for event in story.passed:
        if event["type"] == "conversation.item.truncate" and "event_id" not in event:
            assert event["audio_end_ms"] >= 0
