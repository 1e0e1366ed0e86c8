# F2: what a player expects to come out of a relay, and what it makes of what came. See judge.pyx.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.load.histogram cimport HISTOGRAM_BUCKETS
from fastpath.layout cimport fp_client, fp_endpoint
from fastpath.load.script cimport script_line

cdef enum:
    JUDGE_WINDOW = 64                   # datagrams of one session and direction that are remembered
    JUDGE_RECENT = 1 << 19              # datagrams of all that may be on the way
    JUDGE_SEARCHED = 8192               # of these, how far back the owner of a stray is looked for

cdef enum:                              # directions
    UP = 0
    DOWN = 1

cdef enum:                              # of a flight
    FLIGHT_PENDING = 1
    FLIGHT_DELIVERED = 2
    FLIGHT_LOST = 3
    FLIGHT_CORRUPTED = 4
    FLIGHT_MISROUTED = 5

cdef enum:                              # of a session_state
    SESSION_FREE = 0
    SESSION_IDLE = 1                    # every line of its call that there is has been sent
    SESSION_READY = 2                   # in the list of those to look at
    SESSION_DUE = 3                     # in the agenda
    SESSION_BLOCKED = 4                 # waits for arrivals

cdef enum:                              # kinds of findings; the names are in player.pyx
    FOUND_LOST = 0
    FOUND_DUPLICATE = 1
    FOUND_REORDERED = 2
    FOUND_CORRUPTED = 3
    FOUND_MISROUTED = 4
    FOUND_STRANGER = 5
    FOUND_LATE = 6
    FOUND_MOVED = 7
    FOUND_UNROUTABLE = 8

ctypedef struct flight:                 # one datagram sent
    uint64_t fingerprint
    uint64_t sent_ns
    int64_t index                       # of the capture
    script_line *line                   # while pending
    uint32_t state

ctypedef struct way:                    # one direction of a session
    flight *flights                     # datagram n stands at n % JUDGE_WINDOW
    uint64_t next                       # number of the next to be sent
    uint64_t oldest                     # none before it is pending
    uint64_t reached                    # highest delivered + 1
    uint32_t pending

ctypedef struct session_state:
    uint32_t call, ordinal, end
    uint32_t next_of_call               # the feeder's list
    uint32_t link                       # the player's: ready or starving
    uint32_t state
    bint held, starved                  # why the next datagram is later than due
    bint routed                         # its end knows where answers go
    script_line *upcoming               # to be sent next; NULL, and idle: not fed yet
    uint64_t due_ns
    uint64_t heard_ns                   # when something last came out at its end
    int64_t phase_ns
    fp_endpoint path                    # plain: the relay's upstream port
    fp_client client                    # trunk: as the relay writes it
    uint32_t relay                      # trunk: which of the end's relay sockets
    way ways[2]

ctypedef struct verdicts:               # of one direction
    uint64_t sent, delivered, lost, late, duplicates, reordered, corrupted, misrouted, misrouted_copies
    uint64_t strangers, in_flight

ctypedef struct finding:
    int64_t index
    uint64_t at_ns
    uint32_t kind, session, call
    uint32_t expected_end, actual_end, actual_session
    uint32_t expected_bytes, actual_bytes, differs_at
    bint upstream
    uint8_t expected_byte, actual_byte

ctypedef struct sent_note:              # in the order of sending
    uint64_t fingerprint
    uint32_t session
    uint32_t number                     # the lower 31 bits; the highest: down

ctypedef struct judge:
    session_state *sessions
    uint32_t count
    flight *flights                     # 2 * JUDGE_WINDOW a session
    sent_note *recent                   # JUDGE_RECENT
    uint64_t noted                      # datagrams ever sent
    uint64_t settled                    # all before it are settled
    uint64_t in_flight
    uint64_t give_up_ns
    uint64_t start_ns
    uint64_t moved, unroutable
    uint32_t ready_first, ready_last    # sessions to look at
    verdicts ways[2]
    uint64_t latency[2][HISTOGRAM_BUCKETS]
    finding *findings
    uint32_t findings_count, findings_max

ctypedef struct arrived:                # one datagram that came out of the relay
    const uint8_t *data
    uint32_t length
    uint32_t session                    # whose it is by where it came out; FP_NONE: not known yet
    uint32_t end                        # where it came out; FP_NONE: at a client
    bint may_teach                      # at a plain end: a source not known yet may become a session's path
    uint64_t now_ns

cdef bint judge_open(judge *j, uint32_t sessions, uint32_t findings_max) noexcept nogil
cdef void judge_close(judge *j) noexcept nogil
cdef void judge_sent(judge *j, uint32_t who, script_line *line, const uint8_t *data, uint32_t length,
                     uint64_t now_ns) noexcept nogil
cdef bint judge_give_up(judge *j, uint64_t now_ns) noexcept nogil
cdef uint64_t judge_deadline(const judge *j) noexcept nogil
cdef uint32_t judge_arrival(judge *j, const arrived *a) noexcept nogil
cdef finding *judge_note(judge *j, uint32_t kind, uint64_t at_ns) noexcept nogil
cdef void judge_wake(judge *j, uint32_t who) noexcept nogil
cdef void judge_ready(judge *j, uint32_t who) noexcept nogil


cdef inline bint judge_has_room(const judge *j) noexcept nogil:
    """Is there a place to note one more datagram on the way?"""
    return j.noted - j.settled < JUDGE_RECENT
