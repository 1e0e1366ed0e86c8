"""The sink: stands where a backend in plain mode would. Every Binding Request gets a success response, so
relays confirm their flows; probes are counted by flow and, in echo mode, sent back to where they came from.

A Binding Request of the generator names its flow in the transaction id, so the sink learns where each flow's
datagrams come from and can send probes of its own there.
"""

import socket as sockets_of

from fastpath.load.clients import check_sizes
from fastpath.load.inbox import widen_buffer

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastpath.load.arrivals cimport Arrivals, arrivals_note, arrivals_publish
from fastpath.load.binding cimport BINDING_TRANSACTION, binding_is, binding_success
from fastpath.linux cimport (
    AF_INET, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, MSG_DONTWAIT, close, epoll_create1, epoll_ctl,
    epoll_event, epoll_pwait2, monotonic_ns, nanosleep, recvmmsg, sendmmsg, sockaddr_in, sockaddr_in6,
    timespec,
)
from fastpath.load.pace cimport (
    pace, pace_allowance, pace_begin, pace_flying, pace_intended_ns, pace_note, pace_over, pace_rest_ns,
)
from fastpath.load.probe cimport probe, probe_build, probe_size

cdef enum:
    IDLE_NS = 50_000_000                 # the longest wait before stop and end are looked at again
    LOOK_NS = 1_000_000                  # while it sends: how often it looks for what came


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


cdef inline void learn(sink_state *s, int i) noexcept nogil:
    """The sender of the Binding Request in slot i is where its flow's datagrams come from."""
    cdef uint32_t flow
    memcpy(&flow, s.data[i] + BINDING_TRANSACTION, 4)
    if flow < s.into.flows:
        s.counters.opened += s.returns[flow].sin6_family == 0
        s.returns[flow] = s.names[i]


cdef size_t respond(sink_state *s, int i) noexcept nogil:
    """Builds the success response to the Binding Request in slot i."""
    cdef const sockaddr_in *ipv4 = <const sockaddr_in *>&s.names[i]
    s.counters.requests += 1
    learn(s, i)
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


cdef void take_waiting(sink_state *s) noexcept nogil:
    cdef int count = SINK_BATCH
    while count == SINK_BATCH and not s.stop:
        count = receive(s)
        if count > 0:
            send_replies(s, sort_batch(s, count))


cdef uint32_t next_flow(sink_state *s) noexcept nogil:
    """The next flow in turn whose return address is known; there is one."""
    cdef uint32_t flow = s.cursor
    while s.returns[flow].sin6_family == 0:
        flow = (flow + 1) % s.into.flows
    s.cursor = (flow + 1) % s.into.flows
    return flow


cdef void send_probes(sink_state *s, pace *plan, uint64_t may, uint64_t now_ns) noexcept nogil:
    """Sends up to `may` (at most 64) probes of the sink's own, its flows in turn."""
    cdef uint32_t flows[SINK_BATCH]
    cdef uint32_t i, length, count = SINK_BATCH if may > SINK_BATCH else <uint32_t>may
    cdef int taken
    cdef probe fields
    fields.run = s.into.run
    for i in range(count):
        fields.flow = flows[i] = next_flow(s)
        fields.sequence = s.sequences[fields.flow]
        fields.intended_ns = pace_intended_ns(plan, i, now_ns)
        length = probe_size(s.size_bytes, s.size_spread, fields.flow, fields.sequence)
        probe_build(s.data[i], length, &fields)
        s.sequences[fields.flow] += 1
        s.reply_vectors[i].iov_base = s.data[i]
        s.reply_vectors[i].iov_len = length
        s.replies[i].msg_hdr.msg_name = &s.returns[fields.flow]
        s.replies[i].msg_hdr.msg_namelen = s.name_bytes
    taken = sendmmsg(s.fd, s.replies, count, MSG_DONTWAIT)
    taken = taken if taken > 0 else 0
    for i in range(<uint32_t>taken, count):
        s.sequences[flows[i]] -= 1       # what the kernel did not take was never sent
    if <uint32_t>taken < count:
        s.cursor = flows[taken]
        s.counters.unsent += 1
    s.counters.send_calls += 1
    s.counters.sent += <uint64_t>taken
    pace_note(plan, <uint64_t>taken, now_ns)
    s.counters.late = s.late_before + plan.late


cdef void rest(sink_state *s, uint64_t rest_ns) noexcept nogil:
    """Nothing may be sent: nap, or wait for a datagram."""
    cdef timespec duration
    cdef epoll_event event
    duration.tv_sec = 0
    duration.tv_nsec = <long>(s.nap_ns if s.nap_ns else rest_ns)
    if s.nap_ns:
        nanosleep(&duration, NULL)
    elif epoll_pwait2(s.epoll, &event, 1, &duration, NULL) > 0:
        take_waiting(s)


