# F2: the flow table of one shard. Single writer (the shard's worker); other shards and the control
# thread read it through the seqlock of each slot.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.layout cimport fp_client, fp_flow, fp_shard_header

cdef extern from *:
    void __builtin_prefetch(const void *address) nogil

ctypedef struct flow_table:
    fp_flow *slots
    fp_shard_header *header
    uint32_t *version_clock         # of the shared region: orders publishing over all shards
    uint32_t mask


cdef inline void flows_prefetch(const flow_table *table, uint64_t hash) noexcept nogil:
    __builtin_prefetch(&table.slots[<uint32_t>hash & table.mask])


cdef uint32_t flows_lookup(const flow_table *table, const fp_client *client, uint64_t hash) noexcept nogil
cdef bint flows_read(const flow_table *table, const fp_client *client, uint64_t hash,
                     fp_flow *out) noexcept nogil
cdef bint flows_snapshot(const flow_table *table, uint32_t slot, fp_flow *out) noexcept nogil
cdef uint32_t flows_insert(flow_table *table, const fp_flow *flow, uint64_t hash,
                           bint keep_version) noexcept nogil
cdef void flows_confirm_taught(flow_table *table, uint32_t slot) noexcept nogil
cdef void flows_remove(flow_table *table, uint32_t slot) noexcept nogil
cdef uint32_t flows_next_expired(flow_table *table, uint32_t now_ms, uint32_t *budget) noexcept nogil
cdef void flows_attach(flow_table *table, const uint8_t *seed) noexcept nogil
