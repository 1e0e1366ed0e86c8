"""The conversation: its items in their order, bounded, without the audio and pictures they brought."""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec

from pyfastpath.transceiver.realtime.events import EventError, Json, check

ITEMS_MAX: Final = 512
CONVERSATION_BYTES_MAX: Final = 1024 * 1024
ROOT: Final = "root"  # as previous_item_id: the new item goes before all others
# Timers are coarse: what left in the frames of a late wake-up counts as audio that was there.
AUDIO_SLACK_MS: Final = 100

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
CONTENT: Final = {
    "system": frozenset({"input_text"}),
    "user": frozenset({"input_text", "input_audio", "input_image"}),
    "assistant": frozenset({"output_text", "output_audio"}),
}
BETA_CONTENT: Final = {"text": "output_text", "audio": "output_audio"}


class Message(msgspec.Struct, tag_field="type", tag="message", kw_only=True):
    """Something said or written."""

    id: Id | None = None
    role: Literal["system", "user", "assistant"]
    content: list[Json]
    status: Literal["completed", "incomplete", "in_progress"] | None = None


class FunctionCall(msgspec.Struct, tag_field="type", tag="function_call", kw_only=True):
    """The agent's wish to have a function called."""

    id: Id | None = None
    name: str
    arguments: str
    call_id: str | None = None


class FunctionCallOutput(msgspec.Struct, tag_field="type", tag="function_call_output", kw_only=True):
    """What the function gave."""

    id: Id | None = None
    call_id: str
    output: str


class ApprovalResponse(msgspec.Struct, tag_field="type", tag="mcp_approval_response", kw_only=True):
    """The user's word on a tool that asks first."""

    id: Id | None = None
    approval_request_id: str
    approve: bool


Item = Message | FunctionCall | FunctionCallOutput | ApprovalResponse


def parse_item(raw: Json) -> Json:
    """An item of conversation.item.create, checked, in its present shape. Raises EventError."""
    checked: Item = check(raw, Item, inside="item")  # type: ignore[arg-type]
    item = raw | {"object": "realtime.item"}
    if isinstance(checked, Message):
        item["content"] = [_parse_content(part, checked.role, n) for n, part in enumerate(checked.content)]
        item["status"] = checked.status or "completed"
    return item


def _parse_content(part: Json, role: str, index: int) -> Json:
    kind = part.get("type")
    if not isinstance(kind, str):
        kind = ""
    elif role == "assistant":
        kind = BETA_CONTENT.get(kind, kind)
    if kind not in CONTENT[role]:
        raise EventError(
            "invalid_value",
            f"A {role} message has no content of type {kind[:50]!r}",
            f"Possible: {', '.join(sorted(CONTENT[role]))}.",
            param=f"item.content[{index}].type",
        )
    field = "text" if kind.endswith("_text") else None
    if field and not isinstance(part.get(field), str):
        param = f"item.content[{index}].{field}"
        raise EventError("missing_required_parameter", f"{param} is missing", param=param)
    return part | {"type": kind}


def without_media(item: Json) -> Json:
    """The item as it is kept and shown: no audio, no picture. Clients want a transcript, if only null."""
    if "content" not in item:
        return item
    content = []
    for part in item["content"]:
        kept = {key: value for key, value in part.items() if key not in ("audio", "image_url")}
        if str(kept.get("type", "")).endswith("_audio"):
            kept.setdefault("transcript", None)
        content.append(kept)
    return item | {"content": content}


