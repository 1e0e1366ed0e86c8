# F2: who sent a STUN transaction id first, for 60 s. Single writer, read by sibling shards.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.layout cimport fp_client, fp_transaction

ctypedef struct transaction_table:
    fp_transaction *entries         # sets of FP_TRANSACTION_WAYS, one cache line each
    uint32_t mask                   # over sets


cdef inline uint32_t flow_tag(uint64_t client_hash, uint64_t ufrag_hash) noexcept nogil:
    """Names a flow by client AND ufrag; both hashes are keyed, so nobody can aim at a collision."""
    return <uint32_t>((client_hash ^ (ufrag_hash * 0x9E3779B97F4A7C15u)) >> 32)


cdef uint64_t transaction_id(const uint8_t *seed, const uint8_t *transaction) noexcept nogil
cdef bint transactions_known(const transaction_table *table, uint64_t id, uint32_t now_ms) noexcept nogil
cdef bint transactions_first_from(const transaction_table *table, uint64_t id, uint32_t flow,
                                  uint32_t now_ms) noexcept nogil
cdef bint transactions_remember(transaction_table *table, uint64_t id, uint32_t flow,
                                uint32_t now_ms) noexcept nogil