cdef void run_send(sink_state *s, pace *plan, uint64_t drain_ns) noexcept nogil:
    """Sends by the plan, answers what comes meanwhile, then waits until nothing flies."""
    cdef uint64_t now_ns = monotonic_ns(), looked_ns = now_ns, may
    while not s.stop and not pace_over(plan, now_ns):
        if now_ns - looked_ns >= LOOK_NS:
            take_waiting(s)
            looked_ns = now_ns
        may = pace_allowance(plan, now_ns)
        if may:
            send_probes(s, plan, may, now_ns)
        else:
            rest(s, pace_rest_ns(plan, now_ns))
        now_ns = monotonic_ns()
    drain_ns += now_ns
    while pace_flying(plan) and not s.stop and monotonic_ns() < drain_ns:
        take_waiting(s)
        rest(s, 200_000)
    s.counters.written_off += plan.written_off
    if plan.late_max_ns > s.counters.late_max_ns:
        s.counters.late_max_ns = plan.late_max_ns


cdef class Sink:
    """One backend address in plain mode.

    address   (host, port) to bind, IPv4 or IPv6; port 0: `port` tells which
    flows     as many as the generator has; probes of others are strangers
    run       the generator's run number
    acknowledged   see Arrivals
    """

    def __cinit__(self, address, *, flows=0, run=1, acknowledged=None):
        self.state = <sink_state *>calloc(1, sizeof(sink_state))
        if self.state == NULL:
            raise MemoryError("no memory for a sink")
        self.state.epoll = -1
        self.arrivals = Arrivals(flows, run, acknowledged)
        self.state.into = self.arrivals.state
        self.state.returns = <sockaddr_in6 *>calloc(flows + 1, sizeof(sockaddr_in6))
        self.state.sequences = <uint64_t *>calloc(flows + 1, sizeof(uint64_t))
        if self.state.returns == NULL or self.state.sequences == NULL:
            raise MemoryError(f"no memory for {flows} flows")
        self.open_socket(address)
        prepare(self.state)

    cdef open_socket(self, address):
        cdef epoll_event event
        family = sockets_of.AF_INET6 if ":" in address[0] else sockets_of.AF_INET
        self.socket = sockets_of.socket(family, sockets_of.SOCK_DGRAM)
        widen_buffer(self.socket)
        self.socket.bind(address)
        self.state.fd = self.socket.fileno()
        self.state.epoll = epoll_create1(EPOLL_CLOEXEC)
        event.events = EPOLLIN
        event.data.fd = self.state.fd
        epoll_ctl(self.state.epoll, EPOLL_CTL_ADD, self.state.fd, &event)
        self.state.name_bytes = <uint32_t>sizeof(sockaddr_in6)
        if family == sockets_of.AF_INET:
            self.state.name_bytes = <uint32_t>sizeof(sockaddr_in)

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

    def send(self, *, uint64_t rate_pps=0, uint64_t window=512, int duration_ms=1000, limit=None,
             acknowledged=None, int size_bytes=172, int size_spread=0, uint64_t nap_us=0,
             int drain_ms=2000) -> None:
        """Sends probes to the flows that were opened, until the duration or `limit` datagrams are over, and
        answers Binding Requests meanwhile. Speed and sizes as Generator.run and Clients; acknowledged: the
        generator's `returned`, which a window needs."""
        cdef sink_state *s = self.state
        cdef pace *plan = &s.plan
        cdef uint64_t drain_ns = <uint64_t>drain_ms * 1_000_000
        cdef unsigned long long[:] words
        cdef const uint64_t *settled = NULL
        if acknowledged is not None:
            words = memoryview(acknowledged).cast("B").cast("Q")
            settled = <const uint64_t *>&words[0]
        elif not rate_pps:
            raise ValueError("a windowed run downwards needs `acknowledged`: else nothing counts what flies")
        if s.counters.opened == 0:
            raise ValueError("no flow is open: a sink sends to flows whose Binding Request it answered")
        check_sizes(size_bytes, size_spread)
        s.size_bytes, s.size_spread = <uint32_t>size_bytes, <uint32_t>size_spread
        s.nap_ns, s.late_before = nap_us * 1000, s.counters.late
        pace_begin(plan, rate_pps, window, 1 << 62 if limit is None else limit, settled, monotonic_ns(),
                   <uint64_t>duration_ms * 1_000_000)
        with nogil:
            run_send(s, plan, drain_ns)
        s.stop = 0

    def sent(self, uint32_t flow) -> int:
        """How many probes of its own the sink sent to one flow."""
        if flow >= self.state.into.flows:
            raise IndexError(f"flow {flow} of {self.state.into.flows}")
        return self.state.sequences[flow]

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
            free(self.state.returns)
            free(self.state.sequences)
            free(self.state)
