"""The example agents in a session of virtual time."""

import json

import numpy as np

from examples.agents.backwards import Backwards
from examples.agents.dice import TOOL, Dice
from pyfastpath.transceiver.opus import Decoder
from tests.support.rtc_call import Call


def heard(call: Call) -> np.ndarray:
    """What came back, decoded."""
    decoder = Decoder(24_000)
    return np.concatenate([decoder.decode(packet.payload) for packet in call.client.received])


def test_backwards_says_it_backwards():
    call = Call(Backwards())
    call.connect()
    call.speak(0.6, -90)
    call.speak(0.6, -10)  # long and loud, then …
    call.speak(0.2, -90)
    call.speak(0.2, -10)  # … short: the answer begins with the short one
    call.speak(3.0, -90)
    loud = np.abs(heard(call).astype(int)).reshape(-1, 480).max(axis=1) > 2000
    edges = np.flatnonzero(np.diff(np.concatenate([[0], loud, [0]])))
    lengths_ms = (edges[1::2] - edges[::2]) * 20
    assert len(lengths_ms) == 2
    assert lengths_ms[0] < 350 < lengths_ms[1]


def tell(call: Call, **event: object) -> None:
    call.made.session.receive_text(json.dumps(event), call.now)
    call.settle()


def test_dice_asks_the_client_to_roll_and_beeps_the_number():
    call = Call(Dice())
    call.connect()
    call.made.session.data_opened(call.now)
    call.settle()
    tell(call, type="response.create")
    call.run(0.2)
    (item,) = [
        text["item"]
        for text in call.texts
        if text["type"] == "response.output_item.done" and text["item"]["type"] == "function_call"
    ]
    assert (item["name"], item["arguments"]) == (TOOL, "{}")
    done = [text["response"] for text in call.texts if text["type"] == "response.done"]
    assert done[-1]["status"] == "completed"
    assert not call.client.received

    output = {"type": "function_call_output", "call_id": item["call_id"], "output": '{"eyes": 3}'}
    tell(call, type="conversation.item.create", item=output)
    tell(call, type="response.create")
    call.run(2)
    loud = np.abs(heard(call).astype(int)).reshape(-1, 480).max(axis=1) > 2000
    assert np.count_nonzero(np.diff(np.concatenate([[0], loud])) == 1) == 3
    said = [text for text in call.texts if text["type"] == "response.output_audio_transcript.done"]
    assert said[-1]["transcript"] == "You rolled 3."
