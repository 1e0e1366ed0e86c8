"""The load generator: many clients, one thread, no datagram without a sequence number.

Every flow is a client of its own to the relay: an address and port, a ufrag, a sequence. How datagrams leave
is inject's business, what comes back inbox's, when something is due pace's.
"""

import hmac
import os
import socket as sockets_of
import struct
import zlib

from fastpath.load.inbox import widen_buffer

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from fastpath.load.arrivals cimport Arrivals, histogram_list
from fastpath.load.clients cimport Clients, clients_of_socket
from fastpath.load.histogram cimport histogram_quantile
from fastpath.load.inbox cimport Inbox, inbox_take, inbox_take_after
from fastpath.load.inject cimport INJECT_BATCH, Injector, injector_address, injector_send, injector_slot
from fastpath.linux cimport IP_PKTINFO, monotonic_ns, nanosleep, timespec
from fastpath.load.opening cimport opening_restart, opening_run
from fastpath.load.pace cimport (
    pace, pace_allowance, pace_begin, pace_flying, pace_intended_ns, pace_note, pace_over, pace_rest_ns,
)
from fastpath.load.probe cimport probe, probe_build, probe_size

cdef enum:
    SETUP_WINDOW = 128
    SETUP_RETRY_NS = 100_000_000


cdef uint32_t build_run(generator_state *g, const pace *plan, uint32_t slot, uint32_t flow, uint32_t ahead,
                        uint32_t count, uint64_t now_ns) noexcept nogil:
    """Builds the next `count` probes of a flow in one message; the first is `ahead` of the schedule's next.
    All but a lone one are of one size."""
    cdef probe fields
    cdef uint32_t head = g.clients.head_bytes, i
    cdef uint32_t length = probe_size(g.clients.size_bytes, g.clients.size_spread, flow, g.sequences[flow])
    fields.flow, fields.run = flow, g.run
    for i in range(count):
        fields.sequence = g.sequences[flow] + i
        fields.intended_ns = pace_intended_ns(plan, ahead + i, now_ns)
        probe_build(injector_slot(g.out, slot) + i * (head + length) + head, length, &fields)
    g.sequences[flow] += count
    injector_address(g.out, slot, flow, length, count)
    return count


cdef void send_probes(generator_state *g, pace *plan, uint64_t may, uint64_t now_ns) noexcept nogil:
    """Sends up to `may` probes from one socket, its flows in turn, in at most 64 messages."""
    cdef uint32_t turn = g.turn, sockets = g.clients.sockets
    cdef uint32_t mine = clients_of_socket(g.clients, turn), position = g.cursor[turn]
    cdef uint32_t slots = 0, built = 0, taken, i, burst
    cdef uint32_t flows[INJECT_BATCH]
    cdef uint32_t counts[INJECT_BATCH]
    while slots < INJECT_BATCH and built < may:
        burst = g.out.burst if may - built > g.out.burst else <uint32_t>(may - built)
        flows[slots] = position * sockets + turn
        counts[slots] = build_run(g, plan, slots, flows[slots], built, burst, now_ns)
        built += counts[slots]
        slots += 1
        position += 1
        if position == mine:
            position = 0
    taken = injector_send(g.out, turn, slots)
    for i in range(taken, slots):        # what the kernel did not take was never sent
        g.sequences[flows[i]] -= counts[i]
        built -= counts[i]
    g.cursor[turn] = position if taken == slots else flows[taken] // sockets
    g.turn = (turn + 1) % sockets
    g.counters.sent += built
    pace_note(plan, built, now_ns)
    g.counters.late = g.late_before + plan.late
    if plan.late_max_ns > g.counters.late_max_ns:
        g.counters.late_max_ns = plan.late_max_ns


cdef void rest(generator_state *g, const pace *plan, uint64_t now_ns) noexcept nogil:
    """Nothing may be sent: nap, or wait for an echo until the schedule's next datagram."""
    cdef timespec nap
    if g.nap_ns:
        nap.tv_sec = 0
        nap.tv_nsec = <long>g.nap_ns
        nanosleep(&nap, NULL)
    else:
        inbox_take_after(g.box, pace_rest_ns(plan, now_ns))


cdef void run_plan(generator_state *g, pace *plan, bint echo) noexcept nogil:
    cdef uint64_t now_ns, may
    while not g.stop and not g.out.failure:
        now_ns = monotonic_ns()
        if pace_over(plan, now_ns):
            return
        if echo:
            inbox_take(g.box)
        may = pace_allowance(plan, now_ns)
        if may:
            send_probes(g, plan, may, now_ns)
        else:
            rest(g, plan, now_ns)


