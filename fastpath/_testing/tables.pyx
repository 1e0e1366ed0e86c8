"""The tables of a shard and of the shared region, function by function, for tests.

Nothing here decides: each wrapper calls one function of the data plane. Clients are (address16, port,
family, ingress), backend addresses (address16, port, family); a missing slot, port or index is None.
Hashes may be given where a test wants collisions.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath._testing.addresses cimport client_of, endpoint_of
from fastpath.admission cimport (
    ADMISSION_WAYS, admission_limit, admission_table, admission_take, bucket, network_of)
from fastpath.address cimport client_hash
from fastpath.atomic cimport load_acquire_u32, store_release_u32
from fastpath.backends cimport (
    Backends, backend_takes_flows, backends_by_address, backends_by_hash, backends_by_token)
from fastpath.counters cimport count_batch, count_residence, counters_publish, counters_read
from fastpath.flows cimport (
    flow_table, flows_attach, flows_confirm_taught, flows_insert, flows_lookup, flows_next_expired,
    flows_read, flows_remove, flows_snapshot)
from fastpath.layout cimport (
    FP_FLOW_confirmed, FP_FLOW_taught, FP_NO_PORT, FP_NONE, fp_client, fp_counters, fp_endpoint, fp_flow,
    fp_port, fp_provisional)
from fastpath.lifecycle cimport expire_slice
from fastpath.ports cimport (
    port_table, ports_acquire, ports_attach, ports_expire, ports_hand_over, ports_lookup, ports_owns,
    ports_release, ports_restore)
from fastpath.provisional cimport (
    provisional_attach, provisional_crowded_out, provisional_first, provisional_insert, provisional_lookup,
    provisional_next, provisional_next_expired, provisional_overfull, provisional_place, provisional_remove,
    provisional_ring)
from fastpath.routes cimport Routes, routes_lookup, ufrag_hash
from fastpath.settings cimport Settings, client_allowed, settings, settings_refresh
from fastpath.shard cimport Shard, Shared
from fastpath.siphash cimport siphash13
from fastpath.transactions cimport (
    flow_tag as c_flow_tag, transaction_id as c_transaction_id, transaction_table, transactions_first_from,
    transactions_known, transactions_remember)


cdef tuple client_tuple(const fp_client *client):
    cdef const uint8_t *address = <const uint8_t *>client       # the address comes first
    return address[:16], client.port, client.family, client.ingress


cdef object some(uint32_t index):
    return None if index == FP_NONE else index


def hash_of_client(Shard shard not None, tuple client):
    """The keyed hash of a client under the region's seed."""
    cdef fp_client key = client_of(client)
    return client_hash(shard.state.seed, &key)


# ---- flows ----------------------------------------------------------------------------------------

cdef dict flow_dict(const fp_flow *flow):
    return dict(
        client=client_tuple(&flow.client), version=flow.version, backend=flow.backend,
        ufrag_hash=flow.ufrag_hash, route=flow.route, port=flow.upstream_port, state=flow.state,
        last_seen_ms=flow.last_seen_ms)


