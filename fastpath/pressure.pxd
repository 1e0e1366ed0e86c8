# F1: how hard a worker is pressed: evidence in, level out. No clock, no socket.
#
# What waits in a socket's queue after a full batch is no overload yet: a burst, or what came while an engine
# started, is worked off. Overload is a queue that does not empty and does not shrink either, or one that
# the kernel has begun to drop from. Then the level rises by one step, and what it sheds (fastpath.shedding)
# should make the queue shrink. Once the queues were empty for a while it falls again, step by step; a step
# that was taken back too early returns sooner than it came.
#
# What hurts live voice calls is shed only when the kernel drops: until then the receive buffer carries them.
# And a live call is never shed in vain: when what is forwarded is but a small part of what comes (a flood
# that is refused anyhow), shedding more of it would not help.
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    SHED_NOTHING = 0
    SHED_UNKNOWN = 1                # before it costs anything: media without a flow, who knocks too often
    SHED_NEW = 2                    # whatever has no confirmed flow
    SHED_BULK = 3                   # media of flows of class bulk
    SHED_VIDEO = 4
    SHED_RTCP = 5                   # every second RTCP packet
    SHED_VOICE = 6                  # media of every second flow that is left

    STANDS_MS = 5                   # a queue that empties within this time does not stand
    LOOK_MS = 20                    # between two looks at the kernel's queues while they stand
    RISE_MS = 100                   # a queue that has not shrunk for so long: one step up
    FALL_MS = 10                    # no queue stood for so long: one step down
    RELAPSE_MS = 1000               # a queue that stands so soon after a step down: the step was wrong
    WORTH = 4                       # live calls are shed while a fourth of what comes is forwarded

ctypedef struct pressure:
    uint32_t level
    bint standing                   # the last turn left something behind
    uint32_t stands_ms              # since when
    uint32_t stood_ms               # when a queue stood last, or what stands for it: the level's last step
    uint32_t looked_ms
    bint watched                    # the two below are known
    uint32_t watched_ms             # since when the queues' growth is watched
    uint64_t watched_bytes          # what waited then
    uint32_t fell_from              # the last step down, and when
    uint32_t fell_ms

ctypedef struct pressure_evidence:  # of the time since the last look
    uint64_t waiting_bytes          # in the queues now
    uint64_t dropped                # by the kernel
    uint64_t received
    uint64_t forwarded


cdef inline bint pressure_turn(pressure *p, uint32_t now_ms, bint full) noexcept nogil:
    """After each turn of the loop; `full`: a batch from clients was. True: look at the kernel's queues."""
    if full:
        if not p.standing:
            p.standing, p.watched = True, False
            p.stands_ms = p.looked_ms = now_ms
        if now_ms - p.stands_ms >= STANDS_MS:
            p.stood_ms = now_ms
        return now_ms - p.looked_ms >= LOOK_MS
    p.standing = False
    while p.level != SHED_NOTHING and now_ms - p.stood_ms >= FALL_MS:
        p.fell_from, p.fell_ms = p.level, now_ms
        p.level -= 1
        p.stood_ms += FALL_MS
    return False


cdef inline bint is_overload(const pressure *p, uint32_t now_ms,
                             const pressure_evidence *seen) noexcept nogil:
    """Is another step due?"""
    if p.level == SHED_VOICE:
        return False
    if p.level >= SHED_NEW and seen.forwarded * WORTH < seen.received:
        return False
    if seen.dropped != 0:
        return True
    if p.level < p.fell_from and now_ms - p.fell_ms < RELAPSE_MS:
        return True
    return (p.level < SHED_VIDEO and p.watched and now_ms - p.watched_ms >= RISE_MS
            and seen.waiting_bytes >= p.watched_bytes)


cdef inline void pressure_look(pressure *p, uint32_t now_ms, const pressure_evidence *seen) noexcept nogil:
    """What a look at the queues has shown, in a turn that asked for it."""
    cdef bint rises = is_overload(p, now_ms, seen)
    if rises:
        p.level += 1
        p.stood_ms = now_ms
    if rises or not p.watched or seen.waiting_bytes < p.watched_bytes:
        p.watched, p.watched_ms, p.watched_bytes = True, now_ms, seen.waiting_bytes
    p.looked_ms = now_ms
