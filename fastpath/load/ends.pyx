"""The backends of a player.

A plain end learns from the first datagram of a session which upstream port of the relay is that session's;
a trunk end reads the client's address in each record. Neither answers what the recorded server did not:
only the trunk's pings and the bare request by which a relay asks whether a plain backend lives.
"""

import socket as sockets_of

from fastpath.load.inbox import widen_buffer

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.address cimport endpoint_equal, endpoint_from_sockaddr
from fastpath.batch cimport (
    arrival, batch_arrival, batch_attach_datagrams, batch_attach_trunk, batch_receive, batch_send,
    batch_settle, compose, compose_endpoint, compose_segments,
)
from fastpath.load.binding cimport BINDING_HEADER_BYTES, binding_is, binding_success
from fastpath.bundles cimport bundle, bundle_seal
from fastpath.load.judge cimport (
    FOUND_MOVED, SESSION_FREE, arrived, finding, judge, judge_arrival, judge_note, session_state,
)
from fastpath.layout cimport FP_BATCH, FP_DROP_none, FP_NONE
from fastpath.linux cimport EAGAIN, ENOBUFS, monotonic_ns, realtime_ns
from fastpath.links cimport CONTROL_SEND_PONG, link_admit, link_control
from fastpath.siphash cimport siphash13, siphash128
from fastpath.trunk cimport (
    CONTROL_PONG, CONTROL_STATE, TRUNK_BAD_RECORD, TRUNK_CONTROL, TRUNK_HEADER_BYTES, TRUNK_RECORD,
    trunk_next_record, trunk_record,
)

UDP_GRO = 104

cdef enum:
    NAME_BYTES = 32
    PING_BYTES = 12
    STATE_BYTES = 16
    STATE_INTERVAL_NS = 1_000_000_000

cdef uint32_t last_epoch = 0             # of this process: it rises with each trunk end, as FT1 wants


# ---- whose a source is -----------------------------------------------------------------------------

cdef uint32_t place_of(const end_map *map, const fp_endpoint *source) noexcept nogil:
    """Where the source stands, or the empty place where it would."""
    cdef uint8_t[16] seed
    cdef uint32_t at
    memset(seed, 0, 16)
    at = <uint32_t>siphash13(seed, <const uint8_t *>source, sizeof(fp_endpoint)) & (map.capacity - 1)
    while map.sessions[at] and not endpoint_equal(&map.sources[at], source):
        at = (at + 1) & (map.capacity - 1)
    return at


cdef void learn(end_state *e, uint32_t who, const fp_endpoint *source, uint64_t now_ns) noexcept nogil:
    """`source` is where session `who` is answered from now on."""
    cdef session_state *s = &e.judge.sessions[who]
    cdef uint32_t at = place_of(&e.map, source)
    cdef finding *found
    if s.routed and not endpoint_equal(&s.path, source):
        e.judge.moved += 1
        found = judge_note(e.judge, FOUND_MOVED, now_ns)
        found.session, found.call, found.upstream = who, s.call, True
        found.expected_end = found.actual_end = e.index
        found.actual_session = who
    s.path, s.routed = source[0], True
    if not e.map.sessions[at]:
        if 4 * (e.map.count + 1) > 3 * e.map.capacity:
            return                       # too many moves: later arrivals are looked for among all sessions
        e.map.count += 1
        e.map.sources[at] = source[0]
    e.map.sessions[at] = who + 1


cdef uint32_t session_of_client(const end_state *e, const fp_client *client) noexcept nogil:
    """FP_NONE when no session has this address."""
    cdef uint32_t k, address, who
    if client.family != 4:
        return FP_NONE
    address = (<uint32_t>client.address[0] << 24 | <uint32_t>client.address[1] << 16
               | <uint32_t>client.address[2] << 8 | client.address[3])
    for k in range(e.clients.sockets):
        if e.clients.ports[k] == client.port:
            who = (address - e.clients.first_address) * e.clients.sockets + k
            if address - e.clients.first_address < e.judge.count and who < e.judge.count:
                return who if e.judge.sessions[who].state != SESSION_FREE else FP_NONE
    return FP_NONE


# ---- what comes out of the relay ---------------------------------------------------------------------

cdef uint32_t end_receive(end_state *e) noexcept nogil:
    """Takes one batch of what waits; how many messages. Never waits."""
    cdef uint64_t now_ns
    cdef uint32_t count, slot
    e.receive_calls += 1
    count = batch_receive(&e.incoming, e.fd, 0)
    now_ns = monotonic_ns()
    for slot in range(count):
        if e.trunk:
            take_trunk(e, slot, now_ns)
        else:
            take_plain(e, slot, now_ns)
    batch_settle(&e.incoming)
    end_flush(e)                         # answers to pings and probes
    return count


