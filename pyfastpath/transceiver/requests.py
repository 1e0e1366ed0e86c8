"""What the gateway asks of a transceiver, and what it is told. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyfastpath.errors import FastpathError
from pyfastpath.transceiver.events import State
from pyfastpath.types import Endpoint


@dataclass(frozen=True, slots=True)
class CreateSession:
    """One call: `sid` is the 36-bit number its token carries, `ufrag` that token, `call` the id clients know.

    candidates: the ingress addresses of the answer, best first. session: the Realtime session object.
    """

    sid: int
    call: str
    ufrag: str
    offer: str
    candidates: tuple[Endpoint, ...]
    session: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What is known of one session. steps_ms: milliseconds from its creation to each step of the set-up."""

    sid: int
    call: str
    state: State
    reason: str
    steps_ms: Mapping[str, float]
    agent: str
    seconds: float
    packets_received: int = 0
    packets_sent: int = 0
    packets_lost: int = 0


class SessionError(FastpathError):
    """A session that is refused or unknown. `code`: bad_sdp, no_capacity, draining, not_found, conflict, …"""

    def __init__(self, message: str, hint: str = "", *, code: str, line: int = 0) -> None:
        super().__init__(message, hint)
        self.code = code
        self.line = line
