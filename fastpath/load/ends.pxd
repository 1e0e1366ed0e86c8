# F6: the backends of a player: plain UDP sockets and the transceiver's end of FT1. They send what a recorded
# server sent and hand what comes out of the relay to the judge. See ends.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.batch cimport receive_batch, send_batch
from fastpath.bundles cimport BUNDLE_BUFFER_BYTES, bundle_run
from fastpath.load.judge cimport judge, session_state
from fastpath.layout cimport (
    FP_BATCH, FP_DATAGRAM_BYTES, fp_client, fp_datagram_area, fp_endpoint, fp_trunk_area, fp_trunk_link)
from fastpath.trunk cimport trunk_record

cdef enum:
    END_RELAYS = 64                     # relay sockets that may speak to one trunk end
    END_SOCKETS = 64                    # client sockets

ctypedef struct end_relay:
    fp_endpoint address
    fp_trunk_link link

ctypedef struct end_map:                # whose a source is; open addressing, nothing is ever removed
    fp_endpoint *sources
    uint32_t *sessions                  # session + 1, 0: empty
    uint32_t capacity                   # a power of two
    uint32_t count

ctypedef struct end_clients:            # which session a client address is
    uint32_t first_address              # host order
    uint32_t sockets
    uint16_t ports[END_SOCKETS]

ctypedef struct end_state:
    int fd
    uint32_t index                      # in the player's list
    bint trunk
    judge *judge
    const end_clients *clients
    end_map map                         # plain: upstream ports
    fp_datagram_area *datagrams         # plain
    fp_trunk_area *area                 # trunk
    receive_batch incoming
    send_batch outgoing
    uint8_t scratch[FP_BATCH][FP_DATAGRAM_BYTES]     # of marked datagrams and answers
    bint keyed
    uint8_t key_id
    uint8_t up_key[4][16]               # under the key's id
    uint8_t down_key[16]
    uint32_t epoch, mtu_bytes
    uint8_t announcement[16]
    uint64_t announced_ns
    uint32_t relays
    end_relay relay[END_RELAYS]
    uint32_t to                         # which relay the waiting records are for
    uint32_t items
    trunk_record item[FP_BATCH]
    bundle_run runs[FP_BATCH]
    uint8_t out[BUNDLE_BUFFER_BYTES]
    uint64_t pings, probes, bad, blocked, receive_calls, send_calls
    int failure                         # errno that ends a run

cdef uint32_t end_receive(end_state *e) noexcept nogil
cdef uint8_t *end_scratch(end_state *e, uint32_t relay) noexcept nogil
cdef void end_stage(end_state *e, const session_state *s, const uint8_t *data, uint32_t length) noexcept nogil
cdef void end_flush(end_state *e) noexcept nogil
cdef void end_announce(end_state *e, uint64_t now_ns) noexcept nogil
cdef void outcome_of(send_batch *batch, uint32_t count, uint64_t *blocked, int *failure) noexcept nogil


cdef class End:
    cdef end_state *state
    cdef object socket
    cdef bint taken                     # by the player it plays for
    cdef readonly tuple address
    cdef open_end(self, address, bint trunk)
    cdef start(self, uint32_t index, judge *into, const end_clients *clients)


cdef class TrunkEnd(End):
    cdef set_key(self, bytes key, uint8_t key_id)
