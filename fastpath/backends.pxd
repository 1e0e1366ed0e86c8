# F2: backends (configured ids, and address:port targets under them). One writer (the control thread),
# read by every worker. An entry's address never changes while it is in use.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.layout cimport FP_BACKEND_up, fp_backend, fp_endpoint

ctypedef struct backend_table:
    fp_backend *entries
    uint32_t capacity

cdef uint32_t backends_by_token(const backend_table *table, uint16_t cluster, uint16_t xcvr,
                                uint8_t incarnation) noexcept nogil
cdef uint32_t backends_by_address(const backend_table *table, const fp_endpoint *address) noexcept nogil
cdef uint32_t backends_by_hash(const backend_table *table, const uint8_t *ufrag, size_t length) noexcept nogil


cdef inline bint backend_takes_flows(const backend_table *table, uint32_t index) noexcept nogil:
    """Up, and so is the configured backend it belongs to."""
    return (table.entries[index].state == FP_BACKEND_up
            and table.entries[table.entries[index].parent].state == FP_BACKEND_up)


cdef class Backends:
    cdef backend_table table
    cdef object _memory             # keeps the mapping alive
    cdef uint32_t used              # entries at or above FP_BACKENDS ever taken: bounds every scan
    cdef dict targets               # (address16, port, family) -> index of a target in use
    cdef list free                  # released target indices, oldest first
    cdef fp_endpoint endpoint(self, bytes address16, uint16_t port, uint8_t family) except *
