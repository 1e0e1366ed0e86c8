"""ICE-lite (RFC 8445, RFC 8839) for one session, which proves each client address before it is believed.

A nomination proves that its sender knows the password, not where he is: the owner of a session could aim the
agent's audio at a stranger. So media goes to a path only once that path has answered a Binding Request of
ours (pathcheck.py); until then the path before stays selected.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Final

from pyfastpath.errors import WireError
from pyfastpath.transceiver.path import Identity, Path, client_of, identity_of
from pyfastpath.transceiver.pathcheck import Check, PathCheck, PathState
from pyfastpath.wire import stun

CONSENT_S: Final = 30.0  # RFC 7675, section 5.1
REPLAY_S: Final = 60.0
TRANSACTIONS_MAX: Final = 2048  # remembered; a client in trouble asks some 20 times a second
PATHS_MAX: Final = 16
PATH_SILENCE_S: Final = 60.0  # then it is forgotten
# Then a request from elsewhere says that the client has moved. Clients check what they use each 2.5 s
# (browsers) or each 4 to 6 s (RFC 7675, section 5.1): one of the latter may be moved too early by a lost
# check, to another path that has proven to be its own.
MOVED_S: Final = 3.5
HOLD_S: Final = 7.0  # as long as a relay keeps a flow against another request: longer than a client pauses
GRACE_S: Final = 10.0  # credentials from before an ICE restart, after the new ones nominated

# Of a server-side prflx candidate, the only kind our checks could be (RFC 8445, section 5.1.2.1).
_PRIORITY: Final = (110 << 24 | 65535 << 8 | 255).to_bytes(4, "big")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Of one generation: an ICE restart brings new ones for both sides."""

    local_ufrag: str
    local_pwd: str
    remote_ufrag: str
    remote_pwd: str


@dataclass(frozen=True, slots=True)
class PathAdded:
    """A client that knows the password asked from this path: its datagrams belong to this session."""

    path: Path


@dataclass(frozen=True, slots=True)
class PathRemoved:
    """This path is no longer remembered, or now comes through another relay socket (a PathAdded follows)."""

    path: Path


@dataclass(frozen=True, slots=True)
class PathSelected:
    """DTLS and media go to `path` from here on."""

    path: Path
    previous: Path | None


@dataclass(frozen=True, slots=True)
class ConsentExpired:
    """The client has been silent for 30 s: nothing may be sent to it any more (RFC 7675)."""


IceEvent = PathAdded | PathRemoved | PathSelected | ConsentExpired


@dataclass(frozen=True, slots=True)
class _Refusal:
    code: int
    reason: str
    drop_reason: str

    @property
    def is_signed(self) -> bool:
        """400 and 401 go to somebody who has not proven that he knows the password (RFC 8489, 9.1.3)."""
        return self.code not in {400, 401}


_NO_INTEGRITY: Final = _Refusal(400, "Bad Request", "stun_bad_integrity")
_UNKNOWN_UFRAG: Final = _Refusal(401, "Unauthenticated", "stun_unknown_ufrag")
_BAD_INTEGRITY: Final = _Refusal(401, "Unauthenticated", "stun_bad_integrity")
_UNKNOWN_ATTRIBUTE: Final = _Refusal(420, "Unknown Attribute", "stun_unknown_attribute")
_ROLE_CONFLICT: Final = _Refusal(487, "Role Conflict", "stun_role_conflict")


@dataclass(slots=True)
class _Generation:
    credentials: Credentials
    number: int
    ends_at: float = inf

    @property
    def key(self) -> bytes:
        """What requests to us, and our answers, are signed with."""
        return self.credentials.local_pwd.encode()


