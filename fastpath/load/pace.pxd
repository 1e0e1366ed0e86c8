# F1: how fast a load run sends: an open-loop schedule, or a window of what may fly at once. The generator's
# probes, its set-ups and a sink's own datagrams go by the same rules. No clock of its own: `now_ns` is given.
from libc.stdint cimport uint64_t

cdef enum:
    PACE_STALL_NS = 100_000_000          # a window without progress for so long is written off: no hanging
    PACE_LOOK_NS = 5_000_000             # what one look adds to that at most: a machine may stand still
    PACE_LATE_NS = 1_000_000             # sent so long after the schedule: late
    PACE_REST_NS = 1_000_000             # the longest rest before the clock is looked at again
    PACE_LEAST_ROOM = 32                 # a window opens by half a batch: one by one is a system call each

ctypedef struct pace:
    uint64_t rate_pps                    # 0: as fast as the window lets
    double gap_ns                        # between two of the schedule
    uint64_t window
    uint64_t limit                       # datagrams
    uint64_t start_ns, end_ns
    uint64_t sent
    const uint64_t *settled              # a live count of what arrived where it counts; NULL: nobody counts
    uint64_t settled_first               # of runs before this one
    uint64_t written_off
    uint64_t progress_seen
    uint64_t looked_ns
    uint64_t stalled_ns                  # watched without progress
    uint64_t late
    uint64_t late_max_ns


cdef inline void pace_begin(pace *p, uint64_t rate_pps, uint64_t window, uint64_t limit,
                            const uint64_t *settled, uint64_t now_ns, uint64_t duration_ns) noexcept nogil:
    p.rate_pps, p.window, p.limit, p.settled = rate_pps, window, limit, settled
    p.gap_ns = 1e9 / <double>rate_pps if rate_pps else 0.0
    p.start_ns = p.looked_ns = now_ns
    p.end_ns = now_ns + duration_ns
    p.settled_first = settled[0] if settled != NULL else 0
    p.sent = p.written_off = p.progress_seen = p.stalled_ns = p.late = p.late_max_ns = 0


cdef inline bint pace_over(const pace *p, uint64_t now_ns) noexcept nogil:
    return now_ns >= p.end_ns or p.sent >= p.limit


cdef inline uint64_t pace_flying(const pace *p) noexcept nogil:
    """Sent and neither settled nor written off."""
    cdef uint64_t gone
    if p.settled == NULL:
        return 0
    gone = p.settled[0] - p.settled_first + p.written_off
    return p.sent - gone if p.sent > gone else 0


cdef inline uint64_t pace_intended_ns(const pace *p, uint64_t ahead, uint64_t now_ns) noexcept nogil:
    """When the schedule wants the datagram that is `ahead` of the next one; without a schedule: now."""
    if p.rate_pps == 0:
        return now_ns
    return p.start_ns + <uint64_t>(<double>(p.sent + ahead) * p.gap_ns)


cdef inline uint64_t pace_scheduled(const pace *p, uint64_t now_ns) noexcept nogil:
    cdef uint64_t due = <uint64_t>(<double>(now_ns - p.start_ns) / p.gap_ns) + 1
    return due - p.sent if due > p.sent else 0


cdef inline uint64_t pace_room(pace *p, uint64_t now_ns) noexcept nogil:
    """What the window leaves: PACE_LEAST_ROOM at least, or nothing."""
    cdef uint64_t flying = pace_flying(p), settled = p.sent - flying
    cdef uint64_t least = p.window if p.window < <uint64_t>PACE_LEAST_ROOM else <uint64_t>PACE_LEAST_ROOM
    cdef uint64_t unseen_ns = now_ns - p.looked_ns
    p.looked_ns = now_ns
    p.stalled_ns += unseen_ns if unseen_ns < PACE_LOOK_NS else PACE_LOOK_NS
    if settled != p.progress_seen:
        p.progress_seen, p.stalled_ns = settled, 0
    if flying + least > p.window and p.stalled_ns > PACE_STALL_NS:
        p.written_off += flying
        flying = 0
    return 0 if flying + least > p.window else p.window - flying


cdef inline uint64_t pace_allowance(pace *p, uint64_t now_ns) noexcept nogil:
    """How many datagrams may go out now."""
    cdef uint64_t may = pace_scheduled(p, now_ns) if p.rate_pps else pace_room(p, now_ns)
    return may if may < p.limit - p.sent else p.limit - p.sent


cdef inline void pace_note(pace *p, uint64_t count, uint64_t now_ns) noexcept nogil:
    """`count` datagrams went out at `now_ns`."""
    cdef uint64_t intended_ns = pace_intended_ns(p, 0, now_ns), late
    cdef uint64_t late_ns = now_ns - intended_ns if now_ns > intended_ns else 0
    if count and late_ns > PACE_LATE_NS:
        late = <uint64_t>(<double>(late_ns - PACE_LATE_NS) / p.gap_ns) + 1       # the first ones of the batch
        p.late += late if late < count else count
    if count and late_ns > p.late_max_ns:
        p.late_max_ns = late_ns
    p.sent += count


cdef inline uint64_t pace_rest_ns(const pace *p, uint64_t now_ns) noexcept nogil:
    """How long nothing is due."""
    cdef uint64_t next_ns
    if p.rate_pps == 0:
        return PACE_REST_NS
    next_ns = pace_intended_ns(p, 0, now_ns)
    if next_ns <= now_ns:
        return 0
    return next_ns - now_ns if next_ns - now_ns < PACE_REST_NS else PACE_REST_NS
