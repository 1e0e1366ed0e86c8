"""An agent with a tool: the client rolls a die, the agent beeps the number.

    pyfastpath up --agent examples.agents.dice:Dice

The tool `roll_die` runs in the client, as tools of Realtime sessions do: the agent asks for it in its
response, the client answers with a `function_call_output` item and asks for the next response. With
@openai/agents-realtime it is one line:

    tool({name: "roll_die", parameters: z.object({}), execute: async () => ({eyes: 4})}).
"""

from __future__ import annotations

import json

import numpy as np

from pyfastpath.transceiver.agent import Agent, Event, ResponseRequest

RATE_HZ = 24_000
BEEP_S, PAUSE_S = 0.12, 0.18
TOOL = "roll_die"


def beeps(count: int) -> np.ndarray[tuple[int], np.dtype[np.int16]]:
    """So many beeps of 880 Hz, each with a pause behind it."""
    time_s = np.arange(int(BEEP_S * RATE_HZ)) / RATE_HZ
    beep = 9_000 * np.sin(2 * np.pi * 880 * time_s) * np.hanning(len(time_s)) ** 0.25
    return np.tile(np.concatenate([beep, np.zeros(int(PAUSE_S * RATE_HZ))]), count).astype(np.int16)


class Dice(Agent):
    """Each turn of the user's rolls once."""

    name = "dice"

    def __init__(self) -> None:
        self.eyes: int | None = None  # what the tool said and nobody has heard yet

    def respond(self, request: ResponseRequest) -> None:
        """Without a number: a response that is only a call of the tool. With one: beeps and words."""
        if self.eyes is None:
            item = {"type": "function_call", "name": TOOL, "arguments": "{}"}
            self.call.send_event({"type": "response.output_item.done", "item": item})
        else:
            self.call.say_text(f"You rolled {self.eyes}.")
            self.call.say(beeps(self.eyes), RATE_HZ)
            self.eyes = None
        self.call.finish()

    def receive_event(self, event: Event) -> None:
        """The client's answer to the call. Whatever else it sends is not for this agent."""
        item = event.get("item", {})
        if item.get("type") != "function_call_output":
            return
        try:
            eyes = int(json.loads(item["output"])["eyes"])
        except (KeyError, TypeError, ValueError):
            eyes = 0
        self.eyes = eyes if 1 <= eyes <= 6 else 1
