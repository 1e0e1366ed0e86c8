"""The rules of WHIP's session resource (RFC 9725): entity tags, and what a PATCH asks for. Pure.

An entity tag names one ICE generation of one call. It is sealed like a call id: a gateway that keeps no
state knows its own tags from others', but not which generation is the newest. That costs nothing: trickled
candidates, all that a tag guards, are ignored because clients are learnt from their checks.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from pyfastpath.signalling.callid import CallName, pack_name
from pyfastpath.signalling.calls import SDP, media_type, parse_sdp, unsupported
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.sealing import Sealer
from pyfastpath.wire.answer import parse_fragment
from pyfastpath.wire.offer import OfferError

FRAGMENT: Final = "application/trickle-ice-sdpfrag"
_SID_BYTES: Final = 5
_TAG: Final = re.compile(r'\s*(?:W/)?"([^"]*)"\s*(?:,|$)')


@dataclass(frozen=True, slots=True)
class Patch:
    """What a PATCH asks for. restart: `text` is an offer (SDP) or the new ICE credentials (FRAGMENT)."""

    kind: Literal["trickle", "restart"]
    text: str
    content_type: str


class EntityTags:
    """Makes and reads the entity tags of calls."""

    def __init__(self, call_key: bytes) -> None:
        self._sealer = Sealer(call_key, "entity tag")

    def build(self, name: CallName, generation: int) -> str:
        """The quoted tag of one ICE generation; `generation`: the sid of its token."""
        return f'"{self._sealer.seal(pack_name(name) + generation.to_bytes(_SID_BYTES, "big"))}"'

    def matches(self, if_match: str, name: CallName) -> bool:
        """Whether an If-Match header holds a tag of this call, or is `*`."""
        if if_match.strip() == "*":
            return True
        contents = [self._sealer.open(tag) for tag in _TAG.findall(if_match)]
        mine = pack_name(name)
        return any(content is not None and content[:-_SID_BYTES] == mine for content in contents)


def parse_patch(content_type: str, if_match: str | None, body: bytes) -> Patch:
    """Trickled candidates or an ICE restart (RFC 9725, sections 4.3.2 and 4.3.3).

    A fragment with `If-Match: *` restarts, with an entity tag it trickles. A whole offer always restarts:
    that is not WHIP, but what a browser can make without parsing SDP. CallError when it is neither.
    """
    kind = media_type(content_type)
    if kind == SDP:
        return Patch("restart", parse_sdp(body), SDP)
    if kind != FRAGMENT:
        raise unsupported(kind, f"{FRAGMENT} or, to restart ICE, {SDP}")
    if if_match is None:
        raise CallError(
            "the request has no If-Match",
            "Send the ETag of the answer with candidates, or * to restart ICE.",
            code="precondition_required",
        )
    text = parse_sdp(body)
    try:
        credentials = parse_fragment(text)
    except OfferError as error:
        raise CallError(
            error.message, error.hint, code=error.code, param="sdp", line=error.line or None
        ) from None
    if if_match.strip() != "*":
        return Patch("trickle", text, FRAGMENT)
    if credentials is None:
        raise CallError(
            "the fragment has no a=ice-ufrag and a=ice-pwd",
            "An ICE restart brings new ones.",
            code="bad_sdp",
            param="sdp",
        )
    return Patch("restart", text, FRAGMENT)
