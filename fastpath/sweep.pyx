"""What nobody uses any more is released: routes after their last flow or their time, targets after both.

Run every few seconds by the control thread, the one writer of routes and backends. Flows are only read:
each live one marks its route and its target, so there is no count that a crash could put wrong.
"""
from libc.stdint cimport uint32_t

from fastpath.backends cimport Backends, backend_table
from fastpath.flows cimport flows_snapshot
from fastpath.layout cimport (
    FP_BACKENDS, FP_FLOW_confirmed, FP_NONE, FP_PROVISIONAL_free, FP_ROUTE_TOMBSTONE, fp_flow, fp_provisional)
from fastpath.routes cimport Routes, route_table, routes_sweep
from fastpath.shard cimport Shard, Shared, shard_state

cdef enum:
    TARGET_IDLE_S = 120             # longer than a flow lives in silence plus its port's quarantine


def sweep(Shared shared not None, list shards, uint32_t now_s):
    """One pass at CLOCK_MONOTONIC second `now_s` (> 0). Gives (routes released, targets released)."""
    cdef Routes routes = shared.routes
    cdef Backends backends = shared.backends
    cdef Shard shard
    cdef uint32_t released
    for shard in shards:
        with nogil:
            mark_used(&shard.state, now_s)
    with nogil:
        released = routes_sweep(&routes.table, now_s, now_s)
        mark_routed(&routes.table, &backends.table, now_s)
    return released, backends.sweep(now_s, TARGET_IDLE_S)


cdef void mark_used(shard_state *shard, uint32_t now_s) noexcept nogil:
    """Confirmed flows keep route and target; provisional ones their target (their ufrag's port may
    answer yet)."""
    cdef fp_flow flow
    cdef const fp_provisional *waiting
    cdef uint32_t slot
    for slot in range(shard.header.flows_capacity):
        if shard.flows.slots[slot].state >= FP_FLOW_confirmed and flows_snapshot(&shard.flows, slot, &flow):
            touch(&shard.backends, flow.backend, now_s)
            if flow.route != FP_NONE and shard.routes.slots[flow.route].hash[0] == flow.ufrag_hash:
                shard.routes.slots[flow.route].used_s = now_s
    for slot in range(shard.header.provisional_capacity):
        waiting = &shard.provisional.entries[slot]
        if waiting.state != FP_PROVISIONAL_free:
            touch(&shard.backends, waiting.backend, now_s)


cdef void mark_routed(const route_table *routes, const backend_table *backends,
                      uint32_t now_s) noexcept nogil:
    cdef uint32_t slot
    for slot in range(routes.mask + 1):
        if routes.slots[slot].backend > FP_ROUTE_TOMBSTONE:
            touch(backends, routes.slots[slot].backend - 2, now_s)


cdef inline void touch(const backend_table *backends, uint32_t index, uint32_t now_s) noexcept nogil:
    if FP_BACKENDS <= index < backends.capacity:
        backends.entries[index].touched_s = now_s
