"""The data plane's decision and its slow twin, driven with the same datagrams: every verdict must be equal.

Ports are the one thing the two choose freely: the pair keeps which real port stands for which of the
twin's, and demands that no two flows towards one backend address share a real one.
"""

from dataclasses import asdict, replace
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import numpy as np
from fastpath._testing.forward import Bench
from fastpath.backends import DOWN, DRAINING, PLAIN, TRUNK, UP

from pyfastpath.relay import layout
from pyfastpath.relay.decision import RelayModel
from pyfastpath.relay.flowstates import Client, Verdict
from pyfastpath.relay.rules import Backend, Route
from pyfastpath.types import Endpoint
from pyfastpath.wire.trunk import FlowClosed, Record, build_control

WALL_S = 1_800_000_000  # the wall clock when a pair begins
FAR_S = 1_000_000
STATES = {"up": UP, "draining": DRAINING, "down": DOWN}
MODES = {"trunk": TRUNK, "plain": PLAIN}
Network = IPv4Network | IPv6Network
RawClient = tuple[bytes, int, int, int]


class Pair:
    """`now_ms` is the twin's clock and never wraps; the data plane sees its low 32 bits."""

    def __init__(
        self, shards: int = 1, *, ports: int = 0, flows_max: int = 1024, start_ms: int = 1_000_000
    ) -> None:
        self.bench = Bench(shards, seed=bytes(range(16)), flows_max=flows_max, ports=ports)
        pools = [{4: range(index * ports, (index + 1) * ports), 6: range(0)} for index in range(shards)]
        self.model = RelayModel(flows_max=flows_max, pools=pools)
        self.start_ms = self.now_ms = start_ms
        self.endpoints: dict[int, Endpoint] = {}  # of every backend there ever was
        self.real_ports: dict[tuple[int, Endpoint], int] = {}
        self.policy: dict[str, Any] = {"token_keys": {}, "hash_policy": False, "draining": False}
        self.seen: set[str] = set()  # reasons, and what else happened: tests ask what a run has covered

    # ---- what the control plane does ---------------------------------------------------------------

    def publish(
        self,
        *,
        token_keys: dict[int, bytes] | None = None,
        hash_policy: bool | None = None,
        draining: bool | None = None,
        admission: tuple[int, int] | None = None,
        allow_clients: list[Network] | None = None,
    ) -> None:
        """Change the policy; None leaves a part as it is. admission: a shard's flows a second, its burst."""
        if token_keys is not None:
            self.policy["token_keys"] = self.model.tables.token_keys = token_keys
        if hash_policy is not None:
            self.policy["hash_policy"] = self.model.tables.hash_policy = hash_policy
        if draining is not None:
            self.policy["draining"] = self.model.draining = draining
        if admission is not None:
            self.model.limit_admission(*admission)
            self.policy["admission_flows_per_s"], self.policy["admission_burst"] = admission
        if allow_clients is not None:
            self.model.allow_clients = allow_clients
            self.policy["allow_clients"] = [
                (each.network_address.packed.ljust(16, b"\0"), each.version, each.prefixlen)
                for each in allow_clients
            ]
        self.bench.publish(trunk_keys={}, wall_s=self.wall_s, **self.policy)

    def backend(self, index: int, backend: Backend) -> None:
        """Register a backend, or (with a parent) the next address:port target."""
        address = (backend.endpoint.address16, backend.endpoint.port, backend.endpoint.family)
        backends = self.bench.shared.backends
        if backend.parent is not None:
            assert backends.target(backend.parent, *address, now_s=self.now_ms // 1000) == index
        else:
            identity: dict[str, Any] = {}
            if backend.identity is not None:
                names = ("cluster", "xcvr", "incarnation")
                identity = dict(zip(names, backend.identity, strict=True)) | {"has_xcvr": True}
            backends.publish(index, *address, MODES[backend.mode], backend.name_hash, **identity)
            backends.set_state(index, STATES[backend.state])
        self.model.tables.backends[index] = backend
        self.endpoints[index] = backend.endpoint

    def set_state(self, index: int, state: Any) -> None:
        """Up, draining or down."""
        self.model.tables.backends[index] = replace(self.model.tables.backends[index], state=state)
        self.bench.shared.backends.set_state(index, STATES[state])

    def remove_backend(self, index: int) -> None:
        """No new flows; live ones go on."""
        self.bench.shared.backends.remove(index)
        self.endpoints[index] = self.model.tables.backends.pop(index).endpoint

    def route(self, ufrag: str, backend: int, *, session: int = 0, left_s: int = FAR_S) -> None:
        """Install a session route; one that is there is replaced."""
        expires_s = self.now_ms // 1000 + left_s
        self.bench.shared.routes.install(ufrag.encode(), backend, expires_s, session, True)
        self.model.tables.routes[ufrag.encode()] = Route(backend, expires_s, session)

    def remove_route(self, ufrag: str) -> None:
        """Live flows go on."""
        was = self.model.tables.routes.pop(ufrag.encode(), None)
        assert self.bench.shared.routes.remove(ufrag.encode()) == (was is not None)

    def press(self, level: int) -> None:
        """The workers are overloaded so much (0: not at all)."""
        self.model.pressure = level
        self.bench.press(level)

    # ---- time --------------------------------------------------------------------------------------

    @property
    def wall_s(self) -> int:
        return WALL_S + (self.now_ms - self.start_ms) // 1000

    @property
    def _low_ms(self) -> int:
        return self.now_ms & 0xFFFFFFFF

    def wait(self, ms: int, *, expire: bool = True) -> None:
        """Time passes; afterwards whatever is over ends, unless expiry is late."""
        self.now_ms += ms
        self.bench.set_wall(self.wall_s)
        if expire:
            self.expire()

    def expire(self) -> None:
        self.model.expire(self.now_ms)
        self.bench.expire(self._low_ms)
        self.compare_tables()

    def restart(self) -> None:
        """The engine dies and its successor adopts the memory: nothing that decides may change."""
        self.model.restart(self.now_ms)
        self.bench.adopt(self._low_ms)
        self.compare_tables()

    # ---- datagrams ---------------------------------------------------------------------------------

    def from_client(self, shard: int, client: Client, datagram: bytes) -> Verdict:
        expected = self.model.from_client(
            shard, client.endpoint, client.ingress, datagram, self.now_ms, self.wall_s
        )
        found = self.bench.from_client(shard, raw(client), datagram, self._low_ms)
        self._compare(expected, found)
        if expected.action == "forward":
            self._compare_port(expected, found["port"])
        return expected

    def from_plain(self, shard: int, port: int, source: Endpoint, datagram: bytes) -> Verdict:
        """`port` is one of the twin's."""
        real = self.real_ports.get((port, source), port)
        expected = self.model.from_plain(shard, port, source, datagram, self.now_ms)
        address = (source.address16, source.port, source.family)
        self._compare(expected, self.bench.from_plain(shard, real, address, datagram, self._low_ms))
        return expected

    def from_trunk(
        self, shard: int, backend: int, client: Client, datagram: bytes, *, confirmed: bool = False
    ) -> Verdict:
        record = Record(datagram, client.endpoint, client.ingress, confirmed=confirmed)
        expected = self.model.from_trunk_record(shard, backend, record, self.now_ms)
        found = self.bench.from_trunk(
            shard, backend, raw(client), datagram, self._low_ms, may_teach=confirmed
        )
        self._compare(expected, found)
        return expected

    def flow_closed(self, shard: int, backend: int, client: Client) -> None:
        payload = build_control(FlowClosed())
        record = Record(payload, client.endpoint, client.ingress, control=True)
        assert self.model.from_trunk_record(shard, backend, record, self.now_ms).action == "punt"
        self.bench.flow_closed(shard, backend, raw(client), self._low_ms)

    # ---- comparing ---------------------------------------------------------------------------------

    def _compare(self, expected: Verdict, found: dict[str, Any]) -> None:
        wanted = asdict(expected)
        del wanted["port"]
        wanted["client"] = raw(expected.client) if expected.client else None
        got = {name: found.get(name) for name in wanted}
        if expected.action == "drop":
            got["traffic_class"] = wanted["traffic_class"] = 0
        assert got == wanted
        self.seen.add(expected.reason)
        self.seen |= {name for name in ("overrode", "confirmed") if wanted[name]}
        self.seen.add(f"decision {expected.decision}")

    def _compare_port(self, expected: Verdict, real: int | None) -> None:
        assert (expected.port is None) == (real is None)
        if expected.port is None or expected.backend is None:
            return
        endpoint = self.endpoints[expected.backend]
        key = (expected.port, endpoint)
        if expected.decision == "none":
            assert self.real_ports[key] == real
            return
        in_use = {used for shard in self.model.shards for used in shard.ports} - {key}
        assert real not in {self.real_ports[used] for used in in_use if used[1] == endpoint}
        self.real_ports[key] = real

    def compare_tables(self) -> None:
        """Which clients have a flow, which have provisional ones, how many ports are taken."""
        for mine, theirs in zip(self.model.shards, self.bench.shards, strict=True):
            flows = np.frombuffer(theirs.flows(), layout.FLOW)
            waiting = np.frombuffer(theirs.provisional(), layout.PROVISIONAL)
            header = np.frombuffer(theirs.header(), layout.SHARD_HEADER)[0]
            versions = sorted(flow.version for flow in mine.flows.values())
            assert sorted(flows["version"].tolist()) == versions, "half of the voice is shed by version"
            assert keys(flows["client"]) == sorted(raw(client) for client in mine.flows)
            assert keys(waiting["client"]) == sorted(raw(flow.client) for flow in mine.provisional.values())
            assert header["flows_count"] == len(flows)
            assert header["provisional_count"] == len(waiting)
            assert header["ports_count"] == len(mine.ports)


def raw(client: Client) -> RawClient:
    """As the test door of the data plane takes a client."""
    endpoint = client.endpoint
    return endpoint.address16, endpoint.port, endpoint.family, client.ingress


def keys(clients: Any) -> list[RawClient]:
    return sorted(
        (bytes(each["address"]), int(each["port"]), int(each["family"]), int(each["ingress"]))
        for each in clients
    )
