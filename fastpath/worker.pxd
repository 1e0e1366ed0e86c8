# F10: the loop. One worker serves one or more shards and never touches a Python object while it runs.
from libc.stdint cimport int64_t, uint32_t, uint64_t

from fastpath.lane cimport lane_state
from fastpath.pressure cimport pressure
from fastpath.settings cimport Settings, policy, settings
from fastpath.shard cimport Shard

cdef enum:
    EVENTS = 256                    # readable sockets looked at in one turn

ctypedef struct worker_state:
    int epoll                       # every socket of every lane, and `stop`
    int nap                         # `stop` alone: what a nap waits on
    int stop                        # eventfd
    uint32_t lanes
    lane_state **lane
    settings settings               # private copy of:
    const policy *shared
    const int64_t *wall_s
    uint32_t now_ms
    uint32_t expired_ms             # up to when the tables were looked at for expiry
    uint32_t pinged_ms
    bint crowded                    # a batch from clients was full in this turn
    pressure pressure
    uint64_t received               # from clients, by all lanes, as of the last look at the kernel's queues
    uint64_t forwarded

cdef class Worker:
    cdef worker_state state
    cdef Settings settings
    cdef list shards
    cdef int cpu
    cdef object running
    cdef int watch(self, int fd, uint32_t lane, uint32_t kind, uint32_t index) except -1
    cdef int add_lane(self, uint32_t i, Shard shard, dict sockets) except -1
