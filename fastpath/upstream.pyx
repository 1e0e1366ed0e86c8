"""The way up: receive a batch from clients, forward each, send what goes to one backend together.

Trunk backends get the batch's datagrams bundled, a run of bundles with one send; a plain backend gets
each flow's datagrams from the flow's own port. Datagrams of one flow keep their order.
"""
from libc.stdint cimport int16_t, uint64_t
from libc.string cimport memset

from fastpath.address cimport client_from_sockaddr, client_hash, endpoint_equal
from fastpath.batch cimport (
    batch_arrival, batch_ask_stamps, batch_receive, batch_send, batch_settle, compose, compose_endpoint,
    compose_segments, compose_traffic_class, connect_to, send_alone)
from fastpath.bundles cimport bundle, bundle_run, bundle_seal
from fastpath.counters cimport count_batch, counters_publish
from fastpath.crash cimport (
    FP_AT_decided, FP_AT_received, FP_AT_sending, FP_AT_sent, FP_AT_settled, crash_point)
from fastpath.flows cimport flows_prefetch
from fastpath.forward cimport forward_up
from fastpath.lane cimport NOBODY, book_dropped, book_sent, drop_reason, lane_state, link_to
from fastpath.layout cimport (
    FP_DEFAULT_TOS, FP_DROP, FP_DROP_none, FP_DROP_oversize, FP_DROP_unknown_ingress, FP_FORWARD, FP_INGRESS,
    FP_NO_PORT, FP_TAKEN, FP_UP, fp_datagram, fp_endpoint, fp_ingress, fp_trunk_link, fp_verdict)
from fastpath.linux cimport EINVAL, EIO, EMSGSIZE, realtime_ns
from fastpath.ports cimport ports_owns
from fastpath.sabotage cimport sabotage_up
from fastpath.tap cimport tap_datagram, tap_enter, tap_is_on, tap_leave, tap_ring
from fastpath.trunk cimport TRUNK_CONTROL, trunk_count_records, trunk_record


cdef enum:
    STAMP_TURNS = 8                 # batches of which one gives residence times


cdef uint32_t serve_clients(lane_state *lane, uint16_t listener, uint32_t now_ms) noexcept nogil:
    """One batch from one listener; gives how many datagrams came. Every eighth is asked when it arrived, and
    all while somebody captures."""
    cdef bint stamped = lane.turns[listener] % STAMP_TURNS == 0 or tap_is_on(lane.shard)
    cdef uint32_t received
    if stamped:
        batch_ask_stamps(lane.client_fds[listener], True)
    received = batch_receive(&lane.from_clients, lane.client_fds[listener], listener)
    if stamped:
        batch_ask_stamps(lane.client_fds[listener], False)
    lane.turns[listener] += 1
    if received:
        count_batch(&lane.shard.counters, FP_UP, received)
        forward_clients(lane, now_ms)
    return received


cdef void forward_clients(lane_state *lane, uint32_t now_ms) noexcept nogil:
    """Bring everything in hand to its backend, settle the batch, publish the counters."""
    crash_point(FP_AT_received)
    read_batch(lane)
    decide_batch(lane, now_ms)
    crash_point(FP_AT_decided)
    sabotage_up(lane)
    send_trunk(lane)
    send_plain(lane)
    if tap_is_on(lane.shard):
        note_batch(lane)
    counters_publish(lane.shard.header, lane.shard.published, &lane.shard.counters)
    batch_settle(&lane.from_clients)


cdef void note_batch(lane_state *lane) noexcept nogil:
    """For a capture: what came, as the kernel stamped it, and what became of it. A batch without stamps was
    received before the capture began."""
    cdef tap_ring *ring = tap_enter(lane.shard)
    cdef uint32_t i
    if ring == NULL:
        return
    for i in range(lane.from_clients.count):
        if lane.arrivals[i].stamp_ns:
            tap_datagram(lane.shard, ring, FP_UP, lane.verdicts[i].reason, &lane.datagrams[i].client,
                         lane.arrivals[i].stamp_ns, lane.datagrams[i].data, lane.datagrams[i].length)
    tap_leave(lane.shard)


# ---- what came, and what is to become of it -------------------------------------------------------

