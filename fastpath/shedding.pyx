"""Overload: which media a worker under pressure does not forward, cheapest first.

Unknown, new, bulk, video, every second RTCP, voice (fastpath.pressure). Each step sheds what the steps before
it shed, too. STUN and DTLS of a confirmed flow are never shed: without its checks a call ends, without its
handshake it never begins, and both are few. A class is the token's word. What a call of class voice_data
sends as RTP is voice; its data travel in DTLS.

Only what comes from clients is shed. What backends send down has been paid for by them, comes in trunk
bundles that cost a fraction of a client's datagram, and shrinks by itself with what goes up.
"""
from fastpath.flows cimport flows_lookup
from fastpath.layout cimport (
    FP_CLASS_bulk, FP_CLASS_video, FP_DROP_none, FP_DROP_shed_bulk, FP_DROP_shed_rtcp, FP_DROP_shed_unknown,
    FP_DROP_shed_video, FP_DROP_shed_voice, FP_NONE, fp_flow)
from fastpath.pressure cimport SHED_BULK, SHED_RTCP, SHED_VIDEO, SHED_VOICE

cdef enum:
    SEARCHES_PER_MS = 16            # media without a flow here for which siblings are asked in a millisecond


cdef inline bint is_rtcp(const fp_datagram *datagram) noexcept nogil:
    """Told from RTP by its packet type (RFC 5761 section 4)."""
    return datagram.length > 1 and 192 <= datagram.data[1] <= 223


cdef uint8_t shed_media(shard_state *shard, const fp_datagram *datagram, uint32_t now_ms) noexcept nogil:
    """Why this RTP or RTCP packet is shed, or none. A flow whose media are shed is alive all the same."""
    cdef uint32_t slot = flows_lookup(&shard.flows, &datagram.client, datagram.hash)
    cdef fp_flow *flow
    cdef uint8_t reason
    if slot == FP_NONE:
        return FP_DROP_none if may_search(shard, now_ms) else FP_DROP_shed_unknown
    flow = &shard.flows.slots[slot]
    reason = reason_to_shed(shard, flow, is_rtcp(datagram))
    if reason != FP_DROP_none:
        flow.last_seen_ms = now_ms
    return reason


cdef inline uint8_t reason_to_shed(shard_state *shard, const fp_flow *flow, bint rtcp) noexcept nogil:
    """Every second RTCP packet of the shard; RTCP intervals are random (RFC 3550), so no flow loses all.
    Voice by flows, not by packets: half of the calls go on as they are, which is better than none of them."""
    if flow.traffic_class == FP_CLASS_bulk and shard.pressure >= SHED_BULK:
        return FP_DROP_shed_bulk
    if flow.traffic_class == FP_CLASS_video and shard.pressure >= SHED_VIDEO:
        return FP_DROP_shed_video
    if rtcp and shard.pressure >= SHED_RTCP:
        shard.rtcp_turn ^= 1
        return FP_DROP_shed_rtcp if shard.rtcp_turn else FP_DROP_none
    if not rtcp and shard.pressure >= SHED_VOICE and flow.version & 1:
        return FP_DROP_shed_voice
    return FP_DROP_none


cdef inline bint may_search(shard_state *shard, uint32_t now_ms) noexcept nogil:
    """A flow that moved here is found at a sibling by one of its first packets; a flood of strangers is not
    looked for in every table of the relay."""
    if shard.siblings_count == 0:
        return False
    if shard.search_ms != now_ms:
        shard.search_ms, shard.searches = now_ms, 0
    shard.searches += 1
    return shard.searches <= SEARCHES_PER_MS
