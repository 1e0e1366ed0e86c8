# F2: one shard's side of the trunk to each backend: sequence, replay window, liveness.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memset

from fastpath.layout cimport fp_trunk_link

ctypedef struct link_table:
    fp_trunk_link *links            # [backend index below FP_BACKENDS]

cdef enum:
    CONTROL_NOTHING = 0
    CONTROL_SEND_PONG = 1
    CONTROL_FORGET_FLOW = 2


cdef inline fp_trunk_link *link_of(const link_table *table, uint32_t backend, uint32_t born) noexcept nogil:
    """The link to a backend. An index that names another backend than before (`born` rose) starts with no
    epoch, window or liveness; only our own sequence goes on, so that no receiver sees it again."""
    cdef fp_trunk_link *link = &table.links[backend]
    cdef uint32_t sequence = link.tx_sequence
    if link.born != born:
        memset(link, 0, sizeof(fp_trunk_link))
        link.tx_sequence, link.born = sequence, born
    return link


cdef uint8_t link_admit(fp_trunk_link *link, bint keyed, const uint8_t *keys, uint32_t key_mask,
                        const uint8_t *data, size_t length, bint again, uint32_t now_ms,
                        size_t *end) noexcept nogil
cdef int link_control(fp_trunk_link *link, const uint8_t *payload, size_t length,
                      uint64_t now_ns) noexcept nogil
cdef size_t link_build_ping(fp_trunk_link *link, uint8_t *out, uint64_t now_ns) noexcept nogil