class IceServer:
    """The ICE agent of one session. Times are monotonic seconds.

    `entropy` gives as many random bytes as it is asked for; `drop` is told why, for each message that was not
    used (counters.DROP_REASONS).
    """

    def __init__(
        self, first: Credentials, *, entropy: Callable[[int], bytes], drop: Callable[[str], None]
    ) -> None:
        self._entropy = entropy
        self._tie_breaker = entropy(8)
        self._drop = drop
        self._generations = [_Generation(first, 0)]
        self._in_force = 0  # number of the generation that nominated last
        self._paths: dict[Identity, PathCheck] = {}
        self._seen: OrderedDict[bytes, tuple[Identity, float]] = OrderedDict()
        self._nominated: PathCheck | None = None
        self._selected: PathCheck | None = None
        self._expired = False
        self._outbox: list[tuple[Path, bytes]] = []
        self._events: deque[IceEvent] = deque()
        self._timer: float | None = None

    # ---- what the session asks ----------------------------------------------------------------------

    @property
    def selected(self) -> Path | None:
        """Where DTLS and media go: the nominated path once it is proven; before any such the first proven
        one (RFC 8445, section 12.1.1)."""
        return self._selected.path if self._selected else None

    @property
    def paths(self) -> tuple[Path, ...]:
        """Every path that is remembered."""
        return tuple(known.path for known in self._paths.values())

    def is_validated(self, path: Path) -> bool:
        """Has this path answered a check of ours?"""
        known = self._paths.get(identity_of(path))
        return known is not None and known.state is PathState.VALID

    def knows(self, path: Path) -> bool:
        """Is this path remembered?"""
        return identity_of(path) in self._paths

    def holds(self, path: Path, now: float) -> bool:
        """Has the client proven to be here, and been heard within HOLD_S?"""
        known = self._paths.get(identity_of(path))
        return known is not None and known.state is PathState.VALID and now < known.heard_at + HOLD_S

    def owns(self, ufrag: str) -> bool:
        """Is this the local ufrag of a generation that is answered?"""
        return any(generation.credentials.local_ufrag == ufrag for generation in self._generations)

    def restart(self, credentials: Credentials) -> None:
        """An ICE restart. The generation that carries the call stays valid until GRACE_S after the new one
        nominated; one that never got so far is replaced."""
        number = self._generations[-1].number + 1
        keep = [generation for generation in self._generations if generation.number == self._in_force]
        self._set_generations([*keep, _Generation(credentials, number)])
        self._arm()

    def follow(self, path: Path) -> None:
        """An authenticated datagram came on this path: if by another relay socket, answers go there too."""
        known = self._paths.get(identity_of(path))
        if known is not None and known.path != path:
            self._events += (PathRemoved(known.path), PathAdded(path))
            known.path = path

    # ---- the five verbs -----------------------------------------------------------------------------

    def receive(self, datagram: bytes, path: Path, now: float) -> None:
        """Take a STUN message."""
        if self._expired:
            return self._drop("session_over")
        try:
            message = stun.parse_message(datagram)
        except WireError:
            return self._drop("stun_malformed")
        if message.has_fingerprint and not stun.fingerprint_holds(datagram):
            return self._drop("stun_bad_fingerprint")
        if message.type == stun.BINDING_REQUEST:
            self._receive_request(datagram, message, path, now)
        elif message.type in {stun.BINDING_SUCCESS, stun.BINDING_ERROR}:
            self._receive_answer(datagram, message, path, now)
        elif message.type != stun.BINDING_INDICATION:
            return self._drop("stun_unsupported")
        return self._arm()

    def datagrams_to_send(self) -> list[tuple[Path, bytes]]:
        """What is to be sent now, and where."""
        outbox, self._outbox = self._outbox, []
        return outbox

    def get_timer(self) -> float | None:
        """When `handle_timer` is due; None while nothing is waited for."""
        return self._timer

    def handle_timer(self, now: float) -> None:
        """Retransmit, give up, forget, expire what is due."""
        if self._expired:
            return
        if any(generation.ends_at <= now for generation in self._generations):
            self._set_generations([g for g in self._generations if g.ends_at > now])
        for identity, known in list(self._paths.items()):
            self._tick(identity, known, now)
        if self._selected and now >= self._selected.heard_at + CONSENT_S:
            self._expire()
        self._arm()

    def next_event(self) -> IceEvent | None:
        """The oldest event not yet taken."""
        return self._events.popleft() if self._events else None

    # ---- requests -----------------------------------------------------------------------------------

    def _receive_request(self, datagram: bytes, message: stun.Message, path: Path, now: float) -> None:
        if not message.has_fingerprint:  # RFC 8445, section 7.1.2
            return self._drop("stun_bad_fingerprint")
        ufrag = (message.ufrag or b"").decode()
        generation = next((g for g in self._generations if g.credentials.local_ufrag == ufrag), None)
        if generation is None:
            return self._refuse(message, path, _UNKNOWN_UFRAG, b"")
        refusal = _refusal(datagram, message, generation.key)
        authenticated = refusal is None or refusal.is_signed
        if authenticated and self._is_replayed(message.transaction, identity_of(path), now):
            return self._drop("stun_replayed_transaction")
        if refusal is not None:
            return self._refuse(message, path, refusal, generation.key)
        known = self._remember(path, now)
        known.heard(len(datagram), now)
        answer = stun.build_binding_success(message.transaction, client_of(path), key=generation.key)
        known.sent(len(answer))
        self._send(known, answer)
        if message.value(stun.Attribute.USE_CANDIDATE) is not None or self._has_moved(known, now):
            self._nominate(known, generation, now)
        self._examine(known, generation, now)
        return self._choose(now)

    def _has_moved(self, known: PathCheck, now: float) -> bool:
        """Does the client use this path now, and not know it? Its NAT gave it another address: checks for
        consent alone nominate nothing, but they come from elsewhere, and the path in use falls silent."""
        selected = self._selected
        return selected is not None and known is not selected and now >= selected.heard_at + MOVED_S

    def _refuse(self, message: stun.Message, path: Path, refusal: _Refusal, key: bytes) -> None:
        self._drop(refusal.drop_reason)
        answer = stun.build_binding_error(
            message.transaction,
            refusal.code,
            refusal.reason,
            key=key if refusal.is_signed else None,
            unknown=stun.unknown_attributes(message) if refusal is _UNKNOWN_ATTRIBUTE else (),
        )
        self._outbox.append((path, answer))

    def _is_replayed(self, transaction: bytes, identity: Identity, now: float) -> bool:
        """Somebody sends a client's own request from elsewhere: the address behind it is not the client's."""
        while self._seen and (
            len(self._seen) >= TRANSACTIONS_MAX or now - next(iter(self._seen.values()))[1] >= REPLAY_S
        ):
            self._seen.popitem(last=False)
        first_identity, _ = self._seen.setdefault(transaction, (identity, now))
        return first_identity != identity

    def _remember(self, path: Path, now: float) -> PathCheck:
        identity = identity_of(path)
        if identity not in self._paths:
            if len(self._paths) >= PATHS_MAX:
                self._forget_one()
            self._paths[identity] = PathCheck(path, now)
            self._events.append(PathAdded(path))
        self.follow(path)
        known = self._paths[identity]
        if known is not self._selected:
            known.age(now)
        return known

    def _forget_one(self) -> None:
        """The one that has been silent for longest, of those that neither carry nor are to carry the call."""
        in_use = (self._selected, self._nominated)
        spare = [(known.heard_at, name) for name, known in self._paths.items() if known not in in_use]
        self._forget(min(spare)[1])

    def _forget(self, identity: Identity) -> None:
        self._events.append(PathRemoved(self._paths.pop(identity).path))

    def _nominate(self, known: PathCheck, generation: _Generation, now: float) -> None:
        if generation.number < self._in_force:
            return  # late, from before the restart
        if generation.number > self._in_force:
            self._in_force = generation.number
            for older in self._generations[:-1]:
                older.ends_at = now + GRACE_S
        self._nominated = known

    # ---- our own checks -----------------------------------------------------------------------------

    def _examine(self, known: PathCheck, generation: _Generation, now: float) -> None:
        """A request came from this path: ask back, unless that is done or under way."""
        if known.needs_check(generation.number):
            self._send(known, known.begin(self._new_check(generation), now))

    def _new_check(self, generation: _Generation) -> Check:
        credentials = generation.credentials
        transaction, key = self._entropy(stun.TRANSACTION_BYTES), credentials.remote_pwd.encode()
        request = stun.build_binding_request(
            transaction,
            f"{credentials.remote_ufrag}:{credentials.local_ufrag}".encode(),
            key=key,
            attributes=[
                (stun.Attribute.PRIORITY, _PRIORITY),
                (stun.Attribute.ICE_CONTROLLED, self._tie_breaker),
            ],
        )
        return Check(generation.number, transaction, key, request)

    def _receive_answer(self, datagram: bytes, message: stun.Message, path: Path, now: float) -> None:
        checking = ((known, known.check) for known in self._paths.values() if known.check)
        asked = next((pair for pair in checking if pair[1].transaction == message.transaction), None)
        if asked is None:
            return self._drop("stun_unexpected_response")
        known, check = asked
        if self._paths.get(identity_of(path)) is not known:
            return self._drop("stun_unexpected_response")
        if not stun.integrity_holds(datagram, check.key):
            return self._drop("stun_bad_response")
        self.follow(path)
        if message.type == stun.BINDING_ERROR:
            known.give_up()
            return self._drop("stun_bad_response")
        known.answered(now)
        return self._choose(now)

    def _set_generations(self, generations: list[_Generation]) -> None:
        """Checks made with credentials that ended will not be answered."""
        self._generations = generations
        numbers = {generation.number for generation in generations}
        for known in self._paths.values():
            if known.check and known.check.generation not in numbers:
                known.give_up()

    def _send(self, known: PathCheck, datagram: bytes | None) -> None:
        if datagram is not None:
            self._outbox.append((known.path, datagram))

    # ---- which path, and time -----------------------------------------------------------------------

    def _choose(self, now: float) -> None:
        """Select the nominated path if it is proven; to begin with, any that is."""
        wanted = self._nominated
        if self._selected is None and (wanted is None or wanted.state is not PathState.VALID):
            wanted = next((known for known in self._paths.values() if known.state is PathState.VALID), None)
        if wanted is None or wanted is self._selected or wanted.state is not PathState.VALID:
            return
        previous, self._selected = self._selected, wanted
        self._events.append(PathSelected(wanted.path, previous.path if previous else None))
        if previous:
            previous.age(now)

    def _tick(self, identity: Identity, known: PathCheck, now: float) -> None:
        self._send(known, known.handle_timer(now))
        if known is self._selected:
            return
        known.age(now)
        if now >= known.heard_at + PATH_SILENCE_S:
            self._forget(identity)
            if known is self._nominated:
                self._nominated = None

    def _expire(self) -> None:
        """The paths end with the session, which still has to tell the relays so: they are not removed."""
        self._expired = True
        self._selected = self._nominated = None
        self._paths.clear()
        self._events.append(ConsentExpired())

    def _arm(self) -> None:
        self._timer = None if self._expired else min(self._deadlines(), default=None)

    def _deadlines(self) -> Iterator[float]:
        for generation in self._generations:
            if generation.ends_at < inf:
                yield generation.ends_at
        for known in self._paths.values():
            in_use = known is self._selected
            yield known.heard_at + (CONSENT_S if in_use else PATH_SILENCE_S)
            yield known.get_timer(in_use=in_use)


def _refusal(datagram: bytes, message: stun.Message, key: bytes) -> _Refusal | None:
    if message.value(stun.Attribute.MESSAGE_INTEGRITY) is None:
        return _NO_INTEGRITY
    if not stun.integrity_holds(datagram, key):
        return _BAD_INTEGRITY
    if stun.unknown_attributes(message):
        return _UNKNOWN_ATTRIBUTE
    if message.value(stun.Attribute.ICE_CONTROLLED) is not None:
        # A lite agent never controls (RFC 8445, section 6.1.1): the client has to change its role.
        return _ROLE_CONFLICT
    return None
