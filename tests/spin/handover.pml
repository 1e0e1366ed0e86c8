/* A batch in shared memory, engines that are killed at any statement, and the next one that finishes it:
 * fastpath/batch.pyx, upstream.pyx, downstream.pyx and worker.finish_owed, statement by statement where a kill in
 * between is seen by the next engine.
 *
 * Claims: every datagram is sent; what is sent again was in the send in hand, once a kill, and is counted.
 * Switches that break it, each of which must be found: DONE_BEFORE_SEND, READY_BEFORE_EMPTY, FORGETS_OWED,
 * MARK_BEFORE_BOOKS. */
#define DATAGRAMS 3             /* what the kernel's queue brings, numbered from 1 */
#define SLOTS     2             /* of a batch */
#define KILLS     2

byte next_in_queue = 1;         /* the kernel's: survives */
byte held[SLOTS];               /* msg_len: whose datagram lies there, 0 for none */
bool done[SLOTS];               /* settled */
bool sending;                   /* a send is under way, or not noted yet */
byte duplicated;                /* published: what may have been sent twice */

byte sent[DATAGRAMS + 1];       /* what the network saw */
byte kills;
bool killed, over;

inline receive() {              /* one system call: a kill waits until it returns */
    atomic {
        count = 0;
        do
        :: count < SLOTS && next_in_queue <= DATAGRAMS ->
            held[count] = next_in_queue; next_in_queue++; count++
        :: else -> break
        od
    }
}

inline note_done() {
    i = 0;
    do
    :: i < count && held[i] -> done[i] = true; i++
    :: i < count && !held[i] -> i++
    :: else -> break
    od
}

inline forward() {
    sending = true;
    i = 0;                      /* decided once: `take` is private, done may change below */
    do
    :: i < count -> take[i] = held[i] && !done[i]; i++
    :: else -> break
    od;
#ifdef DONE_BEFORE_SEND
    note_done();
#endif
    i = 0;
    do                          /* sendmmsg: even if it could be killed between two datagrams */
    :: i < count && take[i] -> sent[held[i]]++; i++
    :: i < count && !take[i] -> i++
    :: else -> break
    od;
#ifndef DONE_BEFORE_SEND
    note_done();
#endif
    sending = false;
    duplicated = mine           /* counters_publish */
}

inline make_ready(k) {
#ifdef READY_BEFORE_EMPTY
    done[k] = false;
    held[k] = 0
#else
    held[k] = 0;
    done[k] = false
#endif
}

inline settle() {
    j = 0;
    do
    :: j < count -> make_ready(j); j++
    :: else -> break
    od
}

inline finish_owed() {
    i = 0;
    do
    :: i < SLOTS && held[i] && !done[i] -> owed++; count = i + 1; i++
    :: i < SLOTS && !(held[i] && !done[i]) -> make_ready(i); i++
    :: else -> break
    od;
    if
    :: owed > 0 ->
        if
        :: sending ->
            mine = mine + owed;
#ifndef MARK_BEFORE_BOOKS
            duplicated = mine;
#endif
            sending = false
        :: else
        fi;
        forward();
        settle()
    :: else
    fi
}

proctype engine() {
    byte i, j, count, owed, mine;
    bool take[SLOTS];
    {
        mine = duplicated;      /* attach: the counters go on */
#ifndef FORGETS_OWED
        finish_owed();
#endif
        do
        :: next_in_queue <= DATAGRAMS -> receive(); forward(); settle()
        :: else -> break
        od;
        over = true
    } unless { killed };
    killed = false
}

active proctype keeper() {
    byte id, repeated;
    run engine();
    do
    :: atomic { !over && kills < KILLS -> killed = true; kills++ };
        if                      /* it is gone, if it was not done before */
        :: !killed -> run engine()
        :: over
        fi
    :: over -> break
    od;
    id = 1;
    do
    :: id <= DATAGRAMS ->
        assert(sent[id] >= 1);              /* nothing is lost */
        assert(sent[id] <= 1 + kills);      /* once a kill at most */
        repeated = repeated + sent[id] - 1;
        id++
    :: else -> break
    od;
    assert(repeated <= duplicated);         /* and it is counted */
    assert(repeated <= kills * SLOTS)       /* never more than a batch */
}
