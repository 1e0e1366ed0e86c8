"""The way down: receive from a trunk or from plain ports, forward each datagram, send to the clients.

A trunk message is up to 64 KiB of joined datagrams full of records; payloads are sent from where they
lie, nothing is copied. Replies leave from the address the client used, with the backend's ECN bits.
"""
from libc.stdint cimport uint8_t, uint64_t

from fastpath.address cimport client_from_sockaddr, client_hash, endpoint_from_sockaddr
from fastpath.backends cimport backends_by_address
from fastpath.batch cimport (
    arrival, batch_arrival, batch_receive, batch_send, batch_settle, compose, compose_client, compose_source,
    compose_traffic_class, receive_batch, send_batch)
from fastpath.counters cimport count_batch, counters_publish
from fastpath.crash cimport FP_AT_flushed, FP_AT_flushing, crash_point
from fastpath.forward cimport forward_down_plain, forward_down_trunk
from fastpath.lane cimport book_dropped, book_sent, drop_reason, lane_state, link_to, parcel
from fastpath.layout cimport (
    FP_BATCH, FP_DEFAULT_TOS, FP_DOWN, FP_DROP, FP_DROP_bad_record, FP_DROP_bad_trunk, FP_DROP_none,
    FP_DROP_oversize, FP_DROP_unknown_ingress, FP_DROP_untrusted_trunk, FP_LISTENERS, FP_NONE, FP_PORT_flow,
    FP_PORT_provisional, fp_client, fp_datagram, fp_endpoint, fp_ingress, fp_port, fp_verdict)
from fastpath.lifecycle cimport forget_flow
from fastpath.links cimport CONTROL_FORGET_FLOW, CONTROL_SEND_PONG, link_admit, link_control
from fastpath.linux cimport monotonic_ns, realtime_ns
from fastpath.ports cimport ports_lookup
from fastpath.sabotage cimport sabotage_down
from fastpath.tap cimport tap_datagram, tap_enter, tap_is_on, tap_leave, tap_ring
from fastpath.trunk cimport (
    CONTROL_PONG, TRUNK_BAD_RECORD, TRUNK_CONFIRMED, TRUNK_CONTROL, TRUNK_ECN, TRUNK_END, TRUNK_HEADER_BYTES,
    trunk_next_record, trunk_record)
from fastpath.upstream cimport send_control

cdef enum:
    NAME_BYTES = 32
    PING_BYTES = 12


# ---- plain ----------------------------------------------------------------------------------------

cdef uint32_t receive_plain(lane_state *lane, uint16_t port) noexcept nogil:
    """Add what waits at one upstream port to the batch in hand; gives how many datagrams came."""
    return batch_receive(&lane.from_plain, lane.plain_fds[port], port)


cdef void forward_plain(lane_state *lane, uint32_t now_ms) noexcept nogil:
    """Bring every reply in hand to its client, settle the batch, publish the counters."""
    cdef receive_batch *batch = &lane.from_plain
    cdef fp_endpoint source
    cdef fp_verdict verdict
    cdef arrival came
    cdef uint32_t i, length
    cdef const uint8_t *data
    count_batch(&lane.shard.counters, FP_DOWN, batch.count)
    for i in range(batch.count):
        length = batch.messages[i].msg_len
        if lane.recovering and batch.notes[i].done >= length:
            continue
        batch_arrival(batch, i, &came)
        data = batch.data + <size_t>i * batch.stride
        book_received(lane, length)
        endpoint_from_sockaddr(batch.names + NAME_BYTES * i, batch.messages[i].msg_hdr.msg_namelen, &source)
        if came.truncated:
            verdict.action, verdict.reason = FP_DROP, FP_DROP_oversize
        else:
            forward_down_plain(lane.shard, batch.notes[i].source, &source, data, length, now_ms, &verdict)
        if verdict.action == FP_DROP:
            lose_plain(lane, verdict.reason, batch.notes[i].source, &source, data, length)
            batch.notes[i].done = length
        else:
            send_down(lane, &verdict, data, length, came.ecn, came.stamp_ns, batch, i, length)
    flush(lane, batch)
    counters_publish(lane.shard.header, lane.shard.published, &lane.shard.counters)
    batch_settle(batch)


