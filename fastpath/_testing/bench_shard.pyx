"""Loops of N around one shard's tables and its decision, on the shards of _testing.forward.Bench.

As in bench.pyx, every function returns how many of the N succeeded. Clients are numbered: 11.x.y.z:40000.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.address cimport client_hash
from fastpath.backends cimport backends_by_address, backends_by_hash, backends_by_token
from fastpath.counters cimport count_batch, count_residence, counters_publish
from fastpath.flows cimport flows_insert, flows_remove
from fastpath.forward cimport forward_down_trunk, forward_up
from fastpath.layout cimport (
    FP_FLOW_confirmed, FP_FORWARD, FP_NO_PORT, FP_NONE, FP_PORT_flow, FP_TRANSACTION_WAYS, FP_UP, fp_client,
    fp_datagram, fp_endpoint, fp_flow, fp_provisional, fp_transaction, fp_verdict)
from fastpath.lifecycle cimport expire_slice
from fastpath.ports cimport ports_acquire, ports_lookup, ports_release
from fastpath.provisional cimport (
    provisional_insert, provisional_lookup, provisional_place, provisional_remove)
from fastpath.settings cimport Settings, settings, settings_refresh
from fastpath.shard cimport Shard
from fastpath.transactions cimport (
    flow_tag, transactions_first_from, transactions_known, transactions_remember)

cdef enum:
    REQUEST_BYTES = 256
    PAGE_BYTES = 4096


cdef fp_client client_number(uint32_t i) noexcept nogil:
    cdef fp_client client
    memset(&client, 0, sizeof(client))
    client.address[0] = 11              # public: others are not allowed without being asked for
    client.address[1] = <uint8_t>(i >> 16)
    client.address[2] = <uint8_t>(i >> 8)
    client.address[3] = <uint8_t>i
    client.port = 40000
    client.family = 4
    return client


cdef void touch(void *memory, size_t length) noexcept nogil:
    cdef volatile uint8_t *at = <volatile uint8_t *>memory
    cdef size_t i = 0
    while i < length:
        at[i] = at[i]
        i += PAGE_BYTES


def prefault(Shard shard not None):
    """Has the kernel give every page of the tables now: what is measured is our code, not its first touch."""
    touch(shard.state.flows.slots, (<size_t>shard.state.flows.mask + 1) * sizeof(fp_flow))
    touch(shard.state.provisional.entries,
          (<size_t>shard.state.provisional.mask + 1) * sizeof(fp_provisional))
    touch(shard.state.transactions.entries,
          (<size_t>shard.state.transactions.mask + 1) * FP_TRANSACTION_WAYS * sizeof(fp_transaction))


def flow_inserts(Shard shard not None, uint32_t count):
    """How many of `count` flows were inserted and removed again."""
    cdef fp_flow flow
    cdef uint32_t i, slot, good = 0
    memset(&flow, 0, sizeof(flow))
    flow.state, flow.upstream_port, flow.route = <uint8_t>FP_FLOW_confirmed, FP_NO_PORT, FP_NONE
    with nogil:
        for i in range(count):
            flow.client = client_number(i)
            slot = flows_insert(&shard.state.flows, &flow, client_hash(shard.state.seed, &flow.client), False)
            if slot != FP_NONE:
                flows_remove(&shard.state.flows, slot)
                good += 1
    return good


def provisionals(Shard shard not None, uint32_t count):
    """How many of `count` provisional flows were inserted, found and removed."""
    cdef fp_provisional flow
    cdef uint32_t i, place, good = 0
    cdef uint64_t hash
    memset(&flow, 0, sizeof(flow))
    with nogil:
        for i in range(count):
            flow.client, flow.ufrag_hash = client_number(i), i
            hash = client_hash(shard.state.seed, &flow.client)
            place = provisional_place(&shard.state.provisional)
            if place == FP_NONE:
                break
            provisional_insert(&shard.state.provisional, place, &flow, hash)
            if provisional_lookup(&shard.state.provisional, &flow.client, i) == place:
                good += 1
            provisional_remove(&shard.state.provisional, place, hash)
    return good


def transactions(Shard shard not None, uint32_t count):
    """How many of `count` transaction ids were new, remembered, and then known as this flow's."""
    cdef uint32_t i, tag, good = 0
    cdef uint64_t id
    with nogil:
        for i in range(count):
            id, tag = (i + 1) * <uint64_t>0x9E3779B97F4A7C15, flow_tag(i, 1)
            if not transactions_known(&shard.state.transactions, id, 1):
                transactions_remember(&shard.state.transactions, id, tag, 1)
                if transactions_first_from(&shard.state.transactions, id, tag, 1):
                    good += 1
    return good


