# F2: what a worker counts. Private in the loop, published once a batch under a seqlock.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.layout cimport fp_counters, fp_shard_header

cdef void counters_publish(fp_shard_header *header, fp_counters *shared,
                           const fp_counters *mine) noexcept nogil
cdef bint counters_read(const fp_shard_header *header, const fp_counters *shared,
                        fp_counters *out) noexcept nogil
cdef void count_batch(fp_counters *counters, int direction, uint32_t size) noexcept nogil
cdef void count_residence(fp_counters *counters, int direction, uint64_t residence_ns) noexcept nogil
