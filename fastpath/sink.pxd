# F6: a backend in plain mode as a load run needs it: one UDP socket that answers Binding Requests, counts
# probes and sends them back if asked. See sink.pyx.
from libc.stdint cimport uint8_t, uint64_t

from fastpath.arrivals cimport Arrivals, arrivals
from fastpath.linux cimport iovec, mmsghdr, sockaddr_in6

cdef enum:
    SINK_BATCH = 64
    SINK_DATAGRAM_BYTES = 2048

ctypedef struct sink_counters:
    uint64_t datagrams                   # everything received
    uint64_t bytes
    uint64_t requests                    # Binding Requests answered
    uint64_t echoed
    uint64_t unsent                      # replies the kernel did not take
    uint64_t receive_calls
    uint64_t send_calls

ctypedef struct sink_state:
    int fd
    int epoll
    int stop
    bint echo
    uint64_t nap_ns
    uint64_t end_ns
    sink_counters counters
    arrivals *into
    mmsghdr received[SINK_BATCH]
    mmsghdr replies[SINK_BATCH]
    iovec receive_vectors[SINK_BATCH]
    iovec reply_vectors[SINK_BATCH]
    sockaddr_in6 names[SINK_BATCH]
    uint8_t data[SINK_BATCH][SINK_DATAGRAM_BYTES]
    uint8_t responses[SINK_BATCH][64]


cdef class Sink:
    cdef sink_state *state
    cdef object socket
    cdef readonly Arrivals arrivals
