"""Data channel events: whatever a client sends, in whatever order with what else happens in a call, each
message is answered or passed on, what is said is JSON with ids of its own, and no command is left out."""

import json
from collections.abc import Iterator

from pyfastpath.transceiver.dialogue import CancelResponse, ClearOutput, Dialogue
from pyfastpath.transceiver.realtime.bridge import BridgeDialogue
from pyfastpath.transceiver.realtime.events import KINDS
from pyfastpath.transceiver.realtime.turns import TurnDialogue
from tests.fuzz.tape import Tape
from tests.support.story import counted_ids

BYTES_MAX = 4096
SMOKE_RUNS = 600
ON_DATA_PLANE = False
CRASHERS: dict[str, bytes] = {}

TURNS, BRIDGE = 0, 1
CLIENT, SERVER = 0, 1  # who speaks JSON; everything above happens in the call
WORDS = (
    *(f'"type":"{kind}"'.encode() for kind in KINDS),
    *(
        b'{"type":"',
        b'"session":{',
        b'"item":{"type":"message","role":"user","content":[',
        b'"item_id":"item_1"',
    ),
    *(
        b'"audio":',
        b'"event_id":"',
        b'"turn_detection":null',
        b'{"type":"input_text","text":"x"}',
        b'"content_index":0',
    ),
    *(
        b'"response":{',
        b'"metadata":{',
        b'"previous_item_id":"root"',
        b'"audio_end_ms":1',
        b"null",
        b"-1",
        b"1e400",
    ),
    *(
        b'"response.created"',
        b'"response.done"',
        b'"session.created"',
        b'"response.output_audio.delta"',
        b'"delta":"',
    ),
    *(
        b'"response.output_item.done"',
        b'"item":{"type":"function_call","name":"f","arguments":"{}"',
        b"\\ud800",
    ),
)
EVENTS = (
    {"type": "session.update", "session": {"audio": {"input": {"turn_detection": None}}}},
    {"type": "session.update", "session": {"turn_detection": {"type": "semantic_vad", "eagerness": "low"}}},
    {"type": "input_audio_buffer.append", "audio": "AAAAAAAA"},
    {"type": "input_audio_buffer.commit"},
    {"type": "input_audio_buffer.clear"},
    {"type": "output_audio_buffer.clear"},
    {
        "type": "conversation.item.create",
        "previous_item_id": "root",
        "item": {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]},
    },
    {
        "type": "conversation.item.create",
        "item": {"type": "function_call_output", "call_id": "c", "output": ""},
    },
    {"type": "conversation.item.retrieve", "item_id": "item_1"},
    {"type": "conversation.item.truncate", "item_id": "item_2", "content_index": 0, "audio_end_ms": 100},
    {"type": "conversation.item.delete", "item_id": "item_1"},
    {"type": "response.create", "response": {"conversation": "none", "metadata": {"a": "b"}}},
    {"type": "response.cancel"},
    {"type": "response.output_item.done", "item": {"type": "function_call", "name": "f", "arguments": "{}"}},
    {
        "type": "response.output_audio.delta",
        "response_id": "r",
        "item_id": "i",
        "content_index": 0,
        "delta": "AAAA",
    },
    {"type": "input_audio_buffer.speech_started"},
)


def seeds() -> Iterator[bytes]:
    """Which dialogue, then what happens."""
    for event in EVENTS:
        text = json.dumps(event).encode()
        said = len(text).to_bytes(2, "big") + text
        yield bytes([TURNS, CLIENT]) + said
        yield bytes([TURNS, 2, 3, 4, 6]) + bytes([SERVER]) + said + bytes([CLIENT]) + said + bytes([5, 7])
        yield bytes([BRIDGE, SERVER]) + said + bytes([4, CLIENT]) + said + bytes([5])


def one_input(data: bytes) -> None:
    tape = Tape(data)
    ids = counted_ids()
    bridged = tape.number() & 1 == BRIDGE
    kind = BridgeDialogue if bridged else TurnDialogue
    dialogue: Dialogue = kind(session={}, ids=ids, takes_turns=True)
    dialogue.open(100.0)
    call = Call(dialogue)
    while tape.left:
        call.happen(tape)
    call.settle()


class Call:
    """Carries out what the dialogue commands, as a session does."""

    def __init__(self, dialogue: Dialogue) -> None:
        self.dialogue = dialogue
        self.now = 100.0
        self.named: set[str] = set()

    def happen(self, tape: Tape) -> None:
        what, dialogue = tape.number() % 12, self.dialogue
        self.now += 0.02
        if what == CLIENT:
            dialogue.receive(tape.piece().decode(errors="replace"), self.now)
        elif what == SERVER:
            self.agent_event(tape.piece())
        else:
            steps = {
                2: lambda: dialogue.speech_started(100, self.now),
                3: lambda: dialogue.speech_stopped(900, self.now),
                4: lambda: dialogue.playout_started(self.now),
                5: lambda: dialogue.playout_stopped(self.now),
                6: lambda: dialogue.agent_said_text("word "),
                7: dialogue.agent_finished,
                8: lambda: dialogue.open(self.now),
                9: lambda: dialogue.close(self.now),
            }
            steps.get(what, self.time_passes)()
        self.settle()

    def time_passes(self) -> None:
        self.now += 1.0

    def agent_event(self, text: bytes) -> None:
        """An agent's event is an object with a type: the agent's side sees to that."""
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(event, dict) and isinstance(event.get("type"), str) and is_plain(event):
            self.dialogue.agent_event(event)

    def settle(self) -> None:
        while (command := self.dialogue.next_command()) is not None:
            if isinstance(command, CancelResponse | ClearOutput):
                self.dialogue.playout_cleared(40, self.now)
        while (text := self.dialogue.next_event()) is not None:
            event = json.loads(text)
            assert isinstance(event["type"], str)
            assert event["event_id"]
        assert isinstance(self.dialogue.session, dict)


def is_plain(event: object) -> bool:
    """Can be written as JSON again: Python's reader takes NaN and lone surrogates, a writer does not."""
    try:
        json.dumps(event, allow_nan=False).encode("ascii")
        json.dumps(event, ensure_ascii=False).encode()
    except (ValueError, UnicodeError):
        return False
    return True
