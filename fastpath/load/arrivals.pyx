"""The Python face of a load run's arrivals: per flow, in sum, and how late."""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from fastpath.load.histogram cimport HISTOGRAM_BUCKETS, histogram_floor, histogram_quantile


cdef list histogram_list(const uint64_t *counts):
    """[(least value, count)] of the buckets that are not empty, rising."""
    cdef uint32_t bucket
    return [(histogram_floor(bucket), counts[bucket]) for bucket in range(<uint32_t>HISTOGRAM_BUCKETS)
            if counts[bucket]]


cdef class Arrivals:
    """What arrived of `flows` flows of run number `run`.

    acknowledged: a writable buffer of one uint64 (an mmap, a bytearray(8)) that always shows `received`,
    for a windowed generator in another thread or process.
    """

    def __cinit__(self, uint32_t flows, uint32_t run=1, acknowledged=None):
        cdef unsigned long long[:] words
        self.state = <arrivals *>calloc(1, sizeof(arrivals))
        if self.state == NULL:
            raise MemoryError("no memory for arrivals")
        self.state.tallies = <probe_tally *>calloc(<size_t>flows + 1, sizeof(probe_tally))
        if self.state.tallies == NULL:
            raise MemoryError(f"no memory for the tallies of {flows} flows")
        self.state.flows, self.state.run = flows, run
        if acknowledged is not None:
            words = memoryview(acknowledged).cast("B").cast("Q")
            self.acknowledged_owner = words
            self.state.acknowledged = <uint64_t *>&words[0]

    def counters(self) -> dict:
        """Live sums: received (without duplicates), duplicates, strangers."""
        return {
            "received": self.state.received,
            "duplicates": self.state.duplicates,
            "strangers": self.state.strangers,
        }

    def flow(self, uint32_t index) -> dict:
        """One flow: next (highest sequence + 1), received, reordered, duplicates."""
        if index >= self.state.flows:
            raise IndexError(f"flow {index} of {self.state.flows}")
        tally = dict(self.state.tallies[index])
        del tally["seen"]
        return tally

    def reordered(self) -> int:
        """How many of all flows' datagrams arrived after a higher sequence of their flow."""
        cdef uint64_t total = 0
        cdef uint32_t i
        for i in range(self.state.flows):
            total += self.state.tallies[i].reordered
        return total

    def latency_ns(self, double quantile) -> int:
        """The quantile (0..1) of arrival minus intended send time, right within 3.2 %."""
        return histogram_quantile(self.state.latency, quantile)

    def histogram(self) -> list:
        """[(value_ns, count)] of the non-empty buckets, rising: `count` latencies lie from value_ns to 3.2 %
        above it, where `latency_ns` finds its quantiles too."""
        return histogram_list(self.state.latency)

    def forget_latency(self) -> None:
        """Starts the histogram anew: what a warm-up noted does not count."""
        cdef int i
        for i in range(HISTOGRAM_BUCKETS):
            self.state.latency[i] = 0

    def __dealloc__(self):
        if self.state != NULL:
            free(self.state.tallies)
            free(self.state)
