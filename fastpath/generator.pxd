# F6: the load generator: N client source addresses, a real Binding Request each, then probes at the
# speed of a window or of a schedule. See generator.pyx.
from libc.stdint cimport uint8_t, uint32_t, uint64_t

from fastpath.arrivals cimport Arrivals, arrivals
from fastpath.clients cimport Clients, clients
from fastpath.linux cimport iovec, mmsghdr

cdef enum:
    GENERATOR_BATCH = 64
    GENERATOR_SOCKETS = 64
    GENERATOR_SLOT_BYTES = 2112          # 2,048 of a datagram and its framing
    GENERATOR_CONTROL_BYTES = 64         # one IP_PKTINFO

ctypedef struct generator_counters:
    uint64_t sent
    uint64_t send_calls
    uint64_t misrouted                   # an echo that arrived at another flow's address
    uint64_t written_off                 # given up after 100 ms without progress: loss must not hang a run
    uint64_t blocked                     # the send buffer was full
    uint64_t late                        # sent more than 1 ms after the schedule
    uint64_t late_max_ns

ctypedef struct generator_batch:
    mmsghdr messages[GENERATOR_BATCH]
    iovec vectors[GENERATOR_BATCH]
    uint8_t control[GENERATOR_BATCH][GENERATOR_CONTROL_BYTES]
    uint8_t data[GENERATOR_BATCH][GENERATOR_SLOT_BYTES]

ctypedef struct generator_plan:
    bint echo
    uint64_t window
    uint64_t rate_pps                    # 0: as fast as the window lets
    uint64_t limit                       # datagrams
    uint64_t start_ns, end_ns
    uint64_t nap_ns                      # 0: wait on the sockets
    uint64_t first                       # counters.sent when the plan began
    uint64_t settled_first               # what had arrived by then
    uint64_t written_off                 # of this plan
    uint64_t progress_ns                 # when something sent was last settled
    uint64_t progress_seen

ctypedef struct generator_state:
    int fds[GENERATOR_SOCKETS]
    int epoll
    clients *clients
    uint32_t cursor[GENERATOR_SOCKETS]   # next flow of each socket, in flows of that socket
    uint32_t turn                        # socket of the next batch
    uint32_t run
    int stop
    int failure                          # errno that ended a run
    uint64_t *sequences
    arrivals *echoes
    uint8_t *confirmed
    uint32_t confirmed_flows
    uint8_t *requests
    uint32_t *request_offsets            # flows + 1
    const uint64_t *acknowledged
    generator_counters counters
    generator_batch send
    generator_batch receive


cdef class Generator:
    cdef generator_state *state
    cdef list sockets
    cdef readonly Arrivals echoes
    cdef readonly Clients clients
    cdef object acknowledged_owner
    cdef allocate(self, ufrags, password)
    cdef share(self, acknowledged)
    cdef open_sockets(self)
    cdef check(self)
