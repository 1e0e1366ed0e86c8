"""The tap of one shard: a filter, and a ring from its worker to the control thread.

A capture sees the client's side of the relay: what came from a client, when the kernel received it, and
what went to a client, when it was sent; what was dropped carries its reason. Without `whole` only headers
are noted: STUN in full, of DTLS the record and handshake header, of RTP and RTCP theirs, never what they
carry.

The ring is private to the engine and exists while a capture does. A worker announces itself before it
looks whether the ring is there (`tap_enter`), and whoever takes it away looks whether somebody announced
himself before he frees it (`close`): of the two, one sees the other.
"""
import time

cimport cython
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from fastpath.address cimport client_hash
from fastpath.atomic cimport (
    fence_full, load_acquire_pointer, load_acquire_u32, load_acquire_u64, store_relaxed_u32,
    store_release_pointer, store_release_u32, store_release_u64)
from fastpath.demux cimport DEMUX_DTLS, DEMUX_RTP, DEMUX_STUN, demux
from fastpath.flows cimport flows_lookup, flows_read
from fastpath.layout cimport (
    FP_DATAGRAM_BYTES, FP_NONE, FP_UP, fp_client, fp_flow, fp_provisional, fp_route)
from fastpath.provisional cimport provisional_first, provisional_next
from fastpath.routes cimport ufrag_hash
from fastpath.stun cimport STUN_OK, read_u16, stun_message, stun_parse

SNAP_MAX = FP_DATAGRAM_BYTES
"""Bytes of a datagram at most: the relay takes no longer ones."""

cdef enum:
    RING_BYTES_MIN = 65536
    OTHER_BYTES = 4                 # of what is none of WebRTC: enough to see why
    DTLS_HANDSHAKE = 22             # content type (RFC 6347 section 4.1)
    DTLS_RECORD_BYTES = 13
    DTLS_HANDSHAKE_BYTES = 12
    RTP_BYTES = 12
    RTCP_BYTES = 8                  # SRTCP leaves so much in clear (RFC 3711 section 3.4)


# ---- the worker's end -----------------------------------------------------------------------------

cdef tap_ring *tap_enter(shard_state *shard) noexcept nogil:
    """The ring, which stays until tap_leave; NULL: nobody captures any more."""
    cdef tap_ring *ring
    store_relaxed_u32(&shard.tap_busy, 1)
    fence_full()
    ring = <tap_ring *>load_acquire_pointer(&shard.tap)
    if ring == NULL:
        tap_leave(shard)
    return ring


cdef void tap_leave(shard_state *shard) noexcept nogil:
    store_release_u32(&shard.tap_busy, 0)


cdef void tap_datagram(const shard_state *shard, tap_ring *ring, int direction, uint8_t reason,
                       const fp_client *client, uint64_t stamp_ns, const uint8_t *data,
                       uint32_t length) noexcept nogil:
    """Note one datagram, if it is asked for. Call it once the datagram's fate is known."""
    cdef tap_note note
    if ring.wanted.by_client and not is_client(&ring.wanted.client, client):
        return
    if not find(shard, &ring.wanted, client, &note.backend):
        if by_flow(&ring.wanted) and not (direction == FP_UP and asks_for(shard, &ring.wanted, data, length)):
            return
        note.backend = FP_NONE
    note.length, note.stamp_ns, note.client = length, stamp_ns, client[0]
    note.direction, note.reason = <uint8_t>direction, reason
    note.captured = <uint16_t>min(length if ring.whole else header_bytes(data, length), ring.snap_bytes)
    push(ring, &note, data)


cdef void push(tap_ring *ring, tap_note *note, const uint8_t *data) noexcept nogil:
    """Notes lie in one piece: one that does not fit before the ring's end begins at its start again."""
    cdef uint64_t offset = ring.head & (ring.capacity - 1)
    cdef uint64_t filler = 0
    note.bytes = <uint32_t>((sizeof(tap_note) + note.captured + 7) & ~<uint64_t>7)
    if note.bytes > ring.capacity - offset:
        filler = ring.capacity - offset
    store_release_u64(&ring.matched, ring.matched + 1)
    if ring.head + filler + note.bytes - load_acquire_u64(&ring.tail) > ring.capacity:
        store_release_u64(&ring.missed, ring.missed + 1)
        return
    if filler:
        (<uint32_t *>(ring.data + offset))[0] = <uint32_t>filler
        (<uint32_t *>(ring.data + offset))[1] = FP_NONE
        offset = 0
    memcpy(ring.data + offset, note, sizeof(tap_note))
    memcpy(ring.data + offset + sizeof(tap_note), data, note.captured)
    store_release_u64(&ring.head, ring.head + filler + note.bytes)


