"""Every datagram reaches the right backend, every reply the right client: random interleavings, 0 misroutes.

Two clients that swap NAT ports, one client port reused by another session, the same client port towards
two ingress addresses, spoofers with valid sessions of their own, replays, ICE restarts, shadows:
tests/model/crowd tells the stories, tests/model/ownership says what is right.
"""

from collections.abc import Sequence
from ipaddress import ip_address

import numpy as np
import pytest
from fastpath._testing.forward import Bench
from fastpath.backends import PLAIN, TRUNK

from pyfastpath.relay.layout import SHARD_HEADER
from tests.model.crowd import Arrival, Caller, Client, Crowd
from tests.model.ownership import Kind, Lease, Session
from tests.support.rig import Rig
from tests.support.rig_wire import RigWire

SHARDS = 4
PORTS = 128
BACKENDS = range(8)
TRUNKS = {0, 1, 2, 3}
FAR_S = 1_000_000_000


def sixteen(text: str) -> tuple[bytes, int]:
    address = ip_address(text)
    return address.packed.ljust(16, b"\0"), address.version


def client_keys() -> list[Client]:
    """Four client addresses of each family, all seen at two ingresses."""
    hosts = [("203.0.113.7", 5000), ("203.0.113.7", 5001), ("203.0.113.8", 5000), ("198.51.100.1", 443)]
    hosts += [("2001:db8::7", 5000), ("2001:db8::7", 5001), ("2001:db8::8", 5000), ("2001:db8:1::1", 443)]
    return [Client.of(*sixteen(text), port, ingress) for text, port in hosts for ingress in (0, 1)]


class BenchWire:
    """forward without sockets. Each client address belongs to one shard, as the kernel's hashing does it."""

    waits_ms = (1, 20, 20, 100, 500, 1_000, 2_500, 4_000, 8_000, 30_000, 61_000)

    def __init__(self, seed: int, keys: Sequence[Client], *, start_ms: int) -> None:
        self.bench = Bench(
            SHARDS,
            seed=seed.to_bytes(16, "big"),
            ports=PORTS,
            ports_ipv6=PORTS,
            provisional_max=1024,
            transactions_max=1 << 16,
            routes_max=1 << 14,
        )
        self.now_ms = start_ms
        self.trunk = TRUNKS
        self.shard_of = {key: (number + seed) % SHARDS for number, key in enumerate(keys)}
        self.addresses = {}
        for index in BACKENDS:
            address, family = sixteen(f"192.0.2.{index}" if index % 2 else f"2001:db8:2::{index}")
            self.addresses[index] = (address, 7000, family)
            mode = TRUNK if index in TRUNKS else PLAIN
            self.bench.shared.backends.publish(index, address, 7000, family, mode, index)

    @property
    def clock(self) -> int:
        """What the data plane sees of the time."""
        return self.now_ms & 0xFFFFFFFF

    def install(self, session: Session) -> None:
        """Its flow gets the first port that is free for its backend: ports are shared as much as they may."""
        for shard in self.bench.shards:
            np.frombuffer(shard.memory, SHARD_HEADER, 1)["port_next"] = 0
        route = (session.ufrag.encode(), session.backend, FAR_S)
        assert self.bench.shared.routes.install(*route, session=session.call) == 0

    def up(self, sent: Sequence[tuple[Client, bytes]]) -> list[Arrival | None]:
        return [self._up_one(key, datagram) for key, datagram in sent]

    def _up_one(self, key: Client, datagram: bytes) -> Arrival | None:
        shard = self.shard_of[key]
        verdict = self.bench.from_client(shard, tuple(key), datagram, self.clock)
        if verdict["action"] == "drop":
            return None
        return Arrival(verdict["backend"], (shard, verdict["port"]))

    def down(self, sent: Sequence[tuple[Lease, bytes]]) -> list[Client | None]:
        return [self._down_one(lease, datagram) for lease, datagram in sent]

    def _down_one(self, lease: Lease, datagram: bytes) -> Client | None:
        (shard, port), backend, clock = lease.way, lease.session.backend, self.clock
        if port is None:
            verdict = self.bench.from_trunk(shard, backend, tuple(lease.key), datagram, clock)
        else:
            verdict = self.bench.from_plain(shard, port, self.addresses[backend], datagram, clock)
        return Client(verdict["client"]) if verdict["action"] == "forward" else None

    def closed(self, lease: Lease) -> None:
        self.bench.flow_closed(lease.way[0], lease.session.backend, tuple(lease.key), self.clock)

    def wait(self, ms: int) -> None:
        self.now_ms += ms
        self.bench.expire(self.clock)

    def restart(self) -> None:
        self.bench.adopt(self.clock)


