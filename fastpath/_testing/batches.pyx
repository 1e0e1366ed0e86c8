"""Bundles, trunk links and batches as Python functions, for tests.

Clients are (address16, port, family, ingress), records (flags, client, payload). The receive batches of a
shard lie in its memory: `owe` puts into them what an engine that died had received but not sent.
"""
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath._testing.addresses cimport client_of, endpoint_of
from fastpath.address cimport client_from_sockaddr, endpoint_to_sockaddr
from fastpath.batch cimport (
    arrival, batch_arrival, batch_attach_datagrams, batch_attach_trunk, batch_owed, batch_receive, batch_send,
    batch_settle, compose, compose_client, compose_endpoint, compose_segments, compose_source,
    compose_traffic_class, receive_batch, send_batch)
from fastpath.bundles cimport BUNDLE_BUFFER_BYTES, BUNDLE_ITEMS, bundle as c_bundle, bundle_run, bundle_seal
from fastpath.layout cimport (
    FP_CONTROL_BYTES, fp_client, fp_datagram_area, fp_endpoint, fp_trunk_area, fp_trunk_link)
from fastpath.links cimport CONTROL_FORGET_FLOW, CONTROL_SEND_PONG, link_admit, link_build_ping, link_control
from fastpath.linux cimport CMSG_DATA, CMSG_LEN, CMSG_SPACE, SOL_UDP, UDP_GRO, cmsghdr
from fastpath.shard cimport Shard
from fastpath.trunk cimport trunk_record

from fastpath.counters import DROP_REASONS

cdef enum:
    NAME_BYTES = 32


# ---- bundles --------------------------------------------------------------------------------------

def bundle(list records not None, uint32_t mtu_bytes, *, bint singly=False, key=None, uint8_t key_id=0,
           uint32_t epoch=1, uint32_t sequence=0):
    """(runs, next sequence): a run is a dict of `data` and everything bundle_run says of it.

    The buffer is exactly as large as the data plane's, and the bytes behind what was written must be as
    they were."""
    cdef trunk_record items[BUNDLE_ITEMS]
    cdef bundle_run runs[BUNDLE_ITEMS]
    cdef bundle_seal seal
    cdef bytes sealing = key or b""
    cdef uint8_t *buffer = <uint8_t *>calloc(BUNDLE_BUFFER_BYTES, 1)
    cdef uint32_t i, made
    cdef size_t used = 0
    if len(records) > BUNDLE_ITEMS or buffer == NULL or (key is not None and len(sealing) != 16):
        free(buffer)
        raise ValueError("at most 64 records, and a key of 16 bytes")
    for i, (flags, client, payload) in enumerate(records):
        items[i].flags, items[i].client = flags, client_of(client)
        items[i].payload = <const uint8_t *><const char *>(<bytes>payload)
        items[i].length = <uint16_t>len(<bytes>payload)
    seal.epoch, seal.sequence, seal.key_id = epoch, &sequence, key_id
    seal.key = NULL
    if key is not None:
        seal.key = <const uint8_t *><const char *>sealing
    memset(buffer, 0xa5, BUNDLE_BUFFER_BYTES)
    made = c_bundle(items, <uint32_t>len(records), mtu_bytes, singly, &seal, buffer, runs)
    found = []
    for i in range(made):
        used += runs[i].length
        found.append(dict(
            data=runs[i].data[:<Py_ssize_t>runs[i].length], segment_bytes=runs[i].segment_bytes,
            datagrams=runs[i].datagrams, first_item=runs[i].first_item, items=runs[i].items,
            oversize=bool(runs[i].oversize)))
    untouched = set(buffer[<Py_ssize_t>used:BUNDLE_BUFFER_BYTES]) <= {0xa5}
    free(buffer)
    if not untouched:
        raise AssertionError("bundle wrote behind its runs")
    return found, sequence


# ---- a trunk link ---------------------------------------------------------------------------------

