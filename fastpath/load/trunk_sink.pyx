"""The trunk sink: stands where a transceiver would. It speaks FT1, answers Binding Requests inside
their records and pings, says every second that it is up, counts probes by flow and, in echo mode, returns
them bundled. It believes any relay: it is a load tool and holds no sessions.

A Binding Request of the generator names its flow in the transaction id, so the sink learns by which relay and
client each flow is reached and can send probes of its own there.
"""

import socket as sockets_of

from fastpath.load.clients import check_sizes
from fastpath.load.inbox import widen_buffer

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

from fastpath.load.arrivals cimport Arrivals, arrivals_note, arrivals_publish
from fastpath.load.binding cimport BINDING_TRANSACTION, binding_is, binding_success
from fastpath.bundles cimport BUNDLE_ITEMS, bundle, bundle_seal
from fastpath.linux cimport (
    CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_SPACE, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, MSG_DONTWAIT,
    SOL_UDP, UDP_GRO, UDP_SEGMENT, close, cmsghdr, epoll_create1, epoll_ctl, epoll_event, epoll_pwait2, iovec,
    monotonic_ns, msghdr, nanosleep, realtime_ns, recvmmsg, sendmsg, timespec,
)
from fastpath.load.pace cimport (
    pace, pace_allowance, pace_begin, pace_flying, pace_intended_ns, pace_note, pace_over, pace_rest_ns,
)
from fastpath.load.probe cimport probe, probe_build, probe_size
from fastpath.siphash cimport siphash128
from fastpath.trunk cimport (
    CONTROL_PING, CONTROL_PONG, CONTROL_STATE, TRUNK_BAD_RECORD, TRUNK_CONTROL, TRUNK_ECN,
    TRUNK_HEADER_BYTES, TRUNK_OK, TRUNK_RECORD, TRUNK_TAG_BYTES, trunk_header, trunk_next_record,
    trunk_parse_header, trunk_record, trunk_tag_holds,
)

cdef enum:
    IDLE_NS = 50_000_000                 # longest wait before stop, end and state records are looked at
    LOOK_NS = 1_000_000                  # while it sends: how often it looks for what came
    STATE_INTERVAL_NS = 1_000_000_000
    PING_BYTES = 12
    STATE_BYTES = 16


cdef void prepare(trunk_sink_state *s) noexcept nogil:
    cdef int i
    for i in range(TRUNK_SINK_BATCH):
        s.vectors[i].iov_base = s.data[i]
        s.vectors[i].iov_len = TRUNK_SINK_BYTES
        s.received[i].msg_hdr.msg_iov = &s.vectors[i]
        s.received[i].msg_hdr.msg_iovlen = 1
        s.received[i].msg_hdr.msg_name = &s.names[i]
        s.received[i].msg_hdr.msg_control = s.control[i]


cdef int receive(trunk_sink_state *s) noexcept nogil:
    cdef int i
    for i in range(TRUNK_SINK_BATCH):
        s.received[i].msg_hdr.msg_namelen = sizeof(s.names[i])
        s.received[i].msg_hdr.msg_controllen = sizeof(s.control[i])
    s.counters.receive_calls += 1
    return recvmmsg(s.fd, s.received, TRUNK_SINK_BATCH, MSG_DONTWAIT, NULL)


cdef trunk_sink_relay *relay_of(trunk_sink_state *s, int i) noexcept nogil:
    """The relay shard that sent message i, remembered when new; NULL when there are too many."""
    cdef uint32_t k
    cdef uint32_t name_bytes = s.received[i].msg_hdr.msg_namelen
    for k in range(s.relays):
        if s.relay[k].name_bytes == name_bytes and memcmp(&s.relay[k].name, &s.names[i], name_bytes) == 0:
            return &s.relay[k]
    if s.relays == TRUNK_SINK_RELAYS:
        return NULL
    memset(&s.relay[s.relays], 0, sizeof(trunk_sink_relay))
    memcpy(&s.relay[s.relays].name, &s.names[i], name_bytes)
    s.relay[s.relays].name_bytes = name_bytes
    s.relays += 1
    s.state_ns = 0                       # it hears at once that we are up
    return &s.relay[s.relays - 1]


