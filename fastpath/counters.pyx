"""Counters of a shard, and the two lists of names that give them their labels.

A worker counts in private memory and publishes the whole block once a batch, under a seqlock, so
that a reader always sees numbers of one moment: received = forwarded + dropped + punted holds in
every snapshot.
"""
from libc.string cimport memcpy

from fastpath.atomic cimport (
    fence_acquire, fence_release, load_acquire_u32, load_relaxed_u32, store_relaxed_u32, store_release_u32)
from fastpath.crash cimport FP_AT_publishing, crash_point
from fastpath.layout cimport FP_BATCH_BUCKETS, FP_RESIDENCE_BUCKETS, fp_counters, fp_shard_header

cdef extern from *:
    """
    #define FP_X(name, help) { #name, help },
    static const struct { const char *name; const char *help; } fp_drop_list[] = { FP_DROP_REASONS(FP_X) };
    static const struct { const char *name; const char *help; } fp_decision_list[] = { FP_DECISIONS(FP_X) };
    #undef FP_X
    """
    struct fp_named:
        const char *name
        const char *help
    const fp_named fp_drop_list[]
    const fp_named fp_decision_list[]
    const int FP_DROP_COUNT
    const int FP_DECISION_COUNT

DROP_REASONS = tuple((fp_drop_list[i].name.decode(), fp_drop_list[i].help.decode())
                     for i in range(FP_DROP_COUNT))
"""(name, help) of every drop reason, in enum order; the name is the metric label."""

DECISIONS = tuple((fp_decision_list[i].name.decode(), fp_decision_list[i].help.decode())
                  for i in range(FP_DECISION_COUNT))
"""(name, help) of every way a new flow's route can be decided, in enum order."""


cdef void counters_publish(fp_shard_header *header, fp_counters *shared,
                           const fp_counters *mine) noexcept nogil:
    cdef uint32_t sequence = header.counters_sequence
    store_relaxed_u32(&header.counters_sequence, sequence | 1)
    fence_release()
    crash_point(FP_AT_publishing)
    memcpy(shared, mine, sizeof(fp_counters))
    store_release_u32(&header.counters_sequence, (sequence | 1) + 1)


cdef bint counters_read(const fp_shard_header *header, const fp_counters *shared,
                        fp_counters *out) noexcept nogil:
    """Copy a consistent snapshot. False, and perhaps a torn one, after 1,000 tries: its writer was
    interrupted, or died, in the middle of publishing."""
    cdef uint32_t before
    cdef int _attempt
    for _attempt in range(1000):
        before = load_acquire_u32(&header.counters_sequence)
        memcpy(out, shared, sizeof(fp_counters))
        fence_acquire()
        if before & 1 == 0 and load_relaxed_u32(&header.counters_sequence) == before:
            return True
    return False


cdef void count_batch(fp_counters *counters, int direction, uint32_t size) noexcept nogil:
    """Bucket i holds batches of at most 2^i datagrams; the last one everything longer than 64."""
    cdef int bucket = 0
    while bucket < FP_BATCH_BUCKETS - 1 and size > (<uint32_t>1 << bucket):
        bucket += 1
    counters.batches[direction][bucket] += 1


cdef void count_residence(fp_counters *counters, int direction, uint64_t residence_ns) noexcept nogil:
    """Four buckets per power of two: bucket 4e+m holds [2^e (1 + m/4), 2^e (1 + (m+1)/4)) ns."""
    cdef uint64_t value = residence_ns if residence_ns >= 4 else 4
    cdef uint32_t exponent = 63 - <uint32_t>__builtin_clzll(value)
    cdef uint32_t bucket = 4 * exponent + <uint32_t>((value >> (exponent - 2)) & 3)
    if bucket >= FP_RESIDENCE_BUCKETS:
        bucket = FP_RESIDENCE_BUCKETS - 1
    counters.residence[direction][bucket] += 1
    counters.residence_sum_ns[direction] += residence_ns


cdef extern from *:
    int __builtin_clzll(unsigned long long value) nogil
