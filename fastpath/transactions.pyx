"""Which flow a STUN transaction id was first seen from, remembered for 60 s.

A success response confirms a flow only if the flow itself had asked first: without that, one
replayed Binding Request of somebody else would confirm an attacker's address. Four-way sets, the
oldest entry makes room; an eviction before its 60 s is counted.
"""
from fastpath.atomic cimport load_acquire_u64, store_release_u64
from fastpath.layout cimport FP_TRANSACTION_WAYS, fp_transaction
from fastpath.siphash cimport siphash13

cdef enum:
    MEMORY_MS = 60000
    AHEAD_MS = 3600000              # more than a worker that was held up can ever be behind its siblings
    TRANSACTION_BYTES = 12          # RFC 8489 section 5


cdef uint64_t transaction_id(const uint8_t *seed, const uint8_t *transaction) noexcept nogil:
    return siphash13(seed, transaction, TRANSACTION_BYTES) | 1      # never 0: that marks a free entry


cdef inline fp_transaction *set_of(const transaction_table *table, uint64_t id) noexcept nogil:
    return &table.entries[<size_t>((id >> 1) & table.mask) * FP_TRANSACTION_WAYS]


cdef inline uint32_t age_ms(const fp_transaction *entry, uint32_t now_ms) noexcept nogil:
    """Counted from an hour ahead, and unsigned: an id of weeks ago is old, a sibling's newest is not."""
    return now_ms - entry.seen_ms + AHEAD_MS


cdef inline bint fresh(const fp_transaction *entry, uint32_t now_ms) noexcept nogil:
    return age_ms(entry, now_ms) < MEMORY_MS + AHEAD_MS


cdef bint transactions_known(const transaction_table *table, uint64_t id, uint32_t now_ms) noexcept nogil:
    """Asked by other shards too: has anybody sent this id here within the memory?"""
    cdef fp_transaction *entries = set_of(table, id)
    cdef int way
    for way in range(FP_TRANSACTION_WAYS):
        if load_acquire_u64(&entries[way].id) == id and fresh(&entries[way], now_ms):
            return True
    return False


cdef bint transactions_first_from(const transaction_table *table, uint64_t id, uint32_t flow,
                                  uint32_t now_ms) noexcept nogil:
    cdef fp_transaction *entries = set_of(table, id)
    cdef int way
    for way in range(FP_TRANSACTION_WAYS):
        if load_acquire_u64(&entries[way].id) == id and fresh(&entries[way], now_ms):
            return entries[way].flow == flow
    return False


cdef bint transactions_remember(transaction_table *table, uint64_t id, uint32_t flow,
                                uint32_t now_ms) noexcept nogil:
    """Note an id nobody had sent before. True when a still fresh entry had to go for it."""
    cdef fp_transaction *entries = set_of(table, id)
    cdef fp_transaction *oldest = &entries[0]
    cdef bint evicted
    cdef int way
    for way in range(FP_TRANSACTION_WAYS):
        if entries[way].id == 0:
            oldest = &entries[way]
            break
        if age_ms(&entries[way], now_ms) > age_ms(oldest, now_ms):
            oldest = &entries[way]
    evicted = oldest.id != 0 and fresh(oldest, now_ms)
    store_release_u64(&oldest.id, 0)
    oldest.flow = flow
    oldest.seen_ms = now_ms
    store_release_u64(&oldest.id, id)
    return evicted
