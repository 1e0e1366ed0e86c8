"""One shard's view of all state, and how its memory is laid out.

The keeper formats the regions once; every engine attaches them. Attaching refuses memory of another
layout version and makes whole what a killed writer left half done.
"""
import time

from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from fastpath.address cimport client_hash
from fastpath.admission cimport ADMISSION_SETS, ADMISSION_WAYS, bucket
from fastpath.atomic cimport load_relaxed_u32
from fastpath.backends cimport Backends
from fastpath.bump cimport fp_layout_bump
from fastpath.counters cimport counters_read
from fastpath.flows cimport flows_attach, flows_lookup, flows_snapshot
from fastpath.layout cimport (
    FP_BACKENDS, FP_FLOW_confirmed, FP_LAYOUT_VERSION, FP_NO_PORT, FP_NONE, FP_POOL, FP_PORT_flow,
    FP_PORT_provisional, FP_PROVISIONAL_free, FP_SHARDS, FP_TRANSACTION_WAYS, fp_backend, fp_batch_memory,
    fp_counters, fp_flow, fp_ingress, fp_port, fp_provisional, fp_route, fp_shard_header, fp_shared_header,
    fp_transaction, fp_trunk_link)
from fastpath.ports cimport ports_attach, ports_hand_over, ports_lookup, ports_owns, ports_restore
from fastpath.provisional cimport provisional_attach
from fastpath.routes cimport Routes

cdef extern from "Python.h":
    int PyBUF_SIMPLE, PyBUF_WRITABLE
    int PyObject_GetBuffer(object, Py_buffer *, int) except -1
    void PyBuffer_Release(Py_buffer *)

LAYOUT_VERSION = FP_LAYOUT_VERSION + fp_layout_bump()
cdef bytes MAGIC = b"FASTPATH"


class LayoutError(ValueError):
    """The memory is not a region of this layout version."""


cdef void *address_of(object buffer, size_t needed) except NULL:
    """Where a writable buffer begins. Its owner is kept alive by whoever calls."""
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE | PyBUF_WRITABLE)
    cdef void *start = view.buf
    cdef size_t length = <size_t>view.len
    PyBuffer_Release(&view)
    if length < needed:
        raise LayoutError(f"the region has {length} bytes, {needed} are needed")
    return start


cdef uint32_t power_of_two(uint64_t at_least) except 0:
    cdef uint64_t value = 1
    while value < at_least:
        value *= 2
    if value > 1u << 31:
        raise ValueError(f"{at_least} is too large for a table")
    return <uint32_t>value


cdef inline uint64_t place(uint64_t *total, uint64_t size) noexcept:
    """Reserve `size` bytes at the next page and give their offset."""
    cdef uint64_t offset = total[0]
    total[0] += ((size + 4095) & ~<uint64_t>4095) + 4096 * fp_layout_bump()
    return offset


# ---- the shared region ----------------------------------------------------------------------------

cdef fp_shared_header plan_shared(uint32_t shards, uint32_t routes_max, uint32_t targets_max) except *:
    cdef fp_shared_header header
    memset(&header, 0, sizeof(header))
    if not 1 <= shards <= FP_SHARDS:
        raise ValueError(f"shards must be 1..{FP_SHARDS}, not {shards}")
    header.layout_version = LAYOUT_VERSION
    header.shards = shards
    header.routes_max = routes_max
    header.routes_capacity = power_of_two(2 * <uint64_t>routes_max)
    header.backends_capacity = FP_BACKENDS + targets_max
    cdef uint64_t total = 0
    place(&total, sizeof(fp_shared_header))
    header.backends_offset = place(&total, sizeof(fp_backend) * <uint64_t>header.backends_capacity)
    header.routes_offset = place(&total, sizeof(fp_route) * <uint64_t>header.routes_capacity)
    header.total_bytes = total
    return header