cdef void send_items(trunk_sink_state *s) noexcept nogil:
    """Bundles what waits for one relay and sends it in runs."""
    cdef bundle_seal seal
    cdef uint32_t i, count
    if s.items == 0:
        return
    seal.epoch = s.epoch
    seal.sequence = &s.to.sequence
    seal.key = s.down_keys[s.key_id] if s.keyed else NULL
    seal.key_id = s.key_id
    count = bundle(s.item, s.items, s.mtu_bytes, False, &seal, s.out, s.runs)
    for i in range(count):
        send_run(s, &s.runs[i])
    s.items = 0


cdef void send_run(trunk_sink_state *s, const bundle_run *run) noexcept nogil:
    cdef msghdr message
    cdef iovec vector
    cdef uint8_t control[64]
    cdef cmsghdr *segment
    memset(&message, 0, sizeof(message))
    vector.iov_base = <void *>run.data
    vector.iov_len = run.length
    message.msg_iov = &vector
    message.msg_iovlen = 1
    message.msg_name = &s.to.name
    message.msg_namelen = s.to.name_bytes
    if run.datagrams > 1:
        message.msg_control = control
        message.msg_controllen = CMSG_SPACE(sizeof(uint16_t))
        segment = CMSG_FIRSTHDR(&message)
        segment.cmsg_level = SOL_UDP
        segment.cmsg_type = UDP_SEGMENT
        segment.cmsg_len = CMSG_LEN(sizeof(uint16_t))
        memcpy(CMSG_DATA(segment), &run.segment_bytes, sizeof(uint16_t))
    s.counters.send_calls += 1
    if sendmsg(s.fd, &message, MSG_DONTWAIT) < 0:
        s.counters.unsent += 1


cdef trunk_record *next_item(trunk_sink_state *s, trunk_sink_relay *relay) noexcept nogil:
    """A free item for `relay`; what waits for another one, or fills the batch, is sent first."""
    if s.to != relay or s.items == BUNDLE_ITEMS:
        send_items(s)
        s.to = relay
    s.items += 1
    memset(&s.item[s.items - 1], 0, sizeof(trunk_record))
    return &s.item[s.items - 1]


cdef void put_control(trunk_sink_state *s, trunk_sink_relay *relay, const uint8_t *payload,
                      uint16_t length) noexcept nogil:
    cdef trunk_record *item = next_item(s, relay)
    cdef uint8_t *copy = s.payloads[s.items - 1]
    memcpy(copy, payload, length)
    item.payload = copy
    item.length = length
    item.flags = TRUNK_CONTROL
    item.client.family = 4


cdef inline void learn(trunk_sink_state *s, trunk_sink_relay *relay,
                       const trunk_record *record) noexcept nogil:
    """A Binding Request tells how its flow is reached."""
    cdef uint32_t flow
    memcpy(&flow, record.payload + BINDING_TRANSACTION, 4)
    if flow < s.into.flows:
        s.counters.opened += s.returns[flow].relay == 0
        s.returns[flow].relay = <uint32_t>(relay - s.relay) + 1
        s.returns[flow].client = record.client


cdef void answer_request(trunk_sink_state *s, trunk_sink_relay *relay,
                         const trunk_record *record) noexcept nogil:
    cdef trunk_record *item = next_item(s, relay)
    cdef uint8_t *response = s.payloads[s.items - 1]
    item.client = record.client
    item.length = <uint16_t>binding_success(response, record.payload, record.client.address,
                                            record.client.port, record.client.family)
    item.payload = response
    s.counters.requests += 1
    learn(s, relay, record)


cdef void take_control(trunk_sink_state *s, trunk_sink_relay *relay,
                       const trunk_record *record) noexcept nogil:
    """A ping gets its pong; the relay sends nothing else that concerns a sink."""
    cdef uint8_t pong[PING_BYTES]
    if record.length >= PING_BYTES and record.payload[0] == CONTROL_PING:
        memcpy(pong, record.payload, PING_BYTES)
        pong[0] = CONTROL_PONG
        put_control(s, relay, pong, PING_BYTES)
        s.counters.pings += 1


cdef void take_record(trunk_sink_state *s, trunk_sink_relay *relay, const trunk_record *record,
                      uint64_t now_ns) noexcept nogil:
    cdef probe fields
    cdef trunk_record *item
    s.counters.records += 1
    if record.flags & TRUNK_CONTROL:
        take_control(s, relay, record)
    elif binding_is(record.payload, record.length, 0):
        answer_request(s, relay, record)
    elif arrivals_note(s.into, record.payload, record.length, now_ns, &fields) and s.echo:
        item = next_item(s, relay)
        item[0] = record[0]
        item.flags = record.flags & TRUNK_ECN
        s.counters.echoed += 1