cdef class FlowTable:
    """The flow table of one shard."""
    cdef Shard shard
    cdef flow_table *table
    cdef uint32_t halt

    def __init__(self, Shard shard not None):
        self.shard = shard
        self.table = &shard.state.flows

    cdef uint64_t hash(self, object given, const fp_client *client) except *:
        if given is not None:
            return given
        return client_hash(self.shard.state.seed, client)

    def insert(self, tuple client, *, hash=None, uint32_t backend=0, uint64_t ufrag=0,
               uint32_t route=FP_NONE, uint16_t port=FP_NO_PORT, bint taught=False, uint32_t now_ms=0,
               version=None):
        """Slot, or None when the table is full. `version`: the one to keep (a copy of a sibling's flow)."""
        cdef fp_flow flow
        memset(&flow, 0, sizeof(flow))
        flow.client = client_of(client)
        flow.backend, flow.ufrag_hash, flow.route, flow.upstream_port = backend, ufrag, route, port
        flow.state = FP_FLOW_confirmed
        if taught:
            flow.state = FP_FLOW_taught
        flow.last_seen_ms = flow.ufrag_seen_ms = now_ms
        flow.version = 0 if version is None else version
        return some(flows_insert(self.table, &flow, self.hash(hash, &flow.client), version is not None))

    def lookup(self, tuple client, hash=None):
        cdef fp_client key = client_of(client)
        return some(flows_lookup(self.table, &key, self.hash(hash, &key)))

    def read(self, tuple client, hash=None):
        """As another shard reads: a copy of the flow, or None."""
        cdef fp_client key = client_of(client)
        cdef fp_flow flow
        return flow_dict(&flow) if flows_read(self.table, &key, self.hash(hash, &key), &flow) else None

    def snapshot(self, uint32_t slot):
        cdef fp_flow flow
        return flow_dict(&flow) if flows_snapshot(self.table, slot, &flow) else None

    def confirm_taught(self, uint32_t slot):
        flows_confirm_taught(self.table, slot)

    def remove(self, uint32_t slot):
        flows_remove(self.table, slot)

    def next_expired(self, uint32_t now_ms, uint32_t budget):
        """(slot or None, budget left)."""
        cdef uint32_t left = budget
        cdef uint32_t slot = flows_next_expired(self.table, now_ms, &left)
        return some(slot), left

    def attach(self):
        flows_attach(self.table, self.shard.state.seed)

    def insert_many(self, uint32_t count):
        """Flows of clients 0 .. count - 1 (IPv4, public, see read_numbered); gives how many found room."""
        cdef fp_flow flow
        cdef uint64_t hash
        cdef uint32_t i, inserted = 0
        with nogil:
            for i in range(count):
                numbered(i, i, &flow)
                hash = client_hash(self.shard.state.seed, &flow.client)
                if flows_insert(self.table, &flow, hash, False) != FP_NONE:
                    inserted += 1
        return inserted

    def lookup_many(self, uint32_t count):
        """How many of the clients of insert_many are found with the right backend."""
        cdef fp_flow flow
        cdef uint64_t hash
        cdef uint32_t i, slot, right = 0
        with nogil:
            for i in range(count):
                numbered(i, i, &flow)
                hash = client_hash(self.shard.state.seed, &flow.client)
                slot = flows_lookup(self.table, &flow.client, hash)
                if slot != FP_NONE and self.table.slots[slot].backend == i:
                    right += 1
        return right

    # One thread replaces flows while another reads them: each until the reader has seen enough.

    def churn(self, uint32_t clients):
        """The writer: replace the flow of every client again and again, as a worker does (the new slot
        first, then the old one goes), every field of a flow made from one number."""
        cdef fp_flow flow
        cdef uint64_t hash
        cdef uint32_t i, old, round = 0
        with nogil:
            while not load_acquire_u32(&self.halt):
                round += 1
                for i in range(clients):
                    numbered(i, round, &flow)
                    hash = i % 4                # few homes: slots are used again at once
                    old = flows_lookup(self.table, &flow.client, hash)
                    flows_insert(self.table, &flow, hash, False)
                    if old != FP_NONE:
                        flows_remove(self.table, old)

    def watch(self, uint32_t clients, uint32_t reads, uint32_t changes):
        """The reader, until it has read so often and seen so many changes: how many flows were torn."""
        cdef fp_flow flow, wanted
        cdef uint32_t read = 0, changed = 0, torn = 0, i = 0, last = 0
        with nogil:
            while read < reads or changed < changes:
                read += 1
                i = (i + 1) % clients
                numbered(i, 0, &wanted)
                if flows_read(self.table, &wanted.client, i % 4, &flow):
                    numbered(i, flow.backend, &wanted)
                    if (flow.ufrag_hash != wanted.ufrag_hash or flow.route != wanted.route
                            or flow.upstream_port != wanted.upstream_port):
                        torn += 1
                    if i == 0:
                        if flow.backend != last:
                            changed += 1
                        last = flow.backend
            store_release_u32(&self.halt, 1)
        return torn


