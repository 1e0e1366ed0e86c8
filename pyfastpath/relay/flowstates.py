"""The states a flow can be in, as the plain Python model of the relay keeps them.

none -> provisional (a routable ufrag was seen) -> confirmed (its backend answered) -> gone. A provisional
flow beside a live one of the same client is its shadow.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from pyfastpath.relay.admission import Admission
from pyfastpath.relay.shedding import Shedder
from pyfastpath.types import Endpoint


@dataclass(frozen=True, slots=True)
class Client:
    """The key of a flow: a client's transport address and the ingress it was seen at."""

    endpoint: Endpoint
    ingress: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one datagram. `reason` and `decision` are the names in layout.h. `port`: the upstream
    port of a plain flow. `overrode`: its ufrag is another than the live flow's. `confirmed`: this response
    confirmed its flow."""

    action: Literal["forward", "drop", "punt"]
    reason: str = "none"
    decision: str = "none"
    overrode: bool = False
    confirmed: bool = False
    backend: int | None = None
    port: int | None = None
    client: Client | None = None
    traffic_class: int = 0


@dataclass(slots=True, kw_only=True, eq=False)
class Flow:
    """A confirmed flow, or one a transceiver taught. A copy in another shard has the same version."""

    client: Client
    ufrag: bytes  # b"" when taught
    backend: int
    session: int  # of the route that led here, 0 = none
    port: int | None
    traffic_class: int
    taught: bool
    last_seen_ms: int
    ufrag_seen_ms: int
    version: int


@dataclass(slots=True, kw_only=True, eq=False)
class Provisional:
    """A flow its backend has not confirmed, or (`confirmed`) a shadow that waits for the live one."""

    client: Client
    ufrag: bytes
    backend: int
    session: int
    port: int | None
    traffic_class: int
    last_seen_ms: int
    bytes_up: int = 0
    bytes_down: int = 0
    confirmed: bool = False


@dataclass(slots=True)
class PortUse:
    """Who speaks from an upstream port to a backend's address. No holder: in quarantine."""

    holder: Flow | Provisional | None
    since_ms: int = 0


@dataclass(slots=True)
class Shard:
    """One shard's tables. Dicts keep order: the first provisional flow is the oldest."""

    pools: dict[int, range]
    flows: dict[Client, Flow] = field(default_factory=dict)
    provisional: dict[tuple[Client, bytes], Provisional] = field(default_factory=dict)
    ports: dict[tuple[int, Endpoint], PortUse] = field(default_factory=dict)
    taught: tuple[int, int] = (0, 0)  # second, flows taught in it
    admission: Admission = field(default_factory=Admission)
    shedder: Shedder = field(default_factory=Shedder)

    def of_client(self, client: Client) -> Iterator[Provisional]:
        """This client's provisional flows, the newest first."""
        return (flow for flow in reversed(self.provisional.values()) if flow.client == client)

    # Plain mode: a port serves one flow per backend address, as in a NAT.

    def acquire(self, flow: Provisional, endpoint: Endpoint) -> bool:
        """Give it the lowest port that no flow, living or at rest, uses towards this backend address."""
        free = (port for port in self.pools[endpoint.family] if (port, endpoint) not in self.ports)
        flow.port = next(free, None)
        if flow.port is None:
            return False
        self.ports[flow.port, endpoint] = PortUse(flow)
        return True

    def inherit(self, flow: Provisional, crowded_out: Provisional | None, endpoint: Endpoint) -> bool:
        """Take over the port of the same ufrag's flow that makes room, if it led to the same backend: the
        backend knows the port under that ufrag, so it need not rest."""
        if crowded_out is None or crowded_out.backend != flow.backend or crowded_out.port is None:
            return False
        flow.port, crowded_out.port = crowded_out.port, None
        self.ports[flow.port, endpoint] = PortUse(flow)
        return True

    def owns(self, flow: Flow) -> bool:
        """False for a copy that sends from the upstream port of the shard it was copied from."""
        return flow.port is None or any(flow.port in pool for pool in self.pools.values())

    def hand_over(self, before: Provisional, after: Flow) -> None:
        """A provisional flow's port is now the confirmed flow's."""
        for use in self.ports.values():
            if use.holder is before:
                use.holder = after

    def release(self, flow: Flow | Provisional, now_ms: int) -> None:
        """Its port rests from now on. A copy holds none: it sends from the other shard's."""
        for use in self.ports.values():
            if use.holder is flow:
                use.holder, use.since_ms = None, now_ms