cdef void read_batch(lane_state *lane) noexcept nogil:
    """Names and control messages -> datagrams; the flow slot of each is asked for long before it is used."""
    cdef uint32_t i
    cdef fp_datagram *datagram
    for i in range(lane.from_clients.count):
        datagram = &lane.datagrams[i]
        batch_arrival(&lane.from_clients, i, &lane.arrivals[i])
        client_from_sockaddr(lane.from_clients.names + 32 * i,
                             lane.from_clients.messages[i].msg_hdr.msg_namelen, 0, &datagram.client)
        datagram.data = lane.from_clients.data + <size_t>i * lane.from_clients.stride
        datagram.length = lane.from_clients.messages[i].msg_len
        datagram.ecn = lane.arrivals[i].ecn
        lane.verdicts[i].reason = FP_DROP_oversize if lane.arrivals[i].truncated else FP_DROP_none
        if not name_ingress(lane, i):
            lane.verdicts[i].reason = FP_DROP_unknown_ingress
        datagram.hash = client_hash(lane.shard.seed, &datagram.client)
        flows_prefetch(&lane.shard.flows, datagram.hash)


cdef inline bint name_ingress(lane_state *lane, uint32_t i) noexcept nogil:
    """Which ingress did the client use? The listener's only one, or the one whose local address it named."""
    cdef uint16_t listener = lane.from_clients.notes[i].source
    cdef const fp_ingress *entry
    cdef fp_endpoint *local = &lane.arrivals[i].local
    cdef int id
    if lane.only_ingress[listener] >= 0:
        lane.datagrams[i].client.ingress = <uint8_t>lane.only_ingress[listener]
        return True
    for id in range(FP_INGRESS):
        entry = &lane.shard.shared.ingress[id]
        local.port = entry.address.port             # the socket's own
        if entry.used and entry.listener == listener and endpoint_equal(&entry.address, local):
            lane.datagrams[i].client.ingress = <uint8_t>id
            return True
    return False


cdef void decide_batch(lane_state *lane, uint32_t now_ms) noexcept nogil:
    cdef uint32_t i
    cdef fp_verdict *verdict
    for i in range(lane.from_clients.count):
        verdict = &lane.verdicts[i]
        if lane.recovering and lane.from_clients.notes[i].done >= lane.datagrams[i].length:
            verdict.action = FP_TAKEN        # settled before the last engine died
            continue
        lane.shard.counters.received[FP_UP] += 1
        lane.shard.counters.received_bytes[FP_UP] += lane.datagrams[i].length
        if verdict.reason == FP_DROP_none:
            forward_up(lane.shard, &lane.datagrams[i], now_ms, verdict)
        else:
            verdict.action = FP_DROP
            verdict.decision = verdict.overrode = 0     # what stood here was another datagram's
        lane.shard.counters.decisions[verdict.decision] += verdict.decision != 0
        lane.shard.counters.overrides += verdict.overrode
        if verdict.action == FP_DROP:
            book_dropped(lane, FP_UP, verdict.reason)
            lane.from_clients.notes[i].done = lane.datagrams[i].length


# ---- trunk ----------------------------------------------------------------------------------------

cdef void send_trunk(lane_state *lane) noexcept nogil:
    """Bundle each trunk backend's share of the batch; all bundles leave with one call."""
    cdef uint32_t i, backend, items, total = 0, runs = 0, used = 0
    for i in range(lane.from_clients.count):
        if lane.verdicts[i].action != FP_FORWARD or lane.verdicts[i].upstream_port != FP_NO_PORT:
            continue
        backend = lane.verdicts[i].backend
        items = gather(lane, i, backend, total)
        runs += pack(lane, backend, total, items, runs, &used)
        total += items
    if runs:
        lane.shard.header.sending = 1
        crash_point(FP_AT_sending)
        batch_send(&lane.outgoing, lane.trunk_fd)
        crash_point(FP_AT_sent)
        settle_runs(lane, runs)
        lane.shard.header.sending = 0
        crash_point(FP_AT_settled)


cdef uint32_t gather(lane_state *lane, uint32_t first, uint32_t backend, uint32_t total) noexcept nogil:
    """Records of every datagram from `first` on for this backend, in order; they count as taken."""
    cdef uint32_t i, taken = total
    cdef trunk_record *item
    for i in range(first, lane.from_clients.count):
        if (lane.verdicts[i].action == FP_FORWARD and lane.verdicts[i].backend == backend
                and lane.verdicts[i].upstream_port == FP_NO_PORT):
            lane.verdicts[i].action = FP_TAKEN
            item = &lane.items[taken]
            item.payload, item.length = lane.datagrams[i].data, <uint16_t>lane.datagrams[i].length
            item.flags, item.client = lane.datagrams[i].ecn, lane.datagrams[i].client
            lane.slots[taken] = <uint8_t>i
            taken += 1
    return taken - total


