# F8: the way up: from the client sockets to the backends.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastpath.lane cimport lane_state

cdef uint32_t serve_clients(lane_state *lane, uint16_t listener, uint32_t now_ms) noexcept nogil
cdef void forward_clients(lane_state *lane, uint32_t now_ms) noexcept nogil
cdef void send_control(lane_state *lane, uint32_t backend, const uint8_t *payload,
                       uint16_t length) noexcept nogil
