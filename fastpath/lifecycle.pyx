"""The life of a flow: opened provisionally, confirmed, replaced, taught, ended, expired, evicted.

forward decides what becomes of a datagram; this is what becomes of the flow behind it. Whatever ends
gives its upstream port to quarantine, in this one place.
"""
from libc.string cimport memset

from fastpath.address cimport client_hash
from fastpath.crash cimport FP_AT_flow_doubled, crash_point
from fastpath.flows cimport flows_insert, flows_lookup, flows_next_expired, flows_read, flows_remove
from fastpath.layout cimport *
from fastpath.ports cimport ports_acquire, ports_expire, ports_hand_over, ports_owns, ports_release
from fastpath.provisional cimport (
    provisional_crowded_out, provisional_first, provisional_insert, provisional_next,
    provisional_next_expired, provisional_overfull, provisional_place, provisional_remove)
from fastpath.settings cimport client_allowed

cdef enum:
    CONFIRMED_TTL_MS = 60000        # a plain flow lives so long without a client datagram, copies included
    SILENT_MS = 7000                # a live flow whose ufrag was unseen for so long may be replaced
    TEACH_PER_SECOND = 1000         # flows a shard lets transceivers teach it in a second
    FULL_PASS_MS = 4000             # every slot is looked at for expiry once in this time


# ---- find -----------------------------------------------------------------------------------------

cdef uint32_t find_flow(shard_state *shard, const fp_client *client, uint64_t hash) noexcept nogil:
    """The client's flow in this shard; one that a sibling holds is copied first. FP_NONE: nobody knows it."""
    cdef uint32_t slot = flows_lookup(&shard.flows, client, hash)
    if shard.siblings_count == 0:
        return slot
    if slot != FP_NONE and not keeps_its_port(shard, &shard.flows.slots[slot], hash):
        flows_remove(&shard.flows, slot)
        slot = FP_NONE
    return slot if slot != FP_NONE else copy_from_siblings(shard, client, hash)


cdef inline bint borrowed(const shard_state *shard, const fp_flow *flow) noexcept nogil:
    """A copy that sends from the upstream port of the shard it was copied from."""
    return flow.upstream_port != FP_NO_PORT and not ports_owns(&shard.ports, flow.upstream_port)


cdef bint keeps_its_port(shard_state *shard, const fp_flow *flow, uint64_t hash) noexcept nogil:
    """Once the original ended, its port rests and then serves somebody else: a copy must not use it."""
    cdef fp_flow seen
    cdef uint32_t i
    if not borrowed(shard, flow):
        return True
    for i in range(shard.siblings_count):
        if (flows_read(&shard.siblings[i].flows, &flow.client, hash, &seen)
                and seen.version == flow.version and not borrowed(shard.siblings[i], &seen)):
            return True
    return False


cdef bint read_siblings(shard_state *shard, const fp_client *client, uint64_t hash,
                        fp_flow *newest) noexcept nogil:
    """The newest of the siblings' flows for this client, copies that send from another's port left out."""
    cdef fp_flow seen
    cdef bint found = False
    cdef uint32_t i
    for i in range(shard.siblings_count):
        if (flows_read(&shard.siblings[i].flows, client, hash, &seen)
                and not borrowed(shard.siblings[i], &seen)):
            if not found or <int>(seen.version - newest.version) > 0:
                newest[0] = seen
                found = True
    return found


cdef uint32_t copy_from_siblings(shard_state *shard, const fp_client *client, uint64_t hash) noexcept nogil:
    """The newest of the siblings' flows for this client, copied into this shard.

    It keeps its upstream port.
    """
    cdef fp_flow newest
    cdef uint32_t slot
    if not read_siblings(shard, client, hash, &newest):
        return FP_NONE
    slot = flows_insert(&shard.flows, &newest, hash, True)
    if slot != FP_NONE:
        shard.counters.copied += 1
    return slot


