# F2: token buckets for new flows, one a client network. Private to the engine: a restart forgets them.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.layout cimport fp_client

cdef enum:
    ADMISSION_SETS = 16384          # of ADMISSION_WAYS: 65,536 networks in 1 MiB a shard
    ADMISSION_WAYS = 4              # one cache line

ctypedef struct bucket:
    uint64_t network                # 0: free
    uint32_t tokens                 # thousandths of a flow, as of
    uint32_t filled_ms

ctypedef struct admission_table:
    bucket *buckets                 # [ADMISSION_WAYS * (mask + 1)]
    uint32_t mask                   # sets, less one

ctypedef struct admission_limit:
    uint32_t flows_per_s            # new flows a network earns in a second; 0: no limit
    uint32_t burst                  # and may save up

cdef uint64_t network_of(const fp_client *client) noexcept nogil
cdef bint admission_take(const admission_table *table, const uint8_t *seed, const admission_limit *limit,
                         const fp_client *client, uint32_t now_ms) noexcept nogil