def ports(Shard shard not None, uint32_t backend, bytes address16, uint16_t port, uint32_t count):
    """How many of `count` times a port was taken for a backend, found by its address and released."""
    cdef fp_endpoint endpoint
    cdef uint32_t i, good = 0
    cdef uint16_t taken
    memset(&endpoint, 0, sizeof(endpoint))
    memcpy(endpoint.address, <const char *>address16, 16)
    endpoint.port, endpoint.family = port, 4
    with nogil:
        for i in range(count):
            taken = ports_acquire(&shard.state.ports, backend, FP_PORT_flow, i)
            if taken == FP_NO_PORT:
                break
            good += ports_lookup(&shard.state.ports, taken, &endpoint) != NULL
            ports_release(&shard.state.ports, taken, backend, 0)
    return good


def backend_tokens(Shard shard not None, uint16_t cluster, uint16_t transceiver, uint8_t incarnation,
                   uint32_t count):
    """How many of `count` look-ups by a token's numbers found a backend."""
    cdef uint32_t _i, good = 0
    with nogil:
        for _i in range(count):
            good += backends_by_token(&shard.state.backends, cluster, transceiver, incarnation) != FP_NONE
    return good


def backend_addresses(Shard shard not None, bytes address16, uint16_t port, uint32_t count):
    """How many of `count` look-ups by address found a backend, as every trunk datagram asks."""
    cdef fp_endpoint endpoint
    cdef uint32_t _i, good = 0
    memset(&endpoint, 0, sizeof(endpoint))
    memcpy(endpoint.address, <const char *>address16, 16)
    endpoint.port, endpoint.family = port, 4
    with nogil:
        for _i in range(count):
            good += backends_by_address(&shard.state.backends, &endpoint) != FP_NONE
    return good


def backend_hashes(Shard shard not None, bytes ufrag, uint32_t count):
    """How many of `count` ufrags rendezvous hashing sent somewhere."""
    cdef bytearray copy = bytearray(ufrag)
    cdef uint8_t *u = <uint8_t *><char *>copy
    cdef size_t length = <size_t>len(ufrag)
    cdef uint32_t i, good = 0
    with nogil:
        for i in range(count):
            u[0] = 97 + <uint8_t>(i % 26)
            good += backends_by_hash(&shard.state.backends, u, length) != FP_NONE
    return good


def counts(Shard shard not None, uint32_t count):
    """`count` batches counted, with a residence time each, and published."""
    cdef uint32_t i
    with nogil:
        for i in range(count):
            count_batch(&shard.state.counters, FP_UP, 1 + (i & 63))
            count_residence(&shard.state.counters, FP_UP, i)
            counters_publish(shard.state.header, shard.state.published, &shard.state.counters)
    return count


def expiry(Shard shard not None, uint32_t now_ms, uint32_t count):
    """`count` turns of a millisecond each, in which a slice of every table is looked at."""
    cdef uint32_t i
    with nogil:
        for i in range(count):
            expire_slice(&shard.state, now_ms + i, 1)
    return count