# ---- trunk ----------------------------------------------------------------------------------------

cdef uint32_t serve_trunk(lane_state *lane, uint32_t now_ms) noexcept nogil:
    """One batch from the trunk; gives how many messages came."""
    cdef uint32_t received = batch_receive(&lane.from_trunk, lane.trunk_fd, 0)
    if received:
        forward_trunk(lane, now_ms)
    return received


cdef void forward_trunk(lane_state *lane, uint32_t now_ms) noexcept nogil:
    """Take every message in hand apart and send its records on."""
    cdef receive_batch *batch = &lane.from_trunk
    cdef uint64_t before = lane.shard.counters.received[FP_DOWN]
    cdef fp_endpoint source
    cdef arrival came
    cdef uint32_t i, backend, length, start, size
    for i in range(batch.count):
        length = batch.messages[i].msg_len
        batch_arrival(batch, i, &came)
        endpoint_from_sockaddr(batch.names + NAME_BYTES * i, batch.messages[i].msg_hdr.msg_namelen, &source)
        backend = backends_by_address(&lane.shard.backends, &source)
        size = came.segment_bytes if came.segment_bytes else length
        start = batch.notes[i].done // size * size if lane.recovering and length else 0
        if length == 0 and not lane.recovering:         # nothing is in it, but it came
            open_datagram(lane, backend, &came, i, 0, 0, now_ms)
        while start < length:
            open_datagram(lane, backend, &came, i, start, min(size, length - start), now_ms)
            start += size
    flush(lane, batch)
    for i in range(batch.count):
        batch.notes[i].done = batch.messages[i].msg_len
    count_batch(&lane.shard.counters, FP_DOWN, <uint32_t>(lane.shard.counters.received[FP_DOWN] - before))
    counters_publish(lane.shard.header, lane.shard.published, &lane.shard.counters)
    batch_settle(batch)


cdef void open_datagram(lane_state *lane, uint32_t backend, const arrival *came, uint32_t i, uint32_t start,
                        uint32_t length, uint32_t now_ms) noexcept nogil:
    """One trunk datagram: may it be believed? Then record by record."""
    cdef const uint8_t *data = lane.from_trunk.data + <size_t>i * lane.from_trunk.stride + start
    cdef uint8_t refused = FP_DROP_none
    cdef size_t end = length, offset = TRUNK_HEADER_BYTES
    lane.shard.counters.trunk_datagrams[FP_DOWN] += 1
    lane.shard.counters.trunk_bytes[FP_DOWN] += length
    if backend == FP_NONE:
        refused = FP_DROP_untrusted_trunk
    elif came.truncated:
        refused = FP_DROP_bad_trunk
    else:
        refused = link_admit(link_to(lane, backend), lane.shard.backends.entries[backend].keyed,
                             &lane.shard.settings.policy.trunk_down_keys[0][0],
                             lane.shard.settings.policy.trunk_key_mask,
                             data, length, lane.recovering, now_ms, &end)
    if refused != FP_DROP_none:
        book_refused(lane, refused, length)
        return
    if lane.recovering and lane.from_trunk.notes[i].done > start:
        offset = lane.from_trunk.notes[i].done - start
    open_records(lane, backend, came, i, start, data, end, offset, now_ms)


