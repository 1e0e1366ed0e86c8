# F2: what arrived at one end of a load run: the tally of each flow and the latency histogram. The
# generator keeps one for its echoes, a sink one for what reached it. One writer, its own thread.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.load.histogram cimport HISTOGRAM_BUCKETS, histogram_note
from fastpath.load.probe cimport probe, probe_note, probe_parse, probe_tally

ctypedef struct arrivals:
    probe_tally *tallies
    uint64_t *acknowledged               # where others read `received`, NULL: nobody does
    uint32_t flows
    uint32_t run
    uint64_t received                    # probes of this run, without duplicates
    uint64_t duplicates
    uint64_t strangers                   # neither a probe of this run nor of a flow below `flows`
    uint64_t latency[HISTOGRAM_BUCKETS]  # arrival - intended send time


cdef inline bint arrivals_note(arrivals *into, const uint8_t *data, size_t length, uint64_t now_ns,
                               probe *out) noexcept nogil:
    """Counts one datagram; False for a stranger. `out` is the parsed probe. The caller publishes."""
    if not probe_parse(data, length, out) or out.run != into.run or out.flow >= into.flows:
        into.strangers += 1
        return False
    if probe_note(&into.tallies[out.flow], out.sequence):
        into.received += 1
        histogram_note(into.latency, now_ns - out.intended_ns)
    else:
        into.duplicates += 1
    return True


cdef inline void arrivals_publish(arrivals *into) noexcept nogil:
    """Once a batch: lets a windowed generator see what it may send next."""
    if into.acknowledged != NULL:
        into.acknowledged[0] = into.received


cdef list histogram_list(const uint64_t *counts)


cdef class Arrivals:
    cdef arrivals *state
    cdef object acknowledged_owner
