"""A crowd of callers, spoofers and backends that meet at few client addresses, and everything they can do.

The crowd knows who sends every datagram and for whom; it asks `Ownership` what is right and a wire (the relay
under test) what happened. A difference is a misroute, and the message names it.
"""

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any, Protocol

from pyfastpath.wire import stun
from tests.model.ownership import Key, Kind, Lease, Ownership, Session, State

QUARANTINE_MS = 60_000


class Client(tuple[bytes, int, int, int]):
    """(address16, port, family, ingress), told as people do."""

    __slots__ = ()

    @classmethod
    def of(cls, address: bytes, family: int, port: int, ingress: int) -> "Client":
        return cls((address, port, family, ingress))

    def __repr__(self) -> str:
        address, port, family, ingress = self
        return f"[{ip_address(address[: 4 if family == 4 else 16])}]:{port}@{ingress}"


@dataclass(frozen=True)
class Arrival:
    """At which backend a client's datagram came out; `way` is what a reply takes."""

    backend: int
    way: Any


class Wire(Protocol):
    """The relay under test."""

    now_ms: int
    waits_ms: Sequence[int]
    trunk: set[int]
    """Backends reached by a trunk."""

    def install(self, session: Session) -> None: ...
    def up(self, sent: Sequence[tuple[Key, bytes]]) -> list[Arrival | None]: ...
    def down(self, sent: Sequence[tuple[Lease, bytes]]) -> list[Key | None]: ...
    def closed(self, lease: Lease) -> None: ...
    def wait(self, ms: int) -> None: ...
    def restart(self) -> None: ...


class MisrouteError(AssertionError):
    """A datagram at the wrong place, or lost, or let through."""


@dataclass(eq=False)
class Caller:
    """Who sends. A spoofer has a valid session of its own and sends from addresses of others."""

    session: Session
    key: Key
    spoofer: bool = False
    leases: list[Lease] = field(default_factory=list)  # those its backend has heard of


@dataclass(frozen=True)
class Question:
    """A Binding Request that arrived, and waits for its answer."""

    lease: Lease
    transaction: bytes