cdef const uint8_t *received(const end_state *e, uint32_t slot, arrival *came,
                             fp_endpoint *source) noexcept nogil:
    batch_arrival(&e.incoming, slot, came)
    endpoint_from_sockaddr(e.incoming.names + NAME_BYTES * slot,
                           e.incoming.messages[slot].msg_hdr.msg_namelen, source)
    return e.incoming.data + <size_t>slot * e.incoming.stride


cdef void take_plain(end_state *e, uint32_t slot, uint64_t now_ns) noexcept nogil:
    cdef arrival came
    cdef fp_endpoint source
    cdef arrived a
    cdef uint32_t who
    a.data = received(e, slot, &came, &source)
    a.length, a.end, a.now_ns, a.may_teach = e.incoming.messages[slot].msg_len, e.index, now_ns, True
    if a.length == BINDING_HEADER_BYTES and binding_is(a.data, a.length, 0):
        answer_probe(e, a.data, &source)
        return
    a.session = e.map.sessions[place_of(&e.map, &source)] - 1        # empty: FP_NONE
    who = judge_arrival(e.judge, &a)
    if who != FP_NONE and who != a.session:
        learn(e, who, &source, now_ns)


cdef void answer_probe(end_state *e, const uint8_t *request, const fp_endpoint *source) noexcept nogil:
    cdef uint8_t *response = end_scratch(e, 0)
    cdef size_t length = binding_success(response, request, source.address, source.port, source.family)
    e.probes += 1
    compose(&e.outgoing, response, length)
    compose_endpoint(&e.outgoing, source)


cdef uint32_t relay_of(end_state *e, const fp_endpoint *source) noexcept nogil:
    """The relay socket that speaks, remembered when new; FP_NONE when there are too many."""
    cdef uint32_t k
    for k in range(e.relays):
        if endpoint_equal(&e.relay[k].address, source):
            return k
    if e.relays == END_RELAYS:
        return FP_NONE
    memset(&e.relay[e.relays], 0, sizeof(end_relay))
    e.relay[e.relays].address = source[0]
    e.relays += 1
    e.announced_ns = 0                   # it hears at once that we are up
    return e.relays - 1


cdef void take_trunk(end_state *e, uint32_t slot, uint64_t now_ns) noexcept nogil:
    cdef arrival came
    cdef fp_endpoint source
    cdef const uint8_t *data = received(e, slot, &came, &source)
    cdef uint32_t length = e.incoming.messages[slot].msg_len, at = 0, size, relay = relay_of(e, &source)
    if relay == FP_NONE or came.truncated:
        e.bad += 1
        return
    size = came.segment_bytes if came.segment_bytes else length
    while at < length:
        take_datagram(e, relay, data + at, size if size < length - at else length - at, now_ns)
        at += size


