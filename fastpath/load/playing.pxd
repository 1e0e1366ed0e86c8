# F7: the engine of a player: what is due, what cause and effect allow, what came. See playing.pyx.
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from fastpath.load.agenda cimport agenda
from fastpath.batch cimport receive_batch, send_batch
from fastpath.load.ends cimport END_SOCKETS, end_clients, end_state
from fastpath.load.histogram cimport HISTOGRAM_BUCKETS
from fastpath.load.judge cimport judge
from fastpath.layout cimport FP_BATCH, FP_DATAGRAM_BYTES, fp_datagram_area, fp_endpoint
from fastpath.load.script cimport script

cdef enum:
    PLAYER_ENDS = 64
    PLAYER_ROUND = 64                   # datagrams sent before arrivals are looked at

cdef enum:                              # why a run ends
    PLAY_DONE = 0
    PLAY_HUNGRY = 1
    PLAY_TIME = 2
    PLAY_STOPPED = 3
    PLAY_FAILED = 4

ctypedef struct client_outlet:          # one client socket
    int fd
    send_batch outgoing
    uint8_t scratch[FP_BATCH][FP_DATAGRAM_BYTES]     # of marked datagrams

ctypedef struct player_state:
    judge judge
    script script
    agenda agenda
    end_clients clients
    fp_endpoint relay
    client_outlet *outlets
    fp_datagram_area *area
    receive_batch incoming
    end_state *ends[PLAYER_ENDS]
    uint32_t ends_count
    int epoll
    int stop
    int failure
    double speed
    uint64_t window
    bint started
    uint64_t start_ns
    uint64_t first_time_ns              # capture time of the first datagram
    uint64_t quiet_ns                   # when something was last sent or came
    uint64_t empty_ns                   # when nothing was last found waiting in any socket
    uint32_t active                     # sessions that have a line to send
    uint32_t round_max                  # how many this round may send
    bint until_fed
    bint was_full                       # more than half of the ring was taken when the run began
    uint64_t round_due_ns[PLAYER_ROUND]     # of what this round sends on time
    uint32_t round_on_time, round_sent
    uint64_t held_back, starved, timed, receive_calls, send_calls, blocked
    uint64_t timing[HISTOGRAM_BUCKETS]

cdef int play(player_state *p, uint64_t end_ns) noexcept nogil
cdef void attend(player_state *p, uint64_t end_ns) noexcept nogil
