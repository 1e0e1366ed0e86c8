"""Which backend a new ufrag goes to, and by which rule: the slow twin of the data plane's `decide`.

Session route, else token, else hash policy, else nothing. Each rule leaves a step that says why it did or
did not decide, so that `pyfastpath explain` can show the whole road. Pure: the tables and both clocks are
arguments.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

from pyfastpath.types import Endpoint, IPAddress, Mode
from pyfastpath.wire import token
from pyfastpath.wire.siphash import siphash
from pyfastpath.wire.stun import is_ufrag

BULK: Final = 3  # a traffic class of the wire that does not exist counts as the last one
_HASH_KEY: Final = bytes(16)  # no secret: every relay must come to the same backend

_SPECIAL_IPV4: Final = tuple(
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.168.0.0/16", "224.0.0.0/3"),
    )
)
_PUBLIC_IPV6: Final = IPv6Network("2000::/3")  # the only range IANA gives out (RFC 4291, section 2.4)

BackendState = Literal["up", "draining", "down"]
Identity = tuple[int, int, int]
"""Cluster, transceiver, incarnation: what a token must name."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A registered backend, or an address:port target under one (`parent`)."""

    endpoint: Endpoint
    mode: Mode = "plain"
    state: BackendState = "up"
    parent: int | None = None
    identity: Identity | None = None
    name_hash: int = 0


@dataclass(frozen=True, slots=True)
class Route:
    """An installed session route. `session` 0: it belongs to no named session. `used`: flows keep it."""

    backend: int
    expires_s: int
    session: int = 0
    used: bool = False


@dataclass(slots=True)
class Tables:
    """What the control plane publishes to the workers. Backends and routes are by index and ufrag."""

    routes: dict[bytes, Route] = field(default_factory=dict)
    backends: dict[int, Backend] = field(default_factory=dict)
    token_keys: Mapping[int, bytes] = field(default_factory=dict)
    hash_policy: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that was asked. `decided`: the search ended here."""

    rule: Literal["ufrag", "session_route", "token", "hash", "backend"]
    decided: bool
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """`decision` and `reason` are names of FP_DECISIONS and FP_DROP_REASONS; reason "none": it is routed."""

    decision: str
    reason: str
    backend: int | None = None
    traffic_class: int = 0
    session: int = 0
    steps: tuple[Step, ...] = ()


def explain_ufrag(ufrag: str, tables: Tables, now_s: int, wall_s: int) -> Decision:
    """What a relay with these tables does with a Binding Request for a ufrag it does not know yet.

    now_s: the clock of the routes' expiry (monotonic); wall_s: Unix time, for tokens.
    """
    if not is_ufrag(ufrag.encode(errors="replace")):
        step = Step("ufrag", True, "no ufrag: 4 to 256 letters, digits, '+' or '/' are (RFC 8839)")
        return Decision("none", "bad_stun", steps=(step,))
    return decide(ufrag.encode(), tables, now_s, wall_s)


def decide(ufrag: bytes, tables: Tables, now_s: int, wall_s: int) -> Decision:
    """The first rule that knows this ufrag decides, and then its backend must take new flows."""
    steps: list[Step] = []
    for found, step in _rules(ufrag, tables, now_s, wall_s):
        steps.append(step)
        if found is not None and found.reason == "none":
            checked, last = _check_backend(found, tables)
            return replace(checked, steps=(*steps, last))
        if found is not None:
            return replace(found, steps=tuple(steps))
    return Decision("no_route", "no_route", steps=tuple(steps))


def _rules(ufrag: bytes, tables: Tables, now_s: int, wall_s: int) -> Iterator[tuple[Decision | None, Step]]:
    yield _by_route(tables.routes.get(ufrag), now_s)
    yield _by_token(ufrag.decode(), tables, wall_s)
    yield _by_hash(ufrag, tables)


def _by_route(route: Route | None, now_s: int) -> tuple[Decision | None, Step]:
    if route is None:
        return None, Step("session_route", False, "no route is installed for it")
    if not route.used and route.expires_s <= now_s:
        why = f"its route expired {now_s - route.expires_s} s ago without a flow"
        return None, Step("session_route", False, why)
    found = Decision("session_route", "none", route.backend, session=route.session)
    return found, Step("session_route", True, f"an installed route names backend {route.backend}")


def _by_token(ufrag: str, tables: Tables, wall_s: int) -> tuple[Decision | None, Step]:
    if not tables.token_keys:
        return None, Step("token", False, "no token keys are configured")
    if not token.has_shape(ufrag):
        return None, Step("token", False, "no token: those are 22 letters and digits")
    try:
        said = token.verify(tables.token_keys, ufrag, wall_s)
    except token.ForgedTokenError as refusal:
        return Decision("bad_token", "bad_token"), Step("token", True, str(refusal))
    except token.ExpiredTokenError as refusal:
        return Decision("expired", "token_expired"), Step("token", True, str(refusal))
    named = (said.cluster, said.xcvr, said.incarnation)
    owners = [index for index, backend in sorted(tables.backends.items()) if backend.identity == named]
    words = f"key {said.kid} authenticates it; it names transceiver {said.xcvr} of cluster {said.cluster}"
    found = Decision(
        "token", "none", owners[0] if owners else None, traffic_class=min(said.traffic_class, BULK)
    )
    return found, Step("token", True, f"{words}, incarnation {said.incarnation}")


def _by_hash(ufrag: bytes, tables: Tables) -> tuple[Decision | None, Step]:
    if not tables.hash_policy:
        return None, Step("hash", False, "the hash policy is off")
    candidates = [
        index
        for index, backend in sorted(tables.backends.items())
        if backend.parent is None and backend.state == "up"
    ]
    if not candidates:
        return Decision("hash", "backend_unavailable"), Step("hash", True, "no backend is up")
    winner = max(candidates, key=lambda index: rendezvous_weight(ufrag, tables.backends[index].name_hash))
    why = f"backend {winner} has the highest weight of {len(candidates)} that are up"
    return Decision("hash", "none", winner), Step("hash", True, why)


def rendezvous_weight(ufrag: bytes, name_hash: int) -> int:
    """The highest weight wins, so a backend that comes or goes moves only the ufrags it wins or loses."""
    return siphash(_HASH_KEY, struct.pack("<QQ", name_hash, siphash(_HASH_KEY, ufrag)))


def _check_backend(found: Decision, tables: Tables) -> tuple[Decision, Step]:
    backend = None if found.backend is None else tables.backends.get(found.backend)
    parent = backend if backend is None or backend.parent is None else tables.backends.get(backend.parent)
    if backend is None or parent is None:
        refused = Decision("unknown_backend", "unknown_backend")
        return refused, Step("backend", True, "no such backend, transceiver or incarnation is registered")
    states = {backend.state, parent.state}
    if states != {"up"}:
        refused = Decision(found.decision, "backend_unavailable", traffic_class=found.traffic_class)
        return refused, Step("backend", True, f"it is {max(states - {'up'})}: no new flows")
    return found, Step("backend", True, f"it is up, {backend.mode}, at {backend.endpoint}")


def client_is_allowed(address: IPAddress, allow_clients: Iterable[IPv4Network | IPv6Network]) -> bool:
    """Public addresses always; private, loopback, link-local, multicast and reserved ones where they are
    listed, lest the relay be a way into its own network."""
    if address.version == 4:
        special = any(address in network for network in _SPECIAL_IPV4)
    else:
        special = address not in _PUBLIC_IPV6
    return not special or any(address in network for network in allow_clients)