cdef fp_flow *find_for_record(shard_state *shard, uint32_t backend, const fp_datagram *record,
                              fp_flow *elsewhere) noexcept nogil:
    """The flow a trunk record names: this shard's own, else (read into `elsewhere`, not copied: only client
    datagrams make copies) a sibling's. NULL: nobody knows the client."""
    cdef uint32_t slot = flows_lookup(&shard.flows, &record.client, record.hash)
    if slot != FP_NONE and shard.flows.slots[slot].backend == backend:
        return &shard.flows.slots[slot]
    if shard.siblings_count and read_siblings(shard, &record.client, record.hash, elsewhere):
        if slot == FP_NONE or <int>(elsewhere.version - shard.flows.slots[slot].version) > 0:
            return elsewhere
    return &shard.flows.slots[slot] if slot != FP_NONE else NULL


# ---- provisional ----------------------------------------------------------------------------------

cdef uint32_t open_provisional(shard_state *shard, fp_provisional *flow, uint64_t hash,
                               uint32_t now_ms) noexcept nogil:
    """Enter a provisional flow for a client at a ufrag, both filled in; FP_NONE: no upstream port is left.

    A ufrag or a client address that holds its cap already loses its oldest, a full ring its oldest; what is
    refused costs nobody.
    """
    cdef uint32_t crowded = provisional_crowded_out(&shard.provisional, flow.ufrag_hash)
    cdef uint32_t overfull = provisional_overfull(&shard.provisional, &flow.client, hash)
    cdef uint32_t place = provisional_place(&shard.provisional)
    flow.state = FP_PROVISIONAL_waiting
    flow.upstream_port = FP_NO_PORT
    if shard.backends.entries[flow.backend].mode == FP_PLAIN:
        flow.upstream_port = inherit_port(shard, crowded, flow.backend, place)
        if flow.upstream_port == FP_NO_PORT:
            flow.upstream_port = ports_acquire(&shard.ports, flow.backend, FP_PORT_provisional, place)
        if flow.upstream_port == FP_NO_PORT:
            return FP_NONE
    if crowded != FP_NONE:
        evict(shard, crowded, now_ms)
    if overfull != FP_NONE:         # never the same one: that would be this very flow
        evict(shard, overfull, now_ms)
    if shard.provisional.entries[place].state != FP_PROVISIONAL_free:
        evict(shard, place, now_ms)
    provisional_insert(&shard.provisional, place, flow, hash)
    shard.counters.provisional_created += 1
    return place


cdef uint16_t inherit_port(shard_state *shard, uint32_t crowded, uint32_t backend,
                           uint32_t heir) noexcept nogil:
    """The port of the flow that makes room for another of its own ufrag: its backend knows the port under
    that very ufrag, so it need not rest, and one ufrag asked for from many addresses cannot lay the whole
    pool to rest."""
    cdef fp_provisional *flow
    cdef uint16_t port
    if crowded == FP_NONE or shard.provisional.entries[crowded].backend != backend:
        return <uint16_t>FP_NO_PORT
    flow = &shard.provisional.entries[crowded]
    port = flow.upstream_port
    if port != FP_NO_PORT:
        flow.upstream_port = FP_NO_PORT
        ports_hand_over(&shard.ports, port, backend, FP_PORT_provisional, heir)
    return port


cdef void evict(shard_state *shard, uint32_t index, uint32_t now_ms) noexcept nogil:
    shard.counters.provisional_evicted += 1
    discard(shard, index, now_ms)


cdef void discard(shard_state *shard, uint32_t index, uint32_t now_ms) noexcept nogil:
    """A provisional flow ends unconfirmed; its upstream port rests, for its backend has seen it."""
    cdef fp_provisional *flow = &shard.provisional.entries[index]
    if flow.upstream_port != FP_NO_PORT:
        ports_release(&shard.ports, flow.upstream_port, flow.backend, now_ms)
    provisional_remove(&shard.provisional, index, client_hash(shard.seed, &flow.client))