cdef void numbered(uint32_t client, uint32_t number, fp_flow *out) noexcept nogil:
    """Flow `number` of client `client`."""
    memset(out, 0, sizeof(fp_flow))
    out.client.address[0] = 9
    out.client.address[1] = <uint8_t>(client >> 16)
    out.client.address[2] = <uint8_t>(client >> 8)
    out.client.address[3] = <uint8_t>client
    out.client.port, out.client.family = 5000, 4
    out.backend = out.route = number
    out.ufrag_hash = number * <uint64_t>0x9E3779B97F4A7C15
    out.upstream_port = <uint16_t>number
    out.state = FP_FLOW_confirmed


def expire(Shard shard not None, uint32_t now_ms, uint32_t elapsed_ms):
    """What a worker looks after when `elapsed_ms` have passed since it last did."""
    expire_slice(&shard.state, now_ms, elapsed_ms)


# ---- provisional flows ----------------------------------------------------------------------------

cdef class ProvisionalRing:
    """The provisional flows of one shard."""
    cdef Shard shard
    cdef provisional_ring *ring

    def __init__(self, Shard shard not None):
        self.shard = shard
        self.ring = &shard.state.provisional

    cdef uint64_t hash(self, object given, const fp_client *client) except *:
        if given is not None:
            return given
        return client_hash(self.shard.state.seed, client)

    def place(self):
        """(where the next one goes, is somebody there)."""
        cdef uint32_t place = provisional_place(self.ring)
        return place, self.ring.entries[place].state != 0

    def insert(self, uint32_t place, tuple client, uint64_t ufrag, uint32_t now_ms, *, uint32_t backend=0,
               hash=None):
        cdef fp_provisional flow
        memset(&flow, 0, sizeof(flow))
        flow.client, flow.ufrag_hash = client_of(client), ufrag
        flow.last_seen_ms, flow.backend = now_ms, backend
        flow.state, flow.route, flow.upstream_port = 1, FP_NONE, FP_NO_PORT
        provisional_insert(self.ring, place, &flow, self.hash(hash, &flow.client))

    def remove(self, uint32_t index, *, hash=None):
        provisional_remove(self.ring, index, self.hash(hash, &self.ring.entries[index].client))

    def lookup(self, tuple client, uint64_t ufrag):
        cdef fp_client key = client_of(client)
        return some(provisional_lookup(self.ring, &key, ufrag))

    def of_client(self, tuple client, *, hash=None):
        """Every index of this client, in the order the data plane walks them: newest first."""
        cdef fp_client key = client_of(client)
        cdef uint32_t index = provisional_first(self.ring, &key, self.hash(hash, &key))
        found = []
        while index != FP_NONE:
            found.append(index)
            index = provisional_next(self.ring, index)
        return found

    def crowded_out(self, uint64_t ufrag):
        return some(provisional_crowded_out(self.ring, ufrag))

    def overfull(self, tuple client):
        cdef fp_client key = client_of(client)
        return some(provisional_overfull(self.ring, &key, self.hash(None, &key)))

    def next_expired(self, uint32_t now_ms, uint32_t budget):
        """(index or None, budget left)."""
        cdef uint32_t left = budget
        cdef uint32_t index = provisional_next_expired(self.ring, now_ms, &left)
        return some(index), left

    def attach(self):
        provisional_attach(self.ring, self.shard.state.seed)


# ---- transactions ---------------------------------------------------------------------------------

cdef class TransactionTable:
    """Which flow a transaction id was first seen from."""
    cdef Shard shard
    cdef transaction_table *table

    def __init__(self, Shard shard not None):
        self.shard = shard
        self.table = &shard.state.transactions

    def known(self, uint64_t id, uint32_t now_ms):
        return bool(transactions_known(self.table, id, now_ms))

    def first_from(self, uint64_t id, uint32_t flow, uint32_t now_ms):
        return bool(transactions_first_from(self.table, id, flow, now_ms))

    def remember(self, uint64_t id, uint32_t flow, uint32_t now_ms):
        """True when a fresh entry had to go for it."""
        return bool(transactions_remember(self.table, id, flow, now_ms))


