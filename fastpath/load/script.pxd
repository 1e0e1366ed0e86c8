# F1: what a player plays: a ring of datagrams that one thread feeds and another plays (one writer, one
# reader), those of one call linked in their order. A datagram leaves the ring when every session of its call
# is through with it. See script.pyx.
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef enum:
    SCRIPT_CALLS = 65_536
    SCRIPT_DATAGRAM_BYTES = 2048
    SCRIPT_MARK_FROM_BYTES = 16         # a shorter datagram is never marked

ctypedef struct script_patch:           # one session's own text of a datagram
    uint32_t offset                     # from the begin of its line
    uint32_t length                     # 0: the session sends what the others send

ctypedef struct script_line:            # one datagram of a call; patches, payload and texts follow it
    uint32_t bytes                      # with all that follows, a multiple of 8
    uint32_t call
    uint32_t left                       # sessions that are not through with it; the player's own
    uint32_t patches                    # 0, or the number of the call's sessions
    uint64_t time_ns
    int64_t index
    script_line *following              # of its call; NULL: not fed yet; the player's own
    uint16_t length
    bint upstream
    bint mark
    bint padding                        # nothing: the ring begins anew

ctypedef struct script_call:
    uint32_t sessions                   # the feeder's: how many play it, and the list of them
    uint32_t first_session, last_session
    bint fed                            # the feeder's: its sessions are fixed
    bint begun                          # the player's: its sessions know of it
    script_line *last                   # the player's: the newest one, NULL: it has left the ring
    uint32_t starving                   # the player's: list of the sessions that wait for what follows

ctypedef struct script:
    uint8_t *ring
    uint64_t ring_bytes
    uint64_t written                    # bytes ever published; the feeder's
    uint64_t taken                      # bytes ever adopted; the player's
    uint64_t released                   # bytes ever given back; the player's
    uint32_t finished
    script_call *calls

cdef bint script_open(script *s, uint64_t ring_bytes) noexcept nogil
cdef void script_close(script *s) noexcept nogil
cdef script_line *script_reserve(script *s, uint64_t length) noexcept nogil
cdef void script_publish(script *s, const script_line *line) noexcept nogil
cdef void script_finish(script *s) noexcept nogil
cdef bint script_finished(const script *s) noexcept nogil
cdef uint64_t script_used(const script *s) noexcept nogil
cdef script_line *script_adopt(script *s) noexcept nogil
cdef void script_release(script *s) noexcept nogil


cdef inline uint64_t mixed(uint64_t hash, uint64_t word) noexcept nogil:
    hash = (hash ^ word) * 0x9e3779b97f4a7c15u
    return hash ^ (hash >> 29)


cdef inline uint64_t fingerprint(const uint8_t *data, size_t length) noexcept nogil:
    """Tells datagrams apart that must not be compared byte by byte, each with each. Nobody picks a capture to
    make two of them meet."""
    cdef size_t i = 0
    cdef uint64_t word, hash = mixed(0, length)
    while i + 8 <= length:
        memcpy(&word, data + i, 8)
        hash = mixed(hash, word)
        i += 8
    word = 0
    memcpy(&word, data + i, length - i)
    return mixed(hash, word)


cdef inline bint script_marked(const script_line *line) noexcept nogil:
    return line.mark and line.length >= SCRIPT_MARK_FROM_BYTES


cdef inline script_patch *script_patch_of(const script_line *line, uint32_t ordinal) noexcept nogil:
    return <script_patch *>(<uint8_t *>line + sizeof(script_line)) + ordinal


cdef inline const uint8_t *script_text(const script_line *line, uint32_t ordinal,
                                       uint32_t *length) noexcept nogil:
    """What session number `ordinal` of the call sends, before it is marked."""
    cdef const script_patch *patch
    if line.patches:
        patch = script_patch_of(line, ordinal)
        if patch.length:
            length[0] = patch.length
            return <const uint8_t *>line + patch.offset
    length[0] = line.length
    return <const uint8_t *>line + sizeof(script_line) + line.patches * sizeof(script_patch)


cdef inline void script_apply_mark(uint8_t *data, uint32_t length, uint32_t session) noexcept nogil:
    cdef uint32_t i
    for i in range(4):
        data[length - 4 + i] ^= <uint8_t>(session >> (24 - 8 * i))


cdef inline uint8_t script_byte(const script_line *line, const uint8_t *text, uint32_t length,
                                uint32_t session, uint32_t i) noexcept nogil:
    """Byte i of what `session` sends: of its text, marked where the line is."""
    if i + 4 < length or not script_marked(line):
        return text[i]
    return text[i] ^ <uint8_t>(session >> (8 * (length - 1 - i)))
