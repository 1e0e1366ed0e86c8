# F7: a lane is one shard as its worker serves it: the state, its sockets, the batches in hand.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.batch cimport arrival, receive_batch, send_batch
from fastpath.bundles cimport BUNDLE_BUFFER_BYTES, bundle_run
from fastpath.counters cimport count_residence
from fastpath.layout cimport (
    FP_BATCH, FP_DROP_none, FP_DROP_send_blocked, FP_DROP_send_failed, FP_LISTENERS, fp_datagram, fp_endpoint,
    fp_trunk_link, fp_verdict)
from fastpath.links cimport link_of
from fastpath.linux cimport EAGAIN, ENOBUFS, realtime_ns
from fastpath.shard cimport shard_state
from fastpath.trunk cimport trunk_record

cdef enum:
    NOBODY = 1                      # in place of an address family

ctypedef struct parcel:             # what a composed message carries, for the books when it has left
    uint32_t index                  # slot of the receive batch
    uint32_t done                   # how far that slot is settled once this has left
    uint32_t length
    uint8_t ingress
    uint64_t stamp_ns

ctypedef struct lane_state:
    shard_state *shard
    uint32_t listeners
    int client_fds[FP_LISTENERS]
    uint32_t turns[FP_LISTENERS]    # receives so far
    int only_ingress[FP_LISTENERS]  # the ingress of a listener bound to one address; -1: a wildcard
    int trunk_fd                    # -1: no trunk
    int *plain_fds                  # [pool index]: all shards', a copied flow is sent from its sibling's port
    fp_endpoint *connected          # [pool index]: to where; family 0: unknown, NOBODY: to nobody
    receive_batch from_clients
    receive_batch from_plain
    receive_batch from_trunk
    uint32_t kernel_drops[FP_LISTENERS]     # as last looked at
    bint recovering                 # finishing the batch of an engine that died

    fp_datagram datagrams[FP_BATCH]     # the upstream batch in hand, slot by slot
    arrival arrivals[FP_BATCH]
    fp_verdict verdicts[FP_BATCH]

    trunk_record items[FP_BATCH]    # one backend's share of it
    uint8_t slots[FP_BATCH]         # items[k] is datagrams[slots[k]]
    bundle_run runs[FP_BATCH]
    uint8_t bundle_buffer[BUNDLE_BUFFER_BYTES]
    send_batch outgoing             # to a trunk or a plain port
    send_batch alone                # one message beside it: a control record, a run sent singly
    uint8_t control_buffer[256]

    send_batch to_clients[FP_LISTENERS]
    parcel parcels[FP_LISTENERS][FP_BATCH]


cdef inline fp_trunk_link *link_to(lane_state *lane, uint32_t backend) noexcept nogil:
    """This shard's side of the trunk to a backend."""
    return link_of(&lane.shard.links, backend, lane.shard.backends.entries[backend].born)


cdef inline void book_dropped(lane_state *lane, int direction, uint8_t reason) noexcept nogil:
    lane.shard.counters.dropped[direction][reason] += 1


cdef inline uint8_t drop_reason(int error) noexcept nogil:
    """Of a datagram that a send left behind with this errno; none for 0."""
    if error == 0:
        return FP_DROP_none
    return FP_DROP_send_blocked if error == EAGAIN or error == ENOBUFS else FP_DROP_send_failed


cdef inline void book_sent(lane_state *lane, int direction, int error, uint32_t length, uint64_t stamp_ns,
                           uint64_t now_ns) noexcept nogil:
    """One datagram left, or the kernel refused it. `now_ns` is the wall clock, as the kernel's stamps are."""
    if error == 0:
        lane.shard.counters.forwarded[direction] += 1
        lane.shard.counters.forwarded_bytes[direction] += length
        if stamp_ns and now_ns > stamp_ns:
            count_residence(&lane.shard.counters, direction, now_ns - stamp_ns)
    else:
        book_dropped(lane, direction, drop_reason(error))
