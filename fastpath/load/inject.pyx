"""How a load run's datagrams leave, by one of three ways.

mmsg     Flows share a few sockets bound to the wildcard address, and IP_PKTINFO gives each datagram its
         flow's own source address, so one sendmmsg carries 64 clients.
gso      The same, but a message is a run of one flow's next datagrams, which the kernel carries as one as
         far as it can. No set of real clients produces datagrams so cheaply: for own rates, not for ratios.
packet   Frames for an AF_PACKET socket that bypasses queueing disciplines: no route and no socket look-up on
         the sending side. For veth and real networks, where the relay is another host or namespace. Answers
         come to the UDP sockets of the same ports. The UDP checksum is 0, which IPv4 allows (RFC 768).
         Over lo it works once the kernel takes local sources from outside: net.ipv4.conf.lo.accept_local=1,
         for 127/8 net.ipv4.conf.lo.route_localnet=1 too. Without them frames vanish and no flow is confirmed.
"""

import socket as sockets_of

from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

from fastpath.load.clients cimport (
    CLIENT_REQUEST_BYTES, Clients, client_frame, client_source, client_target,
)
from fastpath.linux cimport (
    CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_NXTHDR, CMSG_SPACE, EAGAIN, EINTR, ENOBUFS, IP_PKTINFO,
    IPPROTO_IP, MSG_DONTWAIT, SOL_UDP, UDP_SEGMENT, cmsghdr, errno, in_pktinfo, msghdr, sendmmsg, sockaddr_in,
)

cdef extern from "<arpa/inet.h>" nogil:
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)

SOL_PACKET = 263
PACKET_QDISC_BYPASS = 20
SO_SNDBUFFORCE = 32
BUFFER_BYTES = 4 << 20
WAYS = {"mmsg": INJECT_MMSG, "gso": INJECT_GSO, "packet": INJECT_PACKET}

cdef enum:                               # offsets in a frame
    IP_TOTAL_LENGTH = 16
    IP_CHECKSUM = 24
    IP_SOURCE = 26
    IP_TARGET = 30
    UDP_SOURCE = 34
    UDP_TARGET = 36
    UDP_LENGTH = 38


cdef inline void put_u16(uint8_t *out, uint32_t value) noexcept nogil:
    out[0] = <uint8_t>(value >> 8)
    out[1] = <uint8_t>value


cdef void injector_prepare(injector *out) noexcept nogil:
    """What stays as it is for every datagram."""
    cdef uint32_t i
    cdef msghdr *header
    cdef cmsghdr *control
    for i in range(<uint32_t>INJECT_BATCH):
        header = &out.messages[i].msg_hdr
        header.msg_iov = &out.vectors[i]
        header.msg_iovlen = 1
        out.vectors[i].iov_base = injector_slot(out, i)
        if out.mode == INJECT_PACKET:
            out.vectors[i].iov_base = injector_slot(out, i) - INJECT_HEADERS_BYTES
            memcpy(out.vectors[i].iov_base, out.headers, INJECT_HEADERS_BYTES)
            continue
        header.msg_namelen = sizeof(sockaddr_in)
        header.msg_control = out.control[i]
        header.msg_controllen = INJECT_CONTROL_BYTES
        control = CMSG_FIRSTHDR(header)
        control.cmsg_level, control.cmsg_type = IPPROTO_IP, IP_PKTINFO
        control.cmsg_len = CMSG_LEN(sizeof(in_pktinfo))
        control = CMSG_NXTHDR(header, control)
        control.cmsg_level, control.cmsg_type = SOL_UDP, UDP_SEGMENT
        control.cmsg_len = CMSG_LEN(sizeof(uint16_t))
        header.msg_controllen = CMSG_SPACE(sizeof(in_pktinfo))


