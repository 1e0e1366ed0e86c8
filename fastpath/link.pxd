# F7: the transceiver's end of the trunk. Called from Python: records come out as tuples and go in as tuples.
from libc.stdint cimport uint8_t, uint32_t

from fastpath.batch cimport receive_batch, send_batch
from fastpath.bundles cimport BUNDLE_BUFFER_BYTES, bundle_run
from fastpath.layout cimport (
    FP_BATCH, FP_TRUNK_KEYS, fp_client, fp_endpoint, fp_trunk_area, fp_trunk_link)
from fastpath.trunk cimport trunk_record

cdef enum:
    RELAY_SOCKETS = 1024            # relays times shards that one transceiver can serve

cdef class Link:
    cdef int fd
    cdef uint32_t epoch, mtu_bytes, key_mask
    cdef uint8_t key_id
    cdef uint8_t up_keys[FP_TRUNK_KEYS][16]
    cdef uint8_t down_keys[FP_TRUNK_KEYS][16]
    cdef fp_trunk_link *links       # [relay socket]
    cdef fp_endpoint *addresses
    cdef dict relays                # (address16, port, family) -> index into both
    cdef dict paths                 # client and relay as bytes -> the path's tuple
    cdef readonly dict dropped      # reason -> trunk datagrams or records refused
    cdef fp_trunk_area *area
    cdef receive_batch incoming
    cdef send_batch outgoing
    cdef trunk_record items[FP_BATCH]
    cdef bundle_run runs[FP_BATCH]
    cdef uint8_t buffer[BUNDLE_BUFFER_BYTES]

    cdef int open_message(self, uint32_t slot, list out) except -1
    cdef int open_datagram(self, uint32_t relay, const uint8_t *data, size_t length, uint32_t now_ms,
                           list out) except -1
    cdef tuple path_of(self, uint32_t relay, const fp_client *client)
    cdef int obey(self, uint32_t relay, const trunk_record *record) except -1
    cdef int refuse(self, int reason) except -1
    cdef int send_items(self, uint32_t relay, uint32_t count) except -1
    cdef int lose(self, int error, uint32_t datagrams) except -1
    cdef int send_singly(self, uint32_t relay, const bundle_run *run) except -1
    cdef int send_control(self, uint32_t relay, const trunk_record *record) except -1
    cdef uint32_t index_of(self, tuple relay) except? 0xffffffff