# ---- is it asked for? -----------------------------------------------------------------------------

cdef inline bint is_client(const fp_client *wanted, const fp_client *client) noexcept nogil:
    return (wanted.family == client.family and (wanted.port == 0 or wanted.port == client.port)
            and memcmp(wanted.address, client.address, 16) == 0)


cdef inline bint by_flow(const tap_filter *wanted) noexcept nogil:
    """Does it ask for anything that only a flow has?"""
    return wanted.by_backend or wanted.by_ufrag or wanted.by_session


cdef bint find(const shard_state *shard, const tap_filter *wanted, const fp_client *client,
               uint32_t *backend) noexcept nogil:
    """Has this client a flow that is asked for, in any state and any shard? Gives its backend.

    A client with two (an ICE restart) shows the datagrams of both: an address has one conversation.
    """
    cdef uint64_t hash = client_hash(shard.seed, client)
    cdef uint32_t index = flows_lookup(&shard.flows, client, hash), i
    cdef const fp_provisional *early
    cdef const fp_flow *flow
    cdef fp_flow elsewhere
    if index != FP_NONE:
        flow = &shard.flows.slots[index]
        backend[0] = flow.backend
        if fits(shard, wanted, flow.backend, flow.ufrag_hash, flow.route):
            return True
    index = provisional_first(&shard.provisional, client, hash)
    while index != FP_NONE:
        early = &shard.provisional.entries[index]
        backend[0] = early.backend
        if fits(shard, wanted, early.backend, early.ufrag_hash, early.route):
            return True
        index = provisional_next(&shard.provisional, index)
    for i in range(shard.siblings_count):
        if flows_read(&shard.siblings[i].flows, client, hash, &elsewhere):
            backend[0] = elsewhere.backend
            if fits(shard, wanted, elsewhere.backend, elsewhere.ufrag_hash, elsewhere.route):
                return True
    return False


cdef bint fits(const shard_state *shard, const tap_filter *wanted, uint32_t backend, uint64_t ufrag,
               uint32_t route) noexcept nogil:
    cdef const fp_route *installed
    if wanted.by_backend and shard.backends.entries[backend].parent != wanted.backend:
        return False
    if wanted.by_ufrag and ufrag != wanted.ufrag_hash:
        return False
    if not wanted.by_session:
        return True
    if route == FP_NONE:
        return False
    installed = &shard.routes.slots[route]
    return installed.hash[0] == ufrag and installed.session == wanted.session


cdef bint asks_for(const shard_state *shard, const tap_filter *wanted, const uint8_t *data,
                   uint32_t length) noexcept nogil:
    """A request that no flow was opened for, with the very ufrag that is looked for: to see why."""
    cdef stun_message message
    cdef uint64_t hash[2]
    if not wanted.by_ufrag or wanted.by_backend or wanted.by_session:
        return False
    message.ufrag, message.ufrag_length = NULL, 0
    if demux(data, length) != DEMUX_STUN or stun_parse(data, length, &message) != STUN_OK:
        return False
    if message.ufrag == NULL:
        return False
    ufrag_hash(shard.seed, message.ufrag, message.ufrag_length, hash)
    return hash[0] == wanted.ufrag_hash


# ---- how much of it? ------------------------------------------------------------------------------

cdef uint32_t header_bytes(const uint8_t *data, uint32_t length) noexcept nogil:
    """What may be kept when no payload is wanted; at most `length`."""
    cdef int kind = demux(data, length)
    cdef uint32_t wanted = OTHER_BYTES
    if kind == DEMUX_STUN:
        wanted = length
    elif kind == DEMUX_DTLS:
        wanted = dtls_header_bytes(data, length)
    elif kind == DEMUX_RTP and length >= 2 and 192 <= data[1] <= 223:       # RTCP (RFC 5761 section 4)
        wanted = RTCP_BYTES
    elif kind == DEMUX_RTP:
        wanted = rtp_header_bytes(data, length)
    return min(wanted, length)


cdef uint32_t dtls_header_bytes(const uint8_t *data, uint32_t length) noexcept nogil:
    """The first record's header, and the handshake's behind it while that is in clear (epoch 0)."""
    if data[0] >= 32:               # DTLS 1.3: 0b001CSLEE, sequence number, length (RFC 9147 section 4)
        return <uint32_t>(2 + (data[0] >> 3 & 1) + (data[0] >> 1 & 2))
    if data[0] == DTLS_HANDSHAKE and length >= DTLS_RECORD_BYTES and read_u16(data + 3) == 0:
        return DTLS_RECORD_BYTES + DTLS_HANDSHAKE_BYTES
    return DTLS_RECORD_BYTES


