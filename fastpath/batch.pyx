"""Batches of datagrams in and out of sockets, preallocated; errno is mapped in one place.

recvmmsg and sendmmsg carry up to 64 messages a call. Control messages bring ECN, the local address, the
GRO segment size and the kernel's time stamp in, and take ECN and DSCP, the source address and the GSO
segment size out (ip(7), ipv6(7), udp(7)).
"""
from libc.string cimport memcpy, memset

from fastpath.address cimport client_to_sockaddr, endpoint_to_sockaddr
from fastpath.layout cimport FP_CONTROL_BYTES, FP_DATAGRAM_BYTES, FP_TRUNK_BATCH, FP_TRUNK_BYTES
from fastpath.linux cimport *

cdef enum:
    NAME_BYTES = 32
    BLOCKED_WAIT_MS = 2             # how long a full send buffer may hold a worker up
    FAILED_WAIT_NS = 200000


# ---- receive --------------------------------------------------------------------------------------

cdef void batch_attach_datagrams(receive_batch *batch, fp_datagram_area *area) noexcept nogil:
    batch.messages, batch.vectors, batch.notes = area.messages, area.vectors, area.notes
    batch.names, batch.control, batch.data = &area.names[0][0], &area.control[0][0], &area.data[0][0]
    batch.stride = FP_DATAGRAM_BYTES
    batch.capacity = FP_BATCH
    point_at_buffers(batch)


cdef void batch_attach_trunk(receive_batch *batch, fp_trunk_area *area) noexcept nogil:
    batch.messages, batch.vectors, batch.notes = area.messages, area.vectors, area.notes
    batch.names, batch.control, batch.data = &area.names[0][0], &area.control[0][0], &area.data[0][0]
    batch.stride = FP_TRUNK_BYTES
    batch.capacity = FP_TRUNK_BATCH
    point_at_buffers(batch)


cdef void point_at_buffers(receive_batch *batch) noexcept nogil:
    """Pointers of another process mean nothing here; lengths and notes are kept: they may be owed."""
    cdef uint32_t i
    for i in range(batch.capacity):
        batch.vectors[i].iov_base = batch.data + <size_t>i * batch.stride
        batch.vectors[i].iov_len = batch.stride
        batch.messages[i].msg_hdr.msg_iov = &batch.vectors[i]
        batch.messages[i].msg_hdr.msg_iovlen = 1
        batch.messages[i].msg_hdr.msg_name = batch.names + i * NAME_BYTES
        batch.messages[i].msg_hdr.msg_control = batch.control + i * FP_CONTROL_BYTES
        if batch.messages[i].msg_len == 0:
            batch.messages[i].msg_hdr.msg_namelen = NAME_BYTES
            batch.messages[i].msg_hdr.msg_controllen = FP_CONTROL_BYTES


cdef uint32_t batch_owed(receive_batch *batch) noexcept nogil:
    """Take over what a killed engine had received: gives how many messages are owed and sets `count` past the
    last. The others were settled, if not yet made ready again: that is made up for."""
    cdef uint32_t i, owed = 0
    batch.count = 0
    for i in range(batch.capacity):
        if batch.messages[i].msg_len > batch.notes[i].done:
            batch.count = i + 1
            owed += 1
        else:
            make_ready(batch, i)
    return owed


cdef inline void make_ready(receive_batch *batch, uint32_t i) noexcept nogil:
    batch.messages[i].msg_len = 0
    batch.messages[i].msg_hdr.msg_namelen = NAME_BYTES
    batch.messages[i].msg_hdr.msg_controllen = FP_CONTROL_BYTES
    batch.notes[i].done = 0


cdef uint32_t batch_receive(receive_batch *batch, int fd, uint16_t source) noexcept nogil:
    """Receive what waits into the free slots; gives how many came, never waits.

    What waits may be an error in place of a datagram (ICMP, on a connected socket); the call takes it away.
    """
    cdef uint32_t i
    cdef int received
    for i in range(batch.count, batch.capacity):
        batch.notes[i].source = source
    received = recvmmsg(fd, batch.messages + batch.count, batch.capacity - batch.count, MSG_DONTWAIT, NULL)
    batch.error = 0
    if received <= 0:
        if received < 0 and errno != EAGAIN and errno != EINTR:
            batch.error = errno
        return 0
    batch.count += <uint32_t>received
    return <uint32_t>received


cdef void batch_ask_stamps(int fd, bint wanted) noexcept nogil:
    """Shall what is received next say when it arrived? The kernel goes on noting it either way; to be told
    costs a control message a datagram, a tenth of receiving one."""
    cdef int value = wanted
    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &value, sizeof(value))


cdef void batch_queue(int fd, uint32_t *waiting_bytes, uint32_t *dropped) noexcept nogil:
    """What waits in a socket's receive queue, and how many datagrams the kernel dropped (SO_MEMINFO)."""
    cdef uint32_t info[SK_MEMINFO_VARS]
    cdef socklen_t length = sizeof(info)
    memset(info, 0, sizeof(info))
    getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length)
    waiting_bytes[0], dropped[0] = info[SK_MEMINFO_RMEM_ALLOC], info[SK_MEMINFO_DROPS]