cdef inline void address_segments(injector *out, uint32_t slot, uint32_t segment_bytes,
                                  uint32_t count) noexcept nogil:
    cdef msghdr *header = &out.messages[slot].msg_hdr
    cdef uint16_t size = <uint16_t>segment_bytes
    header.msg_controllen = CMSG_SPACE(sizeof(in_pktinfo))
    if count > 1:
        header.msg_controllen += CMSG_SPACE(sizeof(uint16_t))
        memcpy(CMSG_DATA(CMSG_NXTHDR(header, CMSG_FIRSTHDR(header))), &size, sizeof(size))


cdef inline void address_frame(injector *out, uint32_t slot, uint32_t flow,
                               uint32_t length) noexcept nogil:
    """The headers of a frame around `length` bytes; what is the same in all of them is there already."""
    cdef uint8_t *frame = <uint8_t *>out.vectors[slot].iov_base
    cdef const sockaddr_in *target = client_target(out.clients, flow)
    cdef uint32_t source = client_source(out.clients, flow), to = ntohl(target.sin_addr.s_addr), total
    cdef uint32_t network = htonl(source)
    put_u16(frame + IP_TOTAL_LENGTH, length + 28)
    total = (out.constant_sum + length + 28 + (source >> 16) + (source & 0xffff) + (to >> 16) + (to & 0xffff))
    total = (total >> 16) + (total & 0xffff)
    total = (total >> 16) + (total & 0xffff)
    put_u16(frame + IP_CHECKSUM, ~total)
    memcpy(frame + IP_SOURCE, &network, 4)
    memcpy(frame + IP_TARGET, &target.sin_addr.s_addr, 4)
    memcpy(frame + UDP_SOURCE, &out.ports[flow % out.clients.sockets], 2)
    memcpy(frame + UDP_TARGET, &target.sin_port, 2)
    put_u16(frame + UDP_LENGTH, length + 8)
    out.vectors[slot].iov_len = INJECT_HEADERS_BYTES + length


cdef void injector_address(injector *out, uint32_t slot, uint32_t flow, uint32_t length,
                           uint32_t count) noexcept nogil:
    """Message `slot` becomes the flow's: `count` datagrams of `length` bytes, each behind its framing."""
    cdef uint8_t *at = injector_slot(out, slot)
    cdef uint32_t whole = out.clients.head_bytes + length, i
    if out.clients.head_bytes:
        for i in range(count):
            client_frame(out.clients, flow, at + i * whole, length)
    if out.mode == INJECT_PACKET:
        address_frame(out, slot, flow, whole)
        return
    out.vectors[slot].iov_len = whole * count
    out.messages[slot].msg_hdr.msg_name = client_target(out.clients, flow)
    (<in_pktinfo *>CMSG_DATA(CMSG_FIRSTHDR(&out.messages[slot].msg_hdr))).ipi_spec_dst.s_addr = (
        htonl(client_source(out.clients, flow)))
    if out.mode == INJECT_GSO:
        address_segments(out, slot, whole, count)


cdef uint32_t injector_send(injector *out, uint32_t socket, uint32_t count) noexcept nogil:
    """Sends the first `count` messages, all of flows of one socket; how many the kernel took. A refusal other
    than a full buffer is remembered in `failure`."""
    cdef int fd = out.packet_fd if out.mode == INJECT_PACKET else out.fds[socket]
    cdef int taken = sendmmsg(fd, out.messages, count, MSG_DONTWAIT)
    out.send_calls += 1
    if taken >= 0:
        return <uint32_t>taken
    if errno == EAGAIN or errno == ENOBUFS or errno == EINTR:
        out.blocked += 1
    else:
        out.failure = errno
    return 0


