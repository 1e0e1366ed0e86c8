"""The load generator: many clients, one thread, no datagram without a sequence number.

Every flow is a client of its own to the relay: flows share a few sockets bound to the wildcard address,
and IP_PKTINFO gives each datagram its flow's own source address, so one sendmmsg carries 64 clients.
GSO is not used: it would hand the relay segments that no set of real clients can produce so cheaply.
"""

import hmac
import os
import socket as sockets_of
import struct
import zlib

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from fastpath.arrivals cimport Arrivals, arrivals_note
from fastpath.binding cimport BINDING_TRANSACTION, binding_is
from fastpath.clients cimport (
    Clients, client_frame, client_framing_holds, client_payload, client_size, client_source, client_target,
    clients_of_socket,
)
from fastpath.linux cimport (
    AF_INET, CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_SPACE, EAGAIN, EINTR, ENOBUFS, EPOLL_CLOEXEC,
    EPOLL_CTL_ADD, EPOLLIN, IP_PKTINFO, IPPROTO_IP, MSG_DONTWAIT, close, cmsghdr, epoll_create1, epoll_ctl,
    epoll_event, epoll_pwait2, errno, in_pktinfo, monotonic_ns, msghdr, nanosleep, recvmmsg, sendmmsg,
    sockaddr_in, timespec,
)
from fastpath.probe cimport probe, probe_build

cdef extern from "<arpa/inet.h>" nogil:
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)

SO_RCVBUFFORCE = 33
BUFFER_BYTES = 16 << 20

cdef enum:
    RETRY_NS = 100_000_000               # set-up: a batch of requests is given this long
    STALL_NS = 100_000_000


cdef inline uint64_t least(uint64_t a, uint64_t b) noexcept nogil:
    return a if a < b else b


cdef void batch_prepare(generator_batch *batch, size_t control_bytes) noexcept nogil:
    cdef int i
    cdef msghdr *header
    for i in range(GENERATOR_BATCH):
        header = &batch.messages[i].msg_hdr
        header.msg_iov = &batch.vectors[i]
        header.msg_iovlen = 1
        header.msg_control = batch.control[i]
        header.msg_controllen = control_bytes
        batch.vectors[i].iov_base = batch.data[i]
        batch.vectors[i].iov_len = GENERATOR_SLOT_BYTES


cdef void send_prepare(generator_state *g) noexcept nogil:
    """Everything of a send batch but source address and probe stays as it is for the generator's life."""
    cdef int i
    cdef cmsghdr *control
    batch_prepare(&g.send, CMSG_SPACE(sizeof(in_pktinfo)))
    for i in range(GENERATOR_BATCH):
        g.send.messages[i].msg_hdr.msg_namelen = sizeof(sockaddr_in)
        control = CMSG_FIRSTHDR(&g.send.messages[i].msg_hdr)
        control.cmsg_level = IPPROTO_IP
        control.cmsg_type = IP_PKTINFO
        control.cmsg_len = CMSG_LEN(sizeof(in_pktinfo))


cdef inline void address(generator_state *g, uint32_t i, uint32_t flow, uint32_t length) noexcept nogil:
    """Slot i, whose datagram of `length` bytes stands behind the room for framing, becomes the flow's."""
    client_frame(g.clients, flow, g.send.data[i], length)
    g.send.vectors[i].iov_len = g.clients.head_bytes + length
    g.send.messages[i].msg_hdr.msg_name = client_target(g.clients, flow)
    (<in_pktinfo *>CMSG_DATA(CMSG_FIRSTHDR(&g.send.messages[i].msg_hdr))).ipi_spec_dst.s_addr = (
        htonl(client_source(g.clients, flow)))


cdef uint32_t transmit(generator_state *g, uint32_t turn, uint32_t count) noexcept nogil:
    """Sends the first `count` of the batch; how many the kernel took. A refusal other than a full buffer
    is remembered and ends the run."""
    cdef int taken = sendmmsg(g.fds[turn], g.send.messages, count, MSG_DONTWAIT)
    if taken >= 0:
        return <uint32_t>taken
    if errno == EAGAIN or errno == ENOBUFS or errno == EINTR:
        g.counters.blocked += 1
    else:
        g.failure = errno
    return 0


