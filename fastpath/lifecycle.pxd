# F4: what becomes of a flow: opened, confirmed, replaced, taught, ended, expired. No I/O, no clock.
from libc.stdint cimport uint32_t, uint64_t

from fastpath.layout cimport fp_client, fp_datagram, fp_flow, fp_provisional
from fastpath.shard cimport shard_state

cdef uint32_t find_flow(shard_state *shard, const fp_client *client, uint64_t hash) noexcept nogil
cdef fp_flow *find_for_record(shard_state *shard, uint32_t backend, const fp_datagram *record,
                              fp_flow *elsewhere) noexcept nogil
cdef uint32_t open_provisional(shard_state *shard, fp_provisional *flow, uint64_t hash,
                               uint32_t now_ms) noexcept nogil
cdef bint replace_if_due(shard_state *shard, uint32_t index, uint64_t hash,
                         uint32_t now_ms) noexcept nogil
cdef void forget_flow(shard_state *shard, uint32_t backend, const fp_client *client,
                      uint32_t now_ms) noexcept nogil
cdef fp_flow *teach(shard_state *shard, uint32_t backend, const fp_datagram *record,
                    uint32_t now_ms) noexcept nogil
cdef void expire_slice(shard_state *shard, uint32_t now_ms, uint32_t elapsed_ms) noexcept nogil
