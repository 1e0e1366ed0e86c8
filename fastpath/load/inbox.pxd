# F6: what comes back to the clients of a load run: answers to their Binding Requests, and probes. See
# inbox.pyx.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.load.arrivals cimport Arrivals, arrivals
from fastpath.load.clients cimport Clients, clients
from fastpath.load.histogram cimport HISTOGRAM_BUCKETS
from fastpath.linux cimport iovec, mmsghdr

cdef enum:
    INBOX_BATCH = 64
    INBOX_SOCKETS = 64
    INBOX_SLOT_BYTES = 2112              # the largest datagram and its framing
    INBOX_CONTROL_BYTES = 64             # one IP_PKTINFO

ctypedef struct inbox:
    const clients *clients
    int fds[INBOX_SOCKETS]
    int epoll
    arrivals *echoes
    uint64_t misrouted                   # arrived at another flow's address, or in another's framing
    uint8_t *confirmed                   # 1: the flow's Binding Request was answered
    uint64_t confirmed_flows
    uint64_t *requested_ns               # when a flow's request was to be sent; 0: its set-up is not timed
    uint64_t setup_ns[HISTOGRAM_BUCKETS]         # request to answer, of the timed
    mmsghdr messages[INBOX_BATCH]
    iovec vectors[INBOX_BATCH]
    uint8_t control[INBOX_BATCH][INBOX_CONTROL_BYTES]
    uint8_t data[INBOX_BATCH][INBOX_SLOT_BYTES]

cdef uint64_t inbox_take(inbox *box) noexcept nogil
cdef void inbox_take_after(inbox *box, uint64_t timeout_ns) noexcept nogil


cdef class Inbox:
    cdef inbox *state
    cdef Clients owner
    cdef Arrivals echoes