@pytest.mark.parametrize("seed", range(24))
def test_no_interleaving_misroutes(seed: int) -> None:
    keys = client_keys()
    start_ms = (1_000_000, 2**32 - 200_000)[seed % 2]  # the data plane's clock wraps on the way
    crowd = Crowd(seed, BenchWire(seed, keys, start_ms=start_ms), keys, BACKENDS)
    for _ in range(1500):
        crowd.step()
    assert min(crowd.seen.values()) > 50
    assert len(crowd.seen) == 4, crowd.seen


@pytest.mark.parametrize("seed", range(8))
def test_no_spoofer_tears_down_a_live_flow(seed: int) -> None:
    """Victims who check every few seconds keep their address through everything that owners of other valid
    sessions send from it: requests that their backends answer, replays, media, a backend's flow-closed."""
    keys = client_keys()
    crowd = Crowd(seed, BenchWire(seed, keys, start_ms=1_000_000), keys, BACKENDS)
    chance = crowd.random
    victims = [Caller(crowd.open_session(chance.choice(BACKENDS)), key) for key in keys]
    due_ms = dict.fromkeys(victims, crowd.wire.now_ms)
    spoofers = [Caller(crowd.open_session(chance.choice(BACKENDS)), keys[0], spoofer=True) for _ in range(8)]
    for _ in range(400):
        for victim in victims:
            if crowd.wire.now_ms >= due_ms[victim]:
                crowd.connect(victim, victim.key)
                due_ms[victim] = crowd.wire.now_ms + chance.randrange(1_000, 6_000)
        spoofer, victim = chance.choice(spoofers), chance.choice(victims)
        crowd.attack(spoofer, victim)
        lease = crowd.truth.holders[victim.key]
        assert lease.session == victim.session, crowd.story
        crowd.media([(victim, victim.key)])
        crowd.reply(lease, Kind.MEDIA)
        crowd.wait(chance.randrange(1, 900))
    assert crowd.truth.holders.keys() == set(keys)
    assert sum(crowd.wire.bench.counter(shard, "confirmed") for shard in range(SHARDS)) == len(victims)


@pytest.mark.parametrize(("ip", "other"), [("127.0.0.1", "::1"), ("::1", "127.0.0.1")])
@pytest.mark.parametrize("workers", [1, 2])
def test_no_interleaving_misroutes_over_sockets(workers: int, ip: str, other: str) -> None:
    """Four shards on one worker and on two; trunks of either family; callers and plain backends of both."""
    second = {"127.0.0.1": "127.0.0.2", "::1": "::1"}
    ips = (second[ip], other, second[other])
    sizes = {"shards": 4, "workers": workers, "ports": 32, "flows": 32, "provisional": 32}
    with Rig(ip=ip, more_ips=ips, coalesce_us=1_000, **sizes) as rig:
        wire = RigWire(rig)
        crowd = Crowd(workers, wire, wire.keys, BACKENDS)
        for _ in range(500):
            crowd.step()
        assert len(crowd.seen) == 4, crowd.seen
        rig.stop()
        counters = rig.counters()
        became = counters["forwarded"] + counters["dropped"].sum(axis=1) + counters["punted"]
        assert counters["received"].tolist() == became.tolist()
        wire.close()
        rig.start()
