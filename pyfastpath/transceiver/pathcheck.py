"""One path of a session: is the client really where its datagrams say they come from?

We ask (a Binding Request of ours) when a client that knows the password asks from there, and believe the
address once the answer came back from it. `TRANSITIONS` is the whole of it:

    UNPROVEN ──request──▶ CHECKING ──answer──▶ VALID
        ▲                    │                   │
        ├──────gives up──────┘                   │
        └──────stale (30 s without an answer, and not in use)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf
from typing import Final

from pyfastpath.transceiver.path import Path

FIRST_RETRANSMISSION_S: Final = 0.25  # then doubled each time (RFC 8489, section 6.2.1)
TRANSMISSIONS_MAX: Final = 7  # Rc
LAST_WAIT_S: Final = 16 * FIRST_RETRANSMISSION_S  # Rm: how long the last one may take to be answered
PROOF_S: Final = 30.0  # an answer proves an address that is not in use for so long
AMPLIFICATION_MAX: Final = 3  # bytes to an unproven address for each byte from it


class PathState(Enum):
    """What is known about a path."""

    UNPROVEN = "unproven"
    CHECKING = "checking"
    VALID = "valid"


class PathInput(Enum):
    """What may happen to a path."""

    REQUEST = "request"  # an authenticated one came from it
    ANSWER = "answer"  # to our check, from it, with the right integrity
    GIVES_UP = "gives up"  # our check was refused, never answered, or its credentials ended
    STALE = "stale"  # its last answer is too old, and it is not in use


# What is not in the table cannot happen.
TRANSITIONS: Final = {
    (PathState.UNPROVEN, PathInput.REQUEST): PathState.CHECKING,
    (PathState.CHECKING, PathInput.REQUEST): PathState.CHECKING,
    (PathState.CHECKING, PathInput.ANSWER): PathState.VALID,
    (PathState.CHECKING, PathInput.GIVES_UP): PathState.UNPROVEN,
    (PathState.VALID, PathInput.REQUEST): PathState.VALID,
    (PathState.VALID, PathInput.STALE): PathState.UNPROVEN,
}


@dataclass(frozen=True, slots=True)
class Check:
    """A Binding Request of ours. The answer carries `transaction` and is signed with `key`."""

    generation: int  # of the credentials it was made with
    transaction: bytes
    key: bytes
    datagram: bytes


class PathCheck:
    """State of one path. `path` names the relay socket heard last. Times are monotonic seconds."""

    __slots__ = (
        "_next_at",
        "_received_bytes",
        "_sent_bytes",
        "_transmissions",
        "answered_at",
        "check",
        "heard_at",
        "path",
        "state",
    )

    def __init__(self, path: Path, now: float) -> None:
        self.path = path
        self.heard_at = now  # the last authenticated request or answer
        self.answered_at = -inf
        self.state = PathState.UNPROVEN
        self.check: Check | None = None
        self._transmissions = 0
        self._next_at = inf
        self._received_bytes = 0  # these two are compared while the path is not proven
        self._sent_bytes = 0

    def heard(self, size_bytes: int, now: float) -> None:
        """An authenticated request came."""
        self.heard_at = now
        self._received_bytes += size_bytes

    def sent(self, size_bytes: int) -> None:
        """Something of this size was sent to the client."""
        self._sent_bytes += size_bytes

    def needs_check(self, generation: int) -> bool:
        """After an authenticated request made with the credentials of this generation. A check made with
        older ones is useless: a client that restarted has forgotten them."""
        before = self.state
        self._move(PathInput.REQUEST)
        outdated = self.check is not None and self.check.generation < generation
        return before is PathState.UNPROVEN or outdated

    def begin(self, check: Check, now: float) -> bytes | None:
        """Start a check. Gives what to send now, if anything."""
        self.check = check
        self._transmissions = 0
        return self._transmit(check, now)

    def answered(self, now: float) -> None:
        """The answer came, from here, and is right."""
        self._move(PathInput.ANSWER)
        self.check = None
        self.answered_at = self.heard_at = now

    def give_up(self) -> None:
        """No answer is waited for any more."""
        self._move(PathInput.GIVES_UP)
        self.check = None

    def age(self, now: float) -> None:
        """To be asked of a path not in use: its address may have another owner by now, and must prove itself
        again."""
        if self.state is PathState.VALID and now >= self.answered_at + PROOF_S:
            self._move(PathInput.STALE)
            self._received_bytes = self._sent_bytes = 0

    def handle_timer(self, now: float) -> bytes | None:
        """What to send again, if anything is due; the last silence ends the check."""
        if self.check is None or now < self._next_at:
            return None
        if self._transmissions == TRANSMISSIONS_MAX:
            self.give_up()
            return None
        return self._transmit(self.check, now)

    def get_timer(self, *, in_use: bool) -> float:
        """When `handle_timer` or `age` has something to do; infinity for never."""
        due = self._next_at if self.check else inf
        if not in_use and self.state is PathState.VALID:
            due = min(due, self.answered_at + PROOF_S)
        return due

    def _transmit(self, check: Check, now: float) -> bytes | None:
        """Silent when the unproven address had its share: an owner's spoofed requests shall not pay."""
        self._transmissions += 1
        last = self._transmissions == TRANSMISSIONS_MAX
        self._next_at = now + (
            LAST_WAIT_S if last else FIRST_RETRANSMISSION_S * 2 ** (self._transmissions - 1)
        )
        if self._sent_bytes + len(check.datagram) > AMPLIFICATION_MAX * self._received_bytes:
            return None
        self.sent(len(check.datagram))
        return check.datagram

    def _move(self, what: PathInput) -> None:
        self.state = TRANSITIONS[self.state, what]
