# F6: the load generator: N clients, a real Binding Request each, then probes at the speed of a window or of a
# schedule. See generator.pyx.
from libc.stdint cimport uint32_t, uint64_t

from fastpath.load.arrivals cimport Arrivals
from fastpath.load.clients cimport Clients, clients
from fastpath.load.inbox cimport Inbox, inbox
from fastpath.load.inject cimport INJECT_SOCKETS, Injector, injector
from fastpath.load.opening cimport opening
from fastpath.load.pace cimport pace

ctypedef struct generator_counters:
    uint64_t sent
    uint64_t written_off                 # given up after 100 ms watched in vain: loss must not hang a run
    uint64_t late                        # sent more than 1 ms after the schedule
    uint64_t late_max_ns

ctypedef struct generator_state:
    const clients *clients
    injector *out
    inbox *box
    opening opening
    uint32_t run
    uint32_t turn                        # socket of the next batch
    uint32_t cursor[INJECT_SOCKETS]      # next flow of each socket, in flows of that socket
    uint64_t *sequences
    const uint64_t *acknowledged
    uint64_t nap_ns                      # 0: wait on the sockets
    uint64_t late_before                 # of earlier runs
    pace plan                            # of the run of probes
    int stop
    generator_counters counters


cdef class Generator:
    cdef generator_state *state
    cdef list sockets
    cdef Injector out
    cdef Inbox box
    cdef readonly Arrivals echoes
    cdef readonly Clients clients
    cdef object acknowledged_owner
    cdef share(self, acknowledged)
    cdef open_sockets(self)
    cdef end(self)