class Crowd:
    """`backends` indices; `keys` the client addresses they share. Each step is one thing that happens."""

    def __init__(self, seed: int, wire: Wire, keys: Sequence[Key], backends: Sequence[int]) -> None:
        self.random, self.wire, self.keys, self.backends = random.Random(seed), wire, keys, backends
        self.truth = Ownership()
        self.callers: list[Caller] = []
        self.questions: list[Question] = []
        self.requests: deque[tuple[Session, bytes]] = deque(maxlen=20)  # what an eavesdropper has
        self.numbers = 0
        self.story: deque[str] = deque(maxlen=40)
        self.seed = seed
        self.seen: dict[str, int] = {}

    # ---- what is said and checked --------------------------------------------------------------------

    def _number(self) -> int:
        self.numbers += 1
        return self.numbers

    def _note(self, text: str) -> None:
        self.story.append(f"{self.wire.now_ms / 1000:.3f} s: {text}")

    def _wrong(self, what: str, got: object, wanted: object) -> MisrouteError:
        told = "\n  ".join(self.story)
        return MisrouteError(
            f"seed {self.seed}: {what}: came to {got}, belongs to {wanted}; before:\n  {told}"
        )

    def _count(self, name: str) -> None:
        self.seen[name] = self.seen.get(name, 0) + 1

    def _check_up(self, what: str, arrival: Arrival | None, lease: Lease | None) -> None:
        if (arrival is None) != (lease is None):
            raise self._wrong(what, arrival, lease)
        if arrival is None or lease is None:
            self._count("dropped up")
            return
        if arrival.backend != lease.session.backend:
            raise self._wrong(what, arrival, lease)
        if lease.way is None:
            lease.way = arrival.way
        elif lease.way != arrival.way:
            raise self._wrong(f"{what}, by another way", arrival, lease.way)
        self._count("up")

    # ---- from clients --------------------------------------------------------------------------------

    def request(self, caller: Caller, key: Key, transaction: bytes | None = None) -> None:
        """A check of the caller's session, from any address."""
        transaction = transaction or self._number().to_bytes(12, "big")
        session = caller.session
        datagram = stun.build_binding_request(transaction, f"{session.ufrag}:peer".encode())
        what = f"Binding Request {transaction.hex()[-6:]} of {session.name} from {key}"
        (arrival,) = self.wire.up([(key, datagram)])
        lease = self.truth.request(key, session, transaction, len(datagram), self.wire.now_ms)
        self._check_up(what, arrival, lease)
        self._note(what)
        self.requests.append((session, transaction))
        if lease not in caller.leases:
            caller.leases.append(lease)
        self.questions.append(Question(lease, transaction))

    def media(self, senders: Sequence[tuple[Caller, Key]]) -> None:
        """Datagrams that are no STUN, each from an address, all at once."""
        sent, wanted = [], []
        for caller, key in senders:
            number = self._number()
            what = f"media {number} of {caller.session.name} from {key}"
            first = self.random.choice([b"\x80", b"\xbf", b"\x14", b"\x3f"])
            sent.append((key, first + what.encode()))
            wanted.append((what, self.truth.other(key, Kind.MEDIA, len(sent[-1][1]), self.wire.now_ms)))
        for (what, lease), arrival in zip(wanted, self.wire.up(sent), strict=True):
            self._check_up(what, arrival, lease)
        self._note(f"{len(senders)} x media, the last: {wanted[-1][0]}")

    def connect(self, caller: Caller, key: Key) -> None:
        """A check and at once its answer."""
        self.request(caller, key)
        question = self.questions.pop()
        self.reply(question.lease, Kind.SUCCESS, question.transaction)

    def attack(self, spoofer: Caller, victim: Caller) -> None:
        """Whatever the owner of another session can do from a victim's address. A transceiver that holds
        both sessions knows the address is the victim's and does not close it."""
        action = self.random.randrange(5)
        if action == 0:
            self.request(spoofer, victim.key)
        elif action == 1:
            self.connect(spoofer, victim.key)
        elif action == 2:
            self.media([(spoofer, victim.key)])
        elif action == 3 and self.requests:
            _, transaction = self.random.choice(self.requests)
            self.request(spoofer, victim.key, transaction)
        elif spoofer.session.backend in self.wire.trunk - {victim.session.backend}:
            for lease in [each for each in spoofer.leases if each.key == victim.key]:
                self._close(lease)

    def client_answers(self, caller: Caller, key: Key) -> None:
        """A success response to a full-ICE backend's own check."""
        datagram = stun.build_message(stun.BINDING_SUCCESS, self._number().to_bytes(12, "big"))
        what = f"answer of {caller.session.name} from {key}"
        (arrival,) = self.wire.up([(key, datagram)])
        lease = self.truth.other(key, Kind.SUCCESS, len(datagram), self.wire.now_ms)
        self._check_up(what, arrival, lease)
        self._note(what)

    # ---- from backends -------------------------------------------------------------------------------

    def reply(self, lease: Lease, kind: Kind, transaction: bytes = b"") -> None:
        """From a session's backend to the address where it heard its client."""
        self.replies([(lease, kind, transaction)])

    def replies(self, wanted: Sequence[tuple[Lease, Kind, bytes]]) -> None:
        """All at once."""
        sent, expected = [], []
        for lease, kind, transaction in wanted:
            number = self._number()
            what = f"{kind.value} {number} of {lease.session.name} to {lease.key}"
            if kind == Kind.SUCCESS:
                datagram = stun.build_message(stun.BINDING_SUCCESS, transaction)
            elif kind == Kind.REQUEST:
                datagram = stun.build_binding_request(number.to_bytes(12, "big"), b"peer:back")
            else:
                datagram = b"\x80" + what.encode()
            sent.append((lease, datagram))
            size, now_ms = len(datagram), self.wire.now_ms
            if lease.session.backend in self.wire.trunk:
                backend = lease.session.backend
                comes = self.truth.reply_to_client(backend, lease.key, kind, transaction, size, now_ms)
            else:
                comes = self.truth.reply(lease, kind, transaction, size, now_ms)
            expected.append((what, lease.key if comes else None))
        for (what, wanted_key), key in zip(expected, self.wire.down(sent), strict=True):
            if key != wanted_key:
                raise self._wrong(what, key, wanted_key)
            self._count("down" if key is not None else "dropped down")
            self._note(what)

    def _still_answered(self, lease: Lease) -> bool:
        """Servers send to a client that fell silent for a while, but not for a minute: then its port may be
        somebody else's."""
        return lease.state != State.GONE or self.wire.now_ms - lease.ended_ms < QUARANTINE_MS

    # ---- everything that can happen ------------------------------------------------------------------

    def step(self) -> None:
        """One thing, by its weight."""
        names, weights = zip(*STEPS.items(), strict=True)
        name = self.random.choices(names, weights)[0]
        getattr(self, f"_do_{name}")()

    def _some(self, *, spoofer: bool | None = None) -> Caller | None:
        found = [each for each in self.callers if spoofer is None or each.spoofer == spoofer]
        return self.random.choice(found) if found else None

    def open_session(self, backend: int | None = None, call: int | None = None) -> Session:
        number = self._number()
        backend = self.random.choice(self.backends) if backend is None else backend
        call = (number if self.random.random() < 0.7 else 0) if call is None else call
        session = Session(f"session {number} (backend {backend})", f"ufrag{number}", backend, call)
        self.wire.install(session)
        return session

    def _do_arrive(self) -> None:
        """A new caller, at an address that may be somebody's: one port reused by another session."""
        if len(self.callers) < 2 * len(self.keys):
            spoofer = self.random.random() < 0.25
            self.callers.append(Caller(self.open_session(), self.random.choice(self.keys), spoofer))

    def _do_leave(self) -> None:
        if len(self.callers) > 4:
            self.callers.remove(self.random.choice(self.callers))

    def _do_check(self) -> None:
        if caller := self._some(spoofer=False):
            self.request(caller, caller.key)

    def _do_answer(self) -> None:
        """Soon or late, once or twice, in any order; some never."""
        self.questions = [each for each in self.questions if self._still_answered(each.lease)]
        if not self.questions:
            return
        place = self.random.randrange(max(0, len(self.questions) - 12), len(self.questions))
        question = self.questions[place]
        if self.random.random() < 0.8:
            del self.questions[place]
        self.reply(question.lease, Kind.SUCCESS, question.transaction)

    def _do_connect(self) -> None:
        if caller := self._some(spoofer=False):
            self.connect(caller, caller.key)

    def _do_media(self) -> None:
        senders = [(each, each.key) for each in self.callers if not each.spoofer]
        if senders:
            self.media(self.random.choices(senders, k=self.random.choice([1, 1, 1, 40])))

    def _do_stray(self) -> None:
        """From an address where this caller never was: keys of others, and the same port at the other
        ingress."""
        if caller := self._some():
            self.media([(caller, self.random.choice(self.keys))])

    def _do_reply(self) -> None:
        known = (lease for caller in self.callers for lease in caller.leases[-4:])
        leases = [lease for lease in known if self._still_answered(lease)]
        if leases:
            chosen = self.random.choices(leases, k=self.random.choice([1, 1, 1, 40]))
            self.replies([(lease, Kind.MEDIA, b"") for lease in chosen])

    def _do_full_ice(self) -> None:
        """A backend's own check, and the client's answer to it."""
        if (caller := self._some()) and caller.leases:
            lease = self.random.choice(caller.leases[-3:])
            if self._still_answered(lease):
                self.reply(lease, Kind.REQUEST)
                self.client_answers(caller, lease.key)

    def _do_swap(self) -> None:
        """Two callers swap their NAT ports."""
        honest = [each for each in self.callers if not each.spoofer]
        if len(honest) > 1:
            one, other = self.random.sample(honest, 2)
            one.key, other.key = other.key, one.key
            self._note(f"{one.session.name} and {other.session.name} swap {one.key} and {other.key}")

    def _do_move(self) -> None:
        if caller := self._some(spoofer=False):
            caller.key = self.random.choice(self.keys)

    def _do_ice_restart(self) -> None:
        """Another ufrag, the same call; mostly the same backend."""
        if caller := self._some(spoofer=False):
            backend = caller.session.backend if self.random.random() < 0.7 else None
            caller.session = self.open_session(backend, caller.session.call)
            self._note(f"ICE restart: now {caller.session.name}")

    def _do_spoof(self) -> None:
        """Requests and media of a valid session, from somebody's address; its backend answers."""
        spoofer, victim = self._some(spoofer=True), self._some(spoofer=False)
        if spoofer and victim:
            if self.random.random() < 0.7:
                self.request(spoofer, victim.key)
            else:
                self.media([(spoofer, victim.key)])

    def _do_replay(self) -> None:
        """Somebody's request once more, from another address: its answer confirms nobody."""
        if self.requests:
            session, transaction = self.random.choice(self.requests)
            owner = Caller(session, None, spoofer=True)
            self.request(owner, self.random.choice(self.keys), transaction)

    def _do_close(self) -> None:
        """A transceiver ends the flow of one of its sessions."""
        leases = [
            lease
            for lease in self.truth.holders.values()
            if lease.session.backend in self.wire.trunk and lease.state == State.HOLDING
        ]
        if leases:
            self._close(self.random.choice(leases))

    def _close(self, lease: Lease) -> None:
        self.wire.closed(lease)
        self.truth.closed(lease.session.backend, lease.key, self.wire.now_ms)
        self._note(f"{lease.session.name} closed at {lease.key}")

    def _do_wait(self) -> None:
        self.wait(self.random.choice(self.wire.waits_ms))

    def wait(self, ms: int) -> None:
        self.wire.wait(ms)
        self.truth.expire(self.wire.now_ms)
        self._note(f"{ms} ms later")

    def _do_restart(self) -> None:
        """The engine dies and another takes over: nobody notices."""
        self.wire.restart()
        self._note("engine restarted")


STEPS = {
    **{"arrive": 3, "leave": 1, "check": 8, "answer": 8, "connect": 8, "media": 20, "stray": 4, "reply": 16},
    **{"full_ice": 3, "swap": 2, "move": 1, "ice_restart": 2, "spoof": 6, "replay": 2, "close": 1, "wait": 8},
    "restart": 0.3,
}
