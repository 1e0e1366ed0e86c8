# F6: opening flows: one Binding Request after another at the speed of a schedule or a window, again for who
# got no answer. See opening.pyx.
from libc.stdint cimport uint32_t, uint64_t

from fastpath.load.inbox cimport inbox
from fastpath.load.inject cimport INJECT_SOCKETS, injector
from fastpath.load.pace cimport pace

ctypedef struct opening:
    injector *out
    inbox *box
    int *stop
    pace pace
    uint64_t nap_ns                      # 0: wait on the sockets
    uint64_t retry_ns                    # without an answer for so long: asked again
    uint32_t turn                        # socket of the next batch
    uint32_t opened[INJECT_SOCKETS]      # of each socket's flows: those below were asked
    uint32_t retry_turn                  # socket the sweep for retries stands at
    uint32_t swept[INJECT_SOCKETS]       # and its flow there
    uint64_t sweep_ns                    # when the sweep began
    uint64_t sent                        # flows asked for the first time
    uint64_t retried
    uint64_t written_off
    uint64_t late
    uint64_t late_max_ns

cdef void opening_restart(opening *o) noexcept nogil
cdef void opening_run(opening *o, uint64_t drain_ns, uint64_t end_ns) noexcept nogil
