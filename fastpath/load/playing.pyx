"""The engine of a player: one thread, a few sockets, all sessions.

A session is looked at when its next line is due, when something of it has been settled, or when it waited for
lines and was fed; it plays what it may and says itself when to look again. A round stages at most a batch,
sends it, then takes what came. With due times the last 200 us before the next one are spent awake.
"""

from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath.address cimport endpoint_equal, endpoint_from_sockaddr
from fastpath.load.agenda cimport agenda_add, agenda_take
from fastpath.batch cimport (
    arrival, batch_arrival, batch_receive, batch_send, batch_settle, compose, compose_endpoint,
    compose_source, send_batch, wait_ready,
)
from fastpath.load.ends cimport (
    END_SOCKETS, end_announce, end_flush, end_receive, end_scratch, end_stage, outcome_of,
)
from fastpath.load.histogram cimport histogram_note
from fastpath.load.judge cimport (
    DOWN, FOUND_UNROUTABLE, JUDGE_WINDOW, SESSION_BLOCKED, SESSION_DUE, SESSION_FREE, SESSION_IDLE,
    UP, arrived, finding, judge_arrival, judge_deadline, judge_give_up, judge_has_room, judge_note,
    judge_ready, judge_sent, session_state,
)
from fastpath.layout cimport FP_NONE, fp_endpoint
from fastpath.linux cimport epoll_event, monotonic_ns
from fastpath.load.script cimport (
    script_adopt, script_apply_mark, script_call, script_finished, script_line, script_marked,
    script_release, script_text, script_used,
)

cdef enum:
    NAME_BYTES = 32
    SPIN_NS = 200_000                    # before a due time: what a sleep may oversleep, slack and wake-up
    LEAD_NS = 2_000_000                  # between the begin of play and the first due time
    QUIET_NS = 50_000_000                # after the last datagram: would anything come out once more?
    STARVING_NS = 1_000_000              # how often a player without datagrams looks for new ones
    ATTENTION_NS = 20_000_000            # how often stop is looked at
    PACED_ROUND = 16
    TURN_LINES = 8                       # of one session before another one's turn
    ADOPT_LINES = 256
    EVENTS = 64


# ---- sending -----------------------------------------------------------------------------------------

cdef bint congested(const player_state *p) noexcept nogil:
    return p.judge.in_flight >= p.window or not judge_has_room(&p.judge)


cdef bint due(const player_state *p, session_state *s, const script_line *line,
              uint64_t now_ns) noexcept nogil:
    """Notes when the line is due; is that past?"""
    cdef double elapsed_ns = 0
    if p.speed == 0:
        return True
    if line.time_ns > p.first_time_ns:
        elapsed_ns = <double>(line.time_ns - p.first_time_ns) / p.speed
    s.due_ns = <uint64_t>(<int64_t>p.start_ns + s.phase_ns + <int64_t>elapsed_ns)
    return s.due_ns <= now_ns


cdef void stage_up(player_state *p, uint32_t who, const uint8_t *text, uint32_t length) noexcept nogil:
    cdef client_outlet *outlet = &p.outlets[who % p.clients.sockets]
    cdef fp_endpoint local
    local_endpoint(p, who, &local)
    compose(&outlet.outgoing, text, length)
    compose_endpoint(&outlet.outgoing, &p.relay)
    compose_source(&outlet.outgoing, &local)


cdef void local_endpoint(const player_state *p, uint32_t who, fp_endpoint *out) noexcept nogil:
    cdef uint32_t address = p.clients.first_address + who // p.clients.sockets
    cdef int i
    for i in range(4):
        out.address[i] = <uint8_t>(address >> (24 - 8 * i))
    out.family = 4


cdef void play_line(player_state *p, uint32_t who, script_line *line, uint64_t now_ns) noexcept nogil:
    """Sends, at the end of this round, what the session's turn is."""
    cdef session_state *s = &p.judge.sessions[who]
    cdef client_outlet *outlet = &p.outlets[who % p.clients.sockets]
    cdef uint32_t length
    cdef const uint8_t *text = script_text(line, s.ordinal, &length)
    cdef uint8_t *own
    if script_marked(line):
        if line.upstream:
            own = outlet.scratch[outlet.outgoing.count]
        else:
            own = end_scratch(p.ends[s.end], s.relay)
        memcpy(own, text, length)
        script_apply_mark(own, length, who)
        text = own
    if line.upstream:
        stage_up(p, who, text, length)
    else:
        end_stage(p.ends[s.end], s, text, length)
    judge_sent(&p.judge, who, line, text, length, now_ns)
    s.upcoming = line.following
    p.round_sent += 1
    if p.speed == 0:
        return
    if s.held:
        p.held_back += 1
    elif s.starved:
        p.starved += 1
    else:
        p.round_due_ns[p.round_on_time] = s.due_ns
        p.round_on_time += 1
    s.held = s.starved = False


