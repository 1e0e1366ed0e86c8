"""Provisional flows: a routable ufrag was seen, its backend has not answered yet.

They live in a bounded ring, so that a flood of valid ufrags from spoofed addresses costs a fixed
amount of memory and never a slot of the flow table. Two chained indices find them: by client (what
comes down a trunk names only the client) and by ufrag. Both are short, whoever sends: one client address
and one ufrag may hold a few entries each, and then their oldest makes room.
"""
from libc.string cimport memset

from fastpath.address cimport client_equal, client_hash
from fastpath.crash cimport FP_AT_provisional_filled, crash_point
from fastpath.layout cimport (
    FP_NONE, FP_PROVISIONAL_free, FP_SESSION_CAP, fp_client, fp_provisional)

cdef enum:
    TTL_MS = 5000                   # without a client datagram
    CLIENT_CAP = 8                  # a browser has one, and a second while its ICE restarts
    LOOK_AHEAD = 8                  # the hand passes this many live entries before it evicts one


cdef uint32_t provisional_lookup(const provisional_ring *ring, const fp_client *client,
                                 uint64_t ufrag_hash) noexcept nogil:
    cdef uint32_t index = ring.by_ufrag[<uint32_t>ufrag_hash & ring.mask]
    cdef const fp_provisional *entry
    while index != FP_NONE:
        entry = &ring.entries[index]
        if entry.ufrag_hash == ufrag_hash and client_equal(&entry.client, client):
            return index
        index = entry.next_by_ufrag
    return FP_NONE


cdef inline uint32_t skip_others(const provisional_ring *ring, uint32_t index,
                                 const fp_client *client) noexcept nogil:
    while index != FP_NONE and not client_equal(&ring.entries[index].client, client):
        index = ring.entries[index].next_by_client
    return index


cdef uint32_t provisional_first(const provisional_ring *ring, const fp_client *client,
                                uint64_t hash) noexcept nogil:
    """The newest provisional flow of this client address, whatever its ufrag."""
    return skip_others(ring, ring.by_client[<uint32_t>hash & ring.mask], client)


cdef uint32_t provisional_next(const provisional_ring *ring, uint32_t index) noexcept nogil:
    """The next older one of the same client address."""
    return skip_others(ring, ring.entries[index].next_by_client, &ring.entries[index].client)


cdef uint32_t provisional_crowded_out(const provisional_ring *ring, uint64_t ufrag_hash) noexcept nogil:
    """The oldest provisional flow of a ufrag that already holds its cap of them; else FP_NONE."""
    cdef uint32_t index = ring.by_ufrag[<uint32_t>ufrag_hash & ring.mask]
    cdef uint32_t oldest = FP_NONE
    cdef int held = 0
    while index != FP_NONE:
        if ring.entries[index].ufrag_hash == ufrag_hash:
            held += 1
            if oldest == FP_NONE or <int>(ring.entries[index].born - ring.entries[oldest].born) < 0:
                oldest = index
        index = ring.entries[index].next_by_ufrag
    return oldest if held >= FP_SESSION_CAP else FP_NONE


cdef uint32_t provisional_overfull(const provisional_ring *ring, const fp_client *client,
                                   uint64_t hash) noexcept nogil:
    """The oldest provisional flow of a client address that already holds its cap of them; else FP_NONE."""
    cdef uint32_t index = provisional_first(ring, client, hash)
    cdef uint32_t oldest = FP_NONE
    cdef int held = 0
    while index != FP_NONE:
        held += 1
        oldest = index
        index = provisional_next(ring, index)
    return oldest if held >= CLIENT_CAP else FP_NONE


cdef uint32_t provisional_place(const provisional_ring *ring) noexcept nogil:
    """Where the next one goes: the first free entry near the hand, else the hand's own (its owner goes)."""
    cdef uint32_t hand = ring.header.provisional_born & ring.mask
    cdef uint32_t step
    for step in range(<uint32_t>LOOK_AHEAD):
        if ring.entries[(hand + step) & ring.mask].state == FP_PROVISIONAL_free:
            return (hand + step) & ring.mask
    return hand


cdef void provisional_insert(provisional_ring *ring, uint32_t place, const fp_provisional *flow,
                             uint64_t hash) noexcept nogil:
    """Fill a free place. The state is written last: a writer killed before leaves a free entry."""
    cdef fp_provisional *entry = &ring.entries[place]
    cdef uint8_t state = flow.state
    entry[0] = flow[0]
    entry.state = FP_PROVISIONAL_free
    entry.born = ring.header.provisional_born
    ring.header.provisional_born += 1
    ring.header.provisional_count += 1
    link(ring, place, hash)
    crash_point(FP_AT_provisional_filled)
    entry.state = state


cdef void link(provisional_ring *ring, uint32_t index, uint64_t hash) noexcept nogil:
    """Enter it in both chains, each kept newest first: at the head, but when attach links it again."""
    cdef fp_provisional *entry = &ring.entries[index]
    cdef uint32_t *at = &ring.by_client[<uint32_t>hash & ring.mask]
    while at[0] != FP_NONE and <int>(ring.entries[at[0]].born - entry.born) > 0:
        at = &ring.entries[at[0]].next_by_client
    entry.next_by_client = at[0]
    at[0] = index
    at = &ring.by_ufrag[<uint32_t>entry.ufrag_hash & ring.mask]
    while at[0] != FP_NONE and <int>(ring.entries[at[0]].born - entry.born) > 0:
        at = &ring.entries[at[0]].next_by_ufrag
    entry.next_by_ufrag = at[0]
    at[0] = index


cdef void provisional_remove(provisional_ring *ring, uint32_t index, uint64_t hash) noexcept nogil:
    cdef fp_provisional *entry = &ring.entries[index]
    cdef uint32_t *at = &ring.by_client[<uint32_t>hash & ring.mask]
    entry.state = FP_PROVISIONAL_free
    ring.header.provisional_count -= 1
    while at[0] != index:
        at = &ring.entries[at[0]].next_by_client
    at[0] = entry.next_by_client
    at = &ring.by_ufrag[<uint32_t>entry.ufrag_hash & ring.mask]
    while at[0] != index:
        at = &ring.entries[at[0]].next_by_ufrag
    at[0] = entry.next_by_ufrag


cdef uint32_t provisional_next_expired(provisional_ring *ring, uint32_t now_ms,
                                       uint32_t *budget) noexcept nogil:
    """Walk on from the cursor, at most `budget` entries, to the next expired one; FP_NONE at the end."""
    cdef uint32_t index
    cdef fp_provisional *entry
    while budget[0] > 0:
        budget[0] -= 1
        index = ring.header.provisional_cursor
        ring.header.provisional_cursor = (index + 1) & ring.mask
        entry = &ring.entries[index]
        if entry.state != FP_PROVISIONAL_free and <int>(now_ms - entry.last_seen_ms) >= TTL_MS:
            return index
    return FP_NONE


cdef void provisional_attach(provisional_ring *ring, const uint8_t *seed) noexcept nogil:
    """Chains of a writer that died may be cut: make both indices anew from the entries."""
    cdef uint32_t index
    memset(ring.by_client, 0xff, sizeof(uint32_t) * (ring.mask + 1))
    memset(ring.by_ufrag, 0xff, sizeof(uint32_t) * (ring.mask + 1))
    ring.header.provisional_count = 0
    for index in range(ring.mask + 1):
        if ring.entries[index].state != FP_PROVISIONAL_free:
            link(ring, index, client_hash(seed, &ring.entries[index].client))
            ring.header.provisional_count += 1
