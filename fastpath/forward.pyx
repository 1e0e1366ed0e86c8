"""THE decision: what becomes of one datagram. Read from top to bottom, it is the datagram's story.

Upstream (forward_up): what is it (demux)? Is it a Binding Request? Then its ufrag decides, whatever the
flow table says: a known flow's own ufrag goes on, any other asks for a route (installed route, token,
hash policy) and opens a provisional flow. Everything else goes by the flow table.

Downstream (forward_down_plain, forward_down_trunk): the port or the record names the flow; a provisional
flow lets only STUN pass, three times what it received at most, and becomes confirmed by a success
response to a transaction that this very flow was the first to send.

A worker under pressure refuses some of it, cheapest first (fastpath.shedding): two looks at the level here.

Each function returns through one of `drop`, `send_up`, `send_down`, so that every way out has a name. The
slow twin is pyfastpath/relay/decision.py; tests drive both with the same datagrams.
"""
from libc.stdint cimport uint64_t
from libc.string cimport memset

from fastpath.admission cimport admission_take
from fastpath.backends cimport backend_takes_flows, backends_by_hash, backends_by_token
from fastpath.demux cimport DEMUX_NOT_WEBRTC, DEMUX_RTP, DEMUX_STUN, demux
from fastpath.address cimport client_hash
from fastpath.flows cimport flows_confirm_taught
from fastpath.layout cimport *
from fastpath.lifecycle cimport find_flow, find_for_record, open_provisional, replace_if_due, teach
from fastpath.ports cimport ports_lookup
from fastpath.pressure cimport SHED_NEW
from fastpath.provisional cimport provisional_first, provisional_lookup, provisional_next
from fastpath.routes cimport routes_lookup, ufrag_hash
from fastpath.settings cimport client_allowed
from fastpath.shedding cimport shed_media
from fastpath.stun cimport STUN_OK, stun_fingerprint_holds, stun_message, stun_parse
from fastpath.token cimport TOKEN_EXPIRED, TOKEN_OK, token_fields, token_has_shape, token_parse
from fastpath.transactions cimport (
    flow_tag, transaction_id, transactions_first_from, transactions_known, transactions_remember)

cdef enum:
    BINDING_REQUEST = 0x0001        # RFC 8489 section 5
    BINDING_SUCCESS = 0x0101
    AMPLIFICATION = 3               # RFC 9000 section 8: at most three times the bytes received
    BYTES_UP_MAX = 0x55555555       # three times as much still fits a uint32: more is not credited


# ---- the ways out ---------------------------------------------------------------------------------

cdef inline void drop(fp_verdict *verdict, uint8_t reason) noexcept nogil:
    verdict.action = FP_DROP
    verdict.reason = reason


cdef inline void send_up(fp_verdict *verdict, uint32_t backend, uint16_t upstream_port,
                         uint8_t traffic_class) noexcept nogil:
    verdict.action = FP_FORWARD
    verdict.backend = backend
    verdict.upstream_port = upstream_port
    verdict.traffic_class = traffic_class


cdef inline void send_down(fp_verdict *verdict, uint32_t backend, const fp_client *client,
                           uint8_t traffic_class) noexcept nogil:
    verdict.action = FP_FORWARD
    verdict.backend = backend
    verdict.client = client[0]
    verdict.traffic_class = traffic_class


# ---- upstream: from a client ----------------------------------------------------------------------

cdef void forward_up(shard_state *shard, const fp_datagram *datagram, uint32_t now_ms,
                     fp_verdict *verdict) noexcept nogil:
    cdef int kind = demux(datagram.data, datagram.length)
    cdef stun_message message
    cdef uint32_t slot
    cdef uint8_t shed
    memset(verdict, 0, sizeof(fp_verdict))
    if kind == DEMUX_NOT_WEBRTC:
        drop(verdict, FP_DROP_not_webrtc)
        return
    if shard.pressure and kind == DEMUX_RTP:
        shed = shed_media(shard, datagram, now_ms)
        if shed != FP_DROP_none:
            drop(verdict, shed)
            return
    if kind == DEMUX_STUN and stun_parse(datagram.data, datagram.length, &message) != STUN_OK:
        drop(verdict, FP_DROP_bad_stun)
        return
    slot = find_flow(shard, &datagram.client, datagram.hash)
    if kind == DEMUX_STUN and slot == FP_NONE and shard.pressure >= SHED_NEW:
        drop(verdict, FP_DROP_shed_new)
        return
    if kind == DEMUX_STUN and message.type == BINDING_REQUEST:
        forward_request(shard, datagram, &message, slot, now_ms, verdict)
        return
    if slot != FP_NONE:
        use_flow(shard, slot, now_ms, verdict)
    else:
        use_provisional(shard, datagram, kind == DEMUX_STUN, now_ms, verdict)


