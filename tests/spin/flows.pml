/* The flow table of one shard (fastpath/flows.pyx): a writer replaces one client's flow, is killed at any statement,
 * the next one attaches and goes on; another shard reads all the while.
 *
 * A flow's fields are `high` and `low`, both its number. Claims: no reader and no attach ever takes a flow whose
 * halves differ; after an attach exactly one copy is left, of the newest flow that was complete, or the one before
 * while its successor was being written; a reader finds the newest that is there throughout, or a newer one.
 * Switches that break it: OLD_GOES_FIRST, NO_MARK (slots are written without an odd number), KEEPS_ODD (attach
 * leaves a torn slot as it is), KEEPS_BOTH (attach leaves both copies), ONE_LOOK (the reader looks at the number
 * only before), FIRST_WINS (of two copies it takes the first). */
#define SLOTS   3
#define WRITERS 2
#define CHANGES 2

#define EMPTY 0
#define TOMBSTONE 1
#define LIVE 2

byte sequence[SLOTS], state[SLOTS], version[SLOTS], high[SLOTS], low[SLOTS];
byte clock, number;             /* flow_version; the flow written last */
byte complete;                  /* the newest one whose slot was published */
byte oldest;                    /* older ones have been tombstoned */
byte writers;
bool killed, gone;

inline find(slot) {             /* flows_lookup, the writer's own */
    slot = 0;
    do
    :: slot == SLOTS || state[slot] == EMPTY -> slot = SLOTS; break
    :: slot < SLOTS && state[slot] == LIVE -> break
    :: slot < SLOTS && state[slot] == TOMBSTONE -> slot++
    od
}

inline insert() {               /* flows_insert */
    place = 0;
    do
    :: place < SLOTS && state[place] > TOMBSTONE -> place++
    :: else -> break
    od;
    assert(place < SLOTS);
    number++;
#ifndef NO_MARK
    sequence[place] = sequence[place] | 1;
#endif
    high[place] = number;
    state[place] = LIVE;
    low[place] = number;
    clock++;
    version[place] = clock;
    atomic { sequence[place] = (sequence[place] | 1) + 1; complete = number }
}

inline remove(slot) {           /* flows_remove: the run that ends here is given back */
    atomic { state[slot] = TOMBSTONE; oldest = complete };
    if
    :: slot + 1 < SLOTS && state[slot + 1] != EMPTY
    :: else ->
        do
        :: state[slot] == TOMBSTONE ->
            state[slot] = EMPTY;
            if
            :: slot > 0 -> slot--
            :: else -> break
            fi
        :: else -> break
        od
    fi
}

inline attach() {               /* flows_attach, over all slots */
    i = 0;
    do
    :: i < SLOTS && sequence[i] % 2 == 1 ->
#ifndef KEEPS_ODD
        state[i] = TOMBSTONE;
#endif
        sequence[i] = sequence[i] + 1; i++
    :: i < SLOTS && sequence[i] % 2 == 0 -> i++
    :: else -> break
    od;
#ifndef KEEPS_BOTH
    i = 0;
    do
    :: i < SLOTS ->
        j = 0;
        do
        :: j < SLOTS && state[i] == LIVE && state[j] == LIVE && version[j] > version[i] ->
            atomic { state[i] = TOMBSTONE; oldest = complete }; break
        :: j < SLOTS && !(state[i] == LIVE && state[j] == LIVE && version[j] > version[i]) -> j++
        :: j == SLOTS -> break
        od;
        i++
    :: else -> break
    od
#endif
}

inline check_attached() {
    atomic {
        i = 0; j = 0;
        do
        :: i < SLOTS && state[i] == LIVE ->
            assert(high[i] == low[i]);
            assert(high[i] == complete);
            j++; i++
        :: i < SLOTS && state[i] != LIVE -> i++
        :: else -> break
        od;
        assert(j == (complete > 0 -> 1 : 0))
    }
}

proctype writer() {
    byte old, place, i, j, change;
    {
        attach();
        check_attached();
        do
        :: change < CHANGES ->
            find(old);
#ifdef OLD_GOES_FIRST
            if
            :: old < SLOTS -> remove(old)
            :: else
            fi;
            insert();
#else
            insert();
            if
            :: old < SLOTS -> remove(old)
            :: else
            fi;
#endif
            change++
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
    od;
    killed = false;             /* the last one attaches and does nothing else */
    run last()
}

proctype last() {
    byte i, j;
    attach();
    check_attached()
}

#ifdef ONE_LOOK
#define SAME(slot, before) true
#else
#define SAME(slot, before) (sequence[slot] == before)
#endif
#ifdef FIRST_WINS
#define NEWER(v, found) (found == 0)
#else
#define NEWER(v, found) (v > found)
#endif

/* flows_read by another shard, once and at any time: a slot that is being written is passed over. It may find none
 * (the new copy is published behind it, the old one goes before it arrives): that datagram is an unknown flow's. */
active proctype reader() {
    byte slot, before, atleast, found_version, found_number, a, b, v;
    bool live;
    atleast = complete;
    do
    :: slot == SLOTS -> break
    :: slot < SLOTS && state[slot] == EMPTY -> break
    :: slot < SLOTS && state[slot] != EMPTY ->
        before = sequence[slot];
        if
        :: before % 2 == 0 ->
            live = (state[slot] == LIVE);
            a = high[slot];
            b = low[slot];
            v = version[slot];
            if
            :: SAME(slot, before) && live ->
                assert(a == b);
                if
                :: NEWER(v, found_version) -> found_version = v; found_number = a
                :: else
                fi
            :: else
            fi
        :: else
        fi;
        d_step { before = 0; live = false; a = 0; b = 0; v = 0; slot++ }
    od;
    assert(found_number >= atleast || oldest > atleast)
}