def shared_bytes(uint32_t shards, uint32_t routes_max, uint32_t targets_max):
    """Size of the shared region in bytes."""
    return plan_shared(shards, routes_max, targets_max).total_bytes


def format_shared(buffer, *, bytes seed, uint32_t shards, uint32_t routes_max, uint32_t targets_max,
                  uint32_t trunk_epoch):
    """Write the header into zeroed memory. `seed` is 16 random bytes; the epoch must rise at each start."""
    cdef fp_shared_header header = plan_shared(shards, routes_max, targets_max)
    cdef fp_shared_header *place = <fp_shared_header *>address_of(buffer, header.total_bytes)
    if len(seed) != 16:
        raise ValueError("the seed is 16 bytes")
    memcpy(header.seed, <const char *>seed, 16)
    header.trunk_epoch = trunk_epoch
    place[0] = header
    memcpy(place.magic, <const char *>MAGIC, 8)


cdef class Shared:
    """The shared region: ingress list, backends, routes. Its one writer is the control thread."""

    def __init__(self, buffer):
        cdef Routes routes = Routes()
        cdef Backends backends = Backends()
        self.memory = buffer
        self.header = <fp_shared_header *>address_of(buffer, sizeof(fp_shared_header))
        check_magic(self.header.magic, self.header.layout_version)
        check_shared_plan(self.header)
        address_of(buffer, self.header.total_bytes)
        cdef uint8_t *base = <uint8_t *>self.header
        routes.table.header = self.header
        routes.table.slots = <fp_route *>(base + self.header.routes_offset)
        routes.table.mask = self.header.routes_capacity - 1
        routes._memory = buffer
        backends.table.entries = <fp_backend *>(base + self.header.backends_offset)
        backends.table.capacity = self.header.backends_capacity
        backends._memory = buffer
        backends.adopt()
        self.routes, self.backends = routes, backends

    @property
    def seed(self):
        """The 16-byte SipHash key of every table."""
        return self.header.seed[:16]

    @property
    def trunk_epoch(self):
        return self.header.trunk_epoch

    def raise_epoch(self, uint32_t wall_s):
        """A new engine: its trunk datagrams' epoch must be above the last one's, whatever the clock says."""
        cdef uint32_t above_last = self.header.trunk_epoch + 1
        self.header.trunk_epoch = max(above_last, wall_s)

    def set_ingress(self, uint8_t ingress, bytes address16, uint16_t port, uint8_t family, uint8_t listener,
                    bint wildcard):
        """Name the local address clients use: `listener` is the index of its socket in every shard."""
        cdef fp_ingress *entry = &self.header.ingress[ingress]
        if len(address16) != 16 or family not in (4, 6):
            raise ValueError("an address is 16 bytes with family 4 or 6")
        memcpy(entry.address.address, <const char *>address16, 16)
        entry.address.port, entry.address.family = port, family
        entry.listener, entry.wildcard = listener, <uint8_t>wildcard
        entry.used = 1


cdef void check_shared_plan(const fp_shared_header *header) except *:
    """Sizes and places are what they would be if the region were made now: no index leads out of it."""
    cdef fp_shared_header plan = plan_shared(
        header.shards, header.routes_max, header.backends_capacity - FP_BACKENDS)
    if (header.backends_capacity < FP_BACKENDS or plan.routes_capacity != header.routes_capacity
            or memcmp(&plan.backends_offset, &header.backends_offset, 3 * sizeof(uint64_t)) != 0):
        raise LayoutError("the shared region's header is damaged: start a new keeper")


cdef void check_magic(const char *magic, uint32_t version) except *:
    if memcmp(magic, <const char *>MAGIC, 8) != 0:
        raise LayoutError("this memory is no fastpath region")
    if version != LAYOUT_VERSION:
        raise LayoutError(f"the region has layout version {version}, this engine needs {LAYOUT_VERSION}: "
                          "start a new keeper")


# ---- a shard's region -------------------------------------------------------------------------------

