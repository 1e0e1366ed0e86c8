# F8: the Python face of a player. See player.pyx.
from libc.stdint cimport uint32_t, uint64_t

from fastpath.load.judge cimport finding
from fastpath.load.playing cimport player_state


cdef class Player:
    cdef player_state *state
    cdef list ends
    cdef list sockets
    cdef uint32_t assigned
    cdef uint64_t lines_fed
    cdef bint finished
    cdef open_memory(self, uint64_t ring_bytes, uint32_t sessions, uint32_t findings_max)
    cdef take_ends(self, ends)
    cdef open_sockets(self)
    cdef watch(self, int fd, uint32_t number)
    cdef uint64_t line_bytes(self, uint32_t call, bytes payload, patches, bint mark) except 0
    cdef uint32_t sessions_done(self)
    cdef told(self, const finding *f)
    cdef latencies(self, upstream, uint64_t *out)
    cdef check_open(self)