cdef void note_sequence(trunk_sink_state *s, trunk_sink_relay *relay,
                        const trunk_header *header) noexcept nogil:
    cdef uint32_t ahead = header.sequence - relay.expected
    if header.epoch != relay.epoch:
        relay.epoch = header.epoch
        ahead = 0
    elif ahead >= <uint32_t>1 << 31:
        if s.counters.gaps:
            s.counters.gaps -= 1         # one counted missing came late
        return
    s.counters.gaps += ahead
    relay.expected = header.sequence + 1


cdef void take_datagram(trunk_sink_state *s, trunk_sink_relay *relay, const uint8_t *data, size_t length,
                        uint64_t now_ns) noexcept nogil:
    cdef trunk_header header
    cdef trunk_record record
    cdef size_t offset = TRUNK_HEADER_BYTES
    cdef int found
    s.counters.datagrams += 1
    s.counters.bytes += length
    if trunk_parse_header(data, length, &header) != TRUNK_OK or header.tagged != s.keyed:
        s.counters.bad += 1
        return
    if s.keyed:
        if (not s.key_mask >> header.key_id & 1
                or not trunk_tag_holds(s.up_keys[header.key_id], data, length)):
            s.counters.bad += 1
            return
        length -= TRUNK_TAG_BYTES
    note_sequence(s, relay, &header)
    while True:
        found = trunk_next_record(data, length, &offset, &record)
        if found == TRUNK_RECORD:
            take_record(s, relay, &record, now_ns)
        elif found == TRUNK_BAD_RECORD:
            s.counters.bad += 1
        else:
            return


cdef uint32_t segment_bytes(trunk_sink_state *s, int i) noexcept nogil:
    """The size of the datagrams UDP_GRO joined into message i; its whole length when it joined none."""
    cdef cmsghdr *control = CMSG_FIRSTHDR(&s.received[i].msg_hdr)
    cdef int joined = 0
    if control != NULL and control.cmsg_level == SOL_UDP and control.cmsg_type == UDP_GRO:
        memcpy(&joined, CMSG_DATA(control), sizeof(int))
    return <uint32_t>joined if joined > 0 else s.received[i].msg_len


cdef void take_message(trunk_sink_state *s, int i, uint64_t now_ns) noexcept nogil:
    cdef trunk_sink_relay *relay = relay_of(s, i)
    cdef uint32_t length = s.received[i].msg_len, segment = segment_bytes(s, i), at = 0
    if relay == NULL or length == 0:
        s.counters.bad += 1
        return
    while at < length:
        take_datagram(s, relay, s.data[i] + at, segment if length - at > segment else length - at, now_ns)
        at += segment


cdef void announce(trunk_sink_state *s, uint64_t now_ns) noexcept nogil:
    """A state record to every relay heard of, once a second."""
    cdef uint32_t i
    if now_ns - s.state_ns < STATE_INTERVAL_NS:
        return
    s.state_ns = now_ns
    for i in range(s.relays):
        put_control(s, &s.relay[i], s.announcement, STATE_BYTES)
        s.counters.states += 1
    send_items(s)


cdef int take_waiting(trunk_sink_state *s, uint64_t *now_ns) noexcept nogil:
    """Takes one batch of what waits, answers it and announces; how many messages it was."""
    cdef int count = receive(s), i
    now_ns[0] = monotonic_ns()
    for i in range(count):
        take_message(s, i, now_ns[0])
    arrivals_publish(s.into)
    send_items(s)                        # echoes point into the receive buffers
    announce(s, now_ns[0])
    return count


cdef void run_trunk_sink(trunk_sink_state *s) noexcept nogil:
    """Full batch: at once again. Not full: a nap lets the next one fill. Empty: wait for a datagram."""
    cdef int count
    cdef uint64_t now_ns = monotonic_ns()
    cdef timespec nap, idle
    cdef epoll_event event
    nap.tv_sec = idle.tv_sec = 0
    nap.tv_nsec = <long>s.nap_ns
    idle.tv_nsec = IDLE_NS
    while not s.stop and now_ns < s.end_ns:
        count = take_waiting(s, &now_ns)
        if count <= 0:
            epoll_pwait2(s.epoll, &event, 1, &idle, NULL)
        elif count < TRUNK_SINK_BATCH and s.nap_ns:
            nanosleep(&nap, NULL)


