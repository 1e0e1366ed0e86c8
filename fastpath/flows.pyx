"""The flow table of one shard: client address at an ingress -> backend.

Open addressing with linear probing over 64-byte slots that never move. A slot is published under
its seqlock; a change of a flow publishes a new slot first and tombstones the old one afterwards, so
that a writer killed at any instruction leaves at least one complete copy. The keyed hash is
SipHash-1-3, because clients choose their own addresses. Load stays at or below one half.
"""
from libc.string cimport memcpy

from fastpath.address cimport client_equal, client_hash
from fastpath.atomic cimport (
    add_u32, fence_acquire, fence_release, load_acquire_u32, load_relaxed_u8, load_relaxed_u32,
    store_relaxed_u32, store_release_u8, store_release_u32)
from fastpath.crash cimport FP_AT_flow_filled, FP_AT_flow_opened, FP_AT_flow_published, crash_point
from fastpath.layout cimport (
    FP_FLOW_confirmed, FP_FLOW_empty, FP_FLOW_taught, FP_FLOW_tombstone, FP_NONE, fp_client, fp_flow)

cdef enum:
    # Longest walk. At load 1/2 the expected longest run in 2 M slots is about 40.
    PROBES = 256
    SEQLOCK_BYTES = 48              # what the seqlock covers: everything before last_seen_ms
    CONFIRMED_TTL_MS = 60000
    TAUGHT_TTL_MS = 5000


cdef uint32_t flows_lookup(const flow_table *table, const fp_client *client, uint64_t hash) noexcept nogil:
    """The writer's own look-up: slot index or FP_NONE. No seqlock: nobody else writes."""
    cdef uint32_t slot = <uint32_t>hash & table.mask
    cdef int _probe
    cdef const fp_flow *flow
    for _probe in range(PROBES):
        flow = &table.slots[slot]
        if flow.state == FP_FLOW_empty:
            return FP_NONE
        if flow.state != FP_FLOW_tombstone and client_equal(&flow.client, client):
            return slot
        slot = (slot + 1) & table.mask
    return FP_NONE


cdef bint flows_snapshot(const flow_table *table, uint32_t slot, fp_flow *out) noexcept nogil:
    """Copy one slot as of one moment (any reader). False when it is free or being written."""
    cdef const fp_flow *flow = &table.slots[slot]
    cdef uint32_t before
    cdef int _attempt
    for _attempt in range(16):
        before = load_acquire_u32(&flow.sequence)
        if before & 1:
            continue
        memcpy(out, flow, sizeof(fp_flow))
        fence_acquire()
        if load_relaxed_u32(&flow.sequence) == before:
            return out.state >= FP_FLOW_confirmed
    return False


cdef bint flows_read(const flow_table *table, const fp_client *client, uint64_t hash,
                     fp_flow *out) noexcept nogil:
    """Another shard's look-up: a copy of the flow, the newest when two are present."""
    cdef uint32_t slot = <uint32_t>hash & table.mask
    cdef int _probe
    cdef fp_flow seen
    cdef bint found = False
    for _probe in range(PROBES):
        if load_relaxed_u8(&table.slots[slot].state) == FP_FLOW_empty:
            break
        if flows_snapshot(table, slot, &seen) and client_equal(&seen.client, client):
            if not found or <int>(seen.version - out.version) > 0:
                out[0] = seen
                found = True
        slot = (slot + 1) & table.mask
    return found


cdef uint32_t flows_insert(flow_table *table, const fp_flow *flow, uint64_t hash,
                           bint keep_version) noexcept nogil:
    """Publish `flow` in a free slot and give its index; FP_NONE when the table is full.

    A copy of a sibling's flow keeps its version, so that it never looks newer than what replaces it.
    """
    cdef uint32_t slot = <uint32_t>hash & table.mask
    cdef uint32_t sequence
    cdef int _probe
    cdef fp_flow *place
    if table.header.flows_count >= table.header.flows_max:
        return FP_NONE
    for _probe in range(PROBES):
        place = &table.slots[slot]
        if place.state <= FP_FLOW_tombstone:
            sequence = place.sequence | 1
            store_relaxed_u32(&place.sequence, sequence)
            fence_release()
            crash_point(FP_AT_flow_opened)
            memcpy(<uint8_t *>place + sizeof(uint32_t), <const uint8_t *>flow + sizeof(uint32_t),
                   sizeof(fp_flow) - sizeof(uint32_t))
            if not keep_version:
                place.version = add_u32(table.version_clock, 1)
            crash_point(FP_AT_flow_filled)
            store_release_u32(&place.sequence, sequence + 1)
            crash_point(FP_AT_flow_published)
            table.header.flows_count += 1
            return slot
        slot = (slot + 1) & table.mask
    return FP_NONE


cdef void flows_confirm_taught(flow_table *table, uint32_t slot) noexcept nogil:
    """A client datagram arrived on a flow that a transceiver had taught: from now on 60 s to live."""
    store_release_u8(&table.slots[slot].state, FP_FLOW_confirmed)


cdef void flows_remove(flow_table *table, uint32_t slot) noexcept nogil:
    """Tombstone a slot; where the run ends right behind it, give the slots back as empty instead.

    One byte changes, which no reader can see halved: that needs no seqlock.
    """
    store_release_u8(&table.slots[slot].state, FP_FLOW_tombstone)
    table.header.flows_count -= 1
    if table.slots[(slot + 1) & table.mask].state != FP_FLOW_empty:
        return
    while table.slots[slot].state == FP_FLOW_tombstone:
        store_release_u8(&table.slots[slot].state, FP_FLOW_empty)
        slot = (slot - 1) & table.mask


cdef uint32_t flows_next_expired(flow_table *table, uint32_t now_ms, uint32_t *budget) noexcept nogil:
    """Walk on from the cursor, at most `budget` slots, to the next expired flow; FP_NONE at the end."""
    cdef uint32_t slot
    cdef int ttl_ms
    cdef fp_flow *flow
    while budget[0] > 0:
        budget[0] -= 1
        slot = table.header.flows_cursor
        table.header.flows_cursor = (slot + 1) & table.mask
        flow = &table.slots[slot]
        if flow.state >= FP_FLOW_confirmed:
            ttl_ms = TAUGHT_TTL_MS if flow.state == FP_FLOW_taught else CONFIRMED_TTL_MS
            if <int>(now_ms - flow.last_seen_ms) >= ttl_ms:
                return slot
    return FP_NONE


cdef void flows_attach(flow_table *table, const uint8_t *seed) noexcept nogil:
    """Make the table of a writer that died whole again.

    A slot left odd was being published over a free one: it becomes a tombstone, and what it was to
    replace is still there. Of two live copies of one client only the newest stays.
    """
    cdef uint32_t slot
    cdef fp_flow *flow
    cdef fp_flow newest
    table.header.flows_count = 0
    for slot in range(table.mask + 1):
        flow = &table.slots[slot]
        if flow.sequence & 1:
            flow.state = FP_FLOW_tombstone
            store_release_u32(&flow.sequence, flow.sequence + 1)
    for slot in range(table.mask + 1):
        flow = &table.slots[slot]
        if flow.state < FP_FLOW_confirmed:
            continue
        if (flows_read(table, &flow.client, client_hash(seed, &flow.client), &newest)
                and newest.version != flow.version):
            flow.state = FP_FLOW_tombstone
        else:
            table.header.flows_count += 1
