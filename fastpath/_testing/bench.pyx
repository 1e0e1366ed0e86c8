"""Loops of N around the leaves and look-ups, so that a benchmark's clock costs nothing beside them.

Every function returns how many of the N succeeded: a benchmark that looked up nothing must not look fast.
"""
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.aes cimport fp_aes, fp_aes_free, fp_aes_init, fp_aes_kind
from fastpath.address cimport client_equal, client_from_sockaddr, client_hash, client_to_sockaddr
from fastpath.demux cimport DEMUX_NOT_WEBRTC, demux as c_demux
from fastpath.flows cimport flows_insert, flows_lookup, flows_prefetch
from fastpath.layout cimport FP_FLOW_confirmed, FP_KEYS, FP_NO_PORT, FP_NONE, fp_client, fp_flow
from fastpath.routes cimport Routes, routes_lookup, routes_prefetch, ufrag_hash
from fastpath.shard cimport Shard, Shared
from fastpath.siphash cimport siphash as c_siphash
from fastpath.stun cimport STUN_OK, stun_fingerprint_holds, stun_message, stun_parse as c_stun_parse
from fastpath.token cimport TOKEN_CHARACTERS, TOKEN_OK, token_fields, token_parse

from fastpath.shard import format_shard, format_shared, shard_bytes, shared_bytes

cdef enum:
    BATCH = 64                      # datagrams in hand when their slots are prefetched


def siphash(bytes key, bytes data, uint32_t count):
    """`count` keyed hashes; their XOR, so that none is left out."""
    cdef const uint8_t *k = <const uint8_t *><const char *>key
    cdef bytearray copy = bytearray(data)
    cdef uint8_t *d = <uint8_t *><char *>copy
    cdef size_t length = <size_t>len(data)
    cdef uint64_t mixed = 0
    cdef uint32_t i
    with nogil:
        for i in range(count):
            d[0] = <uint8_t>i
            mixed ^= c_siphash(k, d, length)
    return mixed


def stun_parse(bytes request, uint32_t count):
    """How many of `count` parses of one Binding Request found its ufrag."""
    cdef const uint8_t *data = <const uint8_t *><const char *>request
    cdef size_t length = <size_t>len(request)
    cdef stun_message message
    cdef uint32_t _i, good = 0
    with nogil:
        for _i in range(count):
            if c_stun_parse(data, length, &message) == STUN_OK and message.ufrag != NULL:
                good += 1
    return good


def fingerprint(bytes request, uint32_t count):
    """How many of `count` FINGERPRINTs (CRC-32 over the message) hold."""
    cdef const uint8_t *data = <const uint8_t *><const char *>request
    cdef size_t length = <size_t>len(request)
    cdef uint32_t _i, good = 0
    with nogil:
        for _i in range(count):
            if stun_fingerprint_holds(data, length):
                good += 1
    return good


def demux(bytes first, uint32_t count):
    """How many of `count` datagrams, whose first bytes are those of `first` (256) in turn, are WebRTC's."""
    cdef const uint8_t *data = <const uint8_t *><const char *>first
    cdef uint32_t i, good = 0
    assert len(first) == 256
    with nogil:
        for i in range(count):
            good += c_demux(data + (i & 255), 1) != DEMUX_NOT_WEBRTC
    return good


def addresses(uint32_t count):
    """How many of `count` clients survive the way into a sockaddr and back."""
    cdef uint8_t name[32]
    cdef fp_client client, back
    cdef uint32_t i, good = 0
    with nogil:
        for i in range(count):
            client = client_number(i)
            if (client_from_sockaddr(name, client_to_sockaddr(&client, name), 0, &back)
                    and client_equal(&client, &back)):
                good += 1
    return good


def client_hashes(bytes seed, uint32_t count):
    """`count` hashes of clients, as every datagram's way begins with; their XOR."""
    cdef const uint8_t *s = <const uint8_t *><const char *>seed
    cdef fp_client client = client_number(1)
    cdef uint64_t mixed = 0
    cdef uint32_t i
    with nogil:
        for i in range(count):
            client.port = <uint16_t>i
            mixed ^= client_hash(s, &client)
    return mixed


cdef class Tokens:
    """A list of tokens and the key of all kids; `implementation` tells whose AES verifies them."""

    cdef fp_aes *keys               # FP_KEYS of them
    cdef bytes packed
    cdef uint32_t number

    def __init__(self, bytes key, list tokens, bint force_library=False):
        cdef int kid
        self.keys = <fp_aes *>calloc(FP_KEYS, sizeof(fp_aes))
        if self.keys == NULL:
            raise MemoryError("no memory for keys")
        self.packed, self.number = b"".join(tokens), <uint32_t>len(tokens)
        if len(self.packed) != self.number * TOKEN_CHARACTERS:
            raise ValueError(f"a token has {TOKEN_CHARACTERS} characters")
        for kid in range(FP_KEYS):
            if fp_aes_init(&self.keys[kid], <const uint8_t *><const char *>key, 1 if force_library else 0):
                raise OSError("no AES on this machine: install libcrypto")

    @property
    def implementation(self):
        return fp_aes_kind(&self.keys[0]).decode()

    def verify(self, int64_t wall_s, uint32_t count):
        """How many of `count` tokens, taken in turn, are authentic and in time."""
        cdef const uint8_t *data = <const uint8_t *><const char *>self.packed
        cdef token_fields fields
        cdef uint32_t _i, at = 0, good = 0, every_kid = (<uint32_t>1 << FP_KEYS) - 1
        with nogil:
            for _i in range(count):
                good += token_parse(self.keys, every_kid, data + at * TOKEN_CHARACTERS, wall_s,
                                    &fields) == TOKEN_OK
                at += 1
                if at == self.number:
                    at = 0
        return good

    def __dealloc__(self):
        cdef int kid
        if self.keys != NULL:
            for kid in range(FP_KEYS):
                fp_aes_free(&self.keys[kid])
            free(self.keys)


