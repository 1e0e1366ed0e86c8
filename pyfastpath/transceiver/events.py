"""What a connection and a session report: values, taken with `next_event` until it gives None.

A received RTP packet is reported as the RtpPacket itself: it is the one event there are thousands of. What
concerns paths is reported as ICE says it (ice.PathAdded, PathRemoved, PathSelected).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["created", "connecting", "live", "closing", "closed"]


@dataclass(frozen=True, slots=True)
class HandshakeBegun:
    """The first DTLS record has come."""


@dataclass(frozen=True, slots=True)
class Connected:
    """DTLS is done and its certificate is the offer's: media and data may flow."""

    profile: str


@dataclass(frozen=True, slots=True)
class DataReceived:
    """DTLS application data: an SCTP packet."""

    data: bytes


@dataclass(frozen=True, slots=True)
class LossReported:
    """The client says how much of what we send it loses, and it is another part than before."""

    percent: int


@dataclass(frozen=True, slots=True)
class TextToSend:
    """A message for the client's data channel."""

    text: str


@dataclass(frozen=True, slots=True)
class StateChanged:
    """A step of the session's life, or a new step of its set-up; `steps_ms` counts from its creation."""

    state: State
    reason: str
    steps_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Ended:
    """The connection is over and has nothing more to send than what is already queued."""

    reason: str