cdef uint32_t rtp_header_bytes(const uint8_t *data, uint32_t length) noexcept nogil:
    """RFC 3550 section 5.1: contributing sources and the extension belong to it."""
    cdef uint32_t header = RTP_BYTES + 4 * <uint32_t>(data[0] & 15)
    if data[0] & 16 == 0 or length < header + 4:
        return header
    return header + 4 + 4 * read_u16(data + header + 2)


# ---- the control thread's end ---------------------------------------------------------------------

@cython.no_gc_clear                 # __dealloc__ needs the shard
cdef class Tap:
    """Notes what the filter asks for until close(); a shard has one at a time.

    client: (16 bytes of address, family 4 or 6, port or 0). ufrag: b"" asks for none. session: its keyed
    hash, 0 asks for none. backend: index of a configured one, -1 asks for none. ring_bytes: rounded up to
    a power of two.
    """

    def __init__(self, Shard shard not None, *, uint32_t ring_bytes, bint whole=False,
                 uint32_t snap_bytes=FP_DATAGRAM_BYTES, tuple client=None, bytes ufrag=b"",
                 uint32_t session=0, int backend=-1):
        cdef uint64_t capacity = RING_BYTES_MIN
        cdef uint64_t hash[2]
        if shard.state.tap != NULL:
            raise ValueError("this shard has a tap already")
        if not 1 <= snap_bytes <= FP_DATAGRAM_BYTES:
            raise ValueError(f"snap_bytes is 1..{SNAP_MAX}")
        while capacity < ring_bytes:
            capacity *= 2
        self.shard = shard
        self.ring = <tap_ring *>calloc(1, sizeof(tap_ring))
        if self.ring != NULL:
            self.ring.data = <uint8_t *>calloc(1, capacity)
        if self.ring == NULL or self.ring.data == NULL:
            raise MemoryError("no memory for a capture")
        self.ring.capacity, self.ring.whole, self.ring.snap_bytes = capacity, whole, snap_bytes
        if client is not None:
            self.look_for(client[0], client[1], client[2])
        if ufrag:
            ufrag_hash(shard.state.seed, ufrag, <size_t>len(ufrag), hash)
            self.ring.wanted.by_ufrag, self.ring.wanted.ufrag_hash = True, hash[0]
        self.ring.wanted.by_session, self.ring.wanted.session = session != 0, session
        if backend >= 0:
            self.ring.wanted.by_backend, self.ring.wanted.backend = True, <uint32_t>backend
        store_release_pointer(&shard.state.tap, self.ring)

    cdef int look_for(self, bytes address16, uint8_t family, uint16_t port) except -1:
        if len(address16) != 16 or family not in (4, 6):
            raise ValueError("an address is 16 bytes with family 4 or 6")
        self.ring.wanted.by_client = True
        memcpy(self.ring.wanted.client.address, <const char *>address16, 16)
        self.ring.wanted.client.family, self.ring.wanted.client.port = family, port

    def read(self, uint32_t most):
        """Take up to `most` notes out, oldest first, as tuples.

        (wall clock in ns, direction, drop reason, backend index or None, client address of 16 bytes, port,
        family, ingress, length of the datagram, the bytes captured of it)
        """
        cdef tap_note note
        cdef uint64_t tail = self.ring.tail, head = load_acquire_u64(&self.ring.head)
        cdef const uint8_t *at
        cdef list found = []
        while tail < head and <uint32_t>len(found) < most:
            at = self.ring.data + (tail & (self.ring.capacity - 1))
            memcpy(&note, at, 8)
            if note.length != FP_NONE:
                memcpy(&note, at, sizeof(note))
                found.append((
                    note.stamp_ns, note.direction, note.reason,
                    None if note.backend == FP_NONE else note.backend,
                    note.client.address[:16], note.client.port, note.client.family, note.client.ingress,
                    note.length, (at + sizeof(note))[:note.captured]))
            tail += note.bytes
        store_release_u64(&self.ring.tail, tail)
        return found

    def counts(self):
        """(datagrams that were asked for, those of them that found the ring full)."""
        cdef uint64_t missed = load_acquire_u64(&self.ring.missed)
        return load_acquire_u64(&self.ring.matched), missed

    def close(self):
        """Note nothing more. What is in the ring can still be read."""
        if self.shard.state.tap == self.ring:
            store_release_pointer(&self.shard.state.tap, NULL)
            fence_full()
            while load_acquire_u32(&self.shard.state.tap_busy):
                time.sleep(0.0001)  # a worker is in the middle of a batch: some microseconds

    def __dealloc__(self):
        if self.ring != NULL:
            self.close()
            free(self.ring.data)
            free(self.ring)