cdef void pass_over(player_state *p, uint32_t who, script_line *line, uint64_t now_ns) noexcept nogil:
    """The server's turn, but its end never heard of the session."""
    cdef session_state *s = &p.judge.sessions[who]
    cdef finding *found = judge_note(&p.judge, FOUND_UNROUTABLE, now_ns)
    found.session, found.call, found.expected_end, found.index = who, s.call, s.end, line.index
    p.judge.unroutable += 1
    line.left -= 1
    s.upcoming = line.following
    s.held = s.starved = False


cdef bint may_play(const player_state *p, const session_state *s, const script_line *line) noexcept nogil:
    """Has everything the other side sent before come out, and is there a place to remember this one?"""
    cdef int own = UP if line.upstream else DOWN
    return s.ways[1 - own].pending == 0 and s.ways[own].next - s.ways[own].oldest < JUDGE_WINDOW


cdef void look_at(player_state *p, uint32_t who, uint64_t now_ns) noexcept nogil:
    """Plays what a session may play now, a few lines, and puts it where it is found when it may go on."""
    cdef session_state *s = &p.judge.sessions[who]
    cdef script_line *line
    cdef int _turn
    for _turn in range(TURN_LINES):
        line = s.upcoming
        if line == NULL:
            break
        if not due(p, s, line, now_ns):
            s.state = SESSION_DUE
            s.starved = False
            agenda_add(&p.agenda, s.due_ns, who)
            return
        if not may_play(p, s, line):
            s.state = SESSION_BLOCKED
            s.held = True
            return
        if not line.upstream and not s.routed:
            pass_over(p, who, line, now_ns)
        elif congested(p):
            s.held = True
            break
        elif p.round_sent == p.round_max:
            break
        else:
            play_line(p, who, line, now_ns)
    if s.upcoming == NULL:
        rest(p, who)
    else:
        judge_ready(&p.judge, who)


cdef void rest(player_state *p, uint32_t who) noexcept nogil:
    """The session waits for what follows in its call."""
    cdef session_state *s = &p.judge.sessions[who]
    s.state = SESSION_IDLE
    s.link, p.script.calls[s.call].starving = p.script.calls[s.call].starving, who
    p.active -= 1


cdef void play_round(player_state *p, uint64_t now_ns) noexcept nogil:
    """Looks at the sessions whose turn it is, until a batch is full."""
    cdef uint32_t who, room = PLAYER_ROUND
    if p.speed != 0 and p.round_sent < p.round_max:
        room = PACED_ROUND               # not behind: the last of a batch waits for the first
    p.round_max = room
    p.round_sent = p.round_on_time = 0
    while p.agenda.count and p.agenda.entries[0].due_ns <= now_ns:
        judge_ready(&p.judge, agenda_take(&p.agenda))
    while p.judge.ready_first != FP_NONE and p.round_sent < p.round_max and not congested(p):
        who = p.judge.ready_first
        p.judge.ready_first = p.judge.sessions[who].link
        look_at(p, who, now_ns)
    if p.round_sent:
        flush(p)
    script_release(&p.script)


cdef void flush(player_state *p) noexcept nogil:
    cdef send_batch *batch
    cdef uint64_t now_ns
    cdef uint32_t k, count
    for k in range(p.clients.sockets):
        batch = &p.outlets[k].outgoing
        count = batch.count
        if count:
            p.send_calls += 1
            batch_send(batch, p.outlets[k].fd)
            outcome_of(batch, count, &p.blocked, &p.failure)
    for k in range(p.ends_count):
        end_flush(p.ends[k])
    now_ns = p.quiet_ns = monotonic_ns()
    for k in range(p.round_on_time):
        histogram_note(p.timing, now_ns - p.round_due_ns[k])
    p.timed += p.round_on_time


# ---- what is fed -------------------------------------------------------------------------------------

cdef void adopt(player_state *p, uint32_t lines) noexcept nogil:
    """Takes over what has been fed, and wakes the sessions that waited for it."""
    cdef script_line *line
    cdef script_call *call
    cdef uint32_t _i, who, next_one
    for _i in range(lines):
        line = script_adopt(&p.script)
        if line == NULL:
            return
        call = &p.script.calls[line.call]
        if not p.started:
            begin(p, line.time_ns)
        who = call.starving if call.begun else call.first_session
        while who != FP_NONE:
            next_one = p.judge.sessions[who].link if call.begun else p.judge.sessions[who].next_of_call
            p.judge.sessions[who].starved, p.judge.sessions[who].upcoming = call.begun, line
            judge_ready(&p.judge, who)
            p.active += 1
            who = next_one
        call.begun, call.starving = True, FP_NONE


cdef void begin(player_state *p, uint64_t first_time_ns) noexcept nogil:
    p.started, p.first_time_ns = True, first_time_ns
    p.start_ns = p.judge.start_ns = p.quiet_ns = monotonic_ns() + LEAD_NS


# ---- what comes out ----------------------------------------------------------------------------------

