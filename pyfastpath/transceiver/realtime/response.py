"""One response of a turn-taking agent: which events its life makes, in the order clients expect.

    asked                      response.created, rate_limits.updated
    at the first sound, word   response.output_item.added, conversation.item.added,
                               response.content_part.added
    at the first sound         output_audio_buffer.started
    words                      response.output_audio_transcript.delta
    over or cut off            response.output_audio.done, …output_audio_transcript.done, …content_part.done,
                               …output_item.done, conversation.item.done, response.done,
                               then output_audio_buffer.stopped or .cleared

The methods give events without `event_id`; who sends them adds it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pyfastpath.transceiver.realtime.events import Json
from pyfastpath.transceiver.realtime.items import Conversation

Reason = Literal["turn_detected", "client_cancelled"]


class ResponseEvents:
    """The events of the response `response_id`, whose message is the item `item_id`."""

    def __init__(
        self,
        response_id: str,
        item_id: str,
        *,
        parameters: Json,
        session: Json,
        conversation_id: str,
        conversation: Conversation,
    ) -> None:
        self.response_id = response_id
        self.item_id = item_id
        self.is_audible = False
        self._conversation = conversation
        self._is_apart = parameters.get("conversation") == "none"  # its items stay out of the conversation
        self._transcript = ""
        self._index: int | None = None  # of the message among the output items, once it has begun
        self._output: list[Json] = []
        self._response: Json = {
            "object": "realtime.response",
            "id": response_id,
            "status": "in_progress",
            "status_details": None,
            "output": [],
            "conversation_id": None if self._is_apart else conversation_id,
            "output_modalities": parameters.get("output_modalities") or session["output_modalities"],
            "max_output_tokens": session["max_output_tokens"],
            "audio": {"output": session["audio"]["output"]},
            "usage": None,
            "metadata": parameters.get("metadata"),
        }

    def created(self) -> Iterator[Json]:
        """The response has begun."""
        yield {"type": "response.created", "response": self._response}
        yield {"type": "rate_limits.updated", "rate_limits": []}  # there are none, and clients wait for it

    def started(self) -> Iterator[Json]:
        """Its first frame leaves."""
        yield from self._begin()
        if not self.is_audible:
            self.is_audible = True
            yield {"type": "output_audio_buffer.started", "response_id": self.response_id}

    def text(self, delta: str) -> Iterator[Json]:
        """Words of it."""
        yield from self._begin()
        self._transcript += delta
        yield self._part("response.output_audio_transcript.delta") | {"delta": delta}

    def tool_call(self, event: Json, call_id: str) -> Iterator[Json]:
        """The agent's `response.output_item.done` for a function_call, with what it left out filled in."""
        item = {"object": "realtime.item", "status": "completed", "call_id": call_id} | event["item"]
        index = len(self._output)
        self._output.append(item)
        place = {"response_id": self.response_id, "output_index": index}
        begun = item | {"status": "in_progress"}
        yield {"type": "response.output_item.added", **place, "item": begun}
        yield from self._insert(item, begun)
        yield {**event, **place, "item": item}
        yield from self._keep(item)

    def over(self, reason: Reason | None) -> Iterator[Json]:
        """It was said to its end, or cut off for `reason`."""
        if self._index is not None:
            yield from self._end_message("incomplete" if reason else "completed")
        status = "cancelled" if reason else "completed"
        details = {"type": status, "reason": reason} if reason else None
        self._response |= {"status": status, "status_details": details, "output": self._output}
        yield {"type": "response.done", "response": self._response}

    def _begin(self) -> Iterator[Json]:
        if self._index is not None:
            return
        self._index = len(self._output)
        item = self._message("in_progress")
        self._output.append(item)
        place = {"response_id": self.response_id, "output_index": self._index}
        yield {"type": "response.output_item.added", **place, "item": item}
        yield from self._insert(item, item)
        yield self._part("response.content_part.added") | {"part": {"type": "audio", "transcript": ""}}

    def _end_message(self, status: str) -> Iterator[Json]:
        item = self._message(status)
        self._output[self._index or 0] = item
        transcript = {"transcript": self._transcript}
        yield self._part("response.output_audio.done")
        yield self._part("response.output_audio_transcript.done") | transcript
        yield self._part("response.content_part.done") | {"part": {"type": "audio", **transcript}}
        place = {"response_id": self.response_id, "output_index": self._index}
        yield {"type": "response.output_item.done", **place, "item": item}
        yield from self._keep(item)

    def _message(self, status: str) -> Json:
        content = [{"type": "output_audio", "transcript": self._transcript}]
        return {
            "object": "realtime.item",
            "id": self.item_id,
            "type": "message",
            "role": "assistant",
            "status": status,
            "content": [] if status == "in_progress" else content,
        }

    def _insert(self, item: Json, shown: Json) -> Iterator[Json]:
        if not self._is_apart and item["id"] not in self._conversation:
            self._conversation.insert(item)
            previous = self._conversation.previous_of(item["id"])
            yield {"type": "conversation.item.added", "previous_item_id": previous, "item": shown}

    def _keep(self, item: Json) -> Iterator[Json]:
        if item["id"] in self._conversation:
            self._conversation.replace(item)
            previous = self._conversation.previous_of(item["id"])
            yield {"type": "conversation.item.done", "previous_item_id": previous, "item": item}

    def _part(self, kind: str) -> Json:
        return {
            "type": kind,
            "response_id": self.response_id,
            "item_id": self.item_id,
            "output_index": self._index,
            "content_index": 0,
        }
