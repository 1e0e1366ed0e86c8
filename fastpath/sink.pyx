"""The sink: stands where a backend in plain mode would. Every Binding Request gets a success response, so
relays confirm their flows; probes are counted by flow and, in echo mode, sent back to where they came from.
"""

import socket as sockets_of

from libc.stdint cimport uint8_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free

from fastpath.arrivals cimport Arrivals, arrivals_note, arrivals_publish
from fastpath.binding cimport binding_is, binding_success
from fastpath.linux cimport (
    AF_INET, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, MSG_DONTWAIT, close, epoll_create1, epoll_ctl,
    epoll_event, epoll_pwait2, monotonic_ns, nanosleep, recvmmsg, sendmmsg, sockaddr_in, timespec,
)
from fastpath.probe cimport probe

SO_RCVBUFFORCE = 33
BUFFER_BYTES = 16 << 20

cdef enum:
    IDLE_NS = 50_000_000                 # the longest wait before stop and end are looked at again


cdef void prepare(sink_state *s) noexcept nogil:
    cdef int i
    for i in range(SINK_BATCH):
        s.received[i].msg_hdr.msg_iov = &s.receive_vectors[i]
        s.received[i].msg_hdr.msg_iovlen = 1
        s.received[i].msg_hdr.msg_name = &s.names[i]
        s.receive_vectors[i].iov_base = s.data[i]
        s.receive_vectors[i].iov_len = SINK_DATAGRAM_BYTES
        s.replies[i].msg_hdr.msg_iov = &s.reply_vectors[i]
        s.replies[i].msg_hdr.msg_iovlen = 1


cdef size_t respond(sink_state *s, int i) noexcept nogil:
    """Builds the success response to the Binding Request in slot i."""
    cdef const sockaddr_in *ipv4 = <const sockaddr_in *>&s.names[i]
    s.counters.requests += 1
    if s.names[i].sin6_family == AF_INET:
        return binding_success(s.responses[i], s.data[i], <const uint8_t *>&ipv4.sin_addr,
                               swapped(ipv4.sin_port), 4)
    return binding_success(s.responses[i], s.data[i], <const uint8_t *>&s.names[i].sin6_addr,
                           swapped(s.names[i].sin6_port), 6)


cdef inline uint16_t swapped(uint16_t network) noexcept nogil:
    cdef uint8_t *octets = <uint8_t *>&network
    return <uint16_t>(octets[0] << 8 | octets[1])


cdef void reply(sink_state *s, int slot, int i, void *data, size_t length) noexcept nogil:
    """Puts a datagram back to the sender of slot i into the reply batch."""
    s.reply_vectors[slot].iov_base = data
    s.reply_vectors[slot].iov_len = length
    s.replies[slot].msg_hdr.msg_name = &s.names[i]
    s.replies[slot].msg_hdr.msg_namelen = s.received[i].msg_hdr.msg_namelen


cdef int sort_batch(sink_state *s, int count) noexcept nogil:
    """Counts or answers each datagram of the batch; how many replies wait."""
    cdef uint64_t now_ns = monotonic_ns()
    cdef int i, replies = 0
    cdef size_t length
    cdef probe fields
    for i in range(count):
        length = s.received[i].msg_len
        s.counters.bytes += length
        if binding_is(s.data[i], length, 0):
            reply(s, replies, i, s.responses[i], respond(s, i))
            replies += 1
        elif arrivals_note(s.into, s.data[i], length, now_ns, &fields) and s.echo:
            reply(s, replies, i, s.data[i], length)
            replies += 1
            s.counters.echoed += 1
    s.counters.datagrams += <uint64_t>count
    arrivals_publish(s.into)
    return replies


