"""The trunk to one backend as one shard sees it: who may speak, what its control records say.

Both ends count sequences per sender socket and destination, so each shard keeps its own. Liveness
and load of the transceiver arrive here (state records, pongs); the control thread reads them.
"""
from fastpath.layout cimport (
    FP_DROP_bad_tag, FP_DROP_bad_trunk, FP_DROP_none, FP_DROP_old_epoch, FP_DROP_replayed, fp_trunk_link)
from fastpath.replay cimport REPLAY_OK, REPLAY_OLD_EPOCH, replay_accept, replay_check
from fastpath.trunk cimport (
    CONTROL_FLOW_CLOSED, CONTROL_PING, CONTROL_PONG, CONTROL_STATE, TRUNK_OK, TRUNK_TAG_BYTES, trunk_header,
    trunk_parse_header, trunk_tag_holds)

cdef enum:
    PING_BYTES = 12                 # type, 3 zero, 8 opaque
    STATE_BYTES = 16


cdef uint8_t link_admit(fp_trunk_link *link, bint keyed, const uint8_t *keys, uint32_t key_mask,
                        const uint8_t *data, size_t length, bint again, uint32_t now_ms,
                        size_t *end) noexcept nogil:
    """May this trunk datagram of a registered backend be believed? FP_DROP_none, or why not.

    `keys` are 16 bytes a key id, those of the direction towards the relay. `end` is where its records end.
    `again`: it was in the hand of an engine that died, so the replay window may know it already.
    """
    cdef trunk_header header
    cdef int seen
    if trunk_parse_header(data, length, &header) != TRUNK_OK:
        return FP_DROP_bad_trunk
    end[0] = length
    if header.tagged != keyed:
        return FP_DROP_bad_tag
    if keyed:
        if (not (key_mask >> header.key_id) & 1
                or not trunk_tag_holds(keys + 16 * header.key_id, data, length)):
            return FP_DROP_bad_tag
        end[0] = length - TRUNK_TAG_BYTES
        seen = replay_check(link, header.epoch, header.sequence)
        if seen != REPLAY_OK and not again:
            return FP_DROP_old_epoch if seen == REPLAY_OLD_EPOCH else FP_DROP_replayed
        if seen == REPLAY_OK:
            replay_accept(link, header.epoch, header.sequence)
    link.heard_ms = now_ms | 1      # 0 means never
    return FP_DROP_none


cdef int link_control(fp_trunk_link *link, const uint8_t *payload, size_t length,
                      uint64_t now_ns) noexcept nogil:
    """Take note of a control record; tells the worker what is left to do. Unknown types are ignored."""
    if length == 0:
        return CONTROL_NOTHING
    if payload[0] == CONTROL_PING and length >= PING_BYTES:
        return CONTROL_SEND_PONG
    if payload[0] == CONTROL_FLOW_CLOSED:
        return CONTROL_FORGET_FLOW
    if payload[0] == CONTROL_PONG and length >= PING_BYTES:
        link.pongs += 1
        link.rtt_us = <uint32_t>((now_ns - big_endian(payload + 4, 8)) // 1000)
    elif payload[0] == CONTROL_STATE and length >= STATE_BYTES:
        link.state = payload[1]
        link.incarnation = payload[2]
        link.cluster = <uint16_t>big_endian(payload + 4, 2)
        link.xcvr = <uint16_t>big_endian(payload + 6, 2)
        link.sessions = <uint32_t>big_endian(payload + 8, 4)
        link.capacity = <uint32_t>big_endian(payload + 12, 4)
        link.state_ms = link.heard_ms
    return CONTROL_NOTHING


cdef size_t link_build_ping(fp_trunk_link *link, uint8_t *out, uint64_t now_ns) noexcept nogil:
    """The payload of a ping whose opaque bytes are our own clock: the pong brings the round trip back."""
    cdef int i
    out[0] = CONTROL_PING
    out[1] = out[2] = out[3] = 0
    for i in range(8):
        out[4 + i] = <uint8_t>(now_ns >> (56 - 8 * i))
    link.pings += 1
    return PING_BYTES


cdef inline uint64_t big_endian(const uint8_t *data, int length) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(length):
        value = (value << 8) | data[i]
    return value
