# F5: what a worker under pressure refuses.
from libc.stdint cimport uint8_t, uint32_t

from fastpath.layout cimport fp_datagram
from fastpath.shard cimport shard_state

cdef uint8_t shed_media(shard_state *shard, const fp_datagram *datagram, uint32_t now_ms) noexcept nogil
