"""The judge: every datagram that was sent is expected once, at one place, unchanged; every arrival is held
against that.

A session remembers its last 64 datagrams of each direction, so that a repetition inside a capture (DTLS and
STUN send again) is told from a duplicate: an arrival takes the first equal datagram after the highest that
came, then the first equal one before it. Only what fits nothing there is looked for among all sessions.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memset

from fastpath.load.histogram cimport histogram_note
from fastpath.layout cimport FP_NONE
from fastpath.load.script cimport fingerprint, script_byte, script_line, script_marked, script_text

cdef enum:
    LOWER_BITS = 0x7fffffff              # of a number, in a sent_note
    SILENT_NS = 5_000_000_000            # a path this long unused may be another session's now


cdef bint judge_open(judge *j, uint32_t sessions, uint32_t findings_max) noexcept nogil:
    """False: no memory. Memory that no session uses is never touched."""
    cdef uint32_t i
    j.sessions = <session_state *>calloc(sessions, sizeof(session_state))
    j.flights = <flight *>calloc(<size_t>sessions * 2 * JUDGE_WINDOW, sizeof(flight))
    j.recent = <sent_note *>calloc(JUDGE_RECENT, sizeof(sent_note))
    j.findings = <finding *>calloc(findings_max + 1, sizeof(finding))
    if not (j.sessions and j.flights and j.recent and j.findings):
        return False
    j.count, j.findings_max = sessions, findings_max
    j.ready_first = j.ready_last = FP_NONE
    for i in range(sessions):
        j.sessions[i].ways[UP].flights = j.flights + <size_t>i * 2 * JUDGE_WINDOW
        j.sessions[i].ways[DOWN].flights = j.sessions[i].ways[UP].flights + JUDGE_WINDOW
    return True


cdef void judge_close(judge *j) noexcept nogil:
    free(j.sessions)
    free(j.flights)
    free(j.recent)
    free(j.findings)
    j.sessions, j.flights, j.recent, j.findings = NULL, NULL, NULL, NULL


cdef inline flight *flight_of(const way *w, uint64_t number) noexcept nogil:
    return &w.flights[number % JUDGE_WINDOW]


cdef inline uint64_t first_remembered(const way *w) noexcept nogil:
    return w.next - JUDGE_WINDOW if w.next > JUDGE_WINDOW else 0


cdef void judge_ready(judge *j, uint32_t who) noexcept nogil:
    """Put a session at the end of the list of those to look at."""
    j.sessions[who].state = SESSION_READY
    j.sessions[who].link = FP_NONE
    if j.ready_first == FP_NONE:
        j.ready_first = who
    else:
        j.sessions[j.ready_last].link = who
    j.ready_last = who


cdef void judge_wake(judge *j, uint32_t who) noexcept nogil:
    """Something of it has been settled: what was blocked may go on."""
    if j.sessions[who].state == SESSION_BLOCKED:
        judge_ready(j, who)


cdef void judge_sent(judge *j, uint32_t who, script_line *line, const uint8_t *data, uint32_t length,
                     uint64_t now_ns) noexcept nogil:
    """Expect it. The caller asked judge_has_room. `data`: what this session sends, marked."""
    cdef int direction = UP if line.upstream else DOWN
    cdef way *w = &j.sessions[who].ways[direction]
    cdef flight *f = flight_of(w, w.next)
    cdef sent_note *note = &j.recent[j.noted % JUDGE_RECENT]
    f.fingerprint = fingerprint(data, length)
    f.sent_ns, f.index, f.line = now_ns, line.index, line
    f.state = FLIGHT_PENDING
    note.fingerprint, note.session = f.fingerprint, who
    note.number = <uint32_t>(w.next & LOWER_BITS) | <uint32_t>direction << 31
    j.noted += 1
    w.next += 1
    w.pending += 1
    j.in_flight += 1
    j.ways[direction].sent += 1
    j.ways[direction].in_flight += 1


cdef void settle(judge *j, uint32_t who, int direction, uint64_t number, uint32_t state) noexcept nogil:
    """A pending datagram's fate is known."""
    cdef way *w = &j.sessions[who].ways[direction]
    cdef flight *f = flight_of(w, number)
    f.state = state
    f.line.left -= 1
    f.line = NULL
    w.pending -= 1
    j.in_flight -= 1
    j.ways[direction].in_flight -= 1
    while w.oldest < w.next and flight_of(w, w.oldest).state != FLIGHT_PENDING:
        w.oldest += 1
    judge_wake(j, who)


