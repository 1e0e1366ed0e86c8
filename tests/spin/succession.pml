/* Who works on the tables: what the keeper decides (pyfastpath/relay/succession.py, by its names), what engines do
 * when told (engine.py), and the lock they hold on the tables (memory.become_writer). Engines are killed or hang at
 * any statement, and so dies the keeper. What is installed for an upgrade may be broken: it ends or hangs before it
 * forwards, or ends soon after.
 *
 * An event and its commands are one step: the keeper is one thread, and hears no answer before it waits again.
 * Messages of one engine arrive in their order and before its death, those of several in any order. A deadline
 * passes only for an engine that hangs; one that hangs while it forwards is the service manager's (watchdog).
 *
 * Claims: two engines never have the word of one keeper; two never work on the tables, not even those of two
 * keepers; when nothing more happens, one works whose version does; a trial that fails ends with the old version if
 * an engine of it stood by, and one stood by if none was lost before.
 * Switches that break it: WORD_BEFORE_RELEASE, KILL_IS_DEATH (the keeper does not wait until whoever it kills has
 * ended), NO_LOCK, NO_STANDBY (it is sent away when the trial begins), PROBATION_ENDS (during the next upgrade, too),
 * FORGETS_THE_DEAD (a candidate that ended while the old one released), NO_DEADLINE, STARTED_IN_TIME (whoever has
 * started may take any time to release). */
#define ENGINES  4              /* that live at a time; the number of one that was buried is given again */
#define NOBODY   ENGINES
#define BUDGET   3              /* a fault costs one, the keeper's death two, an upgrade one, the next one two */

mtype = { ready, started, released };                   /* what engines say */
mtype = { none, warming, releasing, trial };            /* phases of an upgrade */

typedef process {
    bool lives;                 /* until it is buried */
    bool runs;                  /* it neither hangs nor is being killed */
    bool killed, gone;          /* a moment passes in between */
    bool works;                 /* its version does */
    bool word, release;         /* what it was told; the word ends when it lets go of the tables */
    bool forwards;              /* it has said so */
    bool alone, orphan          /* nobody is at the other end of its socket; for its keeper is gone */
};
process engine[ENGINES];
#define NUMBERS_LEFT (ENGINES - engine[0].lives - engine[1].lives - engine[2].lives - engine[3].lives)
chan news[ENGINES] = [3] of { mtype };
byte lock = NOBODY, writer = NOBODY;
byte words;                     /* of the keeper that lives, in force */

byte serving = NOBODY, standby = NOBODY, candidate = NOBODY;    /* the keeper's memory */
mtype phase = none;
bool due[ENGINES], has_started;
bool resume, respawn, probation;                        /* timers: somebody goes on, is started, is sent away */

bool installed = true;          /* what is installed works */
byte upgrades, budget = BUDGET;
bool lost;                      /* an engine that was not asked to go: the one started for it is of what is installed */
bool safe;                      /* since the trial began, an engine that works has stood by */
hidden byte next, i;

/* ---- an engine ---- */

inline resign(n) {
    writer = (writer == n -> NOBODY : writer);
    lock = (lock == n -> NOBODY : lock);
    words = words - (engine[n].word && !engine[n].orphan);
    engine[n].word = false
}

inline say(n, what) {
    atomic {
        if
        :: engine[n].alone
        :: else -> news[n]!what
        fi
    }
}

proctype engine_process(byte n) {
    do
    :: engine[n].lives && !engine[n].gone ->
        {
            say(n, ready);
            if
            :: engine[n].word ->
                atomic {
#ifndef NO_LOCK
                    lock == NOBODY -> lock = n;
#endif
                    assert(writer == NOBODY); writer = n
                };
                if
                :: atomic { engine[n].forwards = true; say(n, started) };
                    !engine[n].works || engine[n].release || engine[n].alone
                :: !engine[n].works
                :: !engine[n].works -> engine[n].runs = false
                fi;
                atomic { resign(n) };
                if
                :: engine[n].release -> say(n, released)
                :: else
                fi
            :: !engine[n].word && engine[n].alone
            fi
        } unless { !engine[n].runs };
        atomic {                /* the lock goes with the last thread */
            engine[n].runs || engine[n].killed ->
            resign(n);
            engine[n].runs = false; engine[n].gone = true
        }
    od
}

/* ---- decisions ---- */

inline spawn(n) {
    n = 0;
    do
    :: n < ENGINES && engine[n].lives -> n++
    :: else -> break
    od;
    assert(n < ENGINES);
    engine[n].works = installed; engine[n].runs = true; engine[n].lives = true;
    due[n] = true
}

inline bury(n) {                /* and forget everything about it: less states */
    engine[n].lives = false; engine[n].gone = false; engine[n].killed = false; engine[n].works = false;
    engine[n].release = false; engine[n].alone = false; engine[n].orphan = false; engine[n].forwards = false
}

inline hang_up(n) {
    engine[n].alone = true;
    do
    :: news[n]?_
    :: empty(news[n]) -> break
    od
}

inline dismiss(n) {
    if
    :: n != NOBODY -> hang_up(n); due[n] = true; n = NOBODY
    :: else
    fi
}

inline give_word(n) {
    assert(words == 0);
    words++;
    engine[n].word = true; due[n] = true;
    serving = n
}

inline go_on() {
    next = standby; standby = NOBODY; probation = false;
    if
    :: next == NOBODY -> spawn(next)
    :: else
    fi;
    give_word(next)
}