cdef fp_shard_header plan_shard(uint32_t flows_max, uint32_t provisional_max, uint32_t transactions_max,
                                uint32_t targets_max, tuple ports_ipv4, tuple ports_ipv6) except *:
    cdef fp_shard_header header
    memset(&header, 0, sizeof(header))
    header.layout_version = LAYOUT_VERSION
    header.flows_max = flows_max
    header.flows_capacity = power_of_two(2 * <uint64_t>flows_max)
    header.provisional_capacity = power_of_two(provisional_max)
    header.transactions_capacity = power_of_two(max(transactions_max, <uint32_t>FP_TRANSACTION_WAYS))
    header.backends_capacity = FP_BACKENDS + targets_max
    header.port_first[0], header.port_count[0] = ports_ipv4
    header.port_first[1], header.port_count[1] = ports_ipv6
    if header.port_count[0] or header.port_count[1]:
        header.ports_capacity = power_of_two(4 * (<uint64_t>flows_max + header.provisional_capacity))
    cdef uint64_t total = 0
    place(&total, sizeof(fp_shard_header))
    header.counters_offset = place(&total, sizeof(fp_counters))
    header.links_offset = place(&total, sizeof(fp_trunk_link) * FP_BACKENDS)
    header.batch_offset = place(&total, sizeof(fp_batch_memory))
    header.flows_offset = place(&total, sizeof(fp_flow) * header.flows_capacity)
    header.provisional_offset = place(&total, sizeof(fp_provisional) * header.provisional_capacity)
    header.provisional_index_offset = place(&total, 2 * sizeof(uint32_t) * header.provisional_capacity)
    header.transactions_offset = place(&total, sizeof(fp_transaction) * header.transactions_capacity)
    header.ports_offset = place(&total, sizeof(fp_port) * header.ports_capacity)
    header.port_use_offset = place(&total, sizeof(uint16_t) * (header.backends_capacity + FP_POOL))
    header.total_bytes = total
    return header


def shard_bytes(*, uint32_t flows_max, uint32_t provisional_max=16384, uint32_t transactions_max=1048576,
                uint32_t targets_max=65536, tuple ports_ipv4=(0, 0), tuple ports_ipv6=(0, 0)):
    """Size of one shard's region in bytes; pages are taken only as they are touched."""
    return plan_shard(flows_max, provisional_max, transactions_max, targets_max,
                      ports_ipv4, ports_ipv6).total_bytes


def format_shard(buffer, *, uint32_t index, uint32_t flows_max, uint32_t provisional_max=16384,
                 uint32_t transactions_max=1048576, uint32_t targets_max=65536,
                 tuple ports_ipv4=(0, 0), tuple ports_ipv6=(0, 0)):
    """Write the header into zeroed memory. ports_*: (first pool index, count) of this shard's plain ports."""
    cdef fp_shard_header header = plan_shard(flows_max, provisional_max, transactions_max, targets_max,
                                             ports_ipv4, ports_ipv6)
    cdef fp_shard_header *place = <fp_shard_header *>address_of(buffer, header.total_bytes)
    header.index = index
    place[0] = header
    memcpy(place.magic, <const char *>MAGIC, 8)


cdef void check_shard_plan(const fp_shard_header *header) except *:
    """As check_shared_plan: a table of another size than its header says would be read behind its end."""
    cdef tuple ports4 = (header.port_first[0], header.port_count[0])
    cdef tuple ports6 = (header.port_first[1], header.port_count[1])
    cdef fp_shard_header plan = plan_shard(
        header.flows_max, header.provisional_capacity, header.transactions_capacity,
        header.backends_capacity - FP_BACKENDS, ports4, ports6)
    if (max(sum(ports4), sum(ports6)) > FP_POOL
            or memcmp(&plan.flows_capacity, &header.flows_capacity, 6 * sizeof(uint32_t)) != 0
            or memcmp(&plan.counters_offset, &header.counters_offset, 10 * sizeof(uint64_t)) != 0):
        raise LayoutError("the header of this shard's region is damaged: start a new keeper")