cdef uint32_t pack(lane_state *lane, uint32_t backend, uint32_t first, uint32_t items, uint32_t run,
                   uint32_t *used) noexcept nogil:
    """Bundle items[first : first + items] into runs[run...] and compose their sends."""
    cdef fp_trunk_link *link = link_to(lane, backend)
    cdef bundle_seal seal
    cdef uint32_t made, k
    seal_for(lane, backend, &seal)
    made = bundle(lane.items + first, items, lane.shard.settings.policy.trunk_mtu, link.gso_refused, &seal,
                  lane.bundle_buffer + used[0], lane.runs + run)
    for k in range(run, run + made):
        lane.runs[k].first_item += <uint16_t>first
        used[0] += lane.runs[k].length
        compose_run(lane, backend, &lane.runs[k])
    return made


cdef void seal_for(lane_state *lane, uint32_t backend, bundle_seal *seal) noexcept nogil:
    cdef uint8_t kid = lane.shard.settings.policy.trunk_key_id
    seal.epoch = lane.shard.shared.trunk_epoch
    seal.sequence = &link_to(lane, backend).tx_sequence
    seal.key_id = kid
    seal.key = NULL
    if lane.shard.backends.entries[backend].keyed:
        seal.key = lane.shard.settings.policy.trunk_up_keys[kid]


cdef void compose_run(lane_state *lane, uint32_t backend, const bundle_run *run) noexcept nogil:
    compose(&lane.outgoing, run.data, run.length)
    compose_endpoint(&lane.outgoing, &lane.shard.backends.entries[backend].address)
    if run.datagrams > 1:
        compose_segments(&lane.outgoing, run.segment_bytes)
    lane.shard.counters.trunk_datagrams[FP_UP] += run.datagrams
    lane.shard.counters.trunk_bytes[FP_UP] += run.length
    lane.shard.counters.trunk_oversize += run.oversize != 0


cdef void settle_runs(lane_state *lane, uint32_t runs) noexcept nogil:
    """Book what each run carried. A run that the path cannot take in one piece goes again, one by one."""
    cdef uint32_t k
    cdef int error
    for k in range(runs):
        error = lane.outgoing.outcome[k]
        if lane.runs[k].datagrams > 1 and (error == EINVAL or error == EMSGSIZE or error == EIO):
            send_singly(lane, &lane.runs[k])
        else:
            book_items(lane, lane.runs[k].first_item, lane.runs[k].items, error)


cdef void book_items(lane_state *lane, uint32_t first, uint32_t count, int error) noexcept nogil:
    cdef uint64_t now_ns = realtime_ns()
    cdef uint32_t item, slot
    for item in range(first, first + count):
        slot = lane.slots[item]
        book_sent(lane, FP_UP, error, lane.datagrams[slot].length, lane.arrivals[slot].stamp_ns, now_ns)
        lane.verdicts[slot].reason = drop_reason(error)
        lane.from_clients.notes[slot].done = lane.datagrams[slot].length


cdef void send_singly(lane_state *lane, const bundle_run *run) noexcept nogil:
    """The same datagrams without UDP_SEGMENT, each booked by what became of it. If one of them leaves it was
    the run that the kernel did not want: remembered for this backend. Otherwise the path may be down."""
    cdef uint32_t backend = lane.verdicts[lane.slots[run.first_item]].backend
    cdef uint32_t item = run.first_item, sent = 0, length, records
    lane.shard.counters.trunk_singly += 1
    while sent < run.length:
        length = min(<uint32_t>run.segment_bytes, run.length - sent)
        compose(&lane.alone, run.data + sent, length)
        compose_endpoint(&lane.alone, &lane.shard.backends.entries[backend].address)
        batch_send(&lane.alone, lane.trunk_fd)
        if lane.alone.outcome[0] == 0:
            link_to(lane, backend).gso_refused = 1
        records = trunk_count_records(run.data + sent, length)
        book_items(lane, item, records, lane.alone.outcome[0])
        item += records
        sent += length


cdef void send_control(lane_state *lane, uint32_t backend, const uint8_t *payload,
                       uint16_t length) noexcept nogil:
    """One control record, in a trunk datagram of its own."""
    cdef trunk_record record
    cdef bundle_seal seal
    cdef bundle_run run
    memset(&record, 0, sizeof(record))
    record.payload, record.length = payload, length
    record.flags = TRUNK_CONTROL
    record.client.family = 4
    seal_for(lane, backend, &seal)
    bundle(&record, 1, lane.shard.settings.policy.trunk_mtu, True, &seal, lane.control_buffer, &run)
    compose(&lane.alone, run.data, run.length)
    compose_endpoint(&lane.alone, &lane.shard.backends.entries[backend].address)
    batch_send(&lane.alone, lane.trunk_fd)