# ---- confirmation ---------------------------------------------------------------------------------

cdef bint replace_if_due(shard_state *shard, uint32_t index, uint64_t hash,
                         uint32_t now_ms) noexcept nogil:
    """A confirmed provisional flow becomes the flow of its client, unless a live one is in its way.

    A live flow gives way only when its own ufrag was unseen for 7 s, or when both routes belong to one
    session (an ICE restart): so the owner of a valid session who spoofs a victim's address cannot tear
    the victim down. False: the table is full.
    """
    cdef fp_provisional *shadow = &shard.provisional.entries[index]
    cdef uint32_t live = flows_lookup(&shard.flows, &shadow.client, hash)
    cdef fp_flow flow
    cdef uint32_t slot
    if live != FP_NONE and not gives_way(shard, live, shadow, now_ms):
        return True                 # it stays a shadow
    memset(&flow, 0, sizeof(flow))
    flow.client, flow.backend, flow.ufrag_hash = shadow.client, shadow.backend, shadow.ufrag_hash
    flow.route, flow.upstream_port = shadow.route, shadow.upstream_port
    flow.traffic_class = shadow.traffic_class
    flow.state = FP_FLOW_confirmed
    flow.last_seen_ms, flow.ufrag_seen_ms = shadow.last_seen_ms, shadow.last_seen_ms
    if live != FP_NONE:
        shard.header.flows_count -= 1       # its slot goes in the same breath: never refuse a replacement
    slot = flows_insert(&shard.flows, &flow, hash, False)
    if live != FP_NONE:
        shard.header.flows_count += 1
    if slot == FP_NONE:
        return False
    if flow.upstream_port != FP_NO_PORT:
        ports_hand_over(&shard.ports, flow.upstream_port, flow.backend, FP_PORT_flow, slot)
    if live != FP_NONE:
        crash_point(FP_AT_flow_doubled)
        end_flow(shard, live, now_ms)
        shard.counters.replaced += 1
    provisional_remove(&shard.provisional, index, hash)
    shard.counters.confirmed += 1
    return True


cdef bint gives_way(const shard_state *shard, uint32_t live, const fp_provisional *shadow,
                    uint32_t now_ms) noexcept nogil:
    cdef const fp_flow *flow = &shard.flows.slots[live]
    return <int>(now_ms - flow.ufrag_seen_ms) >= SILENT_MS or same_session(shard, flow, shadow)


cdef bint same_session(const shard_state *shard, const fp_flow *flow,
                       const fp_provisional *shadow) noexcept nogil:
    """Do the session routes of both ufrags carry the same session name?"""
    cdef const fp_route *old
    cdef const fp_route *new
    if flow.route == FP_NONE or shadow.route == FP_NONE:
        return False
    old, new = &shard.routes.slots[flow.route], &shard.routes.slots[shadow.route]
    return (old.hash[0] == flow.ufrag_hash and new.hash[0] == shadow.ufrag_hash  # the slots are still theirs
            and old.session != 0 and old.session == new.session)


cdef void end_flow(shard_state *shard, uint32_t slot, uint32_t now_ms) noexcept nogil:
    cdef fp_flow *flow = &shard.flows.slots[slot]
    if flow.upstream_port != FP_NO_PORT:
        ports_release(&shard.ports, flow.upstream_port, flow.backend, now_ms)
    flows_remove(&shard.flows, slot)


cdef void forget_flow(shard_state *shard, uint32_t backend, const fp_client *client,
                      uint32_t now_ms) noexcept nogil:
    """The transceiver said flow-closed: the flow goes now, and a confirmed shadow takes its place."""
    cdef uint64_t hash = client_hash(shard.seed, client)
    cdef uint32_t slot = flows_lookup(&shard.flows, client, hash)
    cdef uint32_t index
    if slot == FP_NONE or shard.flows.slots[slot].backend != backend:
        return
    end_flow(shard, slot, now_ms)
    shard.counters.closed += 1
    index = provisional_first(&shard.provisional, client, hash)
    while index != FP_NONE:
        if shard.provisional.entries[index].state == FP_PROVISIONAL_confirmed:
            replace_if_due(shard, index, hash, now_ms)
            return
        index = provisional_next(&shard.provisional, index)