cdef void take_datagram(end_state *e, uint32_t relay, const uint8_t *data, size_t length,
                        uint64_t now_ns) noexcept nogil:
    cdef trunk_record record
    cdef size_t end = length, offset = TRUNK_HEADER_BYTES
    cdef int code
    if link_admit(&e.relay[relay].link, e.keyed, &e.up_key[0][0], <uint32_t>1 << e.key_id, data, length,
                  False, <uint32_t>(now_ns // 1_000_000), &end) != FP_DROP_none:
        e.bad += 1
        return
    code = trunk_next_record(data, end, &offset, &record)
    while code == TRUNK_RECORD or code == TRUNK_BAD_RECORD:
        if code == TRUNK_BAD_RECORD:
            e.bad += 1
        elif record.flags & TRUNK_CONTROL:
            obey(e, relay, &record, now_ns)
        else:
            take_record(e, relay, &record, now_ns)
        code = trunk_next_record(data, end, &offset, &record)


cdef void take_record(end_state *e, uint32_t relay, const trunk_record *record,
                      uint64_t now_ns) noexcept nogil:
    cdef arrived a
    cdef session_state *s
    cdef uint32_t who
    a.data, a.length, a.end, a.now_ns, a.may_teach = record.payload, record.length, e.index, now_ns, False
    a.session = session_of_client(e, &record.client)
    who = judge_arrival(e.judge, &a)
    if who != FP_NONE:
        s = &e.judge.sessions[who]
        s.client, s.relay, s.routed = record.client, relay, True


cdef void obey(end_state *e, uint32_t relay, const trunk_record *record, uint64_t now_ns) noexcept nogil:
    cdef uint8_t pong[PING_BYTES]
    if link_control(&e.relay[relay].link, record.payload, record.length, now_ns) == CONTROL_SEND_PONG:
        memcpy(pong, record.payload, PING_BYTES)
        pong[0] = CONTROL_PONG
        stage_control(e, relay, pong, PING_BYTES)
        e.pings += 1


# ---- what goes to the relay --------------------------------------------------------------------------

cdef uint8_t *end_scratch(end_state *e, uint32_t relay) noexcept nogil:
    """Where the next datagram to be staged may be written, FP_DATAGRAM_BYTES long. `relay`: which one it is
    for (trunk): what waits for another goes first, not between writing and staging."""
    if e.items == FP_BATCH or e.outgoing.count == FP_BATCH or (e.items and e.to != relay):
        end_flush(e)
    return e.scratch[e.items if e.trunk else e.outgoing.count]


cdef void end_stage(end_state *e, const session_state *s, const uint8_t *data,
                    uint32_t length) noexcept nogil:
    """Puts a datagram for a routed session into the batch. `data` must stay until end_flush."""
    cdef trunk_record *item
    if e.trunk:
        item = next_item(e, s.relay)
        item.payload, item.length, item.client = data, <uint16_t>length, s.client
        return
    if e.outgoing.count == FP_BATCH:
        end_flush(e)
    compose(&e.outgoing, data, length)
    compose_endpoint(&e.outgoing, &s.path)


cdef trunk_record *next_item(end_state *e, uint32_t relay) noexcept nogil:
    """A free record; what waits for another relay socket, or fills the batch, is sent first."""
    if e.items and (e.to != relay or e.items == FP_BATCH):
        end_flush(e)
    e.to = relay
    e.items += 1
    memset(&e.item[e.items - 1], 0, sizeof(trunk_record))
    return &e.item[e.items - 1]


cdef void stage_control(end_state *e, uint32_t relay, const uint8_t *payload, uint16_t length) noexcept nogil:
    cdef trunk_record *item = next_item(e, relay)
    memcpy(e.scratch[e.items - 1], payload, length)
    item.payload, item.length = e.scratch[e.items - 1], length
    item.flags = TRUNK_CONTROL
    item.client.family = 4


cdef void end_flush(end_state *e) noexcept nogil:
    """Sends what is staged."""
    cdef bundle_seal seal
    cdef uint32_t k, count
    if e.items:
        seal.epoch, seal.sequence, seal.key_id = e.epoch, &e.relay[e.to].link.tx_sequence, e.key_id
        seal.key = e.down_key if e.keyed else NULL
        count = bundle(e.item, e.items, e.mtu_bytes, False, &seal, e.out, e.runs)
        for k in range(count):
            compose(&e.outgoing, e.runs[k].data, e.runs[k].length)
            compose_endpoint(&e.outgoing, &e.relay[e.to].address)
            if e.runs[k].datagrams > 1:
                compose_segments(&e.outgoing, e.runs[k].segment_bytes)
        e.items = 0
    count = e.outgoing.count
    if count:
        e.send_calls += 1
        batch_send(&e.outgoing, e.fd)
        outcome_of(&e.outgoing, count, &e.blocked, &e.failure)


cdef void outcome_of(send_batch *batch, uint32_t count, uint64_t *blocked, int *failure) noexcept nogil:
    """What the kernel did not take for want of room is counted; what it refuses otherwise ends the run."""
    cdef uint32_t k
    for k in range(count):
        if batch.outcome[k] == EAGAIN or batch.outcome[k] == ENOBUFS:
            blocked[0] += 1
        elif batch.outcome[k]:
            failure[0] = batch.outcome[k]


cdef void end_announce(end_state *e, uint64_t now_ns) noexcept nogil:
    """A state record to every relay socket heard of, once a second."""
    cdef uint32_t k
    if not e.trunk or now_ns - e.announced_ns < STATE_INTERVAL_NS:
        return
    e.announced_ns = now_ns
    for k in range(e.relays):
        stage_control(e, k, e.announcement, STATE_BYTES)
    end_flush(e)


# ---- Python ----------------------------------------------------------------------------------------

cdef class End:
    """What PlainEnd and TrunkEnd have in common: a bound socket and the memory around it.

    address: (host, port) where the relay reaches it.
    """

    cdef open_end(self, address, bint trunk):
        cdef end_state *e = <end_state *>calloc(1, sizeof(end_state))
        if e == NULL:
            raise MemoryError("no memory for an end")
        self.state = e
        e.trunk = trunk
        e.fd = -1
        if trunk:
            e.area = <fp_trunk_area *>calloc(1, sizeof(fp_trunk_area))
        else:
            e.datagrams = <fp_datagram_area *>calloc(1, sizeof(fp_datagram_area))
        if e.area == NULL and e.datagrams == NULL:
            raise MemoryError("no memory for the batch of an end")
        if trunk:
            batch_attach_trunk(&e.incoming, e.area)
        else:
            batch_attach_datagrams(&e.incoming, e.datagrams)
        family = sockets_of.AF_INET6 if ":" in address[0] else sockets_of.AF_INET
        self.socket = sockets_of.socket(family, sockets_of.SOCK_DGRAM)
        widen_buffer(self.socket)
        if trunk:
            self.socket.setsockopt(sockets_of.IPPROTO_UDP, UDP_GRO, 1)
        self.socket.bind(address)
        e.fd = self.socket.fileno()
        self.address = self.socket.getsockname()[:2]

    cdef start(self, uint32_t index, judge *into, const end_clients *clients):
        """Called by the player that takes the end over; it plays for one player in its life."""
        cdef end_state *e = self.state
        cdef uint32_t capacity = 1024
        if self.taken or e.fd < 0:
            raise ValueError(f"end {index} at {self.address} belongs to another player, or is closed")
        while capacity < 4 * into.count:
            capacity *= 2
        if not e.trunk:
            e.map.sources = <fp_endpoint *>calloc(capacity, sizeof(fp_endpoint))
            e.map.sessions = <uint32_t *>calloc(capacity, sizeof(uint32_t))
            if e.map.sources == NULL or e.map.sessions == NULL:
                raise MemoryError(f"no memory for the upstream ports of {into.count} sessions")
        e.map.capacity = capacity
        e.index, e.judge, e.clients = index, into, clients
        self.taken = True

    def close(self) -> None:
        """Close the socket; again: nothing."""
        if self.state != NULL:
            self.state.fd = -1
        if self.socket is not None:
            self.socket.close()

    def __dealloc__(self):
        if self.state != NULL:
            free(self.state.datagrams)
            free(self.state.area)
            free(self.state.map.sources)
            free(self.state.map.sessions)
            free(self.state)


cdef class PlainEnd(End):
    """A backend in plain mode: an ordinary UDP socket, bound at once.

    address: (host, port), IPv4 or IPv6 literal; port 0: `address` tells which. Player.close() closes it.
    """

    def __init__(self, address=("127.0.0.1", 0)):
        self.open_end(address, False)


cdef class TrunkEnd(End):
    """A backend on a trunk: FT1 with the relay's shards, answers pings, says every second that it is up.

    address     (host, port) to bind, as PlainEnd
    key         the link's 16-byte trunk key as the relay is given it, or None; key_id 0..3
    mtu_bytes   of a trunk datagram
    identity    (cluster, xcvr, incarnation) of its state records
    """

    def __init__(self, address=("127.0.0.1", 0), *, key=None, uint8_t key_id=0, uint32_t mtu_bytes=1400,
                 identity=(0, 0, 0)):
        global last_epoch
        cdef end_state *e
        cluster, xcvr, incarnation = identity
        announcement = bytes([CONTROL_STATE, 1, incarnation, 0]) + cluster.to_bytes(2, "big")
        announcement += xcvr.to_bytes(2, "big") + bytes(8)
        if key_id > 3:
            raise ValueError(f"key_id is {key_id}: choose 0..3")
        self.open_end(address, True)
        e = self.state
        e.mtu_bytes = mtu_bytes
        last_epoch += 1
        if last_epoch < realtime_ns() // 1_000_000_000:
            last_epoch = <uint32_t>(realtime_ns() // 1_000_000_000)
        e.epoch = last_epoch
        memcpy(e.announcement, <const char *>announcement, STATE_BYTES)
        if key is not None:
            self.set_key(key, key_id)

    cdef set_key(self, bytes key, uint8_t key_id):
        """Both directions' keys come from the link's one (as fastpath.settings derives them)."""
        cdef uint64_t derived[2]
        cdef const uint8_t *raw = <const uint8_t *><const char *>key
        if len(key) != 16:
            raise ValueError(f"a trunk key is 16 bytes, not {len(key)}")
        siphash128(raw, b"up", 2, derived)
        memcpy(self.state.up_key[key_id], derived, 16)
        siphash128(raw, b"down", 4, derived)
        memcpy(self.state.down_key, derived, 16)
        self.state.keyed, self.state.key_id = True, key_id
