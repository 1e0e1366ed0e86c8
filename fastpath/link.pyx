"""The transceiver's end of the trunk FT1: splits what relays send, bundles what goes to clients.

    link = Link(fd, relays=[(address16, port, family)], keys={0: key}, epoch=epoch)
    for payload, path, ecn in link.receive(): ...
    link.send([(path, payload, confirmed), ...])

A path is (relay, ingress, client), relay and client are (address16, port, family); `fd` is a bound,
non-blocking UDP socket with UDP_GRO set. One thread uses a link. Pings are answered on the way; what is not
believed, and what the kernel does not take, is counted in `dropped` by reason.
"""
from libc.stdint cimport int16_t, uint16_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, memset

from fastpath.address cimport endpoint_from_sockaddr
from fastpath.batch cimport (
    arrival, batch_arrival, batch_attach_trunk, batch_receive, batch_send, batch_settle, compose,
    compose_endpoint, compose_segments)
from fastpath.bundles cimport bundle, bundle_seal
from fastpath.layout cimport (
    FP_DATAGRAM_BYTES, FP_DROP_bad_record, FP_DROP_bad_trunk, FP_DROP_none, FP_DROP_send_blocked,
    FP_DROP_send_failed, FP_DROP_untrusted_trunk, FP_TRUNK_KEYS)
from fastpath.linux cimport EAGAIN, EINVAL, EIO, EMSGSIZE, ENOBUFS, monotonic_ns
from fastpath.links cimport CONTROL_SEND_PONG, link_admit, link_control
from fastpath.siphash cimport siphash128
from fastpath.trunk cimport (
    CONTROL_FLOW_CLOSED, CONTROL_PONG, CONTROL_STATE, TRUNK_BAD_RECORD, TRUNK_CONFIRMED, TRUNK_CONTROL,
    TRUNK_ECN, TRUNK_END, TRUNK_HEADER_BYTES, trunk_next_record, trunk_record)

from fastpath.counters import DROP_REASONS

cdef enum:
    NAME_BYTES = 32
    PATHS_REMEMBERED = 65_536       # tuples that the next record of a client finds ready
    STATE_BYTES = 16


cdef int check_address(bytes address16) except -1:
    if len(address16) != 16:
        raise ValueError("an address is 16 bytes: IPv4 in the first four, then zeros")
    return 0