def transaction_id(bytes seed not None, bytes transaction not None):
    """The table's name for a 12-byte transaction id."""
    if len(seed) != 16 or len(transaction) != 12:
        raise ValueError("a seed has 16 bytes and a transaction id 12")
    return c_transaction_id(<const uint8_t *><const char *>seed, <const uint8_t *><const char *>transaction)


def flow_tag(uint64_t client, uint64_t ufrag):
    return c_flow_tag(client, ufrag)


# ---- ports ----------------------------------------------------------------------------------------

cdef class PortTable:
    """Plain mode's upstream ports of one shard."""
    cdef Shard shard
    cdef port_table *table

    def __init__(self, Shard shard not None):
        self.shard = shard
        self.table = &shard.state.ports

    def lookup(self, uint16_t port, tuple address):
        """(state, holder, backend) of the pair, or None."""
        cdef fp_endpoint key = endpoint_of(address)
        cdef fp_port *entry = ports_lookup(self.table, port, &key)
        return None if entry == NULL else (entry.state, entry.holder, entry.backend)

    def acquire(self, uint32_t backend, uint8_t state, uint32_t holder):
        cdef uint16_t port = ports_acquire(self.table, backend, state, holder)
        return None if port == FP_NO_PORT else port

    def restore(self, uint16_t port, uint32_t backend, uint8_t state, uint32_t holder):
        return bool(ports_restore(self.table, port, backend, state, holder))

    def hand_over(self, uint16_t port, uint32_t backend, uint8_t state, uint32_t holder):
        ports_hand_over(self.table, port, backend, state, holder)

    def release(self, uint16_t port, uint32_t backend, uint32_t now_ms):
        ports_release(self.table, port, backend, now_ms)

    def owns(self, uint16_t port):
        return bool(ports_owns(self.table, port))

    def expire(self, uint32_t now_ms, uint32_t budget):
        ports_expire(self.table, now_ms, budget)

    def attach(self, uint32_t now_ms):
        ports_attach(self.table, now_ms)

    def in_use(self, uint32_t backend):
        """Ports taken or at rest for this backend."""
        return self.table.in_use[backend]

    def pairs(self, uint16_t port):
        """Backend addresses a port is taken or at rest for."""
        return self.table.pairs[port]


# ---- routes, backends -----------------------------------------------------------------------------

def route_lookup(Shared shared not None, bytes ufrag not None, uint32_t now_s):
    """As a worker asks: the backend of a live route, or None."""
    cdef Routes routes = shared.routes
    cdef uint64_t hash[2]
    cdef uint32_t backend
    ufrag_hash(shared.header.seed, <const uint8_t *><const char *>ufrag, <size_t>len(ufrag), hash)
    return None if routes_lookup(&routes.table, hash, now_s, &backend) == FP_NONE else backend


def route_slot(Shared shared not None, bytes ufrag not None, uint32_t now_s):
    """The slot of a live route, or None."""
    cdef Routes routes = shared.routes
    cdef uint64_t hash[2]
    cdef uint32_t backend
    ufrag_hash(shared.header.seed, <const uint8_t *><const char *>ufrag, <size_t>len(ufrag), hash)
    return some(routes_lookup(&routes.table, hash, now_s, &backend))


def hash_of_ufrag(Shared shared not None, bytes ufrag not None):
    """The two words of the keyed hash; flows keep the first."""
    cdef uint64_t hash[2]
    ufrag_hash(shared.header.seed, <const uint8_t *><const char *>ufrag, <size_t>len(ufrag), hash)
    return hash[0], hash[1]


