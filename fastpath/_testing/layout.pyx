"""What the compiler says about layout.h: sizes, offsets and constants, for the test of the numpy twins."""

cdef extern from *:
    """
    #include "layout.h"
    typedef struct { const char *name; const char *field; size_t offset; size_t size; } fp_field_row;
    typedef struct { const char *name; size_t value; } fp_constant_row;
    #define F(s, f) { #s, #f, offsetof(s, f), sizeof(((s *)0)->f) }
    static const fp_field_row fp_fields[] = {
        F(fp_client, address), F(fp_client, port), F(fp_client, ingress), F(fp_client, family),
        F(fp_endpoint, address), F(fp_endpoint, port), F(fp_endpoint, zero), F(fp_endpoint, family),
        F(fp_ingress, address), F(fp_ingress, used), F(fp_ingress, listener), F(fp_ingress, wildcard),
        F(fp_ingress, zero),
        F(fp_backend, state), F(fp_backend, parent), F(fp_backend, address), F(fp_backend, cluster),
        F(fp_backend, xcvr), F(fp_backend, incarnation), F(fp_backend, mode), F(fp_backend, keyed),
        F(fp_backend, has_xcvr), F(fp_backend, touched_s), F(fp_backend, name_hash), F(fp_backend, born),
        F(fp_backend, zero),
        F(fp_route, hash), F(fp_route, backend), F(fp_route, expires_s), F(fp_route, session),
        F(fp_route, used_s),
        F(fp_shared_header, magic), F(fp_shared_header, layout_version), F(fp_shared_header, shards),
        F(fp_shared_header, seed), F(fp_shared_header, backends_capacity),
        F(fp_shared_header, routes_capacity), F(fp_shared_header, routes_max),
        F(fp_shared_header, routes_count), F(fp_shared_header, backends_offset),
        F(fp_shared_header, routes_offset), F(fp_shared_header, total_bytes),
        F(fp_shared_header, flow_version), F(fp_shared_header, trunk_epoch), F(fp_shared_header, ingress),
        F(fp_flow, sequence), F(fp_flow, version), F(fp_flow, client), F(fp_flow, backend),
        F(fp_flow, ufrag_hash), F(fp_flow, route), F(fp_flow, upstream_port), F(fp_flow, state),
        F(fp_flow, traffic_class), F(fp_flow, last_seen_ms), F(fp_flow, ufrag_seen_ms),
        F(fp_flow, datagrams_up), F(fp_flow, datagrams_down),
        F(fp_provisional, client), F(fp_provisional, backend), F(fp_provisional, ufrag_hash),
        F(fp_provisional, route), F(fp_provisional, upstream_port), F(fp_provisional, state),
        F(fp_provisional, traffic_class), F(fp_provisional, last_seen_ms), F(fp_provisional, born),
        F(fp_provisional, bytes_up), F(fp_provisional, bytes_down), F(fp_provisional, next_by_client),
        F(fp_provisional, next_by_ufrag),
        F(fp_transaction, id), F(fp_transaction, flow), F(fp_transaction, seen_ms),
        F(fp_port, holder), F(fp_port, backend), F(fp_port, since_ms), F(fp_port, port), F(fp_port, state),
        F(fp_port, zero),
        F(fp_trunk_link, tx_sequence), F(fp_trunk_link, rx_epoch), F(fp_trunk_link, rx_highest),
        F(fp_trunk_link, rx_seen), F(fp_trunk_link, rx_window), F(fp_trunk_link, heard_ms),
        F(fp_trunk_link, state_ms), F(fp_trunk_link, sessions), F(fp_trunk_link, capacity),
        F(fp_trunk_link, cluster), F(fp_trunk_link, xcvr), F(fp_trunk_link, incarnation),
        F(fp_trunk_link, state), F(fp_trunk_link, gso_refused), F(fp_trunk_link, zero),
        F(fp_trunk_link, rtt_us), F(fp_trunk_link, pings), F(fp_trunk_link, pongs),
        F(fp_trunk_link, born),
        F(fp_counters, received), F(fp_counters, received_bytes), F(fp_counters, forwarded),
        F(fp_counters, forwarded_bytes), F(fp_counters, punted), F(fp_counters, dropped),
        F(fp_counters, decisions), F(fp_counters, overrides), F(fp_counters, confirmed),
        F(fp_counters, expired), F(fp_counters, replaced), F(fp_counters, closed), F(fp_counters, taught),
        F(fp_counters, copied), F(fp_counters, provisional_created), F(fp_counters, provisional_evicted),
        F(fp_counters, provisional_expired), F(fp_counters, transactions_evicted),
        F(fp_counters, duplicated), F(fp_counters, recovered), F(fp_counters, trunk_datagrams),
        F(fp_counters, trunk_bytes), F(fp_counters, trunk_oversize), F(fp_counters, trunk_singly),
        F(fp_counters, batches), F(fp_counters, residence), F(fp_counters, residence_sum_ns),
        F(fp_counters, loops), F(fp_counters, naps), F(fp_counters, blocks),
        F(fp_counters, receive_errors),
        F(fp_shard_header, magic), F(fp_shard_header, layout_version), F(fp_shard_header, index),
        F(fp_shard_header, flows_capacity), F(fp_shard_header, flows_max),
        F(fp_shard_header, provisional_capacity), F(fp_shard_header, transactions_capacity),
        F(fp_shard_header, ports_capacity), F(fp_shard_header, backends_capacity),
        F(fp_shard_header, port_first), F(fp_shard_header, port_count), F(fp_shard_header, zero),
        F(fp_shard_header, counters_offset), F(fp_shard_header, flows_offset),
        F(fp_shard_header, provisional_offset), F(fp_shard_header, provisional_index_offset),
        F(fp_shard_header, transactions_offset), F(fp_shard_header, ports_offset),
        F(fp_shard_header, port_use_offset), F(fp_shard_header, links_offset),
        F(fp_shard_header, batch_offset), F(fp_shard_header, total_bytes), F(fp_shard_header, flows_count),
        F(fp_shard_header, provisional_count), F(fp_shard_header, provisional_born),
        F(fp_shard_header, ports_count), F(fp_shard_header, flows_cursor),
        F(fp_shard_header, provisional_cursor), F(fp_shard_header, ports_cursor),
        F(fp_shard_header, port_next), F(fp_shard_header, counters_sequence), F(fp_shard_header, attached),
        F(fp_shard_header, sending), F(fp_shard_header, zero2),
    };
    #undef F
    #define S(s) { #s, sizeof(s) }
    static const fp_constant_row fp_sizes[] = {
        S(fp_client), S(fp_endpoint), S(fp_ingress), S(fp_backend), S(fp_route), S(fp_shared_header),
        S(fp_flow), S(fp_provisional), S(fp_transaction), S(fp_port), S(fp_trunk_link), S(fp_counters),
        S(fp_shard_header),
    };
    #undef S
    #define C(c) { #c, (size_t)(c) }
    static const fp_constant_row fp_constants[] = {
        C(FP_LAYOUT_VERSION), C(FP_BACKENDS), C(FP_INGRESS), C(FP_LISTENERS), C(FP_REPLAY_BITS),
        C(FP_BATCH_BUCKETS),
        C(FP_RESIDENCE_BUCKETS), C(FP_NONE), C(FP_NO_PORT), C(FP_UP), C(FP_DOWN), C(FP_FLOW_confirmed),
        C(FP_FLOW_taught), C(FP_PROVISIONAL_waiting), C(FP_PROVISIONAL_confirmed), C(FP_BACKEND_free),
        C(FP_PORT_flow), C(FP_PORT_provisional), C(FP_PORT_quarantine),
        C(FP_BACKEND_up), C(FP_BACKEND_draining), C(FP_BACKEND_down), C(FP_BACKEND_gone), C(FP_TRUNK),
        C(FP_PLAIN), C(FP_CLASS_COUNT), C(FP_DROP_COUNT), C(FP_DECISION_COUNT),
    };
    #undef C
    enum { fp_fields_count = sizeof(fp_fields) / sizeof(fp_fields[0]),
           fp_sizes_count = sizeof(fp_sizes) / sizeof(fp_sizes[0]),
           fp_constants_count = sizeof(fp_constants) / sizeof(fp_constants[0]) };
    """
    struct fp_field_row:
        const char *name
        const char *field
        size_t offset
        size_t size
    struct fp_constant_row:
        const char *name
        size_t value
    const fp_field_row fp_fields[]
    const fp_constant_row fp_sizes[]
    const fp_constant_row fp_constants[]
    int fp_fields_count
    int fp_sizes_count
    int fp_constants_count


def fields():
    """[(struct, field, offset, size)] in bytes."""
    return [(fp_fields[i].name.decode(), fp_fields[i].field.decode(), fp_fields[i].offset, fp_fields[i].size)
            for i in range(fp_fields_count)]


def sizes():
    """{struct: bytes}."""
    return {fp_sizes[i].name.decode(): fp_sizes[i].value for i in range(fp_sizes_count)}


def constants():
    """{name: value} of the constants Python repeats."""
    return {fp_constants[i].name.decode(): fp_constants[i].value for i in range(fp_constants_count)}
