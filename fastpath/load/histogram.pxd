# F1: a log-linear histogram of nanoseconds (as HDR histograms are): 32 buckets per power of two, so a
# quantile is right within 3.2 %, from 0 ns to 68 s in 1,024 counters.
from libc.stdint cimport uint32_t, uint64_t

cdef extern from *:
    int __builtin_clzll(unsigned long long value) nogil

cdef enum:
    HISTOGRAM_STEPS = 32
    HISTOGRAM_BUCKETS = 32 * 32


cdef inline uint32_t histogram_bucket(uint64_t value_ns) noexcept nogil:
    cdef int shift
    if value_ns < HISTOGRAM_STEPS:
        return <uint32_t>value_ns
    shift = 63 - __builtin_clzll(value_ns) - 5
    if shift > 30:
        return HISTOGRAM_BUCKETS - 1
    return <uint32_t>(shift * HISTOGRAM_STEPS) + <uint32_t>(value_ns >> shift)


cdef inline uint64_t histogram_floor(uint32_t bucket) noexcept nogil:
    """The least value that falls in `bucket`."""
    cdef uint32_t shift
    if bucket < 2 * HISTOGRAM_STEPS:
        return bucket
    shift = bucket // HISTOGRAM_STEPS - 1
    return <uint64_t>(bucket - shift * HISTOGRAM_STEPS) << shift


cdef inline void histogram_note(uint64_t *counts, uint64_t value_ns) noexcept nogil:
    counts[histogram_bucket(value_ns)] += 1


cdef inline uint64_t histogram_quantile(const uint64_t *counts, double quantile) noexcept nogil:
    """The value below which `quantile` (0..1) of what was noted lies, in ns; 0 when nothing was noted."""
    cdef uint64_t total = 0, below = 0
    cdef double wanted
    cdef int bucket
    for bucket in range(HISTOGRAM_BUCKETS):
        total += counts[bucket]
    wanted = quantile * <double>total
    for bucket in range(HISTOGRAM_BUCKETS):
        below += counts[bucket]
        if below > 0 and <double>below >= wanted:
            return histogram_floor(<uint32_t>bucket)
    return 0