cdef void open_records(lane_state *lane, uint32_t backend, const arrival *came, uint32_t i, uint32_t start,
                       const uint8_t *data, size_t end, size_t offset, uint32_t now_ms) noexcept nogil:
    cdef trunk_record record
    cdef fp_datagram datagram
    cdef fp_verdict verdict
    cdef int code
    while True:
        code = trunk_next_record(data, end, &offset, &record)
        if code == TRUNK_END:
            return
        if code == TRUNK_BAD_RECORD:
            book_refused(lane, FP_DROP_bad_record, 0)
            continue
        if record.flags & TRUNK_CONTROL:
            obey(lane, backend, &record, now_ms)
            continue
        book_received(lane, record.length)
        if not lane.shard.shared.ingress[record.client.ingress].used:
            lose(lane, FP_DROP_unknown_ingress, &record.client, record.payload, record.length)
            continue
        datagram.client, datagram.data, datagram.length = record.client, record.payload, record.length
        datagram.hash = client_hash(lane.shard.seed, &record.client)
        forward_down_trunk(lane.shard, backend, may_teach(lane, backend, &record), &datagram, now_ms,
                           &verdict)
        if verdict.action == FP_DROP:
            lose(lane, verdict.reason, &record.client, record.payload, record.length)
        else:
            send_down(lane, &verdict, record.payload, record.length, record.flags & TRUNK_ECN, came.stamp_ns,
                      &lane.from_trunk, i, start + <uint32_t>offset)


cdef inline bint may_teach(const lane_state *lane, uint32_t backend,
                           const trunk_record *record) noexcept nogil:
    """Only a confirmed path, on a tagged link or on loopback."""
    cdef const fp_endpoint *address = &lane.shard.backends.entries[backend].address
    return record.flags & TRUNK_CONFIRMED and (
        lane.shard.backends.entries[backend].keyed or is_loopback(address))


cdef inline bint is_loopback(const fp_endpoint *address) noexcept nogil:
    cdef int i
    if address.family == 4:
        return address.address[0] == 127
    for i in range(15):
        if address.address[i]:
            return False
    return address.address[15] == 1


cdef void obey(lane_state *lane, uint32_t backend, const trunk_record *record,
               uint32_t now_ms) noexcept nogil:
    """A control record: for the relay itself."""
    cdef uint8_t pong[PING_BYTES]
    cdef int i, wish = link_control(link_to(lane, backend), record.payload, record.length,
                                    monotonic_ns())
    lane.shard.counters.punted[FP_DOWN] += 1
    lane.shard.counters.received[FP_DOWN] += 1
    if wish == CONTROL_FORGET_FLOW:
        forget_flow(lane.shard, backend, &record.client, now_ms)
    elif wish == CONTROL_SEND_PONG:
        for i in range(PING_BYTES):
            pong[i] = record.payload[i]
        pong[0] = CONTROL_PONG
        send_control(lane, backend, pong, PING_BYTES)


# ---- to the clients -------------------------------------------------------------------------------

cdef inline void book_received(lane_state *lane, uint32_t length) noexcept nogil:
    lane.shard.counters.received[FP_DOWN] += 1
    lane.shard.counters.received_bytes[FP_DOWN] += length


cdef inline void book_refused(lane_state *lane, uint8_t reason, uint32_t length) noexcept nogil:
    """A trunk datagram whose records nobody will count: it stands for one."""
    book_received(lane, length)
    book_dropped(lane, FP_DOWN, reason)


cdef void send_down(lane_state *lane, const fp_verdict *verdict, const uint8_t *data, uint32_t length,
                    uint8_t ecn, uint64_t stamp_ns, receive_batch *batch, uint32_t index,
                    uint32_t done) noexcept nogil:
    """Compose one datagram to a client. `done`: how far slot `index` is settled once it has left."""
    cdef const fp_ingress *ingress = &lane.shard.shared.ingress[verdict.client.ingress]
    cdef uint8_t tos = <uint8_t>(lane.shard.settings.policy.dscp[verdict.traffic_class] << 2) | ecn
    cdef send_batch *out
    cdef parcel *note
    if not ingress.used:
        lose(lane, FP_DROP_unknown_ingress, &verdict.client, data, length)
        return
    out = &lane.to_clients[ingress.listener]
    if out.count == FP_BATCH:
        flush(lane, batch)
    note = &lane.parcels[ingress.listener][out.count]
    note.index, note.done, note.length, note.stamp_ns = index, done, length, stamp_ns
    note.ingress = verdict.client.ingress
    compose(out, data, length)
    compose_client(out, &verdict.client)
    if ingress.wildcard:
        compose_source(out, &ingress.address)
    if tos != FP_DEFAULT_TOS:
        compose_traffic_class(out, verdict.client.family, tos)