# ---- plain ----------------------------------------------------------------------------------------

cdef void send_plain(lane_state *lane) noexcept nogil:
    """Each flow's datagrams leave from the flow's own port, with the client's ECN bits."""
    cdef uint32_t i, j, n, backend
    cdef uint16_t port
    for i in range(lane.from_clients.count):
        if lane.verdicts[i].action != FP_FORWARD:
            continue
        port = lane.verdicts[i].upstream_port
        backend = lane.verdicts[i].backend
        n = 0
        for j in range(i, lane.from_clients.count):
            if (lane.verdicts[j].action == FP_FORWARD and lane.verdicts[j].upstream_port == port
                    and lane.verdicts[j].backend == backend):   # a port serves a flow per backend address
                lane.verdicts[j].action = FP_TAKEN
                lane.slots[n] = <uint8_t>j
                n += 1
        lane.shard.header.sending = 1
        crash_point(FP_AT_sending)
        if n == 1 and tos_of(lane, i) == FP_DEFAULT_TOS:
            send_one(lane, i)
        else:
            send_several(lane, n)
        crash_point(FP_AT_sent)
        settle_plain(lane, n)
        lane.shard.header.sending = 0
        crash_point(FP_AT_settled)


cdef inline uint8_t tos_of(const lane_state *lane, uint32_t i) noexcept nogil:
    cdef uint8_t dscp = lane.shard.settings.policy.dscp[lane.verdicts[i].traffic_class]
    return <uint8_t>(dscp << 2) | lane.datagrams[i].ecn


cdef inline void send_one(lane_state *lane, uint32_t i) noexcept nogil:
    """The usual case: one voice datagram of this flow in the batch, and nothing to say beside it."""
    cdef const fp_verdict *verdict = &lane.verdicts[i]
    cdef const fp_endpoint *address = &lane.shard.backends.entries[verdict.backend].address
    if keep_connected(lane, verdict.upstream_port, address):
        address = NULL
    lane.outgoing.outcome[0] = <int16_t>send_alone(
        lane.plain_fds[verdict.upstream_port], lane.datagrams[i].data, lane.datagrams[i].length, address)


cdef void send_several(lane_state *lane, uint32_t count) noexcept nogil:
    cdef const fp_verdict *verdict = &lane.verdicts[lane.slots[0]]
    cdef const fp_endpoint *address = &lane.shard.backends.entries[verdict.backend].address
    cdef uint32_t k, i
    cdef uint8_t tos
    keep_connected(lane, verdict.upstream_port, address)
    for k in range(count):
        i = lane.slots[k]
        tos = tos_of(lane, i)
        compose(&lane.outgoing, lane.datagrams[i].data, lane.datagrams[i].length)
        compose_endpoint(&lane.outgoing, address)
        if tos != FP_DEFAULT_TOS:
            compose_traffic_class(&lane.outgoing, address.family, tos)
    batch_send(&lane.outgoing, lane.plain_fds[verdict.upstream_port])


cdef inline bint keep_connected(lane_state *lane, uint16_t port, const fp_endpoint *address) noexcept nogil:
    """Is this port's socket connected to this backend address? A port that serves one address may be: then a
    send looks up no route and the kernel drops strangers. Before a second address uses it, it must not.
    A copied flow's port belongs to a sibling, whose worker alone connects it."""
    cdef fp_endpoint *connected = &lane.connected[port]
    if not ports_owns(&lane.shard.ports, port):
        return False
    if lane.shard.ports.pairs[port] != 1:
        if connected.family != NOBODY:
            connect_to(lane.plain_fds[port], NULL)
            connected.family = NOBODY
    elif not endpoint_equal(connected, address):
        connected[0] = address[0]
        if not connect_to(lane.plain_fds[port], address):
            connected.family = NOBODY
    return connected.family != NOBODY


cdef inline void settle_plain(lane_state *lane, uint32_t count) noexcept nogil:
    cdef uint64_t now_ns = realtime_ns()
    cdef uint32_t k, slot
    for k in range(count):
        slot = lane.slots[k]
        book_sent(lane, FP_UP, lane.outgoing.outcome[k], lane.datagrams[slot].length,
                  lane.arrivals[slot].stamp_ns, now_ns)
        lane.verdicts[slot].reason = drop_reason(lane.outgoing.outcome[k])
        lane.from_clients.notes[slot].done = lane.datagrams[slot].length