class Conversation:
    """The items of one call, oldest first. When there are too many, the oldest are forgotten."""

    def __init__(self) -> None:
        self._items: dict[str, Json] = {}
        self._sizes: dict[str, int] = {}
        self._audio_ms: dict[str, int] = {}
        self._total_bytes = 0

    def __contains__(self, item_id: str) -> bool:
        return item_id in self._items

    def __len__(self) -> int:
        return len(self._items)

    @property
    def last_id(self) -> str | None:
        """The newest item's id."""
        return next(reversed(self._items), None)

    def previous_of(self, item_id: str) -> str | None:
        """The id of the item before, None for the first and for one that is not there."""
        ids = list(self._items)
        index = ids.index(item_id) if item_id in self._items else 0
        return ids[index - 1] if index else None

    def insert(self, item: Json, previous_id: str | None = None) -> None:
        """Put an item after `previous_id`: None is the end, ROOT the beginning. Raises EventError."""
        item_id: str = item["id"]
        if item_id in self._items:
            raise EventError("item_already_exists", f"There is an item {item_id} already", param="item.id")
        if previous_id is not None and previous_id != ROOT and previous_id not in self._items:
            raise _missing("create", previous_id, "previous_item_id")
        self._write(item_id, item)
        if previous_id is not None and previous_id != self.last_id:
            ids = [key for key in self._items if key != item_id]
            ids.insert(0 if previous_id == ROOT else ids.index(previous_id) + 1, item_id)
            self._items = {key: self._items[key] for key in ids}
        self._forget_oldest(item_id)

    def replace(self, item: Json) -> None:
        """A newer state of an item; nothing when it has been deleted meanwhile."""
        if item["id"] in self._items:
            self._write(item["id"], item)
            self._forget_oldest(item["id"])

    def set_audio_ms(self, item_id: str, audio_ms: int) -> None:
        """How much audio of an item was played, once that is known."""
        if item_id in self._items:
            self._audio_ms[item_id] = audio_ms

    def retrieve(self, item_id: str) -> Json:
        """The item. Raises EventError."""
        if item_id not in self._items:
            raise _missing("retrieve", item_id, "item_id")
        return self._items[item_id]

    def delete(self, item_id: str) -> None:
        """Forget an item. Raises EventError."""
        if item_id not in self._items:
            raise _missing("delete", item_id, "item_id")
        self._remove(item_id)

    def truncate(self, item_id: str, content_index: int, audio_end_ms: int) -> None:
        """The user heard an assistant's item only up to audio_end_ms: its transcript goes, because nobody
        knows how much of it was heard. Raises EventError."""
        if item_id not in self._items:
            raise _missing("truncate", item_id, "item_id")
        item = self._items[item_id]
        content = list(item.get("content", ()))
        if item.get("role") != "assistant":
            raise EventError("invalid_value", "Only assistant messages can be truncated", param="item_id")
        if content_index and content_index >= len(content):
            raise EventError("invalid_value", f"No content {content_index}", param="content_index")
        known_ms = self._audio_ms.get(item_id)
        if known_ms is not None and audio_end_ms > known_ms + AUDIO_SLACK_MS:
            raise EventError(
                "invalid_value",
                f"Audio content of {known_ms} ms is already shorter than {audio_end_ms} ms",
                param="audio_end_ms",
            )
        self._audio_ms[item_id] = audio_end_ms
        if content:
            content[content_index] = content[content_index] | {"transcript": None}
            self._write(item_id, item | {"content": content})

    def _write(self, item_id: str, item: Json) -> None:
        item = without_media(item)
        size = len(msgspec.json.encode(item))
        self._total_bytes += size - self._sizes.get(item_id, 0)
        self._items[item_id] = item
        self._sizes[item_id] = size

    def _remove(self, item_id: str) -> None:
        del self._items[item_id]
        self._total_bytes -= self._sizes.pop(item_id)
        self._audio_ms.pop(item_id, None)

    def _forget_oldest(self, keep: str) -> None:
        while len(self._items) > ITEMS_MAX or self._total_bytes > CONVERSATION_BYTES_MAX:
            oldest = next((key for key in self._items if key != keep), None)
            if oldest is None:
                return
            self._remove(oldest)


def _missing(verb: str, item_id: str, param: str) -> EventError:
    code = f"item_{verb}_invalid_{'previous_' if param.startswith('previous') else ''}item_id"
    return EventError(code, f"There is no item {item_id[:128]!r} in the conversation", param=param)
