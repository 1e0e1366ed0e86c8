# F6: a backend in plain mode as a load run needs it: one UDP socket that answers Binding Requests, counts
# probes, sends them back or sends its own. See sink.pyx.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.load.arrivals cimport Arrivals, arrivals
from fastpath.linux cimport iovec, mmsghdr, sockaddr_in6
from fastpath.load.pace cimport pace

cdef enum:
    SINK_BATCH = 64
    SINK_DATAGRAM_BYTES = 2048

ctypedef struct sink_counters:
    uint64_t datagrams                   # everything received
    uint64_t bytes
    uint64_t requests                    # Binding Requests answered
    uint64_t echoed
    uint64_t unsent                      # replies the kernel did not take; batches it took only a part of
    uint64_t receive_calls
    uint64_t send_calls
    uint64_t opened                      # flows whose return address is known
    uint64_t sent                        # probes of its own
    uint64_t written_off                 # of these, given up after 100 ms watched without progress
    uint64_t late                        # sent more than 1 ms after the schedule
    uint64_t late_max_ns

ctypedef struct sink_state:
    int fd
    int epoll
    int stop
    bint echo
    uint64_t nap_ns
    uint64_t end_ns
    sink_counters counters
    arrivals *into
    sockaddr_in6 *returns                # where each flow's datagrams come from; family 0: not yet known
    uint64_t *sequences                  # of the sink's own probes
    uint32_t cursor                      # flow of the next
    uint32_t name_bytes                  # of an address of this socket's family
    uint32_t size_bytes
    uint32_t size_spread
    uint64_t late_before                 # of earlier runs
    pace plan                            # of the run that sends
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
    cdef open_socket(self, address)
