# Beside the data plane: a relay that is broken on purpose, so that tests can see a replay catch it.
#
# Only in builds with C asserts (debug, asan). FASTPATH_SABOTAGE, read once a worker thread and direction:
#     drop        every 10,000th datagram is counted as forwarded and sent to nobody
#     misroute    one datagram of each direction goes to another backend, to another client
#     reorder     two datagrams of one flow change places, once in each direction, if a batch ever has two
#     corrupt     one byte of one datagram changes, once in each direction
# In release both hooks are empty and the name of the variable is not in the binary.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp

from fastpath.address cimport client_equal
from fastpath.atomic cimport load_acquire_u32
from fastpath.batch cimport send_batch
from fastpath.lane cimport lane_state
from fastpath.layout cimport FP_BACKEND_up, FP_BACKENDS, FP_FORWARD, FP_TAKEN, FP_UP
from fastpath.linux cimport iovec, sockaddr_in6

cdef extern from *:
    """
    enum { FP_INTACT, FP_DROPPING, FP_MISROUTING, FP_REORDERING, FP_CORRUPTING };
    typedef struct { int kind; int known; int done; uint64_t seen; } fp_sabotage;
    #ifdef NDEBUG
    #define FP_SABOTAGE 0
    static inline fp_sabotage *fp_sabotage_here(void) { return NULL; }
    #else
    #define FP_SABOTAGE 1
    #include <stdlib.h>
    #include <string.h>
    static __thread fp_sabotage fp_sabotage_state;
    static inline fp_sabotage *fp_sabotage_here(void) {
        static const char *const names[] = {"", "drop", "misroute", "reorder", "corrupt"};
        if (!fp_sabotage_state.known) {
            const char *wish = getenv("FASTPATH_SABOTAGE");
            for (int kind = 0; wish && kind < 5; kind++)
                if (!strcmp(wish, names[kind])) fp_sabotage_state.kind = kind;
            fp_sabotage_state.known = 1;
        }
        return &fp_sabotage_state;
    }
    #endif
    """
    enum: FP_SABOTAGE               # 1 when it is built in
    enum: FP_INTACT
    enum: FP_DROPPING
    enum: FP_MISROUTING
    enum: FP_REORDERING
    enum: FP_CORRUPTING
    ctypedef struct fp_sabotage:
        int kind
        int done                    # what is to happen once has happened
        uint64_t seen               # datagrams that were about to be sent
    fp_sabotage *fp_sabotage_here() noexcept nogil      # of this thread, in this direction

cdef enum:
    DROP_EVERY = 10000
    INTACT_FIRST = 1000             # so many pass before the one that does not: the flows are set up
    NOBODYS_PORT = 9                # discard; nobody listens there


cdef inline void sabotage_up(lane_state *lane) noexcept nogil:
    """Between decision and sending: the batch of client datagrams in hand."""
    cdef fp_sabotage *how
    cdef uint32_t i
    if not FP_SABOTAGE:
        return
    how = fp_sabotage_here()
    if how.kind == FP_INTACT:
        return
    for i in range(lane.from_clients.count):
        if lane.verdicts[i].action != FP_FORWARD:
            continue
        how.seen += 1
        if how.kind == FP_DROPPING and how.seen % DROP_EVERY == 0:
            lane.verdicts[i].action = FP_TAKEN
            lane.from_clients.notes[i].done = lane.datagrams[i].length
            lane.shard.counters.forwarded[FP_UP] += 1
            lane.shard.counters.forwarded_bytes[FP_UP] += lane.datagrams[i].length
        elif how.seen > INTACT_FIRST and not how.done:
            how.done = harm_up(lane, i, how.kind)


cdef inline bint harm_up(lane_state *lane, uint32_t i, int kind) noexcept nogil:
    """Was there an opportunity? A reordering needs another datagram of the flow behind it in the batch."""
    cdef uint32_t other
    if kind == FP_CORRUPTING:
        (<uint8_t *>lane.datagrams[i].data)[lane.datagrams[i].length // 2] ^= 0x55
        return True
    if kind == FP_MISROUTING:
        for other in range(FP_BACKENDS):
            if (other != lane.verdicts[i].backend
                    and load_acquire_u32(&lane.shard.backends.entries[other].state) == FP_BACKEND_up):
                lane.verdicts[i].backend = other
                return True
    elif kind == FP_REORDERING:
        for other in range(i + 1, lane.from_clients.count):
            if (lane.verdicts[other].action == FP_FORWARD
                    and client_equal(&lane.datagrams[i].client, &lane.datagrams[other].client)):
                lane.datagrams[i], lane.datagrams[other] = lane.datagrams[other], lane.datagrams[i]
                return True
    return False


cdef inline void sabotage_down(lane_state *lane) noexcept nogil:
    """Before a flush: what is composed for the clients of each listener."""
    cdef fp_sabotage *how
    cdef send_batch *out
    cdef uint32_t listener, k
    if not FP_SABOTAGE:
        return
    how = fp_sabotage_here()
    if how.kind == FP_INTACT:
        return
    for listener in range(lane.listeners):
        out = &lane.to_clients[listener]
        for k in range(out.count):
            how.seen += 1
            if how.kind == FP_DROPPING and how.seen % DROP_EVERY == 0:
                out.names[k].sin6_port = NOBODYS_PORT << 8      # where both families have it; network order
            elif how.seen > INTACT_FIRST and not how.done:
                how.done = harm_down(out, k, how.kind)


cdef inline bint harm_down(send_batch *out, uint32_t k, int kind) noexcept nogil:
    """Was there an opportunity? It needs another client, or another datagram of this one, in the batch."""
    cdef uint32_t other
    cdef bint same
    if kind == FP_CORRUPTING:
        (<uint8_t *>out.vectors[k].iov_base)[out.vectors[k].iov_len // 2] ^= 0x55
        return True
    for other in range(k + 1, out.count):
        same = memcmp(&out.names[k], &out.names[other], out.messages[k].msg_hdr.msg_namelen) == 0
        if kind == FP_MISROUTING and not same:
            out.names[k] = out.names[other]
            return True
        if kind == FP_REORDERING and same:
            out.vectors[k], out.vectors[other] = out.vectors[other], out.vectors[k]
            return True
    return False