# ---- taught -----------------------------------------------------------------------------------

cdef fp_flow *teach(shard_state *shard, uint32_t backend, const fp_datagram *record,
                    uint32_t now_ms) noexcept nogil:
    """A transceiver sends to a client this relay has forgotten: its word may create a flow, never replace
    one; without a client datagram it lives 5 s. NULL: refused."""
    cdef fp_flow flow
    cdef uint32_t slot
    if shard.teach_second != now_ms // 1000:
        shard.teach_second = now_ms // 1000
        shard.taught_this_second = 0
    if shard.taught_this_second >= TEACH_PER_SECOND or not client_allowed(shard.settings, &record.client):
        return NULL
    memset(&flow, 0, sizeof(flow))
    flow.client, flow.backend, flow.route, flow.upstream_port = record.client, backend, FP_NONE, FP_NO_PORT
    flow.state = FP_FLOW_taught
    flow.last_seen_ms = now_ms
    flow.ufrag_seen_ms = now_ms - SILENT_MS     # its next Binding Request replaces it
    slot = flows_insert(&shard.flows, &flow, record.hash, False)
    if slot == FP_NONE:
        return NULL
    shard.taught_this_second += 1
    shard.counters.taught += 1
    return &shard.flows.slots[slot]


# ---- expiry ---------------------------------------------------------------------------------------

cdef void expire_slice(shard_state *shard, uint32_t now_ms, uint32_t elapsed_ms) noexcept nogil:
    """Look at the share of every table that is due after `elapsed_ms`: no turn pays for a whole pass."""
    cdef uint32_t budget = slice_of(shard.header.flows_capacity, elapsed_ms)
    cdef uint32_t index
    while True:
        index = flows_next_expired(&shard.flows, now_ms, &budget)
        if index == FP_NONE:
            break
        if not younger_copy(shard, index, now_ms):
            end_flow(shard, index, now_ms)
            shard.counters.expired += 1
    budget = slice_of(shard.header.provisional_capacity, elapsed_ms)
    while True:
        index = provisional_next_expired(&shard.provisional, now_ms, &budget)
        if index == FP_NONE:
            break
        discard(shard, index, now_ms)
        shard.counters.provisional_expired += 1
    ports_expire(&shard.ports, now_ms, slice_of(shard.header.ports_capacity, elapsed_ms))


cdef inline uint32_t slice_of(uint32_t capacity, uint32_t elapsed_ms) noexcept nogil:
    """Rounded up: the share of a small table in one millisecond must not be nothing."""
    if elapsed_ms >= FULL_PASS_MS:
        return capacity
    return <uint32_t>((<uint64_t>capacity * elapsed_ms + FULL_PASS_MS - 1) // FULL_PASS_MS)


cdef bint younger_copy(shard_state *shard, uint32_t slot, uint32_t now_ms) noexcept nogil:
    """A plain flow whose client now arrives at a sibling lives there as a copy that still sends from this
    shard's port: as long as the copy is fed, the original must not end."""
    cdef fp_flow *flow = &shard.flows.slots[slot]
    cdef fp_flow seen
    cdef uint32_t i
    if flow.upstream_port == FP_NO_PORT:
        return False
    for i in range(shard.siblings_count):
        if (flows_read(&shard.siblings[i].flows, &flow.client, client_hash(shard.seed, &flow.client), &seen)
                and seen.version == flow.version and <int>(seen.last_seen_ms - flow.last_seen_ms) > 0):
            flow.last_seen_ms = seen.last_seen_ms
            if <int>(now_ms - seen.last_seen_ms) < CONFIRMED_TTL_MS:
                return True
    return False
