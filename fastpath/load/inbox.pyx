"""What comes back to the clients of a load run, counted by flow."""

import socket as sockets_of

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy

from fastpath.load.arrivals cimport Arrivals, arrivals_note, arrivals_publish
from fastpath.load.binding cimport BINDING_TRANSACTION, binding_is
from fastpath.load.clients cimport (
    Clients, client_framing_holds, client_payload, client_source, client_transaction)
from fastpath.load.histogram cimport histogram_note
from fastpath.linux cimport (
    CMSG_DATA, CMSG_FIRSTHDR, EPOLL_CLOEXEC, EPOLL_CTL_ADD, EPOLLIN, IP_PKTINFO, IPPROTO_IP, MSG_DONTWAIT,
    close, cmsghdr, epoll_create1, epoll_ctl, epoll_event, epoll_pwait2, in_pktinfo, monotonic_ns, msghdr,
    recvmmsg, timespec,
)
from fastpath.load.probe cimport probe

cdef extern from "<arpa/inet.h>" nogil:
    uint32_t ntohl(uint32_t value)

SO_RCVBUFFORCE = 33
BUFFER_BYTES = 16 << 20

cdef enum:
    TURNS = 8                            # batches taken from one socket before the others


def widen_buffer(sock) -> None:
    """A receive buffer of 16 MiB for a socket of a load tool, as far as the kernel lets us: who naps, or
    shares a CPU, must find its datagrams in a queue."""
    try:
        sock.setsockopt(sockets_of.SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES)
    except PermissionError:
        sock.setsockopt(sockets_of.SOL_SOCKET, sockets_of.SO_RCVBUF, BUFFER_BYTES)


cdef void prepare(inbox *box) noexcept nogil:
    cdef int i
    cdef msghdr *header
    for i in range(INBOX_BATCH):
        header = &box.messages[i].msg_hdr
        header.msg_iov = &box.vectors[i]
        header.msg_iovlen = 1
        header.msg_control = box.control[i]
        header.msg_controllen = INBOX_CONTROL_BYTES
        box.vectors[i].iov_base = box.data[i]
        box.vectors[i].iov_len = INBOX_SLOT_BYTES


cdef void note_echo(inbox *box, int i, size_t length, uint64_t now_ns) noexcept nogil:
    cdef probe fields
    cdef cmsghdr *control = CMSG_FIRSTHDR(&box.messages[i].msg_hdr)
    cdef uint32_t at = 0
    if not arrivals_note(box.echoes, box.data[i] + box.clients.head_bytes, length, now_ns, &fields):
        return
    if control != NULL and control.cmsg_level == IPPROTO_IP and control.cmsg_type == IP_PKTINFO:
        at = ntohl((<in_pktinfo *>CMSG_DATA(control)).ipi_addr.s_addr)
    if (at != client_source(box.clients, fields.flow)
            or not client_framing_holds(box.clients, fields.flow, box.data[i])):
        box.misrouted += 1


cdef void note_response(inbox *box, const uint8_t *data, uint64_t now_ns) noexcept nogil:
    """A success response confirms its flow when it answers that flow's request, and only once."""
    cdef uint32_t flow
    cdef uint8_t transaction[12]
    memcpy(&flow, data + BINDING_TRANSACTION, 4)
    if flow >= box.clients.flows or box.confirmed[flow]:
        return
    client_transaction(box.clients, flow, transaction)
    if memcmp(transaction, data + BINDING_TRANSACTION, 12) != 0:
        return
    box.confirmed[flow] = 1
    box.confirmed_flows += 1
    if box.requested_ns[flow]:
        histogram_note(box.setup_ns, now_ns - box.requested_ns[flow])


cdef uint64_t take_socket(inbox *box, int fd) noexcept nogil:
    """Takes what waits on one socket, at most TURNS batches; how many datagrams."""
    cdef int _turn, i, count
    cdef uint64_t now_ns, taken = 0
    cdef size_t length
    cdef const uint8_t *data
    for _turn in range(TURNS):
        count = recvmmsg(fd, box.messages, INBOX_BATCH, MSG_DONTWAIT, NULL)
        if count <= 0:
            break
        now_ns = monotonic_ns()
        for i in range(count):
            length = client_payload(box.clients, box.data[i], box.messages[i].msg_len)
            data = box.data[i] + box.clients.head_bytes
            if binding_is(data, length, 1):
                note_response(box, data, now_ns)
            else:
                note_echo(box, i, length, now_ns)
            box.messages[i].msg_hdr.msg_controllen = INBOX_CONTROL_BYTES
        taken += <uint64_t>count
        if count < INBOX_BATCH:
            break
    return taken


cdef uint64_t inbox_take(inbox *box) noexcept nogil:
    """Takes what waits, without waiting; how many datagrams."""
    cdef epoll_event ready[INBOX_SOCKETS]
    cdef timespec at_once
    cdef int i, count
    cdef uint64_t taken = 0
    if box.clients.sockets == 1:
        taken = take_socket(box, box.fds[0])
    else:
        at_once.tv_sec = at_once.tv_nsec = 0
        count = epoll_pwait2(box.epoll, ready, INBOX_SOCKETS, &at_once, NULL)
        for i in range(count):
            taken += take_socket(box, box.fds[ready[i].data.u32])
    if taken:
        arrivals_publish(box.echoes)
    return taken


cdef void inbox_take_after(inbox *box, uint64_t timeout_ns) noexcept nogil:
    """Waits until a datagram arrives, at most `timeout_ns` (< 1 s), and takes what is there."""
    cdef timespec timeout
    cdef epoll_event event
    timeout.tv_sec = 0
    timeout.tv_nsec = <long>timeout_ns
    if epoll_pwait2(box.epoll, &event, 1, &timeout, NULL) > 0:
        inbox_take(box)


cdef class Inbox:
    """The receiving end of `clients` on their bound UDP `sockets`; probes go to `echoes`."""

    def __cinit__(self, Clients clients not None, Arrivals echoes not None, list sockets):
        cdef inbox *box
        cdef epoll_event event
        self.state = box = <inbox *>calloc(1, sizeof(inbox))
        if box == NULL:
            raise MemoryError("no memory for an inbox")
        box.epoll = epoll_create1(EPOLL_CLOEXEC)
        self.owner, self.echoes = clients, echoes
        box.clients, box.echoes = clients.state, echoes.state
        box.confirmed = <uint8_t *>calloc(box.clients.flows, 1)
        box.requested_ns = <uint64_t *>calloc(box.clients.flows, sizeof(uint64_t))
        if box.confirmed == NULL or box.requested_ns == NULL:
            raise MemoryError(f"no memory for {box.clients.flows} flows")
        for i, sock in enumerate(sockets):
            box.fds[<size_t>i] = sock.fileno()
            event.events = EPOLLIN
            event.data.u32 = <uint32_t>i
            epoll_ctl(box.epoll, EPOLL_CTL_ADD, box.fds[<size_t>i], &event)
        prepare(box)

    def close(self) -> None:
        if self.state.epoll >= 0:
            close(self.state.epoll)
            self.state.epoll = -1

    def __dealloc__(self):
        if self.state == NULL:
            return
        if self.state.epoll >= 0:
            close(self.state.epoll)
        free(self.state.confirmed)
        free(self.state.requested_ns)
        free(self.state)