cdef inline void use_flow(shard_state *shard, uint32_t slot, uint32_t now_ms,
                          fp_verdict *verdict) noexcept nogil:
    """A client datagram on a confirmed flow: nothing but its backend's address is asked any more."""
    cdef fp_flow *flow = &shard.flows.slots[slot]
    flow.last_seen_ms = now_ms
    flow.datagrams_up += 1
    if flow.state == FP_FLOW_taught:
        flows_confirm_taught(&shard.flows, slot)
    send_up(verdict, flow.backend, flow.upstream_port, flow.traffic_class)


cdef void use_provisional(shard_state *shard, const fp_datagram *datagram, bint stun, uint32_t now_ms,
                          fp_verdict *verdict) noexcept nogil:
    """No confirmed flow. STUN that is no request (an answer to a full-ICE backend's own check, an
    indication) passes on the newest provisional flow; anything else has to wait for confirmation."""
    cdef uint32_t index = provisional_first(&shard.provisional, &datagram.client, datagram.hash)
    cdef fp_provisional *flow
    if index == FP_NONE:
        drop(verdict, FP_DROP_unknown_flow)
    elif not stun:
        drop(verdict, FP_DROP_provisional)
    else:
        flow = &shard.provisional.entries[index]
        credit(flow, datagram.length, now_ms)
        send_up(verdict, flow.backend, flow.upstream_port, flow.traffic_class)


cdef inline void credit(fp_provisional *flow, uint32_t length, uint32_t now_ms) noexcept nogil:
    """What a client sent before its confirmation bounds what may come down to it."""
    flow.last_seen_ms = now_ms
    flow.bytes_up = min(flow.bytes_up + length, <uint32_t>BYTES_UP_MAX)


cdef void forward_request(shard_state *shard, const fp_datagram *datagram, const stun_message *message,
                          uint32_t slot, uint32_t now_ms, fp_verdict *verdict) noexcept nogil:
    """A Binding Request: its ufrag overrides whatever the flow table knows about this address."""
    cdef uint64_t hash[2]
    cdef uint32_t index
    cdef fp_provisional *flow
    ufrag_hash(shard.seed, message.ufrag, message.ufrag_length, hash)
    if slot != FP_NONE:
        if shard.flows.slots[slot].ufrag_hash == hash[0]:
            # The flow's own ufrag: token expiry, route TTL, incarnation and drain concern new flows only.
            note_transaction(shard, datagram, message, hash[0], now_ms)
            shard.flows.slots[slot].ufrag_seen_ms = now_ms
            use_flow(shard, slot, now_ms, verdict)
            return
        verdict.overrode = 1
    index = provisional_lookup(&shard.provisional, &datagram.client, hash[0])
    if index == FP_NONE:
        index = admit(shard, datagram, message, hash, now_ms, verdict)
        if index == FP_NONE:
            return
    note_transaction(shard, datagram, message, hash[0], now_ms)
    flow = &shard.provisional.entries[index]
    credit(flow, datagram.length, now_ms)
    send_up(verdict, flow.backend, flow.upstream_port, flow.traffic_class)
    if flow.state == FP_PROVISIONAL_confirmed:
        replace_if_due(shard, index, datagram.hash, now_ms)


cdef void note_transaction(shard_state *shard, const fp_datagram *datagram, const stun_message *message,
                           uint64_t ufrag, uint32_t now_ms) noexcept nogil:
    """Remember who sent this transaction id first, over all shards: a replay elsewhere does not count."""
    cdef uint64_t id = transaction_id(shard.seed, message.transaction)
    cdef uint32_t i
    if transactions_known(&shard.transactions, id, now_ms):
        return
    for i in range(shard.siblings_count):
        if transactions_known(&shard.siblings[i].transactions, id, now_ms):
            return
    if transactions_remember(&shard.transactions, id, flow_tag(datagram.hash, ufrag), now_ms):
        shard.counters.transactions_evicted += 1


# ---- a new flow: may it be, and where to? ---------------------------------------------------------

