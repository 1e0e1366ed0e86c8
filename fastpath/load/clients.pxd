# F2: who the clients of a load run are: source address, relay address, ufrag and framing of each flow, and
# the sizes of what it sends. No state that changes, no syscall: the generator sends. See clients.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastpath.linux cimport sockaddr_in
from fastpath.load.probe cimport probe_mix
from fastpath.load.sha1 cimport hmac_key

cdef enum:
    TURN_HEADER_BYTES = 4                # number and length (RFC 8656 section 12.4)
    CLIENT_UFRAG_BYTES = 256             # RFC 8839 section 5.4
    CLIENT_REQUEST_BYTES = 352           # room for the Binding Request of the longest ufrag

ctypedef struct clients:
    uint32_t flows
    uint32_t sockets                     # flow i: socket i % sockets, source first_address + i // sockets
    uint32_t first_address               # host order
    uint32_t size_bytes
    uint32_t size_spread
    uint32_t head_bytes                  # of framing before each datagram: 0 or TURN_HEADER_BYTES
    uint32_t target_step                 # 0: one target for all; 1: one a flow
    sockaddr_in *targets
    uint16_t *turn_numbers               # NULL without TURN
    const uint8_t *ufrags                # one after another
    uint32_t *ufrag_offsets              # flows + 1
    uint64_t seed                        # of transaction ids
    hmac_key password


cdef inline uint32_t client_source(const clients *c, uint32_t flow) noexcept nogil:
    """Source address, host order."""
    return c.first_address + flow // c.sockets


cdef inline sockaddr_in *client_target(const clients *c, uint32_t flow) noexcept nogil:
    return &c.targets[flow * c.target_step]


cdef inline uint32_t clients_of_socket(const clients *c, uint32_t socket) noexcept nogil:
    """How many flows one socket serves."""
    return (c.flows - socket + c.sockets - 1) // c.sockets


cdef inline void client_frame(const clients *c, uint32_t flow, uint8_t *out, size_t length) noexcept nogil:
    """Writes head_bytes of framing before a datagram of `length` bytes."""
    if c.head_bytes == 0:
        return
    out[0] = <uint8_t>(c.turn_numbers[flow] >> 8)
    out[1] = <uint8_t>c.turn_numbers[flow]
    out[2] = <uint8_t>(length >> 8)
    out[3] = <uint8_t>length


cdef inline bint client_framing_holds(const clients *c, uint32_t flow, const uint8_t *data) noexcept nogil:
    """Whether the framing of what arrived is this flow's."""
    return c.head_bytes == 0 or (<uint32_t>data[0] << 8 | data[1]) == c.turn_numbers[flow]


cdef inline size_t client_payload(const clients *c, const uint8_t *data, size_t length) noexcept nogil:
    """Bytes of the datagram inside the framing, which begins head_bytes on; 0 when the framing is wrong."""
    cdef size_t inside
    if c.head_bytes == 0:
        return length
    if length < TURN_HEADER_BYTES:
        return 0
    inside = <size_t>data[2] << 8 | data[3]
    return inside if inside + TURN_HEADER_BYTES <= length else 0


cdef inline void client_transaction(const clients *c, uint32_t flow, uint8_t *out) noexcept nogil:
    """A flow's transaction id, 12 bytes: the flow, by which a sink knows it, and what no other run has."""
    cdef uint64_t rest = probe_mix(c.seed + flow)
    memcpy(out, &flow, 4)
    memcpy(out + 4, &rest, 8)


cdef size_t client_request(const clients *c, uint32_t flow, uint8_t *out) noexcept nogil


cdef class Clients:
    cdef clients *state
    cdef object ufrags
    cdef set_ufrags(self, ufrags, password)
    cdef set_targets(self, target)
    cdef set_turn_numbers(self, numbers)