inline try() {                  /* the tables are free: the candidate gets them */
    safe = false;
    if
    :: standby != NOBODY -> safe = engine[standby].works && engine[standby].runs
    :: else
    fi;
    assert(safe || lost);
#ifdef NO_STANDBY
    dismiss(standby);
#endif
    phase = trial;
    if
    :: serving != NOBODY -> due[serving] = true
    :: else
    fi;
    give_word(candidate)
}

inline failed() {               /* the one that stands by goes on */
    if
    :: serving != NOBODY -> due[serving] = true
    :: else
    fi;
    phase = none; candidate = NOBODY;
    go_on();
    assert(!safe || engine[serving].works);
    safe = false
}

inline ask_to_release() {
    if
    :: serving != NOBODY ->
        phase = releasing;
        due[serving] = true; engine[serving].release = true;
#ifdef WORD_BEFORE_RELEASE
        try()
#endif
    :: serving == NOBODY -> resume = false; try()
    fi
}

/* ---- events ---- */

inline heard(n, what) {
    if
    :: what == ready ->
        due[n] = due[n] && n == serving;
        if
        :: n == candidate && phase == warming -> ask_to_release()
        :: else
        fi
    :: what == started && n == serving ->
        has_started = true;
#ifndef STARTED_IN_TIME
        if
        :: phase != releasing -> due[n] = false
        :: else
        fi;
#else
        due[n] = false;
#endif
        if
        :: n == candidate -> phase = none; candidate = NOBODY; safe = false; probation = true
        :: else
        fi;
        respawn = respawn || standby == NOBODY
    :: what == released && n == serving && phase == releasing ->
        if
        :: candidate == NOBODY -> failed()
        :: else -> try()
        fi
    :: else
    fi
}

inline died(n) {
    due[n] = false;
    if
    :: n == standby -> lost = true; standby = NOBODY; respawn = true
    :: n == serving ->
        lost = true; serving = NOBODY;
        if
        :: phase == trial || (phase == releasing && candidate == NOBODY) -> failed()
        :: phase == releasing && candidate != NOBODY -> try()
        :: (phase == none || phase == warming) -> go_on()
        :: (phase == none || phase == warming) && standby == NOBODY -> resume = true; respawn = false
        fi
    :: n == candidate && n != serving ->
        if
        :: phase == releasing ->
#ifndef FORGETS_THE_DEAD
            candidate = NOBODY
#endif
        :: else -> phase = none; candidate = NOBODY
        fi
    :: else
    fi
}

/* ---- where events come from ---- */

proctype ear(byte n) {          /* the keeper's, for one engine */
    mtype what;
    do
    :: atomic { news[n]?what -> heard(n, what); what = 0 }
    :: atomic {
            engine[n].lives && engine[n].gone && empty(news[n]) ->
            resign(n);          /* of a word that found it dead */
            if
            :: engine[n].orphan -> bury(n)
            :: else -> bury(n); died(n)
            fi
        }
#ifndef NO_DEADLINE
    :: atomic {
            due[n] && !engine[n].runs && !engine[n].gone ->
            due[n] = false; engine[n].killed = true;
#ifdef KILL_IS_DEATH
            died(n)
#endif
        }
#endif
    od
}

#ifdef PROBATION_ENDS
#define MAY_END true
#else
#define MAY_END (phase == none)
#endif

active proctype clock() {
    do
    :: atomic { resume -> resume = false; go_on() }
    :: atomic {
            respawn && NUMBERS_LEFT > 1 ->
            respawn = false;
            if
            :: standby == NOBODY -> spawn(standby)
            :: else
            fi
        }
    :: atomic {                 /* what is broken shows it before */
            probation && MAY_END && NUMBERS_LEFT > 0 && serving != NOBODY && engine[serving].works ->
            probation = false; dismiss(standby); spawn(standby)
        }
    od
}

active proctype operator() {    /* installs another version and asks for an upgrade */
    do
    :: atomic {                 /* only after short lives a pause leaves nobody who stands by */
            budget > upgrades && phase == none && has_started && (lost || !respawn) && NUMBERS_LEFT > 1 ->
            upgrades++; budget = budget - upgrades;
            if
            :: installed = true
            :: installed = false
            fi;
            spawn(candidate); phase = warming
        }
    od
}

inline keeper_dies() {          /* the next one has the tables, and engines about that are not its own */
    serving = NOBODY; standby = NOBODY; candidate = NOBODY; phase = none; words = 0; safe = false;
    has_started = false; resume = false; respawn = false; probation = false;
    i = 0;
    do
    :: i < ENGINES && engine[i].lives -> due[i] = false; engine[i].orphan = true; hang_up(i); i++
    :: i < ENGINES && !engine[i].lives -> i++
    :: else -> break
    od;
    go_on()
}

proctype fate(byte n) {
    do
    :: atomic {
            budget > 0 && engine[n].runs && !engine[n].orphan ->
            budget--; lost = true;
            safe = safe && n != standby;
            if
            :: engine[n].runs = false; engine[n].killed = true
            :: !engine[n].forwards || engine[n].release -> engine[n].runs = false
            :: n == serving && budget > 0 && NUMBERS_LEFT > 1 -> budget--; keeper_dies()
            fi
        }
    :: atomic {                 /* the service manager's part */
            engine[n].orphan && !engine[n].runs && !engine[n].killed -> engine[n].killed = true
        }
    od
}

active proctype quiet() {
    do
    :: timeout -> assert(writer != NOBODY && writer == serving && engine[writer].works && engine[writer].runs)
    od
}

init {
    atomic {
        i = 0;
        do
        :: i < ENGINES -> run engine_process(i); run ear(i); run fate(i); i++
        :: else -> break
        od;
        go_on()
    }
}
