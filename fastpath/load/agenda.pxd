# F1: which session is due next: a binary heap of (time, session), at most one entry a session.
from libc.stdint cimport uint32_t, uint64_t

ctypedef struct agenda_entry:
    uint64_t due_ns
    uint32_t session

ctypedef struct agenda:
    agenda_entry *entries               # the caller's memory: one for each session
    uint32_t count


cdef inline void agenda_add(agenda *a, uint64_t due_ns, uint32_t session) noexcept nogil:
    cdef uint32_t at = a.count, above
    a.count += 1
    while at:
        above = (at - 1) // 2
        if a.entries[above].due_ns <= due_ns:
            break
        a.entries[at] = a.entries[above]
        at = above
    a.entries[at].due_ns, a.entries[at].session = due_ns, session


cdef inline uint32_t agenda_take(agenda *a) noexcept nogil:
    """Removes the earliest and gives its session; the agenda is not empty. Equal times come in any order."""
    cdef uint32_t first = a.entries[0].session, at = 0, below
    cdef agenda_entry last
    a.count -= 1
    last = a.entries[a.count]
    while True:
        below = 2 * at + 1
        if below >= a.count:
            break
        if below + 1 < a.count and a.entries[below + 1].due_ns < a.entries[below].due_ns:
            below += 1
        if a.entries[below].due_ns >= last.due_ns:
            break
        a.entries[at] = a.entries[below]
        at = below
    a.entries[at] = last
    return first