cdef class Link:
    """relays: the relay sockets to believe, one a shard. keys: id -> 16 bytes; none: only for loopback.
    epoch must rise at each start; mtu_bytes bounds a trunk datagram."""

    def __init__(self, int fd, *, list relays not None, dict keys=None, uint8_t key_id=0, uint32_t epoch,
                 uint32_t mtu_bytes=1400):
        self.fd, self.epoch, self.mtu_bytes, self.key_id, self.key_mask = fd, epoch, mtu_bytes, key_id, 0
        if key_id >= FP_TRUNK_KEYS:
            raise ValueError(f"key_id is 0..{FP_TRUNK_KEYS - 1}")
        self.relays, self.dropped, self.paths = {}, {}, {}
        self.links = <fp_trunk_link *>calloc(RELAY_SOCKETS, sizeof(fp_trunk_link))
        self.addresses = <fp_endpoint *>calloc(RELAY_SOCKETS, sizeof(fp_endpoint))
        self.area = <fp_trunk_area *>calloc(1, sizeof(fp_trunk_area))
        if not self.links or not self.addresses or not self.area:
            raise MemoryError("no memory for a trunk link")
        batch_attach_trunk(&self.incoming, self.area)
        self.outgoing.count = 0
        for kid, key in (keys or {}).items():
            self.add_key(kid, key)
        if keys and key_id not in keys:
            raise ValueError(f"key_id {key_id} is none of keys: name the one to sign with")
        for relay in relays:
            self.add_relay(relay)

    def add_key(self, int kid, bytes key not None):
        """A link with keys refuses untagged datagrams; each direction has a key of its own derived from
        this one."""
        cdef uint64_t derived[2]
        if not 0 <= kid < FP_TRUNK_KEYS or len(key) != 16:
            raise ValueError(f"a trunk key is 16 bytes under an id of 0..{FP_TRUNK_KEYS - 1}")
        siphash128(<const uint8_t *><const char *>key, b"up", 2, derived)
        memcpy(self.up_keys[kid], derived, 16)
        siphash128(<const uint8_t *><const char *>key, b"down", 4, derived)
        memcpy(self.down_keys[kid], derived, 16)
        self.key_mask |= <uint32_t>1 << kid

    def add_relay(self, tuple relay not None):
        """Believe one more relay socket: (address16, port, family)."""
        cdef uint32_t index = <uint32_t>len(self.relays)
        cdef bytes address16
        address16, port, family = relay
        check_address(address16)
        if relay in self.relays:
            return
        if index == RELAY_SOCKETS:
            raise ValueError(f"a transceiver serves at most {RELAY_SOCKETS} relay sockets")
        memcpy(self.addresses[index].address, <const char *>address16, 16)
        self.addresses[index].port, self.addresses[index].family = port, family
        self.relays[relay] = index

    # ---- receive ----------------------------------------------------------------------------------

    def receive(self):
        """What has arrived: a list of (payload, path, ecn), in order. Never waits."""
        cdef list out = []
        cdef uint32_t slot
        if batch_receive(&self.incoming, self.fd, 0):
            for slot in range(self.incoming.count):
                self.open_message(slot, out)
            batch_settle(&self.incoming)
        return out

    cdef int open_message(self, uint32_t slot, list out) except -1:
        cdef const uint8_t *data = self.incoming.data + <size_t>slot * self.incoming.stride
        cdef uint32_t length = self.incoming.messages[slot].msg_len, start = 0, size
        cdef uint32_t now_ms = <uint32_t>(monotonic_ns() // 1000000)
        cdef arrival came
        cdef fp_endpoint source
        cdef object relay
        batch_arrival(&self.incoming, slot, &came)
        endpoint_from_sockaddr(self.incoming.names + NAME_BYTES * slot,
                               self.incoming.messages[slot].msg_hdr.msg_namelen, &source)
        relay = self.relays.get((source.address[:16], source.port, source.family))
        if relay is None:
            return self.refuse(FP_DROP_untrusted_trunk)
        if came.truncated or length == 0:
            return self.refuse(FP_DROP_bad_trunk)
        size = came.segment_bytes if came.segment_bytes else length
        while start < length:
            self.open_datagram(relay, data + start, min(size, length - start), now_ms, out)
            start += size
        return 0

    cdef int open_datagram(self, uint32_t relay, const uint8_t *data, size_t length, uint32_t now_ms,
                           list out) except -1:
        cdef size_t end = length, offset = TRUNK_HEADER_BYTES
        cdef uint8_t refused = link_admit(&self.links[relay], self.key_mask != 0, &self.up_keys[0][0],
                                          self.key_mask, data, length, False, now_ms, &end)
        cdef trunk_record record
        cdef int code
        if refused != FP_DROP_none:
            return self.refuse(refused)
        while True:
            code = trunk_next_record(data, end, &offset, &record)
            if code == TRUNK_END:
                return 0
            if code == TRUNK_BAD_RECORD:
                self.refuse(FP_DROP_bad_record)
            elif record.flags & TRUNK_CONTROL:
                self.obey(relay, &record)
            else:
                out.append((record.payload[:record.length], self.path_of(relay, &record.client),
                            record.flags & TRUNK_ECN))

    cdef tuple path_of(self, uint32_t relay, const fp_client *client):
        """One tuple a path, however many records come on it: whoever looks it up hashes and compares less."""
        cdef fp_endpoint *address = &self.addresses[relay]
        cdef bytes name = (<const char *>client)[:sizeof(fp_client)] + (<const char *>&relay)[:sizeof(relay)]
        cdef object path = self.paths.get(name)
        if path is None:
            if len(self.paths) >= PATHS_REMEMBERED:
                self.paths.clear()
            path = self.paths[name] = (
                (address.address[:16], address.port, address.family),
                client.ingress,
                (client.address[:16], client.port, client.family),
            )
        return path

    cdef int obey(self, uint32_t relay, const trunk_record *record) except -1:
        cdef uint8_t payload[12]
        cdef trunk_record pong
        cdef int wish = link_control(&self.links[relay], record.payload, record.length, monotonic_ns())
        if wish == CONTROL_SEND_PONG:
            memcpy(payload, record.payload, 12)
            payload[0] = CONTROL_PONG
            memset(&pong, 0, sizeof(pong))
            pong.payload, pong.length, pong.client.family = payload, 12, 4
            self.send_control(relay, &pong)
        return 0

    cdef int refuse(self, int reason) except -1:
        name = DROP_REASONS[reason][0]
        self.dropped[name] = self.dropped.get(name, 0) + 1
        return 0

    # ---- send -------------------------------------------------------------------------------------

    def send(self, list records not None, uint8_t ecn=0):
        """Send (path, payload, confirmed) tuples, bundled by relay, each relay's in order.

        ValueError, and nothing is sent: a relay that was never added, or a payload that is not 1..2048 bytes
        long. A datagram the kernel refuses is gone, as UDP goes.
        """
        cdef dict by_relay = {}
        cdef list share = []
        cdef tuple path, client
        cdef bytes payload
        cdef object relay = self        # nobody's
        cdef uint32_t count
        cdef trunk_record *item
        for record in records:
            path, payload = record[0], record[1]
            if path[0] is not relay:
                relay = path[0]
                share = by_relay.setdefault(self.index_of(relay), [])
            check_address((<tuple>path[2])[0])
            if not 1 <= len(payload) <= FP_DATAGRAM_BYTES:
                raise ValueError(f"a record carries 1..{FP_DATAGRAM_BYTES} bytes, not {len(payload)}")
            share.append(record)
        for index, share in by_relay.items():
            count = 0
            for path, payload, confirmed in share:
                item = &self.items[count]
                client = path[2]
                memcpy(item.client.address, <const char *>(<bytes>client[0]), 16)
                item.client.port, item.client.family, item.client.ingress = client[1], client[2], path[1]
                item.flags = ecn & TRUNK_ECN
                if confirmed:
                    item.flags |= TRUNK_CONFIRMED
                item.payload = <const uint8_t *><const char *>payload
                item.length = <uint16_t>len(payload)
                count += 1
                if count == FP_BATCH:
                    self.send_items(index, count)
                    count = 0
            if count:
                self.send_items(index, count)

    cdef uint32_t index_of(self, tuple relay) except? 0xffffffff:
        if relay not in self.relays:
            raise ValueError(f"{relay} is no relay of this link: add_relay() first")
        return self.relays[relay]

    cdef int send_items(self, uint32_t relay, uint32_t count) except -1:
        cdef bundle_seal seal
        cdef int16_t[FP_BATCH] outcome
        cdef uint32_t k, made
        seal.epoch, seal.sequence, seal.key_id = self.epoch, &self.links[relay].tx_sequence, self.key_id
        seal.key = self.down_keys[self.key_id] if self.key_mask else NULL
        made = bundle(self.items, count, self.mtu_bytes, self.links[relay].gso_refused, &seal, self.buffer,
                      self.runs)
        for k in range(made):
            compose(&self.outgoing, self.runs[k].data, self.runs[k].length)
            compose_endpoint(&self.outgoing, &self.addresses[relay])
            if self.runs[k].datagrams > 1:
                compose_segments(&self.outgoing, self.runs[k].segment_bytes)
        batch_send(&self.outgoing, self.fd)
        memcpy(outcome, self.outgoing.outcome, sizeof(outcome))
        for k in range(made):
            if self.runs[k].datagrams > 1 and outcome[k] in (EINVAL, EMSGSIZE, EIO):
                self.send_singly(relay, &self.runs[k])
            elif outcome[k]:
                self.lose(outcome[k], self.runs[k].datagrams)
        return 0

    cdef int lose(self, int error, uint32_t datagrams) except -1:
        """Trunk datagrams that the kernel did not take are gone, but not without a name."""
        cdef uint32_t _
        for _ in range(datagrams):
            self.refuse(FP_DROP_send_blocked if error in (EAGAIN, ENOBUFS) else FP_DROP_send_failed)
        return 0

    cdef int send_singly(self, uint32_t relay, const bundle_run *run) except -1:
        """The same datagrams without UDP_SEGMENT; remembered for this relay, if one of them leaves."""
        cdef uint32_t sent = 0, made = 0, k
        while sent < run.length:
            compose(&self.outgoing, run.data + sent, min(<uint32_t>run.segment_bytes, run.length - sent))
            compose_endpoint(&self.outgoing, &self.addresses[relay])
            sent += run.segment_bytes
            made += 1
        batch_send(&self.outgoing, self.fd)
        for k in range(made):
            if self.outgoing.outcome[k]:
                self.lose(self.outgoing.outcome[k], 1)
            else:
                self.links[relay].gso_refused = 1
        return 0

    cdef int send_control(self, uint32_t relay, const trunk_record *record) except -1:
        self.items[0] = record[0]
        self.items[0].flags = TRUNK_CONTROL
        return self.send_items(relay, 1)

    def send_state(self, tuple relay not None, *, uint8_t state, uint8_t incarnation, uint16_t cluster,
                   uint16_t xcvr, uint32_t sessions, uint32_t capacity):
        """Tell one relay socket how this transceiver is: state 1 up, 2 draining, 3 stopping."""
        cdef uint8_t payload[STATE_BYTES]
        cdef trunk_record record
        packed = (bytes([CONTROL_STATE, state, incarnation, 0])
                  + cluster.to_bytes(2, "big") + xcvr.to_bytes(2, "big")
                  + sessions.to_bytes(4, "big") + capacity.to_bytes(4, "big"))
        memcpy(payload, <const char *>(<bytes>packed), STATE_BYTES)
        memset(&record, 0, sizeof(record))
        record.payload = payload
        record.length = STATE_BYTES
        record.client.family = 4
        self.send_control(self.index_of(relay), &record)

    def send_flow_closed(self, tuple relay not None, uint8_t ingress, tuple client not None):
        """Tell the relay to forget this client's flow now."""
        cdef uint8_t payload[1]
        cdef trunk_record record
        payload[0] = CONTROL_FLOW_CLOSED
        check_address(client[0])
        memset(&record, 0, sizeof(record))
        memcpy(record.client.address, <const char *>(<bytes>client[0]), 16)
        record.client.port, record.client.family, record.client.ingress = client[1], client[2], ingress
        record.payload, record.length = payload, 1
        self.send_control(self.index_of(relay), &record)

    def __dealloc__(self):
        free(self.links)
        free(self.addresses)
        free(self.area)