def settings_looks(Shard shard not None, Settings shared not None, uint32_t count):
    """`count` looks whether the control thread published new settings, as each turn begins; none did."""
    cdef settings *mine = <settings *>shard.state.settings      # the Bench's own copy
    cdef uint32_t _i, unchanged = 0
    with nogil:
        for _i in range(count):
            if not settings_refresh(mine, &shared.shared, &shared.wall_s):
                unchanged += 1
    return unchanged


cdef class Crowd:
    """`requests`: one Binding Request a client (number = place in the list), at most 256 bytes each."""

    cdef Shard shard
    cdef uint8_t *requests
    cdef uint16_t *lengths
    cdef uint32_t number

    def __init__(self, Shard shard not None, list requests not None):
        cdef bytes request
        self.shard, self.number = shard, <uint32_t>len(requests)
        self.requests = <uint8_t *>calloc(self.number, REQUEST_BYTES)
        self.lengths = <uint16_t *>calloc(self.number, sizeof(uint16_t))
        if self.requests == NULL or self.lengths == NULL:
            raise MemoryError(f"no memory for {self.number} requests")
        for i, request in enumerate(requests):
            if len(request) > REQUEST_BYTES:
                raise ValueError(f"request {i} has {len(request)} bytes, at most {REQUEST_BYTES} fit")
            memcpy(self.requests + <size_t>i * REQUEST_BYTES, <const char *>request, <size_t>len(request))
            self.lengths[<uint32_t>i] = <uint16_t>len(request)

    cdef void datagram(self, uint32_t i, fp_datagram *out) noexcept nogil:
        memset(out, 0, sizeof(fp_datagram))
        out.client = client_number(i)
        out.data, out.length = self.requests + <size_t>i * REQUEST_BYTES, self.lengths[i]
        out.hash = client_hash(self.shard.state.seed, &out.client)

    def ask(self, uint32_t now_ms, uint32_t count):
        """How many of the first `count` clients' requests are forwarded: a new flow's whole decision."""
        cdef fp_datagram datagram
        cdef fp_verdict verdict
        cdef uint32_t i, good = 0
        with nogil:
            for i in range(min(count, self.number)):
                self.datagram(i, &datagram)
                forward_up(&self.shard.state, &datagram, now_ms, &verdict)
                good += verdict.action == FP_FORWARD
        return good

    def refused(self, uint32_t now_ms, uint32_t count):
        """How many of `count` requests are dropped."""
        return count - self.ask(now_ms, count)

    def confirm(self, uint32_t backend, uint32_t now_ms, uint32_t count):
        """How many of the first `count` flows a backend's success response confirmed."""
        cdef uint8_t response[20]
        cdef fp_datagram request, record
        cdef fp_verdict verdict
        cdef uint32_t i, good = 0
        with nogil:
            for i in range(min(count, self.number)):
                self.datagram(i, &request)
                memcpy(response, request.data, 20)
                response[0], response[1], response[2], response[3] = 1, 1, 0, 0
                record = request
                record.data, record.length = response, 20
                forward_down_trunk(&self.shard.state, backend, False, &record, now_ms, &verdict)
                good += verdict.confirmed
        return good

    def talk(self, bytes packet, uint32_t now_ms, uint32_t count):
        """How many of `count` media packets, of the confirmed clients in turn, are forwarded."""
        cdef const uint8_t *data = <const uint8_t *><const char *>packet
        cdef uint16_t length = <uint16_t>len(packet)
        cdef fp_datagram datagram
        cdef fp_verdict verdict
        cdef uint32_t _i, at = 0, good = 0
        with nogil:
            for _i in range(count):
                self.datagram(at, &datagram)
                datagram.data, datagram.length = data, length
                forward_up(&self.shard.state, &datagram, now_ms, &verdict)
                good += verdict.action == FP_FORWARD
                at += 1
                if at == self.number:
                    at = 0
        return good

    def __dealloc__(self):
        free(self.requests)
        free(self.lengths)