cdef void flush(lane_state *lane, receive_batch *batch) noexcept nogil:
    """Send everything composed, over every listener; only then may a slot count as settled up to there: one
    listener's last record may stand behind another's first in the same trunk message."""
    cdef uint32_t listener, k
    cdef uint32_t[FP_LISTENERS] counts
    cdef uint64_t now_ns, began_ns = 0
    cdef parcel *note
    if tap_is_on(lane.shard):
        began_ns = realtime_ns()    # the client may have answered by the time the send returns
    sabotage_down(lane)
    lane.shard.header.sending = 1
    crash_point(FP_AT_flushing)
    for listener in range(lane.listeners):
        counts[listener] = lane.to_clients[listener].count
        if counts[listener]:
            batch_send(&lane.to_clients[listener], lane.client_fds[listener])
    crash_point(FP_AT_flushed)
    now_ns = realtime_ns()
    for listener in range(lane.listeners):
        for k in range(counts[listener]):
            note = &lane.parcels[listener][k]
            book_sent(lane, FP_DOWN, lane.to_clients[listener].outcome[k], note.length, note.stamp_ns, now_ns)
            batch.notes[note.index].done = max(batch.notes[note.index].done, note.done)
    lane.shard.header.sending = 0
    if began_ns:
        note_sent(lane, counts, began_ns)


# ---- for a capture --------------------------------------------------------------------------------

cdef void note_sent(lane_state *lane, const uint32_t *counts, uint64_t began_ns) noexcept nogil:
    """What the last flush sent, or could not, from `began_ns` on; the messages still lie where they were
    composed."""
    cdef tap_ring *ring = tap_enter(lane.shard)
    cdef const send_batch *out
    cdef const parcel *note
    cdef fp_client client
    cdef uint32_t listener, k
    if ring == NULL:
        return
    for listener in range(lane.listeners):
        out = &lane.to_clients[listener]
        for k in range(counts[listener]):
            note = &lane.parcels[listener][k]
            client_from_sockaddr(&out.names[k], out.messages[k].msg_hdr.msg_namelen, note.ingress, &client)
            tap_datagram(lane.shard, ring, FP_DOWN, drop_reason(out.outcome[k]), &client, began_ns,
                         <const uint8_t *>out.vectors[k].iov_base, note.length)
    tap_leave(lane.shard)


cdef inline void lose(lane_state *lane, uint8_t reason, const fp_client *client, const uint8_t *data,
                      uint32_t length) noexcept nogil:
    """A datagram for this client is dropped."""
    book_dropped(lane, FP_DOWN, reason)
    if tap_is_on(lane.shard):
        note_lost(lane, reason, client, data, length)


cdef inline void lose_plain(lane_state *lane, uint8_t reason, uint16_t port, const fp_endpoint *source,
                            const uint8_t *data, uint32_t length) noexcept nogil:
    """The same of a plain backend's, whose client, if there is one, its port knows."""
    cdef fp_port *entry
    book_dropped(lane, FP_DOWN, reason)
    if tap_is_on(lane.shard):
        entry = ports_lookup(&lane.shard.ports, port, source)
        if entry != NULL and entry.state == FP_PORT_flow:
            note_lost(lane, reason, &lane.shard.flows.slots[entry.holder].client, data, length)
        elif entry != NULL and entry.state == FP_PORT_provisional:
            note_lost(lane, reason, &lane.shard.provisional.entries[entry.holder].client, data, length)


cdef void note_lost(lane_state *lane, uint8_t reason, const fp_client *client, const uint8_t *data,
                    uint32_t length) noexcept nogil:
    cdef tap_ring *ring = tap_enter(lane.shard)
    if ring != NULL:
        tap_datagram(lane.shard, ring, FP_DOWN, reason, client, realtime_ns(), data, length)
        tap_leave(lane.shard)
