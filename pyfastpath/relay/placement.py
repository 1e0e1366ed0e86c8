"""Where a session goes, and what its client is told: pure rules about addresses.

Towards the backend: its own address, or the address:port an SDP answer names inside its `allow`
networks. Towards the client: the relay's candidates, one an ingress address.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from pyfastpath.config.model import Backend
from pyfastpath.errors import RouteError
from pyfastpath.types import Endpoint, IPAddress, canonical
from pyfastpath.wire.sdp import Candidate, host_candidates


@dataclass(frozen=True, slots=True)
class Ingress:
    """One local address clients use. advertised: what they are told, None for a wildcard's own list.

    listener: index of the listen socket in every shard.
    """

    id: int
    listener: int
    local: Endpoint
    advertised: Endpoint
    wildcard: bool


def relay_candidates(ingresses: Iterable[Ingress]) -> tuple[Candidate, ...]:
    """The relay's candidates with falling priority, each advertised address once.

    Loopback and link-local addresses come last: a public one serves more clients.
    """
    advertised = list(dict.fromkeys(ingress.advertised for ingress in ingresses))
    advertised.sort(key=lambda endpoint: _nearness(endpoint.address))  # stable: else in configured order
    return host_candidates((str(endpoint.address), endpoint.port) for endpoint in advertised)


def _nearness(address: IPAddress) -> int:
    return 2 if address.is_loopback else 1 if address.is_link_local else 0


def target_of(backend: Backend, text: str) -> Endpoint:
    """The address:port a route asks for, checked against the backend's mode and `allow`."""
    try:
        endpoint = Endpoint.parse(text)
    except ValueError as error:
        raise RouteError(f"target: {error}.", "Write 10.0.0.5:40000.", code="bad_request") from None
    if endpoint.port == 0:
        raise RouteError("target: port 0 is no port to send to.", "Name the port.", code="bad_request")
    if backend.mode != "plain":
        raise RouteError(
            f"backend {backend.id} is reached by the trunk: a route to it has no target.",
            "Leave target out.",
            code="bad_target",
        )
    if not _allowed(backend, endpoint):
        raise RouteError(
            f"target {endpoint} is outside the networks backend {backend.id} allows ({_networks(backend)}).",
            "Add its network to the backend's allow, or name an address inside.",
            code="bad_target",
        )
    return endpoint


def answered_target(backend: Backend, candidates: Iterable[Candidate]) -> Endpoint | None:
    """The transport address an answer's own host candidates name; None: the backend's one address.

    Of the UDP host candidates inside `allow` the one with the highest priority counts.
    """
    if backend.mode != "plain" or not backend.allow:
        return None
    hosts = [one for one in candidates if (one.transport, one.kind, one.component) == ("udp", "host", 1)]
    found = [(one.priority, endpoint) for one in hosts if (endpoint := _endpoint(one)) is not None]
    inside = [(priority, endpoint) for priority, endpoint in found if _allowed(backend, endpoint)]
    if inside:
        return max(inside, key=lambda item: item[0])[1]
    named = ", ".join(str(endpoint) for _, endpoint in found) or "none at all"
    raise RouteError(
        f"no UDP host candidate of the answer is inside the networks backend {backend.id} allows "
        f"({_networks(backend)}); it has {named}.",
        "Let the server gather its candidates before it answers, widen the backend's allow, or pass target=.",
        code="bad_target",
    )


def elsewhere(backend: Backend, candidates: Iterable[Candidate]) -> str:
    """The addresses an answer names, where the one to which its flows will go is not among them; else empty.

    Right behind a NAT, and lost datagrams where a server opens a port for each session.
    """
    named = [endpoint for one in candidates if (endpoint := _endpoint(one)) is not None]
    if backend.mode != "plain" or backend.allow or Endpoint.parse(backend.address) in named:
        return ""
    return ", ".join(map(str, named))


def _endpoint(candidate: Candidate) -> Endpoint | None:
    try:
        address = canonical(ip_address(candidate.address))
    except ValueError:
        return None  # a name: mDNS candidates hide the address
    return Endpoint(address, candidate.port) if 0 < candidate.port < 65536 else None


def _allowed(backend: Backend, endpoint: Endpoint) -> bool:
    return any(endpoint.address in ip_network(text) for text in backend.allow)


def _networks(backend: Backend) -> str:
    return ", ".join(backend.allow) or "none"