# ---- findings -------------------------------------------------------------------------------------

cdef finding *judge_note(judge *j, uint32_t kind, uint64_t at_ns) noexcept nogil:
    """The next finding, to be completed by the caller; past the last one, a place that nobody reads."""
    cdef finding *found = &j.findings[j.findings_count]
    memset(found, 0, sizeof(finding))
    if j.findings_count < j.findings_max:
        j.findings_count += 1
    found.kind = kind
    found.at_ns = at_ns - j.start_ns if at_ns > j.start_ns else 0
    found.index = -1
    found.session = found.call = found.expected_end = found.actual_end = found.actual_session = FP_NONE
    return found


cdef finding *note_flight(judge *j, uint32_t kind, uint64_t at_ns, uint32_t who, int direction,
                          const flight *f) noexcept nogil:
    cdef finding *found = judge_note(j, kind, at_ns)
    found.session, found.call = who, j.sessions[who].call
    found.expected_end = j.sessions[who].end
    found.upstream = direction == UP
    found.index = f.index
    return found


cdef finding *note_arrival(judge *j, uint32_t kind, const arrived *a, uint32_t who, int direction,
                           const flight *f) noexcept nogil:
    cdef finding *found = note_flight(j, kind, a.now_ns, who, direction, f)
    found.actual_end, found.actual_session = a.end, a.session
    found.actual_bytes = a.length
    return found


cdef void note_old(judge *j, uint32_t kind, const arrived *a, uint32_t who, int direction) noexcept nogil:
    """Of a datagram so old that nobody remembers which one it was."""
    cdef flight forgotten
    memset(&forgotten, 0, sizeof(forgotten))
    forgotten.index = -1
    note_arrival(j, kind, a, who, direction, &forgotten)


# ---- time ------------------------------------------------------------------------------------------

cdef uint64_t number_of(const way *w, const sent_note *note) noexcept nogil:
    """The whole number behind the lower bits that a note keeps."""
    return w.next - ((w.next - note.number) & LOWER_BITS)


cdef flight *pending_flight(judge *j, const sent_note *note) noexcept nogil:
    """NULL: it is settled."""
    cdef const way *w = &j.sessions[note.session].ways[note.number >> 31]
    cdef uint64_t number = number_of(w, note)
    cdef flight *f = flight_of(w, number)
    return f if number >= w.oldest and f.state == FLIGHT_PENDING else NULL


cdef bint judge_give_up(judge *j, uint64_t now_ns) noexcept nogil:
    """What was sent too long ago is lost. True: something was."""
    cdef bint lost = False
    cdef const sent_note *note
    cdef flight *f
    cdef int direction
    while j.settled < j.noted:
        note = &j.recent[j.settled % JUDGE_RECENT]
        f = pending_flight(j, note)
        if f != NULL:
            if now_ns < f.sent_ns + j.give_up_ns:
                break
            lost = True
            direction = <int>(note.number >> 31)
            j.ways[direction].lost += 1
            note_flight(j, FOUND_LOST, f.sent_ns, note.session, direction, f)
            settle(j, note.session, direction, number_of(&j.sessions[note.session].ways[direction], note),
                   FLIGHT_LOST)
        j.settled += 1
    return lost


cdef uint64_t judge_deadline(const judge *j) noexcept nogil:
    """When judge_give_up should be called again; the end of time when nothing is on the way."""
    cdef const sent_note *note
    cdef const way *w
    if j.settled == j.noted:
        return <uint64_t>-1
    note = &j.recent[j.settled % JUDGE_RECENT]
    w = &j.sessions[note.session].ways[note.number >> 31]
    return flight_of(w, number_of(w, note)).sent_ns + j.give_up_ns


# ---- arrivals ---------------------------------------------------------------------------------------

cdef bint same_text(const flight *f, uint32_t who, uint32_t ordinal, const arrived *a) noexcept nogil:
    """Byte by byte: is it what this pending flight of session `who` sent?"""
    cdef uint32_t length, i, alike
    cdef const uint8_t *text = script_text(f.line, ordinal, &length)
    if length != a.length:
        return False
    alike = length
    if script_marked(f.line):
        alike -= 4
    if memcmp(text, a.data, alike) != 0:
        return False
    for i in range(alike, length):
        if a.data[i] != script_byte(f.line, text, length, who, i):
            return False
    return True