cdef class TrunkLink:
    """One shard's side of the trunk to one backend."""
    cdef fp_trunk_link link

    def __init__(self):
        memset(&self.link, 0, sizeof(fp_trunk_link))

    def admit(self, bytes datagram not None, *, dict keys=None, bint again=False, uint32_t now_ms=1):
        """(drop reason or "none", where the records end)."""
        cdef uint8_t table[4][16]
        cdef uint32_t mask = 0
        cdef size_t end = 0
        cdef uint8_t reason
        for kid, key in (keys or {}).items():
            memcpy(table[<int>kid], <const char *>(<bytes>key), 16)
            mask |= <uint32_t>1 << <int>kid
        reason = link_admit(
            &self.link, keys is not None, &table[0][0], mask, <const uint8_t *><const char *>datagram,
            <size_t>len(datagram), again, now_ms, &end)
        return DROP_REASONS[reason][0], end

    def control(self, bytes payload not None, uint64_t now_ns=0):
        """What is left to do: "pong", "forget" or "nothing"."""
        cdef int wish = link_control(
            &self.link, <const uint8_t *><const char *>payload, <size_t>len(payload), now_ns)
        return {CONTROL_SEND_PONG: "pong", CONTROL_FORGET_FLOW: "forget"}.get(wish, "nothing")

    def ping(self, uint64_t now_ns):
        cdef uint8_t payload[12]
        cdef size_t length = link_build_ping(&self.link, payload, now_ns)
        return payload[:<Py_ssize_t>length]

    def row(self):
        """fp_trunk_link, as bytes."""
        return (<const char *>&self.link)[:sizeof(fp_trunk_link)]


# ---- receive --------------------------------------------------------------------------------------

cdef class ReceiveBatch:
    """A receive batch with memory of its own; `trunk` chooses the area of 16 buffers of 64 KiB."""
    cdef fp_datagram_area *datagrams
    cdef fp_trunk_area *joined
    cdef receive_batch batch

    def __cinit__(self, bint trunk=False):
        self.datagrams = <fp_datagram_area *>calloc(1, sizeof(fp_datagram_area))
        self.joined = <fp_trunk_area *>calloc(1, sizeof(fp_trunk_area))
        if self.datagrams == NULL or self.joined == NULL:
            raise MemoryError
        if trunk:
            batch_attach_trunk(&self.batch, self.joined)
        else:
            batch_attach_datagrams(&self.batch, self.datagrams)

    def __dealloc__(self):
        free(self.datagrams)
        free(self.joined)

    def receive(self, int fd, uint16_t source=0):
        """How many messages came."""
        return batch_receive(&self.batch, fd, source)

    def messages(self):
        """Every message in hand, in order, as a dict."""
        return [message_dict(&self.batch, i) for i in range(self.batch.count)]

    def note_done(self, uint32_t index, uint32_t done):
        self.batch.notes[index].done = done

    def settle(self):
        batch_settle(&self.batch)

    def attach_again(self):
        """As the engine after this one: (how many are owed, how many slots are in hand)."""
        cdef uint32_t owed
        if self.batch.capacity == 16:
            batch_attach_trunk(&self.batch, self.joined)
        else:
            batch_attach_datagrams(&self.batch, self.datagrams)
        owed = batch_owed(&self.batch)
        return owed, self.batch.count

    def room(self):
        """(length, name room, control room, done) of every slot: what a receive begins with."""
        return [(self.batch.messages[i].msg_len, self.batch.messages[i].msg_hdr.msg_namelen,
                 self.batch.messages[i].msg_hdr.msg_controllen, self.batch.notes[i].done)
                for i in range(self.batch.capacity)]


