"""The leaves of the load tools as Python functions, for tests only."""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.load.arrivals cimport Arrivals, arrivals_note, arrivals_publish
from fastpath.load.binding cimport BINDING_RESPONSE_BYTES
from fastpath.load.binding cimport binding_is as c_binding_is, binding_success as c_success
from fastpath.load.histogram cimport HISTOGRAM_BUCKETS
from fastpath.load.histogram cimport histogram_bucket as c_bucket, histogram_floor as c_floor
from fastpath.load.histogram cimport histogram_note, histogram_quantile
from fastpath.load.pace cimport (
    pace, pace_allowance, pace_begin, pace_flying, pace_intended_ns, pace_note, pace_over, pace_rest_ns,
)
from fastpath.load.probe cimport PROBE_BYTES, probe, probe_build, probe_note, probe_parse, probe_tally
from fastpath.load.sha1 cimport SHA1_BYTES, hmac_key, hmac_sha1 as c_hmac_sha1, hmac_sha1_prepare

BUCKETS = HISTOGRAM_BUCKETS
LEAST_PROBE_BYTES = PROBE_BYTES
RESPONSE_BYTES_MAX = BINDING_RESPONSE_BYTES


def histogram_bucket(uint64_t value_ns):
    return c_bucket(value_ns)


def histogram_floor(uint32_t bucket):
    return c_floor(bucket)


def quantile(list values_ns, double wanted):
    """The quantile of a histogram that noted these values."""
    cdef uint64_t counts[HISTOGRAM_BUCKETS]
    cdef int i
    for i in range(HISTOGRAM_BUCKETS):
        counts[i] = 0
    for value_ns in values_ns:
        histogram_note(counts, value_ns)
    return histogram_quantile(counts, wanted)


def build_probe(uint32_t flow, uint32_t run, uint64_t sequence, uint64_t intended_ns,
                size_t length=PROBE_BYTES):
    cdef probe fields
    fields.flow, fields.run, fields.sequence, fields.intended_ns = flow, run, sequence, intended_ns
    cdef bytearray out = bytearray(length)
    if length < PROBE_BYTES:
        raise ValueError(f"a probe has at least {PROBE_BYTES} bytes")
    probe_build(<uint8_t *><char *>out, length, &fields)
    return bytes(out)


def parse_probe(bytes data):
    """(flow, run, sequence, intended_ns), or None."""
    cdef probe fields
    if not probe_parse(<const uint8_t *><const char *>data, <size_t>len(data), &fields):
        return None
    return fields.flow, fields.run, fields.sequence, fields.intended_ns


cdef class Tally:
    """One flow's tally, sequence by sequence."""

    cdef probe_tally tally

    def note(self, uint64_t sequence):
        return probe_note(&self.tally, sequence)

    def counts(self):
        """(next, received, reordered, duplicates)"""
        return self.tally.next, self.tally.received, self.tally.reordered, self.tally.duplicates


def arrive(Arrivals into, bytes data, uint64_t now_ns):
    """One datagram arrives and is published; False for a stranger."""
    cdef probe fields
    cdef const uint8_t *start = <const uint8_t *><const char *>data
    cdef bint known = arrivals_note(into.state, start, <size_t>len(data), now_ns, &fields)
    arrivals_publish(into.state)
    return known


def binding_is(bytes data, uint8_t kind_high):
    return c_binding_is(<const uint8_t *><const char *>data, <size_t>len(data), kind_high)


def binding_success(bytes request, bytes address, uint16_t port):
    cdef uint8_t out[BINDING_RESPONSE_BYTES]
    cdef size_t length
    if len(request) < 20 or len(address) not in (4, 16):
        raise ValueError("a request has a header, an address 4 or 16 bytes")
    length = c_success(out, <const uint8_t *><const char *>request, <const uint8_t *><const char *>address,
                       port, 4 if len(address) == 4 else 6)
    return (<const char *>out)[:<Py_ssize_t>length]


def hmac_sha1(bytes secret, bytes message):
    cdef hmac_key key
    cdef uint8_t out[SHA1_BYTES]
    hmac_sha1_prepare(&key, <const uint8_t *><const char *>secret, <size_t>len(secret))
    c_hmac_sha1(&key, <const uint8_t *><const char *>message, <size_t>len(message), out)
    return out[:SHA1_BYTES]


cdef class Pace:
    """A run's pace from time 1,000,000 ns on; `settled` is what others count."""

    cdef pace state
    cdef public uint64_t settled

    def __init__(self, *, uint64_t rate_pps=0, uint64_t window=512, uint64_t limit=1 << 62,
                 uint64_t duration_ns=1 << 60, uint64_t settled=0, bint counted=True):
        self.settled = settled
        pace_begin(&self.state, rate_pps, window, limit, &self.settled if counted else NULL, 1_000_000,
                   duration_ns)

    def allowance(self, uint64_t now_ns):
        return pace_allowance(&self.state, now_ns)

    def intended_ns(self, uint64_t ahead, uint64_t now_ns):
        return pace_intended_ns(&self.state, ahead, now_ns)

    def note(self, uint64_t count, uint64_t now_ns):
        pace_note(&self.state, count, now_ns)

    def over(self, uint64_t now_ns):
        return pace_over(&self.state, now_ns)

    def flying(self):
        return pace_flying(&self.state)

    def rest_ns(self, uint64_t now_ns):
        return pace_rest_ns(&self.state, now_ns)

    @property
    def late(self):
        return self.state.late, self.state.late_max_ns

    @property
    def written_off(self):
        return self.state.written_off