cdef void send_replies(sink_state *s, int count) noexcept nogil:
    """Sends the reply batch. On loopback a refusal is rare (a full buffer, a closed relay): it is counted
    and the rest goes on, for a sink must not wait for anybody."""
    cdef int sent = 0, taken
    while sent < count:
        s.counters.send_calls += 1
        taken = sendmmsg(s.fd, &s.replies[sent], <unsigned int>(count - sent), MSG_DONTWAIT)
        if taken <= 0:
            s.counters.unsent += 1
            taken = 1
        sent += taken


cdef int receive(sink_state *s) noexcept nogil:
    cdef int i
    for i in range(SINK_BATCH):
        s.received[i].msg_hdr.msg_namelen = sizeof(s.names[i])
    s.counters.receive_calls += 1
    return recvmmsg(s.fd, s.received, SINK_BATCH, MSG_DONTWAIT, NULL)


cdef void run_sink(sink_state *s) noexcept nogil:
    """Full batch: at once again. Not full: a nap lets the next one fill. Empty: wait for a datagram."""
    cdef int count
    cdef timespec nap, idle
    cdef epoll_event event
    nap.tv_sec = idle.tv_sec = 0
    nap.tv_nsec = <long>s.nap_ns
    idle.tv_nsec = IDLE_NS
    while not s.stop and monotonic_ns() < s.end_ns:
        count = receive(s)
        if count > 0:
            send_replies(s, sort_batch(s, count))
            if count < SINK_BATCH and s.nap_ns:
                nanosleep(&nap, NULL)
        else:
            epoll_pwait2(s.epoll, &event, 1, &idle, NULL)


cdef class Sink:
    """One backend address in plain mode.

    address   (host, port) to bind, IPv4 or IPv6; port 0: `port` tells which
    flows     as many as the generator has; probes of others are strangers
    run       the generator's run number
    acknowledged   see Arrivals
    """

    def __cinit__(self, address, *, flows=0, run=1, acknowledged=None):
        cdef epoll_event event
        self.state = <sink_state *>calloc(1, sizeof(sink_state))
        if self.state == NULL:
            raise MemoryError("no memory for a sink")
        self.state.epoll = -1
        self.arrivals = Arrivals(flows, run, acknowledged)
        self.state.into = self.arrivals.state
        family = sockets_of.AF_INET6 if ":" in address[0] else sockets_of.AF_INET
        self.socket = sockets_of.socket(family, sockets_of.SOCK_DGRAM)
        try:
            self.socket.setsockopt(sockets_of.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
        except PermissionError:
            self.socket.setsockopt(sockets_of.SOL_SOCKET, sockets_of.SO_RCVBUF, BUFFER_BYTES)
        self.socket.bind(address)
        self.state.fd = self.socket.fileno()
        self.state.epoll = epoll_create1(EPOLL_CLOEXEC)
        event.events = EPOLLIN
        event.data.fd = self.state.fd
        epoll_ctl(self.state.epoll, EPOLL_CTL_ADD, self.state.fd, &event)
        prepare(self.state)

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    def run(self, *, bint echo=False, int duration_ms=20_000, uint64_t nap_us=0) -> None:
        """Serves until `stop` or the end of the duration. nap_us: pause after a batch that was not full."""
        cdef sink_state *s = self.state
        s.echo, s.nap_ns = echo, nap_us * 1000
        s.end_ns = monotonic_ns() + <uint64_t>duration_ms * 1_000_000
        with nogil:
            run_sink(s)
        s.stop = 0

    def stop(self) -> None:
        """Ends a run of another thread within 50 ms; a run that has not begun ends at once."""
        self.state.stop = 1

    def counters(self) -> dict:
        """Live totals of datagrams, requests and replies; the probes are in `arrivals`."""
        return self.state.counters

    def close(self) -> None:
        self.socket.close()
        if self.state.epoll >= 0:
            close(self.state.epoll)
            self.state.epoll = -1

    def __dealloc__(self):
        if self.state != NULL:
            if self.state.epoll >= 0:
                close(self.state.epoll)
            free(self.state)
