# F0: layout.h for Cython: every struct, enum and constant under the same name; the header says what they
# mean. A constant has the type of the field it is stored in; one that sizes an array is an enum, as Cython
# wants it. (struct mmsghdr inside the batch memory is the kernel's, from linux.pxd.)
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.linux cimport iovec, mmsghdr

cdef extern from "layout.h" nogil:
    const char *FP_MAGIC
    const uint32_t FP_NONE
    const uint16_t FP_NO_PORT
    const uint32_t FP_ROUTE_EMPTY
    const uint32_t FP_ROUTE_TOMBSTONE
    const uint32_t FP_BACKENDS

    enum:
        FP_LAYOUT_VERSION
        FP_BATCH
        FP_DATAGRAM_BYTES
        FP_TRUNK_BATCH
        FP_TRUNK_BYTES
        FP_CONTROL_BYTES
        FP_INGRESS
        FP_SHARDS
        FP_LISTENERS
        FP_DEFAULT_TOS
        FP_POOL
        FP_KEYS
        FP_TRUNK_KEYS
        FP_REPLAY_BITS
        FP_SESSION_CAP
        FP_RESIDENCE_BUCKETS
        FP_BATCH_BUCKETS

    const uint8_t FP_DROP_none
    const uint8_t FP_DROP_not_webrtc
    const uint8_t FP_DROP_oversize
    const uint8_t FP_DROP_bad_stun
    const uint8_t FP_DROP_no_route
    const uint8_t FP_DROP_bad_token
    const uint8_t FP_DROP_token_expired
    const uint8_t FP_DROP_unknown_backend
    const uint8_t FP_DROP_backend_unavailable
    const uint8_t FP_DROP_draining
    const uint8_t FP_DROP_client_not_allowed
    const uint8_t FP_DROP_unknown_ingress
    const uint8_t FP_DROP_unknown_flow
    const uint8_t FP_DROP_provisional
    const uint8_t FP_DROP_amplification
    const uint8_t FP_DROP_flow_table_full
    const uint8_t FP_DROP_no_upstream_port
    const uint8_t FP_DROP_wrong_backend
    const uint8_t FP_DROP_untrusted_trunk
    const uint8_t FP_DROP_bad_trunk
    const uint8_t FP_DROP_bad_tag
    const uint8_t FP_DROP_old_epoch
    const uint8_t FP_DROP_replayed
    const uint8_t FP_DROP_bad_record
    const uint8_t FP_DROP_send_blocked
    const uint8_t FP_DROP_send_failed
    const uint8_t FP_DROP_admission
    const uint8_t FP_DROP_shed_unknown
    const uint8_t FP_DROP_shed_new
    const uint8_t FP_DROP_shed_bulk
    const uint8_t FP_DROP_shed_video
    const uint8_t FP_DROP_shed_rtcp
    const uint8_t FP_DROP_shed_voice

    enum:
        FP_DROP_COUNT

    const uint8_t FP_DECISION_none
    const uint8_t FP_DECISION_session_route
    const uint8_t FP_DECISION_token
    const uint8_t FP_DECISION_hash
    const uint8_t FP_DECISION_bad_token
    const uint8_t FP_DECISION_expired
    const uint8_t FP_DECISION_unknown_backend
    const uint8_t FP_DECISION_no_route

    enum:
        FP_DECISION_COUNT

    enum:
        FP_UP
        FP_DOWN

    const uint8_t FP_FORWARD
    const uint8_t FP_DROP
    const uint8_t FP_TAKEN

    enum:
        FP_TRUNK
        FP_PLAIN

    enum:
        FP_CLASS_voice
        FP_CLASS_voice_data
        FP_CLASS_video
        FP_CLASS_bulk
        FP_CLASS_COUNT

    enum:
        FP_BACKEND_free
        FP_BACKEND_up
        FP_BACKEND_draining
        FP_BACKEND_down
        FP_BACKEND_gone

    enum:
        FP_FLOW_empty
        FP_FLOW_tombstone
        FP_FLOW_confirmed
        FP_FLOW_taught

    enum:
        FP_PROVISIONAL_free
        FP_PROVISIONAL_waiting
        FP_PROVISIONAL_confirmed

    enum:
        FP_TRANSACTION_WAYS

    enum:
        FP_PORT_empty
        FP_PORT_tombstone
        FP_PORT_flow
        FP_PORT_provisional
        FP_PORT_quarantine

    ctypedef struct fp_client:
        uint8_t address[16]
        uint16_t port
        uint8_t ingress
        uint8_t family

    ctypedef struct fp_endpoint:
        uint8_t address[16]
        uint16_t port
        uint8_t zero
        uint8_t family

    ctypedef struct fp_datagram:
        fp_client client
        uint32_t length
        const uint8_t *data
        uint64_t hash
        uint8_t ecn

    ctypedef struct fp_verdict:
        uint8_t action
        uint8_t reason
        uint8_t decision
        uint8_t traffic_class
        uint8_t overrode
        uint8_t confirmed
        uint16_t upstream_port
        uint32_t backend
        fp_client client

    ctypedef struct fp_ingress:
        fp_endpoint address
        uint8_t used
        uint8_t listener
        uint8_t wildcard
        uint8_t zero

    ctypedef struct fp_backend:
        uint32_t state
        uint32_t parent
        fp_endpoint address
        uint16_t cluster
        uint16_t xcvr
        uint8_t incarnation
        uint8_t mode
        uint8_t keyed
        uint8_t has_xcvr
        uint32_t touched_s
        uint64_t name_hash
        uint32_t born
        uint8_t zero[12]

    ctypedef struct fp_route:
        uint64_t hash[2]
        uint32_t backend
        uint32_t expires_s
        uint32_t session
        uint32_t used_s

    ctypedef struct fp_shared_header:
        char magic[8]
        uint32_t layout_version
        uint32_t shards
        uint8_t seed[16]
        uint32_t backends_capacity
        uint32_t routes_capacity
        uint32_t routes_max
        uint32_t routes_count
        uint64_t backends_offset
        uint64_t routes_offset
        uint64_t total_bytes
        uint32_t flow_version
        uint32_t trunk_epoch
        fp_ingress ingress[FP_INGRESS]

    ctypedef struct fp_flow:
        uint32_t sequence
        uint32_t version
        fp_client client
        uint32_t backend
        uint64_t ufrag_hash
        uint32_t route
        uint16_t upstream_port
        uint8_t state
        uint8_t traffic_class
        uint32_t last_seen_ms
        uint32_t ufrag_seen_ms
        uint32_t datagrams_up
        uint32_t datagrams_down

    ctypedef struct fp_provisional:
        fp_client client
        uint32_t backend
        uint64_t ufrag_hash
        uint32_t route
        uint16_t upstream_port
        uint8_t state
        uint8_t traffic_class
        uint32_t last_seen_ms
        uint32_t born
        uint32_t bytes_up
        uint32_t bytes_down
        uint32_t next_by_client
        uint32_t next_by_ufrag

    ctypedef struct fp_transaction:
        uint64_t id
        uint32_t flow
        uint32_t seen_ms

    ctypedef struct fp_port:
        uint32_t holder
        uint32_t backend
        uint32_t since_ms
        uint16_t port
        uint8_t state
        uint8_t zero

    ctypedef struct fp_trunk_link:
        uint32_t tx_sequence
        uint32_t rx_epoch
        uint32_t rx_highest
        uint32_t rx_seen
        uint64_t rx_window[16]
        uint32_t heard_ms
        uint32_t state_ms
        uint32_t sessions
        uint32_t capacity
        uint16_t cluster
        uint16_t xcvr
        uint8_t incarnation
        uint8_t state
        uint8_t gso_refused
        uint8_t zero
        uint32_t rtt_us
        uint32_t pings
        uint32_t pongs
        uint32_t born

    ctypedef struct fp_counters:
        uint64_t received[2]
        uint64_t received_bytes[2]
        uint64_t forwarded[2]
        uint64_t forwarded_bytes[2]
        uint64_t punted[2]
        uint64_t dropped[2][FP_DROP_COUNT]
        uint64_t decisions[FP_DECISION_COUNT]
        uint64_t overrides
        uint64_t confirmed, expired, replaced, closed, taught, copied
        uint64_t provisional_created, provisional_evicted, provisional_expired
        uint64_t transactions_evicted
        uint64_t duplicated
        uint64_t recovered
        uint64_t trunk_datagrams[2]
        uint64_t trunk_bytes[2]
        uint64_t trunk_oversize
        uint64_t trunk_singly
        uint64_t batches[2][FP_BATCH_BUCKETS]
        uint64_t residence[2][FP_RESIDENCE_BUCKETS]
        uint64_t residence_sum_ns[2]
        uint64_t loops, naps, blocks
        uint64_t receive_errors

    ctypedef struct fp_receive_note:
        uint32_t done
        uint16_t source

    ctypedef struct fp_datagram_area:
        mmsghdr messages[FP_BATCH]
        iovec vectors[FP_BATCH]
        uint8_t names[FP_BATCH][32]
        uint8_t control[FP_BATCH][FP_CONTROL_BYTES]
        fp_receive_note notes[FP_BATCH]
        uint8_t data[FP_BATCH][FP_DATAGRAM_BYTES]

    ctypedef struct fp_trunk_area:
        mmsghdr messages[FP_TRUNK_BATCH]
        iovec vectors[FP_TRUNK_BATCH]
        uint8_t names[FP_TRUNK_BATCH][32]
        uint8_t control[FP_TRUNK_BATCH][FP_CONTROL_BYTES]
        fp_receive_note notes[FP_TRUNK_BATCH]
        uint8_t data[FP_TRUNK_BATCH][FP_TRUNK_BYTES]

    ctypedef struct fp_batch_memory:
        fp_datagram_area client, plain
        fp_trunk_area trunk

    ctypedef struct fp_shard_header:
        char magic[8]
        uint32_t layout_version
        uint32_t index
        uint32_t flows_capacity
        uint32_t flows_max
        uint32_t provisional_capacity
        uint32_t transactions_capacity
        uint32_t ports_capacity
        uint32_t backends_capacity
        uint16_t port_first[2]
        uint16_t port_count[2]
        uint32_t zero
        uint64_t counters_offset, flows_offset, provisional_offset, provisional_index_offset
        uint64_t transactions_offset, ports_offset, port_use_offset, links_offset, batch_offset, total_bytes
        uint32_t flows_count
        uint32_t provisional_count
        uint32_t provisional_born
        uint32_t ports_count
        uint32_t flows_cursor, provisional_cursor, ports_cursor, port_next
        uint32_t counters_sequence
        uint32_t attached
        uint32_t sending