cdef uint32_t admit(shard_state *shard, const fp_datagram *datagram, const stun_message *message,
                    const uint64_t *hash, uint32_t now_ms, fp_verdict *verdict) noexcept nogil:
    """Route a ufrag that is new for this address and open its provisional flow. FP_NONE: dropped, and why."""
    cdef fp_provisional flow
    cdef uint8_t refused
    cdef uint32_t place
    cdef bint pays_first = shard.pressure and not verdict.overrode
    if pays_first and not may_open(shard, &datagram.client, now_ms):
        drop(verdict, FP_DROP_shed_unknown)     # under pressure a network that floods is not even read
        return FP_NONE
    memset(&flow, 0, sizeof(flow))
    refused = decide(shard, message, hash, now_ms, &flow, verdict)
    if refused == FP_DROP_none and shard.settings.policy.draining:
        refused = FP_DROP_draining
    if refused == FP_DROP_none and not client_allowed(shard.settings, &datagram.client):
        refused = FP_DROP_client_not_allowed
    # Last, for it costs as much as all before: a flood of forged tokens does not get here.
    if refused == FP_DROP_none and not stun_fingerprint_holds(datagram.data, datagram.length):
        refused = FP_DROP_bad_stun
    if refused == FP_DROP_none and not pays_first and not may_open(shard, &datagram.client, now_ms):
        refused = FP_DROP_admission
    if refused != FP_DROP_none:
        drop(verdict, refused)
        return FP_NONE
    flow.client = datagram.client
    flow.ufrag_hash = hash[0]
    flow.last_seen_ms = now_ms
    place = open_provisional(shard, &flow, datagram.hash, now_ms)
    if place == FP_NONE:
        drop(verdict, FP_DROP_no_upstream_port)
    return place


cdef inline bint may_open(shard_state *shard, const fp_client *client, uint32_t now_ms) noexcept nogil:
    """Has the client's network a new flow left? It has one less now. Who is refused asks again by himself:
    ICE repeats its checks."""
    return admission_take(&shard.admission, shard.seed, &shard.settings.policy.admission, client, now_ms)


