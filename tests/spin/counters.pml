/* The counters' seqlock (fastpath/counters.pyx): writers that are killed at any statement, one after the other, and
 * a reader all the while. Claim: a snapshot that the reader accepts is of one moment, also after a writer died in
 * the middle. Switches that break it: PLUS_ONE (the parity of a dead writer's number), ONE_LOOK (the reader looks
 * at the number only before). */
#define WORDS   2
#define WRITERS 2
#define ROUNDS  2

byte sequence, words[WORDS];
byte writers, moment;
bool killed, gone;

inline publish() {
    moment++;
    s = sequence;
#ifdef PLUS_ONE
    s = s + 1;
#else
    s = s | 1;
#endif
    sequence = s;
    words[0] = moment;
    words[1] = moment;
    sequence = s + 1
}

proctype writer() {
    byte s, round;
    {
        do
        :: round < ROUNDS -> publish(); round++
        :: else -> break
        od
    } unless { killed };
    gone = true
}

active proctype engines() {
    do
    :: writers < WRITERS ->
        writers++; killed = false; gone = false;
        run writer();
        do
        :: gone -> break
        :: !gone -> killed = true; gone; break
        od
    :: else -> break
    od
}

active proctype reader() {
    byte before, seen[WORDS];
    do
    :: before = sequence;
        if
        :: before % 2 == 0 ->
            seen[0] = words[0];
            seen[1] = words[1];
#ifdef ONE_LOOK
            assert(seen[0] == seen[1])
#else
            if
            :: sequence == before -> assert(seen[0] == seen[1])
            :: else
            fi
#endif
        :: else
        fi
    :: break
    od
}
