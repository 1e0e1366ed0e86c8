# F2: one shard's side of the trunk to each backend: sequence, replay window, liveness.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.layout cimport fp_trunk_link

ctypedef struct link_table:
    fp_trunk_link *links            # [backend index below FP_BACKENDS]

cdef enum:
    CONTROL_NOTHING = 0
    CONTROL_SEND_PONG = 1
    CONTROL_FORGET_FLOW = 2

cdef uint8_t link_admit(fp_trunk_link *link, bint keyed, const uint8_t *keys, uint32_t key_mask,
                        const uint8_t *data, size_t length, bint again, uint32_t now_ms,
                        size_t *end) noexcept nogil
cdef int link_control(fp_trunk_link *link, const uint8_t *payload, size_t length,
                      uint64_t now_ns) noexcept nogil
cdef size_t link_build_ping(fp_trunk_link *link, uint8_t *out, uint64_t now_ns) noexcept nogil
