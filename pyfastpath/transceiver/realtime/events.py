"""Client events: the text of one data channel message -> a checked event, and the refusal of a wrong one.

The shapes are those of the Realtime API as its client libraries send them today. What an event carries
besides what is checked here is kept: an agent may understand more than we do.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, TypeVar

import msgspec

from pyfastpath.errors import FastpathError
from pyfastpath.types import NESTING_MAX, is_deeper_than

EVENT_BYTES_MAX: Final = 256 * 1024

Json = dict[str, Any]
Milliseconds = Annotated[int, msgspec.Meta(ge=0)]
ItemId = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
Checked = TypeVar("Checked")


class EventError(FastpathError):
    """A client event that cannot be done. `code` and `param` stand in the client's `error` event."""

    def __init__(self, code: str, message: str, hint: str = "", *, param: str | None = None) -> None:
        super().__init__(message, hint)
        self.code = code
        self.param = param


class ClientEvent(msgspec.Struct, tag_field="type"):
    """What every client event may carry."""

    event_id: Annotated[str, msgspec.Meta(max_length=512)] | None = None


class SessionUpdate(ClientEvent, tag="session.update", kw_only=True):
    """Change the session object; `realtime.session` checks what is inside."""

    session: Json


class AudioAppend(ClientEvent, tag="input_audio_buffer.append", kw_only=True):
    """Audio over the data channel: base64 of 16-bit PCM, 24 kHz, mono."""

    audio: str


class AudioCommit(ClientEvent, tag="input_audio_buffer.commit"):
    """The user's turn is over: for calls without turn detection."""


class AudioClear(ClientEvent, tag="input_audio_buffer.clear"):
    """Forget what the user said since the last commit."""


class OutputClear(ClientEvent, tag="output_audio_buffer.clear"):
    """Be silent at once."""


class ItemCreate(ClientEvent, tag="conversation.item.create", kw_only=True):
    """Put an item into the conversation; `realtime.items` checks it."""

    item: Json
    previous_item_id: str | None = None


class ItemRetrieve(ClientEvent, tag="conversation.item.retrieve", kw_only=True):
    """Show an item."""

    item_id: ItemId


class ItemTruncate(ClientEvent, tag="conversation.item.truncate", kw_only=True):
    """The user heard only so much of an item."""

    item_id: ItemId
    content_index: Annotated[int, msgspec.Meta(ge=0)]
    audio_end_ms: Milliseconds


class ItemDelete(ClientEvent, tag="conversation.item.delete", kw_only=True):
    """Forget an item."""

    item_id: ItemId


class ResponseParameters(msgspec.Struct):
    """The part of response.create that is ours; the agent gets all of it."""

    metadata: dict[str, str] | None = None
    conversation: str = "auto"
    instructions: str | None = None


class ResponseCreate(ClientEvent, tag="response.create"):
    """Answer now."""

    response: ResponseParameters | None = None


class ResponseCancel(ClientEvent, tag="response.cancel"):
    """Stop answering."""

    response_id: str | None = None


KINDS: Final[dict[str, type[ClientEvent]]] = {
    str(kind.__struct_config__.tag): kind
    for kind in (
        SessionUpdate,
        AudioAppend,
        AudioCommit,
        AudioClear,
        OutputClear,
        ItemCreate,
        ItemRetrieve,
        ItemTruncate,
        ItemDelete,
        ResponseCreate,
        ResponseCancel,
    )
}


def parse_object(text: str) -> Json:
    """A data channel message as a JSON object with a `type`. Raises EventError."""
    if len(text) > EVENT_BYTES_MAX or len(text.encode("utf-8", "replace")) > EVENT_BYTES_MAX:
        raise EventError("event_too_large", f"An event has at most {EVENT_BYTES_MAX} bytes")
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise EventError("invalid_json", f"The event is not JSON: {error}") from None
    except RecursionError:
        raise EventError("invalid_json", f"The event is nested deeper than {NESTING_MAX} levels") from None
    if not isinstance(raw, dict):
        raise EventError("invalid_json", "An event is a JSON object")
    if is_deeper_than(NESTING_MAX, raw):
        raise EventError("invalid_json", f"The event is nested deeper than {NESTING_MAX} levels")
    if not isinstance(raw.get("type"), str):
        raise EventError("missing_required_parameter", "An event has a type, a text", param="type")
    return raw


def check_event(raw: Json) -> ClientEvent:
    """The event with what is needed of it in place. Raises EventError, also for a type nobody knows."""
    kind = KINDS.get(raw["type"])
    if kind is None:
        raise EventError(
            "unknown_event",
            f"Unknown event {raw['type'][:100]!r}",
            f"Known are {', '.join(KINDS)}.",
            param="type",
        )
    return check(raw, kind)


def event_id_of(raw: Json) -> str | None:
    """The client's name for its event, for the error that answers it."""
    event_id = raw.get("event_id")
    return event_id if isinstance(event_id, str) else None


def check(raw: Any, kind: type[Checked], *, inside: str = "") -> Checked:
    """`raw` as `kind`. Raises EventError that names the parameter; `inside` is where `raw` stands."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise _refusal(str(error), inside) from None


def _refusal(text: str, inside: str) -> EventError:
    """msgspec's sentence as ours: `Expected `int`, got `str` - at `$.a.b``."""
    message, _, place = text.partition(" - at `$")
    names = [name for name in (inside, place.rstrip("`").lstrip(".")) if name]
    field = re.search(r"required field `(\w+)`", message)
    if field:
        param = ".".join((*names, field[1]))
        return EventError("missing_required_parameter", f"{param} is missing", param=param)
    param = ".".join(names)
    return EventError("invalid_value", f"{param}: {message.replace('`', '')}", param=param)


def error_event(error: EventError, event_id: str | None) -> Json:
    """The `error` event that answers the client event which the client calls `event_id`."""
    return {
        "type": "error",
        "error": {
            "type": "invalid_request_error",
            "code": error.code,
            "message": str(error),
            "param": error.param,
            "event_id": event_id,
        },
    }