cdef void receive_client(player_state *p, uint32_t k) noexcept nogil:
    """One batch of what waits at client socket k."""
    cdef arrival came
    cdef arrived a
    cdef fp_endpoint source
    cdef uint32_t count = batch_receive(&p.incoming, p.outlets[k].fd, 0), slot
    p.receive_calls += 1
    a.now_ns, a.end, a.may_teach = monotonic_ns(), FP_NONE, False
    for slot in range(count):
        batch_arrival(&p.incoming, slot, &came)
        endpoint_from_sockaddr(p.incoming.names + NAME_BYTES * slot,
                               p.incoming.messages[slot].msg_hdr.msg_namelen, &source)
        a.data = p.incoming.data + <size_t>slot * p.incoming.stride
        a.length = p.incoming.messages[slot].msg_len
        a.session = session_at(p, k, &came) if endpoint_equal(&source, &p.relay) else FP_NONE
        judge_arrival(&p.judge, &a)
    batch_settle(&p.incoming)


cdef uint32_t session_at(const player_state *p, uint32_t k, const arrival *came) noexcept nogil:
    """Whose client address a datagram came to on socket k."""
    cdef const uint8_t *a = <const uint8_t *>&came.local        # the address comes first
    cdef uint32_t address = <uint32_t>a[0] << 24 | <uint32_t>a[1] << 16 | <uint32_t>a[2] << 8 | a[3]
    cdef uint64_t who = <uint64_t>(address - p.clients.first_address) * p.clients.sockets + k
    if not came.has_local or who >= p.judge.count or p.judge.sessions[who].state == SESSION_FREE:
        return FP_NONE
    return <uint32_t>who


cdef void receive(player_state *p, int64_t timeout_ns) noexcept nogil:
    """Waits for datagrams and takes one batch of each socket that has some."""
    cdef epoll_event events[EVENTS]
    cdef int k, ready = wait_ready(p.epoll, events, EVENTS, timeout_ns)
    for k in range(ready):
        if events[k].data.u32 < END_SOCKETS:
            receive_client(p, events[k].data.u32)
        else:
            end_receive(p.ends[events[k].data.u32 - END_SOCKETS])
    if ready:
        p.quiet_ns = monotonic_ns()
    else:
        p.empty_ns = monotonic_ns()


# ---- the loop ----------------------------------------------------------------------------------------

cdef int64_t patience_ns(const player_state *p, uint64_t now_ns, uint64_t end_ns) noexcept nogil:
    """How long nothing can happen but arrivals."""
    cdef uint64_t until = now_ns + ATTENTION_NS, deadline = judge_deadline(&p.judge)
    if p.judge.ready_first != FP_NONE and not congested(p):
        return 0
    if not script_finished(&p.script):
        until = now_ns + STARVING_NS
    if p.agenda.count and p.agenda.entries[0].due_ns - SPIN_NS < until:
        until = p.agenda.entries[0].due_ns - SPIN_NS
    if deadline < until:
        until = deadline
    if end_ns < until:
        until = end_ns
    return <int64_t>(until - now_ns) if until > now_ns else 0


cdef int outcome(const player_state *p, uint64_t now_ns, uint64_t end_ns) noexcept nogil:
    """Why the run ends now; -1: it goes on."""
    cdef bint idle = p.active == 0 and p.judge.in_flight == 0
    if p.failure:
        return PLAY_FAILED
    if p.stop:
        return PLAY_STOPPED
    if idle and script_finished(&p.script) and now_ns > p.quiet_ns + QUIET_NS:
        return PLAY_DONE
    if p.until_fed and not p.script.finished:
        if idle or (p.was_full and 2 * script_used(&p.script) < p.script.ring_bytes):
            return PLAY_HUNGRY
    return PLAY_TIME if now_ns >= end_ns else -1


cdef int play(player_state *p, uint64_t end_ns) noexcept nogil:
    cdef uint64_t now_ns
    cdef uint32_t k
    cdef int why
    while True:
        adopt(p, ADOPT_LINES if p.started else FP_NONE)
        now_ns = monotonic_ns()
        if judge_give_up(&p.judge, p.empty_ns):     # not by the clock: what came may be unread yet
            p.quiet_ns = now_ns
        play_round(p, now_ns)
        for k in range(p.ends_count):
            end_announce(p.ends[k], now_ns)
            if p.ends[k].failure:
                p.failure = p.ends[k].failure
        why = outcome(p, now_ns, end_ns)
        if why >= 0:
            return why
        receive(p, patience_ns(p, now_ns, end_ns))


cdef void attend(player_state *p, uint64_t end_ns) noexcept nogil:
    """Answers what relays ask, plays nothing."""
    cdef uint64_t now_ns = monotonic_ns()
    cdef uint32_t k
    while now_ns < end_ns and not p.stop:
        for k in range(p.ends_count):
            end_announce(p.ends[k], now_ns)
        receive(p, <int64_t>(ATTENTION_NS if end_ns - now_ns > ATTENTION_NS else end_ns - now_ns))
        now_ns = monotonic_ns()
