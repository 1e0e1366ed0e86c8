# F5: THE decision: one datagram and the time -> a verdict. No syscall, no clock, no allocation.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastpath.layout cimport fp_datagram, fp_endpoint, fp_verdict
from fastpath.shard cimport shard_state

cdef void forward_up(shard_state *shard, const fp_datagram *datagram, uint32_t now_ms,
                     fp_verdict *verdict) noexcept nogil
cdef void forward_down_plain(shard_state *shard, uint16_t port, const fp_endpoint *source,
                             const uint8_t *data, size_t length, uint32_t now_ms,
                             fp_verdict *verdict) noexcept nogil
cdef void forward_down_trunk(shard_state *shard, uint32_t backend, bint may_teach, const fp_datagram *record,
                             uint32_t now_ms, fp_verdict *verdict) noexcept nogil