cdef class Shard:
    """One shard's region, attached. Its one writer is the worker that serves it."""

    def __init__(self, Shared shared not None, buffer):
        self.memory, self.shared = buffer, shared
        memset(&self.state, 0, sizeof(shard_state))
        cdef fp_shard_header *header = <fp_shard_header *>address_of(buffer, sizeof(fp_shard_header))
        check_magic(header.magic, header.layout_version)
        check_shard_plan(header)
        address_of(buffer, header.total_bytes)
        if header.backends_capacity != shared.header.backends_capacity:
            raise LayoutError("this shard's region was not made with this shared region")
        point(&self.state, shared.header, header)
        self.state.admission.buckets = <bucket *>calloc(ADMISSION_SETS * ADMISSION_WAYS, sizeof(bucket))
        self.state.admission.mask = ADMISSION_SETS - 1
        if not self.state.admission.buckets:
            raise MemoryError("no memory for a shard's admission buckets")

    def __dealloc__(self):
        free(self.state.admission.buckets)

    def adopt(self, uint32_t now_ms):
        """Take over from a writer that is gone: mend the tables, count again. Call before the first batch.

        Every slot is looked at, so large tables take a while: several shards may do it at once, in threads.
        """
        with nogil:
            attach(&self.state, now_ms)

    def flows(self):
        """A copy of every live flow: rows of fp_flow, one after the other, as bytes."""
        cdef bytearray rows = bytearray()
        cdef fp_flow flow
        cdef uint32_t slot
        for slot in range(self.state.header.flows_capacity):
            if (self.state.flows.slots[slot].state >= FP_FLOW_confirmed
                    and flows_snapshot(&self.state.flows, slot, &flow)):
                rows += (<const char *>&flow)[:sizeof(fp_flow)]
        return bytes(rows)

    def provisional(self):
        """A copy of every provisional flow: rows of fp_provisional, as bytes."""
        cdef bytearray rows = bytearray()
        cdef uint32_t index
        for index in range(self.state.header.provisional_capacity):
            if self.state.provisional.entries[index].state != FP_PROVISIONAL_free:
                rows += (<const char *>&self.state.provisional.entries[index])[:sizeof(fp_provisional)]
        return bytes(rows)

    def counters(self):
        """A consistent snapshot of fp_counters, as bytes; a torn one if the writer died while publishing."""
        cdef fp_counters snapshot
        cdef int _attempt
        for _attempt in range(1000):
            if counters_read(self.state.header, self.state.published, &snapshot):
                break
            time.sleep(0.001)       # the worker was interrupted in the middle: let it go on
        return (<const char *>&snapshot)[:sizeof(fp_counters)]

    @property
    def pressure(self):
        """What the worker sheds now: 0 nothing .. 6 voice."""
        return load_relaxed_u32(&self.state.pressure)

    def links(self):
        """fp_trunk_link of every backend index below BACKENDS, as bytes."""
        return (<const char *>self.state.links.links)[:sizeof(fp_trunk_link) * FP_BACKENDS]

    def header(self):
        """fp_shard_header, as bytes."""
        return (<const char *>self.state.header)[:sizeof(fp_shard_header)]