cdef uint32_t send_probes(generator_state *g, const generator_plan *plan, uint32_t count,
                          uint64_t now_ns) noexcept nogil:
    """Sends up to `count` (<= 64) probes from one socket, its flows in turn; how many went out."""
    cdef uint32_t turn = g.turn
    cdef uint32_t mine = clients_of_socket(g.clients, turn)
    cdef uint32_t position = g.cursor[turn], flow, i, taken, length
    cdef uint64_t late_ns
    cdef probe fields
    fields.run = g.run
    for i in range(count):
        flow = ((position + i) % mine) * g.clients.sockets + turn
        fields.flow = flow
        fields.sequence = g.sequences[flow] + i // mine
        fields.intended_ns = now_ns
        if plan.rate_pps:
            fields.intended_ns = plan.start_ns + (
                (g.counters.sent - plan.first + i) * 1_000_000_000 // plan.rate_pps)
        length = client_size(g.clients, flow, fields.sequence)
        probe_build(g.send.data[i] + g.clients.head_bytes, length, &fields)
        address(g, i, flow, length)
    taken = transmit(g, turn, count)
    for i in range(taken):
        g.sequences[((position + i) % mine) * g.clients.sockets + turn] += 1
    if plan.rate_pps and taken:
        late_ns = now_ns - plan.start_ns - (g.counters.sent - plan.first) * 1_000_000_000 // plan.rate_pps
        if late_ns > 1_000_000:
            g.counters.late += taken
        if late_ns > g.counters.late_max_ns:
            g.counters.late_max_ns = late_ns
    g.counters.sent += taken
    g.counters.send_calls += 1
    g.cursor[turn] = (position + taken) % mine
    g.turn = (turn + 1) % g.clients.sockets
    return taken


cdef void note_echo(generator_state *g, int i, size_t length, uint64_t now_ns) noexcept nogil:
    cdef probe fields
    cdef cmsghdr *control = CMSG_FIRSTHDR(&g.receive.messages[i].msg_hdr)
    cdef uint32_t at = 0
    if not arrivals_note(g.echoes, g.receive.data[i] + g.clients.head_bytes, length, now_ns, &fields):
        return
    if control != NULL and control.cmsg_level == IPPROTO_IP and control.cmsg_type == IP_PKTINFO:
        at = ntohl((<in_pktinfo *>CMSG_DATA(control)).ipi_addr.s_addr)
    if (at != client_source(g.clients, fields.flow)
            or not client_framing_holds(g.clients, fields.flow, g.receive.data[i])):
        g.counters.misrouted += 1


cdef uint32_t note_response(generator_state *g, const uint8_t *data) noexcept nogil:
    """1 when this success response answers a flow's request for the first time."""
    cdef uint32_t flow
    memcpy(&flow, data + BINDING_TRANSACTION, 4)
    if flow >= g.clients.flows or g.confirmed[flow]:
        return 0
    if memcmp(g.requests + g.request_offsets[flow] + BINDING_TRANSACTION,
              data + BINDING_TRANSACTION, 12) != 0:
        return 0
    g.confirmed[flow] = 1
    g.confirmed_flows += 1
    return 1


cdef uint32_t receive_socket(generator_state *g, int fd, uint64_t *arrived) noexcept nogil:
    """Takes what waits on one socket, at most 8 batches; how many flows it confirmed."""
    cdef int _turn, i, count
    cdef uint32_t confirmed = 0
    cdef uint64_t now_ns
    cdef size_t length
    cdef const uint8_t *data
    for _turn in range(8):
        count = recvmmsg(fd, g.receive.messages, GENERATOR_BATCH, MSG_DONTWAIT, NULL)
        if count <= 0:
            break
        now_ns = monotonic_ns()
        for i in range(count):
            length = client_payload(g.clients, g.receive.data[i], g.receive.messages[i].msg_len)
            data = g.receive.data[i] + g.clients.head_bytes
            if binding_is(data, length, 1):
                confirmed += note_response(g, data)
            else:
                note_echo(g, i, length, now_ns)
            g.receive.messages[i].msg_hdr.msg_controllen = GENERATOR_CONTROL_BYTES
        arrived[0] += <uint64_t>count
        if count < GENERATOR_BATCH:
            break
    return confirmed


cdef uint32_t receive_all(generator_state *g, uint64_t *arrived) noexcept nogil:
    cdef uint32_t i, confirmed = 0
    for i in range(g.clients.sockets):
        confirmed += receive_socket(g, g.fds[i], arrived)
    return confirmed


cdef void wait_ns(generator_state *g, uint64_t timeout_ns) noexcept nogil:
    """Until a datagram arrives, at most `timeout_ns` (< 1 s)."""
    cdef timespec timeout
    cdef epoll_event event
    timeout.tv_sec = 0
    timeout.tv_nsec = <long>timeout_ns
    epoll_pwait2(g.epoll, &event, 1, &timeout, NULL)


cdef void request_batch(generator_state *g, uint32_t turn, uint32_t *position) noexcept nogil:
    """Sends the requests of up to 64 unconfirmed flows of one socket and takes the answers."""
    cdef uint32_t mine = clients_of_socket(g.clients, turn), flow, length, count = 0, confirmed = 0
    cdef uint64_t arrived = 0, end_ns
    while position[0] < mine and count < GENERATOR_BATCH:
        flow = position[0] * g.clients.sockets + turn
        position[0] += 1
        if g.confirmed[flow]:
            continue
        length = g.request_offsets[flow + 1] - g.request_offsets[flow]
        memcpy(g.send.data[count] + g.clients.head_bytes, g.requests + g.request_offsets[flow], length)
        address(g, count, flow, length)
        count += 1
    if count == 0:
        return
    transmit(g, turn, count)
    end_ns = monotonic_ns() + RETRY_NS
    while confirmed < count and monotonic_ns() < end_ns and not g.stop:
        wait_ns(g, 1_000_000)
        confirmed += receive_all(g, &arrived)


cdef void run_setup(generator_state *g, uint64_t end_ns) noexcept nogil:
    """Requests, again for who got no answer, until every flow is confirmed or time is up."""
    cdef uint32_t turn, position
    while g.confirmed_flows < g.clients.flows and monotonic_ns() < end_ns and not g.stop and not g.failure:
        for turn in range(g.clients.sockets):
            position = 0
            while position < clients_of_socket(g.clients, turn) and monotonic_ns() < end_ns and not g.stop and not g.failure:
                request_batch(g, turn, &position)


cdef uint64_t settled(const generator_state *g, bint echo) noexcept nogil:
    """What arrived at the end that counts: echoes here, or probes at the sink."""
    if echo:
        return g.echoes.received
    return g.acknowledged[0] if g.acknowledged != NULL else 0


cdef uint64_t in_flight(const generator_state *g, const generator_plan *plan) noexcept nogil:
    cdef uint64_t sent = g.counters.sent - plan.first
    cdef uint64_t gone = settled(g, plan.echo) - plan.settled_first + plan.written_off
    if not plan.echo and g.acknowledged == NULL:
        return 0
    return sent - gone if sent > gone else 0


cdef uint64_t allowance(generator_state *g, generator_plan *plan, uint64_t now_ns) noexcept nogil:
    """How many probes may go out now: what the schedule has due, or what the window leaves."""
    cdef uint64_t flying, due
    if plan.rate_pps:
        due = (now_ns - plan.start_ns) * plan.rate_pps // 1_000_000_000 + 1
        return due - (g.counters.sent - plan.first) if due > g.counters.sent - plan.first else 0
    flying = in_flight(g, plan)
    if g.counters.sent - flying != plan.progress_seen:
        plan.progress_seen = g.counters.sent - flying
        plan.progress_ns = now_ns
    if flying >= plan.window and now_ns - plan.progress_ns > STALL_NS:
        g.counters.written_off += flying
        plan.written_off += flying
        flying = 0
    # Half a batch at least: a window that opens one by one would make a system call of each datagram.
    return plan.window - flying if flying + least(plan.window, GENERATOR_BATCH // 2) <= plan.window else 0


cdef void rest(generator_state *g, const generator_plan *plan, uint64_t now_ns) noexcept nogil:
    """Nothing may be sent: nap, or wait for an echo until the schedule's next datagram."""
    cdef timespec nap
    cdef uint64_t next_ns, wait = 1_000_000
    if plan.nap_ns:
        nap.tv_sec = 0
        nap.tv_nsec = <long>plan.nap_ns
        nanosleep(&nap, NULL)
        return
    if plan.rate_pps:
        next_ns = plan.start_ns + (g.counters.sent - plan.first) * 1_000_000_000 // plan.rate_pps
        wait = least(wait, next_ns - now_ns) if next_ns > now_ns else 0
    wait_ns(g, wait)


cdef void run_plan(generator_state *g, generator_plan *plan) noexcept nogil:
    cdef uint64_t now_ns, may, arrived = 0
    while not g.stop and not g.failure:
        now_ns = monotonic_ns()
        if now_ns >= plan.end_ns or g.counters.sent - plan.first >= plan.limit:
            return
        if plan.echo:
            receive_all(g, &arrived)
        may = least(allowance(g, plan, now_ns), plan.limit - (g.counters.sent - plan.first))
        if may:
            send_probes(g, plan, <uint32_t>least(may, GENERATOR_BATCH), now_ns)
        else:
            rest(g, plan, now_ns)


cdef void run_drain(generator_state *g, const generator_plan *plan, uint64_t end_ns) noexcept nogil:
    """Takes what still flies, until nothing does or time is up."""
    cdef uint64_t arrived = 0
    while in_flight(g, plan) and monotonic_ns() < end_ns and not g.stop:
        if plan.echo:
            receive_all(g, &arrived)
        wait_ns(g, 200_000)


def binding_request(ufrag: bytes, transaction: bytes, password: bytes) -> bytes:
    """A Binding Request as a controlling agent sends it (RFC 8445 section 7.1): USERNAME `ufrag:bench`,
    PRIORITY, ICE-CONTROLLING, MESSAGE-INTEGRITY under `password`, FINGERPRINT."""
    username = ufrag + b":bench"
    attributes = (
        struct.pack("!HH", 0x0006, len(username)) + username + bytes((4 - len(username) % 4) % 4)
        + struct.pack("!HHI", 0x0024, 4, 1853824767)
        + struct.pack("!HH", 0x802A, 8) + transaction[:8]
    )
    message = struct.pack("!HHI", 1, len(attributes) + 24, 0x2112A442) + transaction + attributes
    message += struct.pack("!HH", 0x0008, 20) + hmac.digest(password, message, "sha1")
    message = message[:2] + struct.pack("!H", len(message) - 20 + 8) + message[4:]
    return message + struct.pack("!HHI", 0x8028, 4, zlib.crc32(message) ^ 0x5354554E)


cdef class Generator:
    """N flows towards a relay over IPv4.

    target         (address, port) of the relay, or a list of them, one a flow
    ufrags         the server ufrag of each flow; their number is the number of flows
    acknowledged   a buffer of one uint64 where the sink publishes what it received (mode up, windowed)
    run            tells this generator's probes from another's; the sink must be given the same
    first_source, sockets, size_bytes, size_spread, turn_numbers   see Clients
    """

    def __cinit__(self):
        self.state = <generator_state *>calloc(1, sizeof(generator_state))
        if self.state == NULL:
            raise MemoryError("no memory for a generator")
        self.state.epoll = -1
        self.sockets = []

    def __init__(self, target, ufrags, *, uint32_t run=1, password=b"benchmark-password-22c",
                 acknowledged=None, **clients):
        cdef generator_state *g = self.state
        self.clients = Clients(len(ufrags), target, **clients)
        g.clients, g.run = self.clients.state, run
        self.allocate(ufrags, password)
        if acknowledged is not None:
            self.share(acknowledged)
        self.open_sockets()
        send_prepare(g)
        batch_prepare(&g.receive, GENERATOR_CONTROL_BYTES)

    cdef allocate(self, ufrags, password):
        cdef generator_state *g = self.state
        cdef const uint8_t[:] packed
        requests = [
            binding_request(ufrag, struct.pack("=I", flow) + os.urandom(8), password)
            for flow, ufrag in enumerate(ufrags)
        ]
        packed = b"".join(requests)
        g.sequences = <uint64_t *>calloc(g.clients.flows, sizeof(uint64_t))
        self.echoes = Arrivals(g.clients.flows, g.run)
        g.echoes = self.echoes.state
        g.confirmed = <uint8_t *>calloc(g.clients.flows, 1)
        g.requests = <uint8_t *>calloc(1, <size_t>packed.shape[0])
        g.request_offsets = <uint32_t *>calloc(g.clients.flows + 1, sizeof(uint32_t))
        if not (g.sequences and g.confirmed and g.requests and g.request_offsets):
            raise MemoryError(f"no memory for {g.clients.flows} flows")
        memcpy(g.requests, &packed[0], <size_t>packed.shape[0])
        for flow, request in enumerate(requests):
            g.request_offsets[flow + 1] = g.request_offsets[flow] + <uint32_t>len(request)

    cdef share(self, acknowledged):
        cdef unsigned long long[:] words = memoryview(acknowledged).cast("B").cast("Q")
        self.acknowledged_owner = words
        self.state.acknowledged = <const uint64_t *>&words[0]

    cdef open_sockets(self):
        cdef generator_state *g = self.state
        cdef epoll_event event
        cdef uint32_t i
        g.epoll = epoll_create1(EPOLL_CLOEXEC)
        for i in range(g.clients.sockets):
            sock = sockets_of.socket(sockets_of.AF_INET, sockets_of.SOCK_DGRAM)
            self.sockets.append(sock)
            try:
                sock.setsockopt(sockets_of.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
            except PermissionError:
                sock.setsockopt(sockets_of.SOL_SOCKET, sockets_of.SO_RCVBUF, BUFFER_BYTES)
            sock.setsockopt(sockets_of.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind(("0.0.0.0", 0))
            g.fds[i] = sock.fileno()
            event.events = EPOLLIN
            event.data.u32 = i
            epoll_ctl(g.epoll, EPOLL_CTL_ADD, g.fds[i], &event)

    def setup(self, int timeout_ms=5000) -> int:
        """Opens the flows that are not yet, by a Binding Request each; returns how many are confirmed."""
        with nogil:
            run_setup(self.state, monotonic_ns() + <uint64_t>timeout_ms * 1_000_000)
        self.check()
        return self.state.confirmed_flows

    def socket_of(self, uint32_t flow) -> tuple:
        """(socket, source address) of a flow, for a set-up in a dialect of its own: what is sent by sendmsg
        with IP_PKTINFO of this source comes from the very client that probes will come from."""
        source = self.clients.source(flow)
        return self.sockets[flow % self.state.clients.sockets], source

    def mark_confirmed(self) -> None:
        """Every flow is open: its set-up was done elsewhere."""
        memset(self.state.confirmed, 1, self.state.clients.flows)
        self.state.confirmed_flows = self.state.clients.flows

    def run(self, *, bint echo=False, uint64_t rate_pps=0, uint64_t window=512, int duration_ms=1000,
            limit=None, uint64_t nap_us=0, int drain_ms=2000) -> None:
        """Sends until the duration or `limit` datagrams are over, then drains.

        rate_pps 0: at most `window` in flight, counted by the echoes or by what the sink acknowledges.
        Otherwise an open-loop schedule; latency counts from the intended time (no coordinated omission).
        nap_us: how long to sleep when nothing may be sent; 0 waits on the sockets instead.
        """
        cdef generator_state *g = self.state
        cdef generator_plan plan
        cdef uint64_t drain_ns = <uint64_t>drain_ms * 1_000_000
        if not rate_pps and not echo and g.acknowledged == NULL:
            raise ValueError("a windowed run upwards needs `acknowledged`: else nothing counts what flies")
        plan.echo, plan.rate_pps, plan.window, plan.nap_ns = echo, rate_pps, window, nap_us * 1000
        plan.limit = 1 << 62 if limit is None else limit
        plan.first, plan.settled_first = g.counters.sent, settled(g, echo)
        plan.written_off = plan.progress_seen = 0
        plan.start_ns = plan.progress_ns = monotonic_ns()
        plan.end_ns = plan.start_ns + <uint64_t>duration_ms * 1_000_000
        with nogil:
            run_plan(g, &plan)
            run_drain(g, &plan, monotonic_ns() + drain_ns)
        self.check()

    cdef check(self):
        if self.state.failure:
            failure, self.state.failure = self.state.failure, 0
            raise OSError(failure, f"the kernel refused a probe: {os.strerror(failure)}")

    def stop(self) -> None:
        """Ends a run of another thread; the generator sends nothing more."""
        self.state.stop = 1

    def counters(self) -> dict:
        """Live totals since the start; may be read while a run goes on. What came back is in `echoes`."""
        return self.state.counters

    def sent(self, uint32_t flow) -> int:
        """How many datagrams one flow sent."""
        if flow >= self.state.clients.flows:
            raise IndexError(f"flow {flow} of {self.state.clients.flows}")
        return self.state.sequences[flow]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()
        if self.state.epoll >= 0:
            close(self.state.epoll)
            self.state.epoll = -1

    def __dealloc__(self):
        cdef generator_state *g = self.state
        if g == NULL:
            return
        if g.epoll >= 0:
            close(g.epoll)
        free(g.sequences)
        free(g.confirmed)
        free(g.requests)
        free(g.request_offsets)
        free(g)