cdef dict message_dict(receive_batch *batch, uint32_t index):
    cdef fp_client client
    cdef arrival came
    cdef uint32_t length = batch.messages[index].msg_len
    cdef uint8_t *data = batch.data + <size_t>index * batch.stride
    batch_arrival(batch, index, &came)
    known = client_from_sockaddr(
        batch.names + NAME_BYTES * index, batch.messages[index].msg_hdr.msg_namelen, 0, &client)
    cdef const uint8_t *address = client.address
    cdef const uint8_t *local = came.local.address
    return dict(
        data=data[:<Py_ssize_t>length], source=batch.notes[index].source, ecn=came.ecn,
        truncated=bool(came.truncated), segment_bytes=came.segment_bytes, stamp_ns=came.stamp_ns,
        local=(local[:16], came.local.family) if came.has_local else None,
        sender=(address[:16], client.port, client.family) if known else None)


def owe(Shard shard not None, str area, uint32_t slot, bytes data not None, tuple sender not None, *,
        uint16_t source=0, uint32_t done=0, uint16_t segment_bytes=0):
    """Leave a message in a shard's batch memory as received from `sender` (address16, port, family) but not
    sent: what the next engine finds when this one dies now. segment_bytes: the kernel had joined datagrams
    of this size (UDP_GRO)."""
    cdef receive_batch batch
    cdef fp_endpoint address = endpoint_of(sender)
    cdef cmsghdr *control
    cdef int size = segment_bytes
    memset(&batch, 0, sizeof(batch))
    if area == "trunk":
        batch_attach_trunk(&batch, &shard.state.batch.trunk)
    elif area == "plain":
        batch_attach_datagrams(&batch, &shard.state.batch.plain)
    else:
        batch_attach_datagrams(&batch, &shard.state.batch.client)
    if slot >= batch.capacity or len(data) > batch.stride:
        raise ValueError("no such slot, or too long for it")
    memcpy(batch.data + <size_t>slot * batch.stride, <const char *>data, <size_t>len(data))
    batch.messages[slot].msg_len = <uint32_t>len(data)
    batch.messages[slot].msg_hdr.msg_flags = 0
    batch.messages[slot].msg_hdr.msg_namelen = endpoint_to_sockaddr(&address, batch.names + NAME_BYTES * slot)
    batch.messages[slot].msg_hdr.msg_controllen = 0
    if segment_bytes:
        control = <cmsghdr *>(batch.control + <size_t>slot * FP_CONTROL_BYTES)
        control.cmsg_level, control.cmsg_type = SOL_UDP, UDP_GRO
        control.cmsg_len = CMSG_LEN(sizeof(size))
        memcpy(CMSG_DATA(control), &size, sizeof(size))
        batch.messages[slot].msg_hdr.msg_controllen = CMSG_SPACE(sizeof(size))
    batch.notes[slot].source, batch.notes[slot].done = source, done


# ---- send -----------------------------------------------------------------------------------------

cdef class SendBatch:
    """Up to 64 messages, sent with one call."""
    cdef send_batch batch
    cdef list payloads

    def __init__(self):
        self.batch.count = 0
        self.payloads = []

    def compose(self, bytes payload not None, tuple to not None, *, tos=None, local=None,
                uint16_t segment_bytes=0):
        """To (address16, port, family), or a client with its ingress behind that."""
        cdef fp_endpoint endpoint
        cdef fp_client client
        self.payloads.append(payload)
        compose(&self.batch, <const char *>payload, <size_t>len(payload))
        if len(to) == 4:
            client = client_of(to)
            compose_client(&self.batch, &client)
        else:
            endpoint = endpoint_of(to)
            compose_endpoint(&self.batch, &endpoint)
        if local is not None:
            endpoint = endpoint_of(local)
            compose_source(&self.batch, &endpoint)
        if tos is not None:
            compose_traffic_class(&self.batch, to[2], tos)
        if segment_bytes:
            compose_segments(&self.batch, segment_bytes)

    def send(self, int fd):
        """The errno of each message, 0 where it left."""
        cdef uint32_t count = self.batch.count
        batch_send(&self.batch, fd)
        self.payloads.clear()
        return [self.batch.outcome[i] for i in range(count)]
