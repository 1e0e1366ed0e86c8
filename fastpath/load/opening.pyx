"""Opening flows. Requests are built when they are sent; what is kept of a flow is when it was to be asked and
whether it was answered, so a million flows cost 9 bytes each. A retry keeps its transaction id (RFC 8489
section 6.2.1), and its latency counts from the first intention."""

from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from fastpath.load.clients cimport client_request, clients, clients_of_socket
from fastpath.load.inbox cimport inbox_take, inbox_take_after
from fastpath.load.inject cimport INJECT_BATCH, injector_address, injector_send, injector_slot
from fastpath.linux cimport monotonic_ns, nanosleep, timespec
from fastpath.load.pace cimport pace_allowance, pace_intended_ns, pace_note, pace_over, pace_rest_ns

cdef enum:
    SWEEP_FLOWS = 1024                   # looked at for retries between two batches


cdef inline void put_request(opening *o, uint32_t slot, uint32_t flow) noexcept nogil:
    cdef const clients *c = o.box.clients
    cdef size_t length = client_request(c, flow, injector_slot(o.out, slot) + c.head_bytes)
    injector_address(o.out, slot, flow, <uint32_t>length, 1)


cdef bint all_asked(const opening *o) noexcept nogil:
    cdef uint32_t turn
    for turn in range(o.box.clients.sockets):
        if o.opened[turn] < clients_of_socket(o.box.clients, turn):
            return False
    return True


cdef void ask(opening *o, uint64_t may, uint64_t now_ns) noexcept nogil:
    """Sends the requests of up to `may` flows of one socket that were never asked."""
    cdef const clients *c = o.box.clients
    cdef uint32_t turn = o.turn, position = o.opened[turn], mine = clients_of_socket(c, turn)
    cdef uint32_t flow, taken, count = 0
    cdef uint32_t behind[INJECT_BATCH]
    o.turn = (turn + 1) % c.sockets
    while position < mine and count < INJECT_BATCH and count < may:
        flow = position * c.sockets + turn
        position += 1
        if o.box.confirmed[flow]:
            continue
        put_request(o, count, flow)
        behind[count] = position
        if o.box.requested_ns[flow] == 0:
            o.box.requested_ns[flow] = pace_intended_ns(&o.pace, count, now_ns)
        count += 1
    taken = injector_send(o.out, turn, count) if count else 0
    if taken == count:
        o.opened[turn] = position
    elif taken:
        o.opened[turn] = behind[taken - 1]
    o.sent += taken
    pace_note(&o.pace, taken, now_ns)


cdef void ask_again(opening *o, uint64_t now_ns) noexcept nogil:
    """Sweeps some of the flows that were asked: who has no answer after retry_ns is asked again."""
    cdef const clients *c = o.box.clients
    cdef uint32_t turn, flow, position, end, count = 0
    if o.retry_turn == c.sockets:
        if now_ns - o.sweep_ns < o.retry_ns:
            return
        o.retry_turn, o.sweep_ns = 0, now_ns
        memset(o.swept, 0, sizeof(o.swept))
    turn = o.retry_turn
    position = o.swept[turn]
    end = o.opened[turn] if o.opened[turn] - position < SWEEP_FLOWS else position + SWEEP_FLOWS
    while position < end and count < INJECT_BATCH:
        flow = position * c.sockets + turn
        position += 1
        if o.box.confirmed[flow] == 0 and o.box.requested_ns[flow] + o.retry_ns <= now_ns:
            put_request(o, count, flow)
            count += 1
    o.swept[turn] = position
    if position == o.opened[turn]:
        o.retry_turn += 1
    if count:
        o.retried += injector_send(o.out, turn, count)


cdef void rest(opening *o, uint64_t now_ns) noexcept nogil:
    cdef timespec nap
    if o.nap_ns:
        nap.tv_sec = 0
        nap.tv_nsec = <long>o.nap_ns
        nanosleep(&nap, NULL)
    else:
        inbox_take_after(o.box, pace_rest_ns(&o.pace, now_ns))


cdef void opening_restart(opening *o) noexcept nogil:
    """Who is not confirmed counts as never asked."""
    memset(o.opened, 0, sizeof(o.opened))
    memset(o.swept, 0, sizeof(o.swept))
    o.turn = o.retry_turn = 0
    o.sweep_ns = monotonic_ns()


cdef void opening_run(opening *o, uint64_t drain_ns, uint64_t end_ns) noexcept nogil:
    """Asks until the pace ends or nobody is left, then waits drain_ns for answers, until `end_ns` at most."""
    cdef uint64_t now_ns, may, confirmed_first = o.box.confirmed_flows, sent_first = o.sent
    while not o.stop[0] and not o.out.failure:
        now_ns = monotonic_ns()
        inbox_take(o.box)
        if pace_over(&o.pace, now_ns) or all_asked(o):
            break
        ask_again(o, now_ns)
        may = pace_allowance(&o.pace, now_ns)
        if may:
            ask(o, may, now_ns)
        else:
            rest(o, now_ns)
    now_ns = monotonic_ns()
    end_ns = now_ns + drain_ns if now_ns + drain_ns < end_ns else end_ns
    while (o.box.confirmed_flows - confirmed_first < o.sent - sent_first and not o.stop[0]
           and not o.out.failure and monotonic_ns() < end_ns):
        ask_again(o, monotonic_ns())
        inbox_take_after(o.box, 1_000_000)
    o.written_off += o.pace.written_off
    o.late += o.pace.late
    o.late_max_ns = o.pace.late_max_ns if o.pace.late_max_ns > o.late_max_ns else o.late_max_ns