cdef void point(shard_state *shard, fp_shared_header *shared, fp_shard_header *header) noexcept nogil:
    cdef uint8_t *base = <uint8_t *>header
    shard.shared, shard.header, shard.seed = shared, header, shared.seed
    shard.published = <fp_counters *>(base + header.counters_offset)
    shard.batch = <fp_batch_memory *>(base + header.batch_offset)
    shard.links.links = <fp_trunk_link *>(base + header.links_offset)
    shard.flows.header, shard.flows.slots = header, <fp_flow *>(base + header.flows_offset)
    shard.flows.version_clock = &shared.flow_version
    shard.flows.mask = header.flows_capacity - 1
    shard.provisional.header = header
    shard.provisional.entries = <fp_provisional *>(base + header.provisional_offset)
    shard.provisional.by_client = <uint32_t *>(base + header.provisional_index_offset)
    shard.provisional.by_ufrag = shard.provisional.by_client + header.provisional_capacity
    shard.provisional.mask = header.provisional_capacity - 1
    shard.transactions.entries = <fp_transaction *>(base + header.transactions_offset)
    shard.transactions.mask = header.transactions_capacity // FP_TRANSACTION_WAYS - 1
    shard.backends.entries = <fp_backend *>(<uint8_t *>shared + shared.backends_offset)
    shard.backends.capacity = shared.backends_capacity
    shard.routes.header, shard.routes.slots = shared, <fp_route *>(<uint8_t *>shared + shared.routes_offset)
    shard.routes.mask = shared.routes_capacity - 1
    shard.ports.header, shard.ports.slots = header, <fp_port *>(base + header.ports_offset)
    shard.ports.backends, shard.ports.seed = shard.backends.entries, shard.seed
    shard.ports.in_use = <uint16_t *>(base + header.port_use_offset)
    shard.ports.pairs = shard.ports.in_use + header.backends_capacity
    shard.ports.exists = header.ports_capacity != 0
    shard.ports.mask = header.ports_capacity - 1


cdef void attach(shard_state *shard, uint32_t now_ms) noexcept nogil:
    """Every index that can be derived is made anew from what carries the truth: flows and provisional
    flows."""
    cdef uint32_t slot
    cdef fp_flow *flow
    cdef fp_provisional *entry
    shard.header.attached += 1
    counters_read(shard.header, shard.published, &shard.counters)
    flows_attach(&shard.flows, shard.seed)
    for slot in range(shard.header.provisional_capacity):
        entry = &shard.provisional.entries[slot]
        if entry.state != FP_PROVISIONAL_free and became_flow(shard, entry):
            entry.state = FP_PROVISIONAL_free
    provisional_attach(&shard.provisional, shard.seed)
    ports_attach(&shard.ports, now_ms)
    for slot in range(shard.header.flows_capacity):
        flow = &shard.flows.slots[slot]
        if flow.state >= FP_FLOW_confirmed and flow.upstream_port != FP_NO_PORT:
            hold(shard, flow.upstream_port, flow.backend, FP_PORT_flow, slot)
    for slot in range(shard.header.provisional_capacity):
        entry = &shard.provisional.entries[slot]
        if entry.state != FP_PROVISIONAL_free and entry.upstream_port != FP_NO_PORT:
            hold(shard, entry.upstream_port, entry.backend, FP_PORT_provisional, slot)


cdef bint became_flow(const shard_state *shard, const fp_provisional *entry) noexcept nogil:
    """It was confirmed and its flow published, but the writer died before it went: it must not take the
    flow's port with it."""
    cdef uint32_t slot = flows_lookup(&shard.flows, &entry.client, client_hash(shard.seed, &entry.client))
    return slot != FP_NONE and shard.flows.slots[slot].ufrag_hash == entry.ufrag_hash


cdef void hold(shard_state *shard, uint16_t port, uint32_t backend, uint8_t state,
               uint32_t holder) noexcept nogil:
    if ports_owns(&shard.ports, port):      # else it was copied from a sibling, whose port it is
        if ports_lookup(&shard.ports, port, &shard.backends.entries[backend].address) == NULL:
            ports_restore(&shard.ports, port, backend, state, holder)
        else:
            ports_hand_over(&shard.ports, port, backend, state, holder)


def link_shards(list shards):
    """Tell every shard its siblings, so that a flow unknown to one is looked up in the others."""
    cdef Shard one, other
    for one in shards:
        one.state.siblings_count = 0
        for other in shards:
            if other is not one:
                one.state.siblings[one.state.siblings_count] = &other.state
                one.state.siblings_count += 1