cdef uint8_t decide(shard_state *shard, const stun_message *message, const uint64_t *hash, uint32_t now_ms,
                    fp_provisional *flow, fp_verdict *verdict) noexcept nogil:
    """Session route, else token, else hash policy: fills backend, route and class.

    Gives a drop reason or none.
    """
    cdef token_fields token
    cdef int code
    flow.route = routes_lookup(&shard.routes, hash, now_ms // 1000, &flow.backend)
    if flow.route != FP_NONE:
        verdict.decision = FP_DECISION_session_route
    elif shard.settings.policy.token_key_mask and token_has_shape(message.ufrag, message.ufrag_length):
        # A ufrag of this shape that fails its tag never falls through to another rule.
        code = token_parse(shard.settings.token_aes, shard.settings.policy.token_key_mask, message.ufrag,
                           shard.settings.wall_s, &token)
        if code != TOKEN_OK:
            verdict.decision = FP_DECISION_expired if code == TOKEN_EXPIRED else FP_DECISION_bad_token
            return FP_DROP_token_expired if code == TOKEN_EXPIRED else FP_DROP_bad_token
        verdict.decision = FP_DECISION_token
        flow.traffic_class = token.traffic_class
        flow.backend = backends_by_token(&shard.backends, token.cluster, token.xcvr, token.incarnation)
    elif shard.settings.policy.hash_policy:
        verdict.decision = FP_DECISION_hash
        flow.backend = backends_by_hash(&shard.backends, message.ufrag, message.ufrag_length)
        if flow.backend == FP_NONE:
            return FP_DROP_backend_unavailable      # none is up
    else:
        verdict.decision = FP_DECISION_no_route
        return FP_DROP_no_route
    if flow.backend == FP_NONE or not backend_registered(shard, flow.backend):
        verdict.decision = FP_DECISION_unknown_backend
        return FP_DROP_unknown_backend
    if not backend_takes_flows(&shard.backends, flow.backend):
        return FP_DROP_backend_unavailable
    return FP_DROP_none


cdef inline bint backend_registered(const shard_state *shard, uint32_t backend) noexcept nogil:
    """It, and the configured backend it belongs to: an entry never used names no parent."""
    cdef const fp_backend *entry = &shard.backends.entries[backend]
    return (FP_BACKEND_free < entry.state < FP_BACKEND_gone
            and FP_BACKEND_free < shard.backends.entries[entry.parent].state < FP_BACKEND_gone)


# ---- downstream: from a backend -------------------------------------------------------------------

cdef void forward_down_plain(shard_state *shard, uint16_t port, const fp_endpoint *source,
                             const uint8_t *data, size_t length, uint32_t now_ms,
                             fp_verdict *verdict) noexcept nogil:
    """Plain mode: (upstream port, source address) names the flow; nobody else's datagrams count."""
    cdef fp_port *entry = ports_lookup(&shard.ports, port, source)
    cdef fp_flow *flow
    memset(verdict, 0, sizeof(fp_verdict))
    if demux(data, length) == DEMUX_NOT_WEBRTC:
        drop(verdict, FP_DROP_not_webrtc)
    elif entry == NULL or entry.state == FP_PORT_quarantine:
        drop(verdict, FP_DROP_unknown_flow)
    elif entry.state == FP_PORT_flow:
        flow = &shard.flows.slots[entry.holder]
        flow.datagrams_down += 1
        send_down(verdict, flow.backend, &flow.client, flow.traffic_class)
    else:
        forward_down_provisional(shard, entry.holder, data, length, now_ms, verdict)


cdef void forward_down_trunk(shard_state *shard, uint32_t backend, bint may_teach, const fp_datagram *record,
                             uint32_t now_ms, fp_verdict *verdict) noexcept nogil:
    """Trunk: the record names the client. A shadow's answers come for the same client as the live flow's
    datagrams, so STUN, and whatever is not the live backend's, looks at the provisional flows too."""
    cdef int kind = demux(record.data, record.length)
    cdef fp_flow elsewhere
    cdef fp_flow *flow
    cdef uint32_t index
    memset(verdict, 0, sizeof(fp_verdict))
    if kind == DEMUX_NOT_WEBRTC:
        drop(verdict, FP_DROP_not_webrtc)
        return
    flow = find_for_record(shard, backend, record, &elsewhere)
    if shard.header.provisional_count and (flow == NULL or flow.backend != backend or kind == DEMUX_STUN):
        index = provisional_of(shard, backend, record, flow != NULL and flow.backend == backend, now_ms)
        if index != FP_NONE:
            forward_down_provisional(shard, index, record.data, record.length, now_ms, verdict)
            return
    if flow == NULL and may_teach:
        flow = teach(shard, backend, record, now_ms)
    if flow == NULL:
        drop(verdict, FP_DROP_unknown_flow)
    elif flow.backend != backend:
        drop(verdict, FP_DROP_wrong_backend)
    else:
        flow.datagrams_down += 1
        send_down(verdict, backend, &record.client, flow.traffic_class)


cdef uint32_t provisional_of(shard_state *shard, uint32_t backend, const fp_datagram *record, bint live,
                             uint32_t now_ms) noexcept nogil:
    """Which provisional flow of this client a backend's datagram belongs to: the one that asked first with
    this transaction id; without such a one the backend's newest, unless its live flow may claim it."""
    cdef uint32_t index = provisional_first(&shard.provisional, &record.client, record.hash)
    cdef uint32_t newest = FP_NONE
    cdef stun_message message
    cdef bint response = (demux(record.data, record.length) == DEMUX_STUN
                          and stun_parse(record.data, record.length, &message) == STUN_OK
                          and message.type == BINDING_SUCCESS)
    cdef uint64_t id = transaction_id(shard.seed, message.transaction) if response else 0
    while index != FP_NONE:
        if shard.provisional.entries[index].backend == backend:
            if response and asked_first(shard, index, record.hash, id, now_ms):
                return index
            if newest == FP_NONE:
                newest = index
        index = provisional_next(&shard.provisional, index)
    return FP_NONE if live else newest


cdef bint asked_first(shard_state *shard, uint32_t index, uint64_t hash, uint64_t id,
                      uint32_t now_ms) noexcept nogil:
    """Was this flow the first, over all shards, to send the transaction id?"""
    cdef uint32_t tag = flow_tag(hash, shard.provisional.entries[index].ufrag_hash)
    cdef uint32_t i
    if transactions_first_from(&shard.transactions, id, tag, now_ms):
        return True
    for i in range(shard.siblings_count):
        if transactions_first_from(&shard.siblings[i].transactions, id, tag, now_ms):
            return True
    return False


cdef void forward_down_provisional(shard_state *shard, uint32_t index, const uint8_t *data, size_t length,
                                   uint32_t now_ms, fp_verdict *verdict) noexcept nogil:
    """Only STUN, and little of it; a success response to its own question confirms the flow."""
    cdef fp_provisional *flow = &shard.provisional.entries[index]
    cdef uint64_t hash = client_hash(shard.seed, &flow.client)
    cdef stun_message message
    if demux(data, length) != DEMUX_STUN:
        drop(verdict, FP_DROP_provisional)
        return
    if stun_parse(data, length, &message) != STUN_OK:
        drop(verdict, FP_DROP_bad_stun)
        return
    if flow.bytes_down + length > AMPLIFICATION * <uint64_t>flow.bytes_up:
        drop(verdict, FP_DROP_amplification)
        return
    send_down(verdict, flow.backend, &flow.client, flow.traffic_class)
    flow.bytes_down += <uint32_t>length
    if (message.type == BINDING_SUCCESS
            and asked_first(shard, index, hash, transaction_id(shard.seed, message.transaction), now_ms)):
        verdict.confirmed = flow.state == FP_PROVISIONAL_waiting
        flow.state = FP_PROVISIONAL_confirmed
        if not replace_if_due(shard, index, hash, now_ms):
            flow.state = FP_PROVISIONAL_waiting
            flow.bytes_down -= <uint32_t>length     # it does not go down
            verdict.confirmed = 0
            drop(verdict, FP_DROP_flow_table_full)
