# F6: batches in and out of sockets, and waiting: the only place that names a kernel I/O call.
#
# Rules of a receive batch (they are what makes a killed engine lose nothing):
#   1. every length is zero before recvmmsg fills it, and zero again once its datagram is settled;
#   2. a datagram whose length exceeds its `done` is still owed: the next engine finishes it;
#   3. nothing is received into a slot before its `source` is noted.
from libc.stdint cimport int16_t, int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.layout cimport (
    FP_BATCH, fp_client, fp_datagram_area, fp_endpoint, fp_receive_note, fp_trunk_area)
from fastpath.linux cimport epoll_event, iovec, mmsghdr, sockaddr_in6

ctypedef struct receive_batch:
    mmsghdr *messages
    iovec *vectors
    uint8_t *names                  # 32 bytes each
    uint8_t *control                # FP_CONTROL_BYTES each
    fp_receive_note *notes
    uint8_t *data
    uint32_t stride                 # bytes of one buffer
    uint32_t capacity
    uint32_t count                  # received and not yet settled
    int error                       # errno of the last receive; 0: it brought something, or nothing waited

ctypedef struct arrival:            # what came with one received message
    uint8_t ecn
    bint truncated
    bint has_local                  # the local address is known (sockets bound to a wildcard)
    fp_endpoint local
    uint32_t segment_bytes          # UDP_GRO: the kernel joined datagrams of this size; 0: one datagram
    uint64_t stamp_ns               # when the kernel received it, CLOCK_REALTIME; 0: unknown

ctypedef struct send_batch:
    mmsghdr messages[FP_BATCH]
    iovec vectors[FP_BATCH]
    sockaddr_in6 names[FP_BATCH]
    uint8_t control[FP_BATCH][64]
    int16_t outcome[FP_BATCH]       # after sending: 0, or the errno
    uint32_t count

cdef void batch_attach_datagrams(receive_batch *batch, fp_datagram_area *area) noexcept nogil
cdef void batch_attach_trunk(receive_batch *batch, fp_trunk_area *area) noexcept nogil
cdef uint32_t batch_receive(receive_batch *batch, int fd, uint16_t source) noexcept nogil
cdef void batch_arrival(const receive_batch *batch, uint32_t index, arrival *out) noexcept nogil
cdef void batch_ask_stamps(int fd, bint wanted) noexcept nogil
cdef void batch_queue(int fd, uint32_t *waiting_bytes, uint32_t *dropped) noexcept nogil
cdef void batch_settle(receive_batch *batch) noexcept nogil
cdef uint32_t batch_owed(receive_batch *batch) noexcept nogil

cdef mmsghdr *compose(send_batch *batch, const void *payload, size_t length) noexcept nogil
cdef void compose_endpoint(send_batch *batch, const fp_endpoint *address) noexcept nogil
cdef void compose_client(send_batch *batch, const fp_client *client) noexcept nogil
cdef void compose_source(send_batch *batch, const fp_endpoint *local) noexcept nogil
cdef void compose_traffic_class(send_batch *batch, uint8_t family, uint8_t tos) noexcept nogil
cdef void compose_segments(send_batch *batch, uint16_t segment_bytes) noexcept nogil
cdef void batch_send(send_batch *batch, int fd) noexcept nogil
cdef int send_alone(int fd, const void *payload, size_t length, const fp_endpoint *address) noexcept nogil
cdef bint connect_to(int fd, const fp_endpoint *address) noexcept nogil

cdef int wait_ready(int epoll, epoll_event *events, int capacity, int64_t timeout_ns) noexcept nogil