def watch_route(Shared shared not None, bytes ufrag not None, uint32_t rounds):
    """Look one route up again and again, without the GIL: {backend: how often}; None: not found."""
    cdef Routes routes = shared.routes
    cdef uint64_t hash[2]
    cdef uint64_t counts[16]
    cdef uint64_t missed = 0, others = 0
    cdef uint32_t backend, _i
    memset(counts, 0, sizeof(counts))
    ufrag_hash(shared.header.seed, <const uint8_t *><const char *>ufrag, <size_t>len(ufrag), hash)
    with nogil:
        for _i in range(rounds):
            if routes_lookup(&routes.table, hash, 0, &backend) == FP_NONE:
                missed += 1
            elif backend < 16:
                counts[backend] += 1
            else:
                others += 1
    found = {index: counts[index] for index in range(16) if counts[index]}
    return found | ({None: missed} if missed else {}) | ({"others": others} if others else {})


def backend_by_token(Shared shared not None, uint16_t cluster, uint16_t xcvr, uint8_t incarnation):
    cdef Backends backends = shared.backends
    return some(backends_by_token(&backends.table, cluster, xcvr, incarnation))


def backend_by_address(Shared shared not None, tuple address):
    cdef Backends backends = shared.backends
    cdef fp_endpoint key = endpoint_of(address)
    return some(backends_by_address(&backends.table, &key))


def backend_by_hash(Shared shared not None, bytes ufrag not None):
    cdef Backends backends = shared.backends
    return some(backends_by_hash(
        &backends.table, <const uint8_t *><const char *>ufrag, <size_t>len(ufrag)))


def takes_flows(Shared shared not None, uint32_t index):
    cdef Backends backends = shared.backends
    return bool(backend_takes_flows(&backends.table, index))


# ---- settings -------------------------------------------------------------------------------------

cdef class SettingsCopy:
    """A worker's private copy of the policy."""
    cdef settings copy

    def __init__(self):
        memset(&self.copy, 0, sizeof(settings))

    def refresh(self, Settings shared not None):
        """True when the policy changed."""
        return bool(settings_refresh(&self.copy, &shared.shared, &shared.wall_s))

    def allowed(self, tuple client):
        cdef fp_client key = client_of(client)
        return bool(client_allowed(&self.copy, &key))

    def fields(self):
        cdef int i
        policy = self.copy.policy
        return dict(
            wall_s=self.copy.wall_s, generation=policy.generation, coalesce_us=policy.coalesce_us,
            trunk_mtu=policy.trunk_mtu, spin=bool(policy.spin), draining=bool(policy.draining),
            hash_policy=bool(policy.hash_policy), trunk_insecure=bool(policy.trunk_insecure),
            trunk_key_id=policy.trunk_key_id, allow_count=policy.allow_count,
            dscp=[policy.dscp[i] for i in range(4)],
            admission=(policy.admission.flows_per_s, policy.admission.burst),
            token_keys={i: policy.token_keys[i][:16] for i in range(7) if policy.token_key_mask >> i & 1},
            up_keys={i: policy.trunk_up_keys[i][:16] for i in range(4) if policy.trunk_key_mask >> i & 1},
            down_keys={i: policy.trunk_down_keys[i][:16] for i in range(4) if policy.trunk_key_mask >> i & 1})

    def watch(self, Settings shared not None, uint32_t tries, uint32_t changes):
        """Refresh, without the GIL, so often and until so many changes were seen: how many were torn.

        The writer publishes n as coalesce_us, trunk_mtu, last dscp (mod 64) and every byte of token key 0
        (mod 256)."""
        cdef uint32_t number, tried = 0, changed = 0, torn = 0
        with nogil:
            while tried < tries or changed < changes:
                tried += 1
                if settings_refresh(&self.copy, &shared.shared, &shared.wall_s):
                    changed += 1
                    number = self.copy.policy.coalesce_us
                    if (self.copy.policy.trunk_mtu != number or self.copy.policy.dscp[3] != number % 64
                            or self.copy.policy.token_keys[0][0] != number % 256
                            or self.copy.policy.token_keys[0][15] != number % 256):
                        torn += 1
        return torn


# ---- counters -------------------------------------------------------------------------------------