cdef void batch_settle(receive_batch *batch) noexcept nogil:
    """Every datagram in hand has been sent or dropped: make the slots ready for the next receive."""
    cdef uint32_t i
    for i in range(batch.count):
        make_ready(batch, i)
    batch.count = 0


cdef void batch_arrival(const receive_batch *batch, uint32_t index, arrival *out) noexcept nogil:
    cdef msghdr *header = &batch.messages[index].msg_hdr
    cdef cmsghdr *control = CMSG_FIRSTHDR(header)
    cdef timespec stamp
    cdef int32_t number
    memset(out, 0, sizeof(arrival))
    out.truncated = header.msg_flags & MSG_TRUNC
    while control != NULL:
        if control.cmsg_level == IPPROTO_IP and control.cmsg_type == IP_TOS:
            out.ecn = CMSG_DATA(control)[0] & 3
        elif control.cmsg_level == IPPROTO_IPV6 and control.cmsg_type == IPV6_TCLASS:
            memcpy(&number, CMSG_DATA(control), sizeof(number))
            out.ecn = <uint8_t>(number & 3)
        elif control.cmsg_level == SOL_SOCKET and control.cmsg_type == SCM_TIMESTAMPNS:
            memcpy(&stamp, CMSG_DATA(control), sizeof(stamp))
            out.stamp_ns = <uint64_t>stamp.tv_sec * 1000000000u + <uint64_t>stamp.tv_nsec
        elif control.cmsg_level == SOL_UDP and control.cmsg_type == UDP_GRO:
            memcpy(&number, CMSG_DATA(control), sizeof(number))
            out.segment_bytes = <uint32_t>number
        elif control.cmsg_level == IPPROTO_IP and control.cmsg_type == IP_PKTINFO:
            memcpy(out.local.address, &(<in_pktinfo *>CMSG_DATA(control)).ipi_addr, 4)
            out.local.family, out.has_local = 4, True
        elif control.cmsg_level == IPPROTO_IPV6 and control.cmsg_type == IPV6_PKTINFO:
            memcpy(out.local.address, &(<in6_pktinfo *>CMSG_DATA(control)).ipi6_addr, 16)
            out.local.family, out.has_local = 6, True
        control = CMSG_NXTHDR(header, control)


# ---- send -----------------------------------------------------------------------------------------

cdef mmsghdr *compose(send_batch *batch, const void *payload, size_t length) noexcept nogil:
    """Begin the next message of a batch with room; the compose_* below complete the one begun last."""
    cdef uint32_t i = batch.count
    cdef mmsghdr *message = &batch.messages[i]
    batch.vectors[i].iov_base = <void *>payload
    batch.vectors[i].iov_len = length
    message.msg_hdr.msg_iov = &batch.vectors[i]
    message.msg_hdr.msg_iovlen = 1
    message.msg_hdr.msg_name = &batch.names[i]
    message.msg_hdr.msg_control = NULL
    message.msg_hdr.msg_controllen = 0
    message.msg_hdr.msg_flags = 0
    batch.count += 1
    return message


cdef void compose_endpoint(send_batch *batch, const fp_endpoint *address) noexcept nogil:
    cdef uint32_t i = batch.count - 1
    batch.messages[i].msg_hdr.msg_namelen = endpoint_to_sockaddr(address, &batch.names[i])


cdef void compose_client(send_batch *batch, const fp_client *client) noexcept nogil:
    cdef uint32_t i = batch.count - 1
    batch.messages[i].msg_hdr.msg_namelen = client_to_sockaddr(client, &batch.names[i])


cdef inline void *add_control(send_batch *batch, int level, int kind, size_t length) noexcept nogil:
    """Append a control message to the message begun last; its data is to be written where this points."""
    cdef uint32_t i = batch.count - 1
    cdef msghdr *header = &batch.messages[i].msg_hdr
    cdef cmsghdr *control = <cmsghdr *>(&batch.control[i][0] + header.msg_controllen)
    control.cmsg_level, control.cmsg_type, control.cmsg_len = level, kind, CMSG_LEN(length)
    header.msg_control = &batch.control[i][0]
    header.msg_controllen += CMSG_SPACE(length)
    return CMSG_DATA(control)


cdef void compose_source(send_batch *batch, const fp_endpoint *local) noexcept nogil:
    """Leave from this local address (the socket is bound to a wildcard)."""
    cdef in_pktinfo info
    cdef in6_pktinfo info6
    if local.family == 6:
        memset(&info6, 0, sizeof(info6))
        memcpy(&info6.ipi6_addr, local.address, 16)
        memcpy(add_control(batch, IPPROTO_IPV6, IPV6_PKTINFO, sizeof(info6)), &info6, sizeof(info6))
    else:
        memset(&info, 0, sizeof(info))
        memcpy(&info.ipi_spec_dst, local.address, 4)
        memcpy(add_control(batch, IPPROTO_IP, IP_PKTINFO, sizeof(info)), &info, sizeof(info))


