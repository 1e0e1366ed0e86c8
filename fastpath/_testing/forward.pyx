"""The decision under test: shards in plain memory, one datagram at a time, time as an argument."""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath._testing.addresses cimport client_of, endpoint_of
from fastpath.address cimport client_hash
from fastpath.forward cimport forward_down_plain, forward_down_trunk, forward_up
from fastpath.layout cimport FP_DROP, FP_FORWARD, FP_NO_PORT, fp_client, fp_datagram, fp_endpoint, fp_verdict
from fastpath.lifecycle cimport expire_slice, forget_flow
from fastpath.settings cimport Settings, settings, settings_refresh
from fastpath.shard cimport Shard, Shared

from fastpath.counters import DECISIONS, DROP_REASONS
from fastpath.shard import format_shard, format_shared, link_shards, shard_bytes, shared_bytes


cdef class Bench:
    """A relay's shards without sockets. Addresses are (address16, port, family[, ingress])."""

    cdef readonly Shared shared
    cdef readonly list shards
    cdef readonly Settings settings
    cdef settings *copies

    def __init__(self, uint32_t shards=1, *, bytes seed=bytes(16), uint32_t flows_max=1024,
                 uint32_t provisional_max=256, uint32_t transactions_max=4096, uint32_t routes_max=4096,
                 uint32_t targets_max=64, uint32_t ports=0, uint32_t ports_ipv6=0):
        self.copies = <settings *>calloc(shards, sizeof(settings))
        memory = bytearray(shared_bytes(shards, routes_max, targets_max))
        format_shared(memory, seed=seed, shards=shards, routes_max=routes_max, targets_max=targets_max,
                      trunk_epoch=1)
        self.shared, self.shards, self.settings = Shared(memory), [], Settings()
        first_ipv6 = shards * ports
        for index in range(shards):
            sizes = dict(flows_max=flows_max, provisional_max=provisional_max,
                         transactions_max=transactions_max, targets_max=targets_max,
                         ports_ipv4=(index * ports, ports),
                         ports_ipv6=(first_ipv6 + index * ports_ipv6, ports_ipv6))
            memory = bytearray(shard_bytes(**sizes))
            format_shard(memory, index=index, **sizes)
            self.shards.append(Shard(self.shared, memory))
        link_shards(self.shards)
        self.adopt(0)
        self.publish(token_keys={}, trunk_keys={})

    def __dealloc__(self):
        free(self.copies)

    def adopt(self, uint32_t now_ms):
        """As an engine that starts over the memory of one that died."""
        cdef Shard shard
        for index, shard in enumerate(self.shards):
            shard.adopt(now_ms)
            shard.state.settings = &self.copies[<int>index]

    def take(self, Shared shared not None, list shards not None, uint32_t now_ms):
        """Go on with these tables, of as many shards as before, as an engine that adopts them."""
        if len(shards) != len(self.shards):
            raise ValueError(f"{len(shards)} shards where there were {len(self.shards)}")
        self.shared, self.shards = shared, shards
        link_shards(shards)
        self.adopt(now_ms)

    def publish(self, int64_t wall_s=0, **policy):
        """Settings.publish, and every shard takes note."""
        self.settings.publish(**policy)
        self.set_wall(wall_s)

    def set_wall(self, int64_t wall_s):
        cdef int index
        self.settings.set_wall(wall_s)
        for index in range(len(self.shards)):
            settings_refresh(&self.copies[index], &self.settings.shared, &self.settings.wall_s)

    def press(self, uint32_t level):
        """As workers that are overloaded: what every shard sheds from now on."""
        cdef Shard shard
        for shard in self.shards:
            shard.state.pressure = level

    def from_client(self, int shard, tuple client, bytes data, uint32_t now_ms):
        """-> verdict dict: action, reason, decision, overrode, confirmed, backend, port (None on a trunk)."""
        cdef Shard one = self.shards[shard]
        cdef fp_datagram datagram
        cdef fp_verdict verdict
        memset(&datagram, 0, sizeof(datagram))
        datagram.client = client_of(client)
        datagram.data, datagram.length = <const uint8_t *><const char *>data, <uint32_t>len(data)
        datagram.hash = client_hash(one.state.seed, &datagram.client)
        forward_up(&one.state, &datagram, now_ms, &verdict)
        return verdict_of(&verdict, True)

    def from_plain(self, int shard, uint16_t port, tuple source, bytes data, uint32_t now_ms):
        """A reply that arrived at an upstream port from source (address16, port, family)."""
        cdef Shard one = self.shards[shard]
        cdef fp_endpoint endpoint = endpoint_of(source)
        cdef fp_verdict verdict
        forward_down_plain(&one.state, port, &endpoint, <const uint8_t *><const char *>data,
                           <size_t>len(data), now_ms, &verdict)
        return verdict_of(&verdict, False)

    def from_trunk(self, int shard, uint32_t backend, tuple client, bytes data, uint32_t now_ms,
                   bint may_teach=False):
        """One record that a trunk backend sent for a client."""
        cdef Shard one = self.shards[shard]
        cdef fp_datagram record
        cdef fp_verdict verdict
        memset(&record, 0, sizeof(record))
        record.client = client_of(client)
        record.data, record.length = <const uint8_t *><const char *>data, <uint32_t>len(data)
        record.hash = client_hash(one.state.seed, &record.client)
        forward_down_trunk(&one.state, backend, may_teach, &record, now_ms, &verdict)
        return verdict_of(&verdict, False)

    def flow_closed(self, int shard, uint32_t backend, tuple client, uint32_t now_ms):
        cdef Shard one = self.shards[shard]
        cdef fp_client key = client_of(client)
        forget_flow(&one.state, backend, &key, now_ms)

    def expire(self, uint32_t now_ms):
        """A whole pass of expiry over every shard."""
        cdef Shard one
        for one in self.shards:
            expire_slice(&one.state, now_ms, 1u << 30)

    def counter(self, int shard, str name):
        """One of the private counters of flows: confirmed, expired, replaced, ..."""
        cdef Shard one = self.shards[shard]
        return {
            "confirmed": one.state.counters.confirmed, "expired": one.state.counters.expired,
            "replaced": one.state.counters.replaced, "closed": one.state.counters.closed,
            "taught": one.state.counters.taught, "copied": one.state.counters.copied,
            "provisional_created": one.state.counters.provisional_created,
            "provisional_evicted": one.state.counters.provisional_evicted,
            "provisional_expired": one.state.counters.provisional_expired,
            "transactions_evicted": one.state.counters.transactions_evicted,
        }[name]


cdef dict verdict_of(const fp_verdict *verdict, bint up):
    out = dict(action={FP_FORWARD: "forward", FP_DROP: "drop"}[verdict.action],
               reason=DROP_REASONS[verdict.reason][0], decision=DECISIONS[verdict.decision][0],
               overrode=bool(verdict.overrode), confirmed=bool(verdict.confirmed),
               traffic_class=verdict.traffic_class)
    if verdict.action == FP_FORWARD:
        out["backend"] = verdict.backend
        if up:
            out["port"] = None if verdict.upstream_port == FP_NO_PORT else verdict.upstream_port
        else:
            out["client"] = (verdict.client.address[:16], verdict.client.port, verdict.client.family,
                             verdict.client.ingress)
    return out