cdef class Counting:
    """A worker's private counters, and what others see of them."""
    cdef Shard shard
    cdef uint32_t halt

    def __init__(self, Shard shard not None):
        self.shard = shard

    def batch(self, int direction, uint32_t size):
        count_batch(&self.shard.state.counters, direction, size)

    def residence(self, int direction, uint64_t residence_ns):
        count_residence(&self.shard.state.counters, direction, residence_ns)

    def mine(self):
        """fp_counters as the worker has them, as bytes."""
        return (<const char *>&self.shard.state.counters)[:sizeof(fp_counters)]

    def publish(self):
        counters_publish(self.shard.state.header, self.shard.state.published, &self.shard.state.counters)

    # One thread publishes while another reads: each until the reader has seen enough.

    def churn(self):
        """The writer: publish blocks whose words are all equal, with the work of a small batch in between."""
        cdef fp_counters *mine = &self.shard.state.counters
        cdef uint64_t *words = <uint64_t *>mine
        cdef uint64_t round = 0
        cdef size_t i
        with nogil:
            while not load_acquire_u32(&self.halt):
                round += 1
                for i in range(sizeof(fp_counters)):
                    words[i % (sizeof(fp_counters) // 8)] = round
                counters_publish(self.shard.state.header, self.shard.state.published, mine)

    def watch(self, uint32_t reads, uint32_t changes):
        """The reader, until it has read so often and seen so many changes: how many blocks were torn."""
        cdef fp_counters seen
        cdef const uint64_t *words = <const uint64_t *>&seen
        cdef uint32_t read = 0, changed = 0, torn = 0
        cdef uint64_t last = 0
        cdef size_t i
        with nogil:
            while read < reads or changed < changes:
                if not counters_read(self.shard.state.header, self.shard.state.published, &seen):
                    continue
                read += 1
                for i in range(sizeof(fp_counters) // 8):
                    if words[i] != words[0]:
                        torn += 1
                        break
                if words[0] != last:
                    changed += 1
                last = words[0]
            store_release_u32(&self.halt, 1)
        return torn


# ---- admission --------------------------------------------------------------------------------------

cdef class AdmissionTable:
    """Buckets of a table of its own, with `sets` (a power of two) of four."""
    cdef admission_table table
    cdef bytes seed

    def __init__(self, uint32_t sets, bytes seed not None):
        self.table.buckets = <bucket *>calloc(sets * ADMISSION_WAYS, sizeof(bucket))
        self.table.mask = sets - 1
        self.seed = seed
        if not self.table.buckets:
            raise MemoryError

    def __dealloc__(self):
        free(self.table.buckets)

    def place(self, tuple client not None):
        """The set that a client's network belongs to."""
        cdef fp_client key = client_of(client)
        cdef uint64_t network = network_of(&key)
        return siphash13(<const uint8_t *><const char *>self.seed, <const uint8_t *>&network,
                         sizeof(network)) & self.table.mask

    def take(self, tuple client not None, uint32_t flows_per_s, uint32_t burst, uint32_t now_ms):
        cdef const uint8_t *seed
        cdef fp_client key = client_of(client)
        cdef admission_limit limit
        limit.flows_per_s, limit.burst = flows_per_s, burst
        seed = <const uint8_t *><const char *>self.seed
        return bool(admission_take(&self.table, seed, &limit, &key, now_ms))

    def take_numbered(self, uint32_t count, uint32_t flows_per_s, uint32_t burst, uint32_t now_ms):
        """One flow for each of `count` networks 9.0.0/24, 9.0.1/24, ...; gives how many were admitted."""
        cdef fp_client key
        cdef admission_limit limit
        cdef uint32_t i, admitted = 0
        memset(&key, 0, sizeof(key))
        key.family = 4
        limit.flows_per_s, limit.burst = flows_per_s, burst
        for i in range(count):
            key.address[0], key.address[1] = <uint8_t>(9 + (i >> 16)), <uint8_t>(i >> 8)
            key.address[2] = <uint8_t>i
            if admission_take(&self.table, <const uint8_t *><const char *>self.seed, &limit, &key, now_ms):
                admitted += 1
        return admitted