cdef class Injector:
    """One way out for the datagrams of `clients`.

    clients       a fastpath.load.clients.Clients
    sockets       the UDP sockets of the clients, bound
    way           "mmsg", "gso" or "packet"
    burst         of "gso": datagrams of one flow in a run, 2..16; their sizes must not vary
    interface     of "packet": the network interface that frames leave by
    gateway_mac   of "packet": 6 bytes, the Ethernet address of the relay or of the router towards it; not
                  needed on "lo"
    """

    def __cinit__(self, Clients clients not None, list sockets, *, way="mmsg", int burst=4, interface=None,
                  gateway_mac=None):
        cdef injector *out
        cdef uint32_t datagram_bytes = clients.state.size_bytes + clients.state.size_spread + 4
        if way not in WAYS:
            raise ValueError(f"inject is {way!r}: choose one of {', '.join(WAYS)}")
        if way == "gso" and not 2 <= burst <= INJECT_BURST_MAX:
            raise ValueError(f"burst is {burst}: choose 2..{INJECT_BURST_MAX}")
        if way == "gso" and clients.state.size_spread:
            raise ValueError("segments of a run are of one size: no size_spread with inject 'gso'")
        self.state = out = <injector *>calloc(1, sizeof(injector))
        if out == NULL:
            raise MemoryError("no memory for an injector")
        self.owner = clients
        out.clients, out.mode, out.packet_fd = clients.state, WAYS[way], -1
        out.burst = <uint32_t>burst if way == "gso" else 1
        out.slot_bytes = datagram_bytes * out.burst
        if out.slot_bytes < CLIENT_REQUEST_BYTES + 4:
            out.slot_bytes = CLIENT_REQUEST_BYTES + 4
        out.slot_bytes = (out.slot_bytes + INJECT_ROOM_BYTES + 63) & ~<uint32_t>63
        out.slots = <uint8_t *>calloc(INJECT_BATCH, out.slot_bytes)
        if out.slots == NULL:
            raise MemoryError(f"no memory for {INJECT_BATCH} messages of {out.slot_bytes} bytes")
        for i, sock in enumerate(sockets):
            out.fds[<size_t>i] = sock.fileno()
            out.ports[<size_t>i] = sockets_of.htons(sock.getsockname()[1])
        if way == "packet":
            self.open_packet(interface, gateway_mac)
        injector_prepare(out)

    cdef open_packet(self, interface, gateway_mac):
        cdef injector *out = self.state
        if interface is None or (gateway_mac is None and interface != "lo"):
            raise ValueError("inject 'packet' needs interface and gateway_mac (6 bytes, of the next hop)")
        target_mac = bytes(6) if gateway_mac is None else bytes(gateway_mac)
        if len(target_mac) != 6:
            raise ValueError(f"gateway_mac of {len(target_mac)} bytes: an Ethernet address has 6")
        try:
            self.packet = sockets_of.socket(sockets_of.AF_PACKET, sockets_of.SOCK_RAW, 0)
        except PermissionError as error:
            raise PermissionError(
                error.errno, "raw frames need CAP_NET_RAW: run as root, or choose inject 'mmsg'") from None
        try:
            self.packet.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
            self.packet.setsockopt(sockets_of.SOL_SOCKET, sockets_of.SO_SNDBUF, BUFFER_BYTES)
            self.packet.bind((interface, 0))
        except OSError as error:
            self.packet.close()
            raise OSError(
                error.errno, f"no frames can leave by interface {interface}: {error.strerror}") from None
        out.packet_fd = self.packet.fileno()
        own_mac = self.packet.getsockname()[4][:6].ljust(6, b"\0")
        headers = target_mac + own_mac + b"\x08\x00" + b"\x45\x00\0\0\0\0\x40\x00\x40\x11"
        headers = headers.ljust(INJECT_HEADERS_BYTES, b"\0")
        memcpy(out.headers, <const char *>headers, INJECT_HEADERS_BYTES)
        out.constant_sum = 0x4500 + 0x4000 + 0x4011      # version, don't fragment, TTL and protocol

    def close(self) -> None:
        if self.packet is not None:
            self.packet.close()
            self.packet = None
            self.state.packet_fd = -1

    def __dealloc__(self):
        if self.state != NULL:
            free(self.state.slots)
            free(self.state)
