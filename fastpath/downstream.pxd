# F9: the way down: from trunk and plain ports to the clients.
from libc.stdint cimport uint16_t, uint32_t

from fastpath.lane cimport lane_state

cdef uint32_t serve_trunk(lane_state *lane, uint32_t now_ms) noexcept nogil
cdef uint32_t receive_plain(lane_state *lane, uint16_t port) noexcept nogil
cdef void forward_plain(lane_state *lane, uint32_t now_ms) noexcept nogil
cdef void forward_trunk(lane_state *lane, uint32_t now_ms) noexcept nogil