cdef uint32_t next_flow(trunk_sink_state *s) noexcept nogil:
    """The next flow in turn that can be reached; there is one."""
    cdef uint32_t flow = s.cursor
    while s.returns[flow].relay == 0:
        flow = (flow + 1) % s.into.flows
    s.cursor = (flow + 1) % s.into.flows
    return flow


cdef void send_probes(trunk_sink_state *s, pace *plan, uint64_t may, uint64_t now_ns) noexcept nogil:
    """Sends up to `may` (at most 64) probes of the sink's own, its flows in turn, bundled."""
    cdef uint32_t i, length, count = BUNDLE_ITEMS if may > BUNDLE_ITEMS else <uint32_t>may
    cdef probe fields
    cdef trunk_record *item
    fields.run = s.into.run
    for i in range(count):
        fields.flow = next_flow(s)
        fields.sequence = s.sequences[fields.flow]
        fields.intended_ns = pace_intended_ns(plan, i, now_ns)
        s.sequences[fields.flow] += 1
        length = probe_size(s.size_bytes, s.size_spread, fields.flow, fields.sequence)
        item = next_item(s, &s.relay[s.returns[fields.flow].relay - 1])
        item.client = s.returns[fields.flow].client
        item.payload = s.probes[s.items - 1]
        item.length = <uint16_t>length
        probe_build(s.probes[s.items - 1], length, &fields)
    send_items(s)
    s.counters.sent += count
    pace_note(plan, count, now_ns)
    s.counters.late = s.late_before + plan.late


cdef void rest(trunk_sink_state *s, uint64_t rest_ns) noexcept nogil:
    """Nothing may be sent: nap, or wait for a datagram."""
    cdef timespec duration
    cdef epoll_event event
    cdef uint64_t now_ns
    duration.tv_sec = 0
    duration.tv_nsec = <long>(s.nap_ns if s.nap_ns else rest_ns)
    if s.nap_ns:
        nanosleep(&duration, NULL)
    elif epoll_pwait2(s.epoll, &event, 1, &duration, NULL) > 0:
        take_waiting(s, &now_ns)


cdef void run_send(trunk_sink_state *s, pace *plan, uint64_t drain_ns) noexcept nogil:
    """Sends by the plan, answers and announces meanwhile, then waits until nothing flies."""
    cdef uint64_t now_ns = monotonic_ns(), looked_ns = now_ns, may
    while not s.stop and not pace_over(plan, now_ns):
        if now_ns - looked_ns >= LOOK_NS:
            take_waiting(s, &looked_ns)
        may = pace_allowance(plan, now_ns)
        if may:
            send_probes(s, plan, may, now_ns)
        else:
            rest(s, pace_rest_ns(plan, now_ns))
        now_ns = monotonic_ns()
    drain_ns += now_ns
    while pace_flying(plan) and not s.stop and now_ns < drain_ns:
        take_waiting(s, &now_ns)
        rest(s, 200_000)
    s.counters.written_off += plan.written_off
    if plan.late_max_ns > s.counters.late_max_ns:
        s.counters.late_max_ns = plan.late_max_ns