cdef bint find_expected(judge *j, uint32_t who, int direction, const arrived *a, uint64_t digest,
                        uint64_t *number) noexcept nogil:
    """The pending datagram of this session and direction that the arrival is."""
    cdef const session_state *s = &j.sessions[who]
    cdef const way *w = &s.ways[direction]
    cdef uint64_t middle = w.reached if w.reached > w.oldest else w.oldest
    cdef uint64_t n, k
    cdef const flight *f
    for k in range(w.oldest, w.next):
        n = middle + (k - w.oldest)
        if n >= w.next:
            n = n - w.next + w.oldest
        f = flight_of(w, n)
        if f.state == FLIGHT_PENDING and f.fingerprint == digest and same_text(f, who, s.ordinal, a):
            number[0] = n
            return True
    return False


cdef bint find_settled(judge *j, uint32_t who, int direction, uint64_t digest,
                       uint64_t *number) noexcept nogil:
    """A settled datagram with this fingerprint; rather one that was given up than one that came."""
    cdef const way *w = &j.sessions[who].ways[direction]
    cdef const flight *f
    cdef uint64_t n
    cdef bint found = False
    for n in range(first_remembered(w), w.next):
        f = flight_of(w, n)
        if f.state != FLIGHT_PENDING and f.fingerprint == digest:
            if not found or f.state == FLIGHT_LOST:
                number[0] = n
            found = True
            if f.state == FLIGHT_LOST:
                break
    return found


cdef void deliver(judge *j, uint32_t who, int direction, uint64_t number, const arrived *a) noexcept nogil:
    cdef way *w = &j.sessions[who].ways[direction]
    cdef flight *f = flight_of(w, number)
    j.ways[direction].delivered += 1
    histogram_note(j.latency[direction], a.now_ns - f.sent_ns)
    if number < w.reached:
        j.ways[direction].reordered += 1
        note_arrival(j, FOUND_REORDERED, a, who, direction, f)
    else:
        w.reached = number + 1
    settle(j, who, direction, number, FLIGHT_DELIVERED)


cdef void repeat(judge *j, uint32_t who, int direction, uint64_t number, const arrived *a) noexcept nogil:
    """A settled datagram came out at its place: late, or once more."""
    cdef flight *f = flight_of(&j.sessions[who].ways[direction], number)
    cdef verdicts *counts = &j.ways[direction]
    if f.state == FLIGHT_LOST:
        f.state = FLIGHT_DELIVERED
        counts.lost -= 1
        counts.delivered += 1
        counts.late += 1
        note_arrival(j, FOUND_LATE, a, who, direction, f)
    elif f.state == FLIGHT_MISROUTED:
        f.state = FLIGHT_DELIVERED       # what came out elsewhere was a copy, and faster
        counts.delivered += 1
        counts.misrouted_copies += 1
    else:
        counts.duplicates += 1
        note_arrival(j, FOUND_DUPLICATE, a, who, direction, f)


cdef bint accept(judge *j, uint32_t who, int direction, const arrived *a, uint64_t digest) noexcept nogil:
    """It is this session's, and at its place: delivered, late or a duplicate. False: it is not."""
    cdef uint64_t number
    if find_expected(j, who, direction, a, digest, &number):
        deliver(j, who, direction, number, a)
    elif find_settled(j, who, direction, digest, &number):
        repeat(j, who, direction, number, a)
    else:
        return False
    if direction == UP:
        j.sessions[who].heard_ns = a.now_ns
    return True


cdef const sent_note *find_owner(judge *j, uint64_t digest) noexcept nogil:
    """Who sent a datagram with this fingerprint lately; rather one that is still on its way."""
    cdef uint64_t n = j.noted, last = j.noted - JUDGE_SEARCHED if j.noted > JUDGE_SEARCHED else 0
    cdef const sent_note *note
    cdef const sent_note *settled = NULL
    while n > last:
        n -= 1
        note = &j.recent[n % JUDGE_RECENT]
        if note.fingerprint == digest:
            if pending_flight(j, note) != NULL:
                return note
            if settled == NULL:
                settled = note
    return settled


cdef bint teaches(const judge *j, const arrived *a, uint32_t owner, int direction) noexcept nogil:
    """Did it come out at its own plain end, from a source that may be its session's path?"""
    if not a.may_teach or direction != UP or j.sessions[owner].end != a.end:
        return False
    return a.session == FP_NONE or (
        not j.sessions[owner].routed and a.now_ns - j.sessions[a.session].heard_ns > SILENT_NS)


