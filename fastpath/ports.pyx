"""The upstream ports of plain mode: exactly what a NAT does, one port per flow and backend address.

Keyed by (port, backend address:port), so a port serves as many flows as there are distinct backend
addresses, and a reply finds its flow in one look-up. After its last use a pair rests for 60 s: a server
that demultiplexes by address would give a newcomer the old session's media.
"""
from libc.string cimport memcpy, memset

from fastpath.address cimport endpoint_equal
from fastpath.crash cimport FP_AT_port_filled, crash_point
from fastpath.layout cimport (
    FP_NO_PORT, FP_NONE, FP_POOL, FP_PORT_empty, FP_PORT_quarantine, FP_PORT_tombstone, fp_endpoint, fp_port)
from fastpath.siphash cimport siphash13

cdef enum:
    PROBES = 256
    QUARANTINE_MS = 60000


cdef inline uint32_t home(const port_table *table, uint16_t port, const fp_endpoint *address) noexcept nogil:
    cdef uint8_t key[22]            # endpoint and port
    memcpy(key, address, sizeof(fp_endpoint))
    memcpy(key + sizeof(fp_endpoint), &port, sizeof(uint16_t))
    return <uint32_t>siphash13(table.seed, key, 22) & table.mask


cdef fp_port *ports_lookup(const port_table *table, uint16_t port,
                           const fp_endpoint *address) noexcept nogil:
    """The pair's entry, in use or in quarantine; NULL when this port never spoke to that address."""
    cdef uint32_t slot = home(table, port, address)
    cdef int _probe
    cdef fp_port *entry
    for _probe in range(PROBES):
        entry = &table.slots[slot]
        if entry.state == FP_PORT_empty:
            return NULL
        if (entry.state != FP_PORT_tombstone and entry.port == port
                and endpoint_equal(&table.backends[entry.backend].address, address)):
            return entry
        slot = (slot + 1) & table.mask
    return NULL


cdef bint ports_restore(port_table *table, uint16_t port, uint32_t backend, uint8_t state,
                        uint32_t holder) noexcept nogil:
    """Enter a pair that has no entry. False when no slot is free near its home."""
    cdef uint32_t slot = home(table, port, &table.backends[backend].address)
    cdef int _probe
    cdef fp_port *entry
    for _probe in range(PROBES):
        entry = &table.slots[slot]
        if entry.state <= FP_PORT_tombstone:
            entry.port = port
            entry.backend = backend
            entry.holder = holder
            entry.since_ms = 0
            crash_point(FP_AT_port_filled)
            entry.state = state
            table.header.ports_count += 1
            table.in_use[backend] += 1
            table.pairs[port] += 1
            return True
        slot = (slot + 1) & table.mask
    return False


cdef uint16_t ports_acquire(port_table *table, uint32_t backend, uint8_t state,
                            uint32_t holder) noexcept nogil:
    """A port that is free for this backend's address, entered for its holder; FP_NO_PORT when exhausted.

    The count of pairs in use answers exhaustion without a search; a search that starts is sure to end.
    """
    cdef int family = 1 if table.backends[backend].address.family == 6 else 0
    cdef uint32_t first = table.header.port_first[family]
    cdef uint32_t count = table.header.port_count[family]
    cdef uint32_t _step
    cdef uint16_t port
    if not table.exists or table.in_use[backend] >= count or 2 * table.header.ports_count >= table.mask:
        return FP_NO_PORT
    for _step in range(count):
        port = <uint16_t>(first + table.header.port_next % count)
        table.header.port_next += 1
        if ports_lookup(table, port, &table.backends[backend].address) == NULL:
            return port if ports_restore(table, port, backend, state, holder) else <uint16_t>FP_NO_PORT
    return FP_NO_PORT


cdef void ports_hand_over(const port_table *table, uint16_t port, uint32_t backend, uint8_t state,
                          uint32_t holder) noexcept nogil:
    """A provisional flow was confirmed: its pair now belongs to the flow."""
    cdef fp_port *entry
    if not ports_owns(table, port):
        return
    entry = ports_lookup(table, port, &table.backends[backend].address)
    if entry != NULL:
        entry.holder = holder
        entry.state = state


cdef void ports_release(const port_table *table, uint16_t port, uint32_t backend,
                        uint32_t now_ms) noexcept nogil:
    """The flow ended: the pair rests. A copied flow's port belongs to the shard it was copied from."""
    cdef fp_port *entry
    if not ports_owns(table, port):
        return
    entry = ports_lookup(table, port, &table.backends[backend].address)
    if entry != NULL:
        entry.since_ms = now_ms
        entry.holder = FP_NONE
        entry.state = FP_PORT_quarantine


cdef bint ports_owns(const port_table *table, uint16_t port) noexcept nogil:
    cdef int family
    for family in range(2):
        if (table.exists
                and 0 <= <int>port - table.header.port_first[family] < table.header.port_count[family]):
            return True
    return False


cdef void ports_expire(port_table *table, uint32_t now_ms, uint32_t budget) noexcept nogil:
    """Walk on from the cursor, at most `budget` slots, and free what has rested long enough."""
    cdef uint32_t slot
    cdef fp_port *entry
    if not table.exists:
        return
    for slot in range(budget):
        slot = table.header.ports_cursor
        table.header.ports_cursor = (slot + 1) & table.mask
        entry = &table.slots[slot]
        if entry.state == FP_PORT_quarantine and <int>(now_ms - entry.since_ms) >= QUARANTINE_MS:
            table.in_use[entry.backend] -= 1
            table.pairs[entry.port] -= 1
            table.header.ports_count -= 1
            entry.state = FP_PORT_tombstone
            while (table.slots[(slot + 1) & table.mask].state == FP_PORT_empty
                   and table.slots[slot].state == FP_PORT_tombstone):
                table.slots[slot].state = FP_PORT_empty
                slot = (slot - 1) & table.mask


cdef void ports_attach(port_table *table, uint32_t now_ms) noexcept nogil:
    """After a writer died: count anew and let every pair rest; whoever holds flows enters them again."""
    cdef uint32_t slot
    cdef fp_port *entry
    if not table.exists:
        return
    memset(table.in_use, 0, sizeof(uint16_t) * table.header.backends_capacity)
    memset(table.pairs, 0, sizeof(uint16_t) * FP_POOL)
    table.header.ports_count = 0
    for slot in range(table.mask + 1):
        entry = &table.slots[slot]
        if entry.state > FP_PORT_tombstone:
            table.in_use[entry.backend] += 1
            table.pairs[entry.port] += 1
            table.header.ports_count += 1
            if entry.state != FP_PORT_quarantine:
                entry.state = FP_PORT_quarantine
                entry.since_ms = now_ms
