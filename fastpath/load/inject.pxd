# F6: how a load run's datagrams leave: by UDP sockets one by one or in segmented runs, or as ready-made
# frames past the sender's own network stack. See inject.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.load.clients cimport clients
from fastpath.linux cimport iovec, mmsghdr

cdef enum:
    INJECT_MMSG = 0                      # a datagram a message, 64 in one sendmmsg
    INJECT_GSO = 1                       # a run of one flow's datagrams a message (UDP_SEGMENT)
    INJECT_PACKET = 2                    # an Ethernet frame a message, on an AF_PACKET socket

cdef enum:
    INJECT_BATCH = 64
    INJECT_SOCKETS = 64
    INJECT_BURST_MAX = 16                # datagrams of one flow in a segmented run
    INJECT_ROOM_BYTES = 64               # before a datagram: Ethernet, IPv4 and UDP headers
    INJECT_HEADERS_BYTES = 42
    INJECT_CONTROL_BYTES = 64            # one IP_PKTINFO and one UDP_SEGMENT

ctypedef struct injector:
    const clients *clients
    int mode
    int failure                          # errno that ended a run
    int fds[INJECT_SOCKETS]
    uint16_t ports[INJECT_SOCKETS]       # source ports, network order
    int packet_fd
    uint32_t burst                       # datagrams in one message: 1 but in INJECT_GSO
    uint64_t send_calls
    uint64_t blocked                     # the send buffer was full
    uint8_t headers[INJECT_HEADERS_BYTES]
    uint32_t constant_sum                # IPv4 checksum of what is the same in every frame
    uint32_t slot_bytes
    uint8_t *slots
    mmsghdr messages[INJECT_BATCH]
    iovec vectors[INJECT_BATCH]
    uint8_t control[INJECT_BATCH][INJECT_CONTROL_BYTES]


cdef inline uint8_t *injector_slot(injector *out, uint32_t slot) noexcept nogil:
    """Where the datagrams of message `slot` are built, each behind its framing."""
    return out.slots + slot * out.slot_bytes + INJECT_ROOM_BYTES


cdef void injector_prepare(injector *out) noexcept nogil
cdef void injector_address(injector *out, uint32_t slot, uint32_t flow, uint32_t length,
                           uint32_t count) noexcept nogil
cdef uint32_t injector_send(injector *out, uint32_t socket, uint32_t count) noexcept nogil


cdef class Injector:
    cdef injector *state
    cdef object owner
    cdef object packet
    cdef open_packet(self, interface, gateway_mac)