cdef class TrunkSink:
    """One transceiver address on a trunk.

    address    (host, port) to bind, IPv4 or IPv6; port 0: `port` tells which
    key        the link's 16-byte trunk key as the relay is given it, or None; key_id: its id. More keys are
               learnt, and others forgotten, while it runs
    identity   (cluster, xcvr, incarnation) of the state records
    flows, run, acknowledged   see Arrivals
    """

    def __cinit__(self, address, *, flows=0, run=1, acknowledged=None, key=None, uint8_t key_id=0,
                  uint32_t mtu_bytes=1400, identity=(0, 0, 0)):
        self.state = <trunk_sink_state *>calloc(1, sizeof(trunk_sink_state))
        if self.state == NULL:
            raise MemoryError("no memory for a trunk sink")
        self.state.epoll = -1
        self.arrivals = Arrivals(flows, run, acknowledged)
        self.state.into = self.arrivals.state
        self.state.returns = <trunk_sink_return *>calloc(flows + 1, sizeof(trunk_sink_return))
        self.state.sequences = <uint64_t *>calloc(flows + 1, sizeof(uint64_t))
        if self.state.returns == NULL or self.state.sequences == NULL:
            raise MemoryError(f"no memory for {flows} flows")
        self.state.key_id, self.state.mtu_bytes = key_id, mtu_bytes
        self.state.epoch = <uint32_t>(realtime_ns() // 1_000_000_000)
        cluster, xcvr, incarnation = identity
        announcement = bytes([CONTROL_STATE, 1, incarnation, 0]) + cluster.to_bytes(2, "big")
        announcement += xcvr.to_bytes(2, "big") + bytes(8)
        memcpy(self.state.announcement, <const char *>announcement, STATE_BYTES)
        if key is not None:
            self.learn_key(key_id, key)
            self.state.keyed = True
        self.open_socket(address)
        prepare(self.state)

    def come_back_as(self, uint8_t incarnation) -> None:
        """Say so in every state record from now on, as a transceiver that was started anew."""
        self.state.announcement[2] = incarnation

    def learn_key(self, uint8_t key_id, key) -> None:
        """Believe datagrams under this key too. Both directions' keys come from the link's one (as
        fastpath.settings derives them)."""
        cdef uint64_t derived[2]
        cdef const uint8_t *raw = <const uint8_t *><const char *>key
        if key_id >= FP_TRUNK_KEYS:
            raise ValueError(f"key id {key_id}: choose 0..{FP_TRUNK_KEYS - 1}")
        if len(key) != 16:
            raise ValueError(f"a trunk key is 16 bytes, not {len(key)}")
        siphash128(raw, b"up", 2, derived)
        memcpy(self.state.up_keys[key_id], derived, 16)
        siphash128(raw, b"down", 4, derived)
        memcpy(self.state.down_keys[key_id], derived, 16)
        self.state.key_mask |= <uint8_t>(1 << key_id)

    def sign_with(self, uint8_t key_id) -> None:
        """Send under this key from now on."""
        if not self.state.key_mask >> key_id & 1:
            raise ValueError(f"key {key_id} is not known: learn it first")
        self.state.key_id = key_id

    def forget_key(self, uint8_t key_id) -> None:
        """Believe nothing under this key any more."""
        if key_id == self.state.key_id:
            raise ValueError(f"key {key_id} signs what is sent: sign with another first")
        self.state.key_mask &= <uint8_t>~(1 << key_id)

    cdef open_socket(self, address):
        cdef epoll_event event
        family = sockets_of.AF_INET6 if ":" in address[0] else sockets_of.AF_INET
        self.socket = sockets_of.socket(family, sockets_of.SOCK_DGRAM)
        widen_buffer(self.socket)
        self.socket.setsockopt(SOL_UDP, UDP_GRO, 1)
        self.socket.bind(address)
        self.state.fd = self.socket.fileno()
        self.state.epoll = epoll_create1(EPOLL_CLOEXEC)
        event.events = EPOLLIN
        event.data.fd = self.state.fd
        epoll_ctl(self.state.epoll, EPOLL_CTL_ADD, self.state.fd, &event)

    @property
    def port(self) -> int:
        return self.socket.getsockname()[1]

    def run(self, *, bint echo=False, int duration_ms=20_000, uint64_t nap_us=0) -> None:
        """Serves until `stop` or the end of the duration. nap_us: pause after a batch that was not full."""
        cdef trunk_sink_state *s = self.state
        s.echo, s.nap_ns = echo, nap_us * 1000
        s.end_ns = monotonic_ns() + <uint64_t>duration_ms * 1_000_000
        with nogil:
            run_trunk_sink(s)
        s.stop = 0

    def send(self, *, uint64_t rate_pps=0, uint64_t window=512, int duration_ms=1000, limit=None,
             acknowledged=None, int size_bytes=172, int size_spread=0, uint64_t nap_us=0,
             int drain_ms=2000) -> None:
        """Sends probes to the flows that were opened, until the duration or `limit` datagrams are over, and
        answers relays meanwhile. Speed and sizes as Generator.run and Clients; acknowledged: the
        generator's `returned`, which a window needs."""
        cdef trunk_sink_state *s = self.state
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
        """Live totals of the trunk; the probes are in `arrivals`."""
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
