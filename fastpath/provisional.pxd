# F2: flows that a backend has not confirmed yet: a bounded ring apart from the flow table.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.layout cimport fp_client, fp_provisional, fp_shard_header

ctypedef struct provisional_ring:
    fp_provisional *entries
    fp_shard_header *header
    uint32_t *by_client             # heads of chains, by client hash
    uint32_t *by_ufrag              # heads of chains, by ufrag hash
    uint32_t mask

cdef uint32_t provisional_lookup(const provisional_ring *ring, const fp_client *client,
                                 uint64_t ufrag_hash) noexcept nogil
cdef uint32_t provisional_first(const provisional_ring *ring, const fp_client *client,
                                uint64_t hash) noexcept nogil
cdef uint32_t provisional_next(const provisional_ring *ring, uint32_t index) noexcept nogil
cdef uint32_t provisional_crowded_out(const provisional_ring *ring, uint64_t ufrag_hash) noexcept nogil
cdef uint32_t provisional_overfull(const provisional_ring *ring, const fp_client *client,
                                   uint64_t hash) noexcept nogil
cdef uint32_t provisional_place(const provisional_ring *ring) noexcept nogil
cdef void provisional_insert(provisional_ring *ring, uint32_t place, const fp_provisional *flow,
                             uint64_t hash) noexcept nogil
cdef void provisional_remove(provisional_ring *ring, uint32_t index, uint64_t hash) noexcept nogil
cdef uint32_t provisional_next_expired(provisional_ring *ring, uint32_t now_ms,
                                       uint32_t *budget) noexcept nogil
cdef void provisional_attach(provisional_ring *ring, const uint8_t *seed) noexcept nogil
