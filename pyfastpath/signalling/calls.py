"""What a request for a new call says: the offer, and the session it wants. Pure.

The offer itself is the transceiver's to judge: only it knows what it can answer.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.multipart import parse_form
from pyfastpath.types import NESTING_MAX, is_deeper_than

BODY_BYTES_MAX: Final = 128 << 10
SDP: Final = "application/sdp"
FORM: Final = "multipart/form-data"


@dataclass(frozen=True, slots=True)
class CallRequest:
    """One wish for a call. session: what the request itself says; an ephemeral key may say more."""

    offer: str
    session: dict[str, Any] = field(default_factory=dict)


def media_type(content_type: str) -> str:
    """`application/sdp` out of `Application/SDP; charset=utf-8`."""
    return content_type.partition(";")[0].strip().lower()


def parse_call(content_type: str, body: bytes, query: Mapping[str, str]) -> CallRequest:
    """A body of application/sdp, or a form with `sdp` and, maybe, `session`; `?model=` of the address.

    CallError: unsupported_content_type, bad_request, bad_sdp, bad_session.
    """
    kind = media_type(content_type)
    if kind == SDP:
        offer, session = parse_sdp(body), {}
    elif kind == FORM:
        parts = parse_form(content_type, body)
        if "sdp" not in parts:
            raise CallError(
                "the form has no part sdp", "Put the offer there.", code="bad_request", param="sdp"
            )
        offer, session = parse_sdp(parts["sdp"]), parse_session(parts.get("session", b""))
    else:
        raise unsupported(kind, f"{SDP} or {FORM}")
    if query.get("model"):
        session.setdefault("model", query["model"])
    return CallRequest(offer, session)


def parse_sdp(body: bytes) -> str:
    """A session description as text. CallError bad_sdp."""
    if not body.strip():
        raise CallError("the offer is empty", "Send pc.localDescription.sdp.", code="bad_sdp", param="sdp")
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise CallError(
            f"line {line} of the offer is not UTF-8",
            "Send it as text.",
            code="bad_sdp",
            param="sdp",
            line=line,
        ) from None


def parse_session(body: bytes) -> dict[str, Any]:
    """The session object of a form. CallError bad_session."""
    try:
        session = msgspec.json.decode(body, type=dict[str, Any]) if body.strip() else {}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CallError(
            f"the session is no JSON object: {error}", "Send one.", code="bad_session", param="session"
        ) from None
    if is_deeper_than(NESTING_MAX, session):  # nobody behind us could write it again
        raise CallError(
            f"the session is nested deeper than {NESTING_MAX} levels",
            "Flatten it.",
            code="bad_session",
            param="session",
        )
    return session


def merge_sessions(of_key: Mapping[str, Any] | None, of_request: Mapping[str, Any]) -> dict[str, Any]:
    """What an ephemeral key was made for, with what the request itself says on top, key by key."""
    return {**(of_key or {}), **of_request}


def unsupported(kind: str, wanted: str) -> CallError:
    """415: a body of another kind."""
    said = f"the body is {kind}" if kind else "the request has no Content-Type"
    return CallError(said, f"Send {wanted}.", code="unsupported_content_type")