cdef void compose_traffic_class(send_batch *batch, uint8_t family, uint8_t tos) noexcept nogil:
    """DSCP and ECN bits of this one datagram, where they differ from the socket's default."""
    cdef int32_t value = tos
    if family == 6:
        memcpy(add_control(batch, IPPROTO_IPV6, IPV6_TCLASS, sizeof(value)), &value, sizeof(value))
    else:
        memcpy(add_control(batch, IPPROTO_IP, IP_TOS, sizeof(value)), &value, sizeof(value))


cdef void compose_segments(send_batch *batch, uint16_t segment_bytes) noexcept nogil:
    """One send, many datagrams: the kernel cuts the payload every `segment_bytes` (UDP_SEGMENT)."""
    memcpy(add_control(batch, SOL_UDP, UDP_SEGMENT, sizeof(segment_bytes)), &segment_bytes,
           sizeof(segment_bytes))


cdef void batch_send(send_batch *batch, int fd) noexcept nogil:
    """Send every message of the batch and empty it; `outcome` holds 0 or the errno of each.

    A full send buffer is waited for, once a batch, for 2 ms. A message that the kernel refuses twice is
    passed over: the first refusal may be an earlier datagram's, an ICMP error pending on a connected socket.
    """
    cdef uint32_t done = 0, tried_again = 0
    cdef bint waited = False
    cdef int sent, error, _i
    while done < batch.count:
        sent = sendmmsg(fd, batch.messages + done, batch.count - done, MSG_DONTWAIT)
        if sent > 0:
            for _i in range(sent):
                batch.outcome[done] = 0
                done += 1
            continue
        error = errno
        if error == EINTR:
            continue
        if is_full(error) and not waited:
            waited = True
            wait_writable(fd)
        elif not is_full(error) and tried_again <= done:
            tried_again = done + 1
        else:
            batch.outcome[done] = <int16_t>error
            done += 1
    batch.count = 0


cdef int send_alone(int fd, const void *payload, size_t length, const fp_endpoint *address) noexcept nogil:
    """One datagram without control messages: cheaper than a batch of one. `address` NULL: to where the socket
    is connected. Gives 0 or the errno of the second refusal, as `batch_send` does."""
    cdef sockaddr_in6 name
    cdef socklen_t name_length = 0 if address == NULL else endpoint_to_sockaddr(address, &name)
    cdef const sockaddr *to = NULL
    cdef bint tried_again = False
    cdef int error
    if address != NULL:
        to = <const sockaddr *>&name
    while sendto(fd, payload, length, MSG_DONTWAIT, to, name_length) < 0:
        error = errno
        if error == EINTR:
            continue
        if tried_again:
            return error
        tried_again = True
        if is_full(error):
            wait_writable(fd)
    return 0


cdef bint connect_to(int fd, const fp_endpoint *address) noexcept nogil:
    """Bind a socket to one remote address, or to none again (NULL). Connected, a send looks up no route.

    It lets go first: a socket bound to a wildcard would keep the source address of its last connection.
    """
    cdef sockaddr_in6 name
    cdef bint free
    memset(&name, 0, sizeof(name))
    (<sockaddr *>&name).sa_family = AF_UNSPEC
    free = connect(fd, <const sockaddr *>&name, sizeof(sockaddr)) == 0
    if address == NULL:
        return free
    return connect(fd, <const sockaddr *>&name, endpoint_to_sockaddr(address, &name)) == 0


cdef inline bint is_full(int error) noexcept nogil:
    return error == EAGAIN or error == ENOBUFS


cdef inline void wait_writable(int fd) noexcept nogil:
    cdef pollfd descriptor
    descriptor.fd = fd
    descriptor.events = POLLOUT
    descriptor.revents = 0
    poll(&descriptor, 1, BLOCKED_WAIT_MS)


# ---- wait -----------------------------------------------------------------------------------------

cdef int wait_ready(int epoll, epoll_event *events, int capacity, int64_t timeout_ns) noexcept nogil:
    """Sockets with something to read, at most `capacity`; waits up to `timeout_ns`, 0 = look only.

    A wait that fails is a short sleep: whoever waits in a loop must not spin on it.
    """
    cdef timespec timeout
    cdef int ready
    timeout.tv_sec = timeout_ns // 1000000000
    timeout.tv_nsec = timeout_ns % 1000000000
    ready = epoll_pwait2(epoll, events, capacity, &timeout, NULL)
    if ready < 0 and errno != EINTR:
        timeout.tv_sec, timeout.tv_nsec = 0, FAILED_WAIT_NS
        nanosleep(&timeout, NULL)
    return ready if ready > 0 else 0
