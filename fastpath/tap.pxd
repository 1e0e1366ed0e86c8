# F4: the tap: what a live shard receives and sends is noted here for a capture. Off, it costs one branch a
# batch. On, the worker never waits: what finds the ring full is counted and not noted.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.atomic cimport load_relaxed_pointer
from fastpath.layout cimport fp_client
from fastpath.shard cimport Shard, shard_state

ctypedef struct tap_filter:         # everything that is asked for must hold, for one and the same flow
    bint by_client
    fp_client client                # its ingress does not count; port 0: any
    bint by_backend
    uint32_t backend                # a configured one: its targets count as itself
    bint by_ufrag
    uint64_t ufrag_hash
    bint by_session
    uint32_t session                # keyed hash of the session's name, as in its routes

ctypedef struct tap_note:           # stands before what was captured of a datagram
    uint32_t bytes                  # to the next note, a multiple of 8
    uint32_t length                 # of the datagram; FP_NONE: nothing more before the ring's end
    uint64_t stamp_ns               # CLOCK_REALTIME: received from, or sent to the client
    fp_client client
    uint32_t backend                # FP_NONE: no flow names one
    uint16_t captured
    uint8_t direction
    uint8_t reason                  # FP_DROP_*

ctypedef struct tap_ring:           # one writer, the shard's worker; one reader, the control thread
    tap_filter wanted
    bint whole                      # payloads too, not the headers alone
    uint32_t snap_bytes             # of a datagram at most
    uint64_t capacity               # bytes of `data`, a power of two
    uint8_t *data
    uint8_t apart[64]               # the two ends lie in cache lines of their own
    uint64_t head                   # bytes ever written: the worker's
    uint64_t matched                # datagrams the filter asked for
    uint64_t missed                 # those of them that found the ring full
    uint8_t apart_too[64]
    uint64_t tail                   # bytes ever read: the control thread's


cdef inline bint tap_is_on(const shard_state *shard) noexcept nogil:
    return load_relaxed_pointer(&shard.tap) != NULL


cdef tap_ring *tap_enter(shard_state *shard) noexcept nogil
cdef void tap_leave(shard_state *shard) noexcept nogil
cdef void tap_datagram(const shard_state *shard, tap_ring *ring, int direction, uint8_t reason,
                       const fp_client *client, uint64_t stamp_ns, const uint8_t *data,
                       uint32_t length) noexcept nogil


cdef class Tap:
    cdef tap_ring *ring
    cdef readonly Shard shard
    cdef int look_for(self, bytes address16, uint8_t family, uint16_t port) except -1
