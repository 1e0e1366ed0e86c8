"""Whose client address is it? The rules of the relay's design, section 3, told about sessions.

A session at a client address has a lease: it waits until its backend has answered a question that was asked
from this very address, and then holds the address, unless another session does. Of the sessions that an
address has seen, one holds it; the others wait in its shadow. This is the truth that tests hold the relay to:
it knows who sends, the relay only sees addresses.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

SILENT_MS = 7_000
WAITING_TTL_MS = 5_000
HOLDING_TTL_MS = 60_000
TRANSACTION_MEMORY_MS = 60_000
AMPLIFICATION = 3

Key = Hashable
"""A client's address at an ingress."""


class Kind(Enum):
    """What a datagram is, as far as it matters here."""

    REQUEST = "Binding Request"
    SUCCESS = "success response"
    MEDIA = "media"


@dataclass(frozen=True)
class Session:
    """`call`: sessions of one call (an ICE restart) replace each other at once; 0 is no call."""

    name: str
    ufrag: str
    backend: int
    call: int = 0


class State(Enum):
    WAITING, HOLDING, GONE = range(3)


@dataclass(eq=False)
class Lease:
    """One session at one client address. `way`: what a wire knows of the road between them."""

    session: Session
    key: Key
    seen_ms: int
    checked_ms: int
    state: State = State.WAITING
    confirmed: bool = False
    bytes_up: int = 0
    bytes_down: int = 0
    ended_ms: int = 0
    way: Any = field(default=None, repr=False)


class Ownership:
    """Leases by client address. A method for each way a datagram can arrive, time as an argument."""

    def __init__(self) -> None:
        self.holders: dict[Key, Lease] = {}
        self.waiting: dict[Key, list[Lease]] = {}  # oldest first
        self.asked: dict[bytes, tuple[Key, Session, int]] = {}  # transaction: who asked first, and when

    # ---- from a client -------------------------------------------------------------------------------

    def request(self, key: Key, session: Session, transaction: bytes, size: int, now_ms: int) -> Lease:
        """A Binding Request with this session's ufrag: whose lease it belongs to."""
        known = self.asked.get(transaction)
        if known is None or now_ms - known[2] >= TRANSACTION_MEMORY_MS:
            self.asked[transaction] = key, session, now_ms
        holder = self.holders.get(key)
        if holder is not None and holder.session == session:
            holder.seen_ms = holder.checked_ms = now_ms
            return holder
        waiting = self.waiting.setdefault(key, [])
        lease = next((each for each in waiting if each.session == session), None)
        if lease is None:
            lease = Lease(session, key, now_ms, now_ms)
            waiting.append(lease)
        lease.seen_ms = now_ms
        lease.bytes_up += size
        if lease.confirmed:
            self._hold_if_due(lease, now_ms)
        return lease

    def other(self, key: Key, kind: Kind, size: int, now_ms: int) -> Lease | None:
        """Anything else: the holder's. Without a holder only STUN passes, to who came last."""
        holder = self.holders.get(key)
        if holder is not None:
            holder.seen_ms = now_ms
            return holder
        if kind == Kind.MEDIA or not self.waiting.get(key):
            return None
        lease = self.waiting[key][-1]
        lease.seen_ms = now_ms
        lease.bytes_up += size
        return lease

    # ---- from a backend ------------------------------------------------------------------------------

    def reply(self, lease: Lease, kind: Kind, transaction: bytes, size: int, now_ms: int) -> bool:
        """To a session at its client's address: does it arrive?"""
        if lease.state != State.WAITING:
            return lease.state == State.HOLDING
        if kind == Kind.MEDIA or lease.bytes_down + size > AMPLIFICATION * lease.bytes_up:
            return False
        lease.bytes_down += size
        if kind == Kind.SUCCESS and self._asked_first(lease, transaction, now_ms):
            lease.confirmed = True
            self._hold_if_due(lease, now_ms)
        return True

    def reply_to_client(
        self, backend: int, key: Key, kind: Kind, transaction: bytes, size: int, now_ms: int
    ) -> bool:
        """A trunk names the client, not the session: the one that asked, else the holder, else who came
        last; of this backend, all of them."""
        holder = self.holders.get(key)
        owns = holder is not None and holder.session.backend == backend
        waiting = [each for each in self.waiting.get(key, []) if each.session.backend == backend]
        asker = None
        if kind == Kind.SUCCESS:
            asker = next((each for each in waiting if self._asked_first(each, transaction, now_ms)), None)
        if asker is None and not owns and waiting:
            asker = waiting[-1]
        if asker is not None and (kind != Kind.MEDIA or not owns):
            return self.reply(asker, kind, transaction, size, now_ms)
        return owns

    def closed(self, backend: int, key: Key, now_ms: int) -> None:
        """A backend ends its lease; a session that waits confirmed takes over."""
        holder = self.holders.get(key)
        if holder is None or holder.session.backend != backend:
            return
        self._end(holder, now_ms)
        heir = next((each for each in reversed(self.waiting.get(key, [])) if each.confirmed), None)
        if heir is not None:
            self._hold_if_due(heir, now_ms)

    # ---- time ----------------------------------------------------------------------------------------

    def expire(self, now_ms: int) -> None:
        for holder in list(self.holders.values()):
            if now_ms - holder.seen_ms >= HOLDING_TTL_MS:
                self._end(holder, now_ms)
        for waiting in list(self.waiting.values()):
            for lease in list(waiting):
                if now_ms - lease.seen_ms >= WAITING_TTL_MS:
                    self._end(lease, now_ms)

    # ---- inside --------------------------------------------------------------------------------------

    def _asked_first(self, lease: Lease, transaction: bytes, now_ms: int) -> bool:
        key, session, when_ms = self.asked.get(transaction, (None, None, 0))
        return (key, session) == (lease.key, lease.session) and now_ms - when_ms < TRANSACTION_MEMORY_MS

    def _hold_if_due(self, lease: Lease, now_ms: int) -> None:
        """A holder gives way when its own ufrag was unseen for 7 s, or to its own call."""
        holder = self.holders.get(lease.key)
        if holder is not None:
            same_call = holder.session.call != 0 and holder.session.call == lease.session.call
            if now_ms - holder.checked_ms < SILENT_MS and not same_call:
                return
            self._end(holder, now_ms)
        self.waiting[lease.key].remove(lease)
        self.holders[lease.key] = lease
        lease.state, lease.checked_ms = State.HOLDING, lease.seen_ms

    def _end(self, lease: Lease, now_ms: int) -> None:
        if lease.state == State.HOLDING:
            del self.holders[lease.key]
        else:
            self.waiting[lease.key].remove(lease)
        lease.state, lease.ended_ms = State.GONE, now_ms
