"""The ring that carries a capture from who reads it to who plays it, in constant memory.

One thread reserves room, writes a line and publishes it; the other adopts lines in the same order, links
them by call, and gives room back in the same order, as soon as the oldest line is wanted by no session.
A line never wraps: where it would, the rest of the ring is padding.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc

from fastpath.atomic cimport load_acquire_u32, load_acquire_u64, store_release_u32, store_release_u64


cdef bint script_open(script *s, uint64_t ring_bytes) noexcept nogil:
    """False: no memory. ring_bytes: a multiple of 64."""
    s.ring_bytes = ring_bytes
    s.ring = <uint8_t *>malloc(ring_bytes)
    s.calls = <script_call *>calloc(SCRIPT_CALLS, sizeof(script_call))
    return s.ring != NULL and s.calls != NULL


cdef void script_close(script *s) noexcept nogil:
    free(s.calls)
    free(s.ring)
    s.calls, s.ring = NULL, NULL


# ---- the feeder's ---------------------------------------------------------------------------------

cdef script_line *script_reserve(script *s, uint64_t length) noexcept nogil:
    """Room for a line of `length` bytes (a multiple of 8, at most half the ring); NULL: not now."""
    cdef uint64_t free_bytes = s.ring_bytes - (s.written - load_acquire_u64(&s.released))
    cdef uint64_t at = s.written % s.ring_bytes, rest = s.ring_bytes - at
    cdef script_line *padding
    if rest < length:
        if free_bytes < rest + length:
            return NULL
        if rest >= sizeof(script_line):
            padding = <script_line *>(s.ring + at)
            padding.bytes, padding.padding, padding.left = <uint32_t>rest, True, 0
        store_release_u64(&s.written, s.written + rest)
        at = 0
    elif free_bytes < length:
        return NULL
    return <script_line *>(s.ring + at)


cdef void script_publish(script *s, const script_line *line) noexcept nogil:
    store_release_u64(&s.written, s.written + line.bytes)


cdef void script_finish(script *s) noexcept nogil:
    store_release_u32(&s.finished, 1)


# ---- the player's ---------------------------------------------------------------------------------

cdef bint script_finished(const script *s) noexcept nogil:
    """Nothing more comes, and everything has been adopted."""
    return load_acquire_u32(&s.finished) and s.taken == load_acquire_u64(&s.written)


cdef uint64_t script_used(const script *s) noexcept nogil:
    return load_acquire_u64(&s.written) - s.released


cdef inline script_line *line_at(const script *s, uint64_t *position) noexcept nogil:
    """The line at a byte count, past what is left of the ring where no line begins."""
    cdef uint64_t rest = s.ring_bytes - position[0] % s.ring_bytes
    cdef script_line *line = <script_line *>(s.ring + (s.ring_bytes - rest) % s.ring_bytes)
    if rest < sizeof(script_line) or line.padding:
        position[0] += rest
        line = <script_line *>s.ring
    return line


cdef script_line *script_adopt(script *s) noexcept nogil:
    """The next line that was fed, linked to those of its call; NULL: none."""
    cdef uint64_t position = s.taken, written = load_acquire_u64(&s.written)
    cdef script_line *line
    if position == written:
        return NULL
    line = line_at(s, &position)
    if position == written:              # padding was published, what follows it not yet
        return NULL
    line.following = NULL
    if s.calls[line.call].last != NULL:
        s.calls[line.call].last.following = line
    s.calls[line.call].last = line
    s.taken = position + line.bytes
    return line


cdef void script_release(script *s) noexcept nogil:
    """Gives back what no session wants any more."""
    cdef uint64_t position = s.released
    cdef script_line *line
    while position < s.taken:
        line = line_at(s, &position)
        if line.left:
            break
        if s.calls[line.call].last == line:
            s.calls[line.call].last = NULL
        position += line.bytes
        store_release_u64(&s.released, position)
