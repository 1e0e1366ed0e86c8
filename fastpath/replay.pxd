# F1: the replay window of a keyed trunk link: epochs only rise, each sequence is accepted once, and none
# from more than FP_REPLAY_BITS below the highest. Sequences wrap (RFC 1982 comparison): at 50,000 bundles a
# second a sender meets 2^32 once a day. Check first, verify the tag, then accept: forgeries move nothing.
from libc.stdint cimport int32_t, uint32_t, uint64_t
from libc.string cimport memset

from fastpath.layout cimport FP_REPLAY_BITS, fp_trunk_link

cdef enum:
    REPLAY_OK = 0
    REPLAY_OLD_EPOCH = 1
    REPLAY_SEEN = 2


cdef inline int replay_check(const fp_trunk_link *link, uint32_t epoch, uint32_t sequence) noexcept nogil:
    """REPLAY_OK; REPLAY_OLD_EPOCH; REPLAY_SEEN also for a sequence left of the window."""
    cdef uint32_t behind, bit
    if link.rx_seen == 0 or <int32_t>(epoch - link.rx_epoch) > 0:
        return REPLAY_OK
    if epoch != link.rx_epoch:
        return REPLAY_OLD_EPOCH
    if <int32_t>(sequence - link.rx_highest) > 0:         # exactly 2^31 away is no nearer ahead: refused
        return REPLAY_OK
    behind = link.rx_highest - sequence
    if behind >= FP_REPLAY_BITS:
        return REPLAY_SEEN
    bit = sequence & (FP_REPLAY_BITS - 1)
    return REPLAY_SEEN if (link.rx_window[bit >> 6] >> (bit & 63)) & 1 else REPLAY_OK


cdef inline void replay_accept(fp_trunk_link *link, uint32_t epoch, uint32_t sequence) noexcept nogil:
    """Note a datagram that replay_check let through and whose tag holds."""
    cdef uint32_t ahead = sequence - link.rx_highest
    cdef uint32_t bit
    if link.rx_seen == 0 or epoch != link.rx_epoch or (<int32_t>ahead > 0 and ahead >= FP_REPLAY_BITS):
        memset(link.rx_window, 0, sizeof(link.rx_window))
        link.rx_epoch = epoch
        link.rx_highest = sequence
        link.rx_seen = 1
    while <int32_t>(sequence - link.rx_highest) > 0:      # one step unless datagrams were lost
        link.rx_highest += 1
        bit = link.rx_highest & (FP_REPLAY_BITS - 1)
        link.rx_window[bit >> 6] &= ~(<uint64_t>1 << (bit & 63))
    bit = sequence & (FP_REPLAY_BITS - 1)
    link.rx_window[bit >> 6] |= <uint64_t>1 << (bit & 63)
