# F2: session routes, ufrag -> backend. One writer (the control thread), read by every worker.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.layout cimport fp_route, fp_shared_header
from fastpath.siphash cimport siphash128

cdef extern from *:
    void __builtin_prefetch(const void *address) nogil

ctypedef struct route_table:
    fp_route *slots
    fp_shared_header *header
    uint32_t mask


cdef inline void ufrag_hash(const uint8_t *seed, const uint8_t *ufrag, size_t length,
                            uint64_t *out) noexcept nogil:
    siphash128(seed, ufrag, length, out)


cdef inline void routes_prefetch(const route_table *table, uint64_t hash) noexcept nogil:
    __builtin_prefetch(&table.slots[<uint32_t>hash & table.mask])


cdef uint32_t routes_lookup(const route_table *table, const uint64_t *hash, uint32_t now_s,
                            uint32_t *backend) noexcept nogil
cdef int routes_restore(route_table *table, const fp_route *route, uint32_t *slot) noexcept nogil
cdef uint32_t routes_sweep(route_table *table, uint32_t now_s, uint32_t pass_began_s) noexcept nogil

cdef enum:
    ROUTE_INSTALLED = 0
    ROUTE_REFRESHED = 1
    ROUTE_CONFLICT = 2
    ROUTE_FULL = 3


cdef class Routes:
    cdef route_table table
    cdef object _memory             # keeps the mapping alive
    cdef void hash_ufrag(self, bytes ufrag, uint64_t *out)