cdef void run_drain(generator_state *g, const pace *plan, uint64_t end_ns) noexcept nogil:
    """Takes what still flies, until nothing does or time is up."""
    while pace_flying(plan) and monotonic_ns() < end_ns and not g.stop:
        inbox_take_after(g.box, 200_000)


cdef void run_receive(generator_state *g, uint64_t end_ns) noexcept nogil:
    """Full batches: at once again. Otherwise a nap lets the next one fill, or the sockets wake us."""
    cdef timespec nap
    nap.tv_sec = 0
    nap.tv_nsec = <long>g.nap_ns
    while not g.stop and monotonic_ns() < end_ns:
        if inbox_take(g.box) >= INJECT_BATCH:
            continue
        if g.nap_ns:
            nanosleep(&nap, NULL)
        else:
            inbox_take_after(g.box, 20_000_000)


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
    run            tells this generator's probes from another's; the sink must be given the same
    acknowledged   a buffer of one uint64 where the sink publishes what it received (mode up, windowed)
    returned       a buffer of one uint64 where the generator publishes what it received (mode down)
    inject, burst, interface, gateway_mac   how datagrams leave, see inject.Injector (inject: `way`)
    first_source, sockets, size_bytes, size_spread, turn_numbers, password   see clients.Clients
    """

    def __cinit__(self):
        self.state = <generator_state *>calloc(1, sizeof(generator_state))
        if self.state == NULL:
            raise MemoryError("no memory for a generator")
        self.sockets = []

    def __init__(self, target, ufrags, *, uint32_t run=1, acknowledged=None, returned=None, inject="mmsg",
                 int burst=4, interface=None, gateway_mac=None, **clients):
        cdef generator_state *g = self.state
        self.clients = Clients(ufrags, target, **clients)
        g.clients, g.run = self.clients.state, run
        self.echoes = Arrivals(g.clients.flows, run, returned)
        g.sequences = <uint64_t *>calloc(g.clients.flows, sizeof(uint64_t))
        if g.sequences == NULL:
            raise MemoryError(f"no memory for {g.clients.flows} flows")
        if acknowledged is not None:
            self.share(acknowledged)
        self.open_sockets()
        self.out = Injector(self.clients, self.sockets, way=inject, burst=burst, interface=interface,
                            gateway_mac=gateway_mac)
        self.box = Inbox(self.clients, self.echoes, self.sockets)
        g.out, g.box = self.out.state, self.box.state
        g.opening.out, g.opening.box, g.opening.stop = g.out, g.box, &g.stop
        opening_restart(&g.opening)

    cdef share(self, acknowledged):
        cdef unsigned long long[:] words = memoryview(acknowledged).cast("B").cast("Q")
        self.acknowledged_owner = words
        self.state.acknowledged = <const uint64_t *>&words[0]

    cdef open_sockets(self):
        for _ in range(self.state.clients.sockets):
            sock = sockets_of.socket(sockets_of.AF_INET, sockets_of.SOCK_DGRAM)
            self.sockets.append(sock)
            widen_buffer(sock)
            sock.setsockopt(sockets_of.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind(("0.0.0.0", 0))

    def socket_of(self, uint32_t flow) -> tuple:
        """(socket, source address) of a flow, for a set-up in a dialect of its own: what is sent by sendmsg
        with IP_PKTINFO of this source comes from the very client that probes will come from."""
        source = self.clients.source(flow)
        return self.sockets[flow % self.state.clients.sockets], source

    def mark_confirmed(self) -> None:
        """Every flow is open: its set-up was done elsewhere."""
        memset(self.state.box.confirmed, 1, self.state.clients.flows)
        self.state.box.confirmed_flows = self.state.clients.flows

    def setup(self, int timeout_ms=5000) -> int:
        """Opens the flows that are not yet, by a Binding Request each; returns how many are confirmed."""
        cdef generator_state *g = self.state
        cdef uint64_t timeout_ns = <uint64_t>timeout_ms * 1_000_000, now_ns = monotonic_ns()
        opening_restart(&g.opening)
        g.opening.nap_ns = 0
        g.opening.retry_ns = SETUP_RETRY_NS
        pace_begin(&g.opening.pace, 0, SETUP_WINDOW, 1 << 62, &g.box.confirmed_flows, now_ns, timeout_ns)
        with nogil:
            opening_run(&g.opening, timeout_ns, now_ns + timeout_ns)
        self.end()
        return g.box.confirmed_flows

    def open_at(self, *, uint64_t rate_pps=0, uint64_t window=512, int duration_ms=1000, limit=None,
                int retry_ms=250, uint64_t nap_us=0, int drain_ms=1000) -> int:
        """Opens flows that were never asked, on a schedule or at most `window` unanswered at once; returns
        how many were confirmed meanwhile. Ends early when every flow was asked. What it did is in
        `setup_counters`, how long answers took in `setup_latency_ns`."""
        cdef generator_state *g = self.state
        cdef uint64_t first = g.box.confirmed_flows, drain_ns = <uint64_t>drain_ms * 1_000_000
        g.opening.nap_ns, g.opening.retry_ns = nap_us * 1000, <uint64_t>retry_ms * 1_000_000
        pace_begin(&g.opening.pace, rate_pps, window, 1 << 62 if limit is None else limit,
                   &g.box.confirmed_flows, monotonic_ns(), <uint64_t>duration_ms * 1_000_000)
        with nogil:
            opening_run(&g.opening, drain_ns, g.opening.pace.end_ns + drain_ns)
        self.end()
        return g.box.confirmed_flows - first

    def setup_counters(self) -> dict:
        """Live totals of flow set-up: sent (flows asked), confirmed, retried, written_off (of a window), late
        and late_max_ns (of a schedule)."""
        cdef generator_state *g = self.state
        return {"sent": g.opening.sent, "confirmed": g.box.confirmed_flows, "retried": g.opening.retried,
                "written_off": g.opening.written_off, "late": g.opening.late,
                "late_max_ns": g.opening.late_max_ns}

    def setup_latency_ns(self, double quantile) -> int:
        """The quantile (0..1) of answer minus intended time of the request, right within 3.2 %."""
        return histogram_quantile(self.state.box.setup_ns, quantile)

    def setup_histogram(self) -> list:
        """The non-empty buckets of these latencies, as Arrivals.histogram."""
        return histogram_list(self.state.box.setup_ns)

    def run(self, *, bint echo=False, uint64_t rate_pps=0, uint64_t window=512, int duration_ms=1000,
            limit=None, uint64_t nap_us=0, int drain_ms=2000) -> None:
        """Sends until the duration or `limit` datagrams are over, then drains.

        rate_pps 0: at most `window` in flight, counted by the echoes or by what the sink acknowledges.
        Otherwise an open-loop schedule; latency counts from the intended time (no coordinated omission).
        nap_us: how long to sleep when nothing may be sent; 0 waits on the sockets instead.
        """
        cdef generator_state *g = self.state
        cdef pace *plan = &g.plan
        cdef uint64_t drain_ns = <uint64_t>drain_ms * 1_000_000
        cdef const uint64_t *settled = g.acknowledged
        if not rate_pps and not echo and g.acknowledged == NULL:
            raise ValueError("a windowed run upwards needs `acknowledged`: else nothing counts what flies")
        if echo:
            settled = &g.box.echoes.received
        g.nap_ns, g.late_before = nap_us * 1000, g.counters.late
        pace_begin(plan, rate_pps, window, 1 << 62 if limit is None else limit,
                   settled, monotonic_ns(), <uint64_t>duration_ms * 1_000_000)
        with nogil:
            run_plan(g, plan, echo)
            run_drain(g, plan, monotonic_ns() + drain_ns)
        g.counters.written_off += plan.written_off
        self.end()

    def receive(self, *, int duration_ms=1000, uint64_t nap_us=0) -> None:
        """Only receives, until `stop` or the end of the duration: the sink sends. What came is in `echoes`.
        nap_us: pause after a batch that was not full."""
        cdef generator_state *g = self.state
        cdef uint64_t end_ns = monotonic_ns() + <uint64_t>duration_ms * 1_000_000
        g.nap_ns = nap_us * 1000
        with nogil:
            run_receive(g, end_ns)
        self.end()

    cdef end(self):
        """After every run: a stop has done its work, a refusal is told."""
        self.state.stop = 0
        if self.state.out.failure:
            failure, self.state.out.failure = self.state.out.failure, 0
            raise OSError(failure, f"the kernel refused a probe: {os.strerror(failure)}")

    def stop(self) -> None:
        """Ends a run of another thread; one that has not begun ends at once."""
        self.state.stop = 1

    def counters(self) -> dict:
        """Live totals since the start; may be read while a run goes on. What came back is in `echoes`."""
        cdef generator_state *g = self.state
        made = dict(g.counters)
        made.update(send_calls=g.out.send_calls, blocked=g.out.blocked, misrouted=g.box.misrouted)
        return made

    def sent(self, uint32_t flow) -> int:
        """How many datagrams one flow sent."""
        if flow >= self.state.clients.flows:
            raise IndexError(f"flow {flow} of {self.state.clients.flows}")
        return self.state.sequences[flow]

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        self.sockets.clear()
        if self.out is not None:
            self.out.close()
        if self.box is not None:
            self.box.close()

    def __dealloc__(self):
        if self.state != NULL:
            free(self.state.sequences)
            free(self.state)