cdef void misroute(judge *j, uint32_t owner, int direction, const arrived *a, uint64_t digest) noexcept nogil:
    cdef uint64_t number
    j.ways[direction].misrouted += 1
    if find_expected(j, owner, direction, a, digest, &number):
        note_arrival(j, FOUND_MISROUTED, a, owner, direction,
                     flight_of(&j.sessions[owner].ways[direction], number))
        settle(j, owner, direction, number, FLIGHT_MISROUTED)
        return
    j.ways[direction].misrouted_copies += 1
    if find_settled(j, owner, direction, digest, &number):
        note_arrival(j, FOUND_MISROUTED, a, owner, direction,
                     flight_of(&j.sessions[owner].ways[direction], number))
    else:
        note_old(j, FOUND_MISROUTED, a, owner, direction)


cdef uint32_t likeness(const flight *f, uint32_t who, uint32_t ordinal, const arrived *a) noexcept nogil:
    """How many bytes of an arrival are as expected; 0 when that is too few to be more than chance."""
    cdef uint32_t length, shorter, longer, i, alike = 0
    cdef const uint8_t *text = script_text(f.line, ordinal, &length)
    shorter = length if length < a.length else a.length
    longer = length if length > a.length else a.length
    for i in range(shorter):
        alike += script_byte(f.line, text, length, who, i) == a.data[i]
    return alike if 2 * alike > longer or (alike == shorter and alike >= 16) else 0


cdef void describe_damage(finding *found, const flight *f, uint32_t ordinal, const arrived *a) noexcept nogil:
    """`found` names the session already."""
    cdef uint32_t length, i = 0
    cdef const uint8_t *text = script_text(f.line, ordinal, &length)
    while i < length and i < a.length and script_byte(f.line, text, length, found.session, i) == a.data[i]:
        i += 1
    found.expected_bytes, found.differs_at = length, i
    if i < length:
        found.expected_byte = script_byte(f.line, text, length, found.session, i)
    if i < a.length:
        found.actual_byte = a.data[i]


cdef bint corrupted(judge *j, uint32_t who, int direction, const arrived *a) noexcept nogil:
    """It resembles something pending: that is what was damaged. False: nothing."""
    cdef const session_state *s = &j.sessions[who]
    cdef const way *w = &s.ways[direction]
    cdef uint64_t n, nearest = 0
    cdef uint32_t alike, best = 0
    cdef const flight *f
    for n in range(w.oldest, w.next):
        f = flight_of(w, n)
        alike = likeness(f, who, s.ordinal, a) if f.state == FLIGHT_PENDING else 0
        if alike > best:
            nearest, best = n, alike
    if best == 0:
        return False
    f = flight_of(w, nearest)
    j.ways[direction].corrupted += 1
    describe_damage(note_arrival(j, FOUND_CORRUPTED, a, who, direction, f), f, s.ordinal, a)
    settle(j, who, direction, nearest, FLIGHT_CORRUPTED)
    return True


cdef uint32_t judge_arrival(judge *j, const arrived *a) noexcept nogil:
    """Whose datagram came out at its place; FP_NONE's when it came out elsewhere or is a stranger."""
    cdef int direction = DOWN if a.end == FP_NONE else UP
    cdef uint64_t digest = fingerprint(a.data, a.length)
    cdef bint at_place = a.session != FP_NONE and (direction == DOWN or j.sessions[a.session].end == a.end)
    cdef const sent_note *note
    cdef finding *found
    cdef int sent_direction
    if at_place and accept(j, a.session, direction, a, digest):
        return a.session
    note = find_owner(j, digest)
    if note != NULL:
        sent_direction = <int>(note.number >> 31)
        if teaches(j, a, note.session, sent_direction) and accept(j, note.session, UP, a, digest):
            return note.session
        if at_place and note.session == a.session and sent_direction == direction:
            j.ways[direction].duplicates += 1        # of one that its session has forgotten
            note_old(j, FOUND_DUPLICATE, a, note.session, direction)
        else:
            misroute(j, note.session, sent_direction, a, digest)
        return FP_NONE
    if at_place and corrupted(j, a.session, direction, a):
        return a.session
    j.ways[direction].strangers += 1
    found = judge_note(j, FOUND_STRANGER, a.now_ns)
    found.upstream, found.actual_end, found.actual_session = direction == UP, a.end, a.session
    found.actual_bytes = a.length
    return FP_NONE
