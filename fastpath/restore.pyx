"""Fresh tables filled with rows of an engine whose tables had another layout.

Called by the control thread of the next engine, before any worker runs. Rows come in this build's structs;
what they mean, and how those of another layout become them, is the caller's business
(pyfastpath/relay/export.py).
What can be derived (chains, port holders, counts) is not restored: attaching makes it anew.
"""
from libc.stdint cimport uint32_t, uint64_t

from fastpath.address cimport client_hash
from fastpath.flows cimport flows_insert
from fastpath.layout cimport FP_NONE, FP_PORT_quarantine, fp_flow, fp_port, fp_route, fp_transaction
from fastpath.ports cimport ports_lookup, ports_restore
from fastpath.routes cimport ROUTE_INSTALLED, Routes, routes_restore
from fastpath.shard cimport Shard, Shared
from fastpath.transactions cimport transactions_remember


def restore_routes(Shared shared not None, const unsigned char[::1] rows not None):
    """Install routes as they were; gives the slot of each, as uint32 in bytes. OverflowError: no room."""
    cdef uint32_t count = <uint32_t>(<size_t>rows.shape[0] // sizeof(fp_route)), i, slot
    cdef const fp_route *route
    cdef bytearray slots = bytearray(count * sizeof(uint32_t))
    cdef uint32_t[::1] out = memoryview(slots).cast("I")
    cdef Routes routes = shared.routes
    for i in range(count):
        route = <const fp_route *>&rows[i * sizeof(fp_route)]
        if routes_restore(&routes.table, route, &slot) != ROUTE_INSTALLED:
            raise OverflowError(f"no room for route {i} of {count}")
        out[i] = slot
    return bytes(slots)


def restore_flows(Shard shard not None, const unsigned char[::1] rows not None):
    """Insert flows with the versions they have. OverflowError: no room."""
    cdef uint32_t count = <uint32_t>(<size_t>rows.shape[0] // sizeof(fp_flow)), i
    cdef const fp_flow *flow
    cdef uint64_t hash
    for i in range(count):
        flow = <const fp_flow *>&rows[i * sizeof(fp_flow)]
        hash = client_hash(shard.state.seed, &flow.client)
        if flows_insert(&shard.state.flows, flow, hash, True) == FP_NONE:
            raise OverflowError(f"no room for flow {i} of {count}")


def restore_transactions(Shard shard not None, const unsigned char[::1] rows not None):
    """Remember who sent which id first, the oldest first: where sets are full, those go."""
    cdef uint32_t count = <uint32_t>(<size_t>rows.shape[0] // sizeof(fp_transaction)), i
    cdef const fp_transaction *entry
    for i in range(count):
        entry = <const fp_transaction *>&rows[i * sizeof(fp_transaction)]
        transactions_remember(&shard.state.transactions, entry.id, entry.flow, entry.seen_ms)


def restore_resting_ports(Shard shard not None, const unsigned char[::1] rows not None):
    """Pairs of plain port and backend address go on resting since when they did."""
    cdef uint32_t count = <uint32_t>(<size_t>rows.shape[0] // sizeof(fp_port)), i
    cdef const fp_port *row
    cdef fp_port *entry
    for i in range(count):
        row = <const fp_port *>&rows[i * sizeof(fp_port)]
        if ports_restore(&shard.state.ports, row.port, row.backend, FP_PORT_quarantine, FP_NONE):
            entry = ports_lookup(&shard.state.ports, row.port,
                                 &shard.state.backends.entries[row.backend].address)
            entry.since_ms = row.since_ms