def make_shared(uint32_t routes_max, bytes seed):
    """A shared region with room for `routes_max` routes."""
    memory = bytearray(shared_bytes(1, routes_max, 0))
    format_shared(memory, seed=seed, shards=1, routes_max=routes_max, targets_max=0, trunk_epoch=1)
    return Shared(memory)


cdef uint32_t shuffled(uint32_t i, uint32_t count) noexcept nogil:
    """A walk over 0..count-1 (a power of two) in an order that no hardware prefetcher foresees."""
    return (i * 2654435761u + 40503) & (count - 1)


cdef fp_client client_number(uint32_t i) noexcept nogil:
    """A different IPv4 client for each number below 2^31."""
    cdef fp_client client
    memset(&client, 0, sizeof(client))
    client.address[0] = 10
    client.address[1] = <uint8_t>(i >> 16)
    client.address[2] = <uint8_t>(i >> 8)
    client.address[3] = <uint8_t>i
    client.port = 40000
    client.family = 4
    return client


cdef class Flows:
    """A shard with `count` (a power of two) confirmed flows."""

    cdef Shard shard
    cdef fp_client *clients         # as they arrive, in shuffled order
    cdef uint32_t count

    def __init__(self, uint32_t count, bytes seed):
        cdef fp_flow flow
        cdef uint32_t i
        sizes = dict(flows_max=count, provisional_max=64, transactions_max=64, targets_max=0,
                     ports_ipv4=(0, 0), ports_ipv6=(0, 0))
        memory = bytearray(shard_bytes(**sizes))
        format_shard(memory, index=0, **sizes)
        self.shard = Shard(make_shared(64, seed), memory)
        self.shard.adopt(0)
        self.count = count
        self.clients = <fp_client *>calloc(count, sizeof(fp_client))
        if self.clients == NULL:
            raise MemoryError(f"no memory for {count} clients")
        memset(&flow, 0, sizeof(flow))
        flow.state, flow.upstream_port, flow.route = <uint8_t>FP_FLOW_confirmed, FP_NO_PORT, FP_NONE
        for i in range(count):
            flow.client = client_number(i)
            if flows_insert(&self.shard.state.flows, &flow, self.hash(&flow.client), False) == FP_NONE:
                raise MemoryError(f"the flow table refused flow {i}")
            self.clients[i] = client_number(shuffled(i, count))

    cdef uint64_t hash(self, const fp_client *client) noexcept nogil:
        return client_hash(self.shard.state.seed, client)

    def lookup(self, uint32_t count):
        """How many of `count` look-ups hit; each with its hash, in batches whose slots are prefetched."""
        cdef uint64_t hashes[BATCH]
        cdef uint32_t done = 0, k, at = 0, hits = 0
        with nogil:
            while done < count:
                for k in range(<uint32_t>BATCH):
                    hashes[k] = client_hash(self.shard.state.seed, &self.clients[at + k])
                    flows_prefetch(&self.shard.state.flows, hashes[k])
                for k in range(<uint32_t>BATCH):
                    hits += flows_lookup(&self.shard.state.flows, &self.clients[at + k], hashes[k]) != FP_NONE
                at = (at + BATCH) & (self.count - 1)
                done += BATCH
        return hits

    def __dealloc__(self):
        free(self.clients)


cdef class RouteLookups:
    """Ufrags of equal length (their number a power of two) to be looked up in shuffled order."""

    cdef Shared shared
    cdef uint8_t *ufrags
    cdef uint32_t count
    cdef uint32_t length

    def __init__(self, Shared shared, list ufrags):
        cdef uint32_t i
        cdef bytes ufrag
        self.shared, self.count, self.length = shared, <uint32_t>len(ufrags), <uint32_t>len(ufrags[0])
        self.ufrags = <uint8_t *>calloc(self.count, self.length)
        if self.ufrags == NULL:
            raise MemoryError(f"no memory for {self.count} ufrags")
        for i in range(self.count):
            ufrag = ufrags[shuffled(i, self.count)]
            memcpy(self.ufrags + <size_t>i * self.length, <const char *>ufrag, self.length)

    def lookup(self, uint32_t count):
        """How many of `count` look-ups hit; each with its 128-bit hash, slots prefetched by batches."""
        cdef uint64_t hashes[BATCH][2]
        cdef const uint8_t *seed = self.shared.header.seed
        cdef Routes routes = self.shared.routes
        cdef uint32_t done = 0, k, at = 0, hits = 0, backend
        with nogil:
            while done < count:
                for k in range(<uint32_t>BATCH):
                    ufrag_hash(seed, self.ufrags + <size_t>(at + k) * self.length, self.length, hashes[k])
                    routes_prefetch(&routes.table, hashes[k][0])
                for k in range(<uint32_t>BATCH):
                    hits += routes_lookup(&routes.table, hashes[k], 1, &backend) != FP_NONE
                at = (at + BATCH) & (self.count - 1)
                done += BATCH
        return hits

    def __dealloc__(self):
        free(self.ufrags)
