"""The numpy twins of the structs of fastpath/layout.h: how Python reads keeper-owned memory.

Every dtype is laid out by C's alignment rules; tests/relay/test_layout.py compares each size and
offset with the compiler's own. Multi-byte integers are in host order, times are CLOCK_MONOTONIC
truncated to 32 bits (compare by signed difference).
"""

from typing import Any, Final

import numpy as np
from fastpath.counters import DECISIONS, DROP_REASONS

LAYOUT_VERSION: Final = 2
MAGIC: Final = b"FASTPATH"

BACKENDS: Final = 256  # configured backends; table entries above are address:port targets
INGRESS: Final = 256
LISTENERS: Final = 16  # listen sockets of one shard
REPLAY_BITS: Final = 1024
BATCH_BUCKETS: Final = 8  # batch sizes 1 2 4 8 16 32 64 more
RESIDENCE_BUCKETS: Final = 96  # 4 buckets per power of two of nanoseconds
NONE: Final = 0xFFFFFFFF
NO_PORT: Final = 0xFFFF

UP: Final = 0  # direction: towards the backend
DOWN: Final = 1  # direction: towards the client
DIRECTIONS: Final = ("up", "down")

FLOW_CONFIRMED: Final = 2
FLOW_TAUGHT: Final = 3
FLOW_STATES: Final = {FLOW_CONFIRMED: "confirmed", FLOW_TAUGHT: "taught"}
PROVISIONAL_WAITING: Final = 1
PROVISIONAL_CONFIRMED: Final = 2
PROVISIONAL_STATES: Final = {PROVISIONAL_WAITING: "provisional", PROVISIONAL_CONFIRMED: "shadow"}

PORT_FLOW: Final = 2
PORT_PROVISIONAL: Final = 3
PORT_QUARANTINE: Final = 4

BACKEND_FREE: Final = 0
BACKEND_UP: Final = 1
BACKEND_DRAINING: Final = 2
BACKEND_DOWN: Final = 3
BACKEND_GONE: Final = 4

MODE_TRUNK: Final = 1
MODE_PLAIN: Final = 2

TRAFFIC_CLASSES: Final = ("voice", "voice_data", "video", "bulk")

_Fields = list[tuple[str, Any] | tuple[str, Any, Any]]


def _struct(fields: _Fields) -> "np.dtype[np.void]":
    return np.dtype(fields, align=True)


CLIENT: Final = _struct(
    [("address", np.uint8, 16), ("port", np.uint16), ("ingress", np.uint8), ("family", np.uint8)]
)

ENDPOINT: Final = _struct(
    [("address", np.uint8, 16), ("port", np.uint16), ("zero", np.uint8), ("family", np.uint8)]
)

INGRESS_ROW: Final = _struct(
    [
        ("address", ENDPOINT),
        ("used", np.uint8),
        ("listener", np.uint8),
        ("wildcard", np.uint8),
        ("zero", np.uint8),
    ]
)

BACKEND: Final = _struct(
    [
        ("state", np.uint32),
        ("parent", np.uint32),
        ("address", ENDPOINT),
        ("cluster", np.uint16),
        ("xcvr", np.uint16),
        ("incarnation", np.uint8),
        ("mode", np.uint8),
        ("keyed", np.uint8),
        ("has_xcvr", np.uint8),
        ("touched_s", np.uint32),
        ("name_hash", np.uint64),
        ("born", np.uint32),
        ("zero", np.uint8, 12),
    ]
)

ROUTE: Final = _struct(
    [
        ("hash", np.uint64, 2),
        ("backend", np.uint32),
        ("expires_s", np.uint32),
        ("session", np.uint32),
        ("used_s", np.uint32),
    ]
)

SHARED_HEADER: Final = _struct(
    [
        ("magic", "S8"),
        ("layout_version", np.uint32),
        ("shards", np.uint32),
        ("seed", np.uint8, 16),
        ("backends_capacity", np.uint32),
        ("routes_capacity", np.uint32),
        ("routes_max", np.uint32),
        ("routes_count", np.uint32),
        ("backends_offset", np.uint64),
        ("routes_offset", np.uint64),
        ("total_bytes", np.uint64),
        ("flow_version", np.uint32),
        ("trunk_epoch", np.uint32),
        ("ingress", INGRESS_ROW, INGRESS),
    ]
)

FLOW: Final = _struct(
    [
        ("sequence", np.uint32),
        ("version", np.uint32),
        ("client", CLIENT),
        ("backend", np.uint32),
        ("ufrag_hash", np.uint64),
        ("route", np.uint32),
        ("upstream_port", np.uint16),
        ("state", np.uint8),
        ("traffic_class", np.uint8),
        ("last_seen_ms", np.uint32),
        ("ufrag_seen_ms", np.uint32),
        ("datagrams_up", np.uint32),
        ("datagrams_down", np.uint32),
    ]
)

PROVISIONAL: Final = _struct(
    [
        ("client", CLIENT),
        ("backend", np.uint32),
        ("ufrag_hash", np.uint64),
        ("route", np.uint32),
        ("upstream_port", np.uint16),
        ("state", np.uint8),
        ("traffic_class", np.uint8),
        ("last_seen_ms", np.uint32),
        ("born", np.uint32),
        ("bytes_up", np.uint32),
        ("bytes_down", np.uint32),
        ("next_by_client", np.uint32),
        ("next_by_ufrag", np.uint32),
    ]
)

TRANSACTION: Final = _struct([("id", np.uint64), ("flow", np.uint32), ("seen_ms", np.uint32)])

PORT: Final = _struct(
    [
        ("holder", np.uint32),
        ("backend", np.uint32),
        ("since_ms", np.uint32),
        ("port", np.uint16),
        ("state", np.uint8),
        ("zero", np.uint8),
    ]
)

TRUNK_LINK: Final = _struct(
    [
        ("tx_sequence", np.uint32),
        ("rx_epoch", np.uint32),
        ("rx_highest", np.uint32),
        ("rx_seen", np.uint32),
        ("rx_window", np.uint64, REPLAY_BITS // 64),
        ("heard_ms", np.uint32),
        ("state_ms", np.uint32),
        ("sessions", np.uint32),
        ("capacity", np.uint32),
        ("cluster", np.uint16),
        ("xcvr", np.uint16),
        ("incarnation", np.uint8),
        ("state", np.uint8),
        ("gso_refused", np.uint8),
        ("zero", np.uint8),
        ("rtt_us", np.uint32),
        ("pings", np.uint32),
        ("pongs", np.uint32),
        ("born", np.uint32),
    ]
)

COUNTERS: Final = _struct(
    [
        ("received", np.uint64, 2),
        ("received_bytes", np.uint64, 2),
        ("forwarded", np.uint64, 2),
        ("forwarded_bytes", np.uint64, 2),
        ("punted", np.uint64, 2),
        ("dropped", np.uint64, (2, len(DROP_REASONS))),
        ("decisions", np.uint64, len(DECISIONS)),
        ("overrides", np.uint64),
        ("confirmed", np.uint64),
        ("expired", np.uint64),
        ("replaced", np.uint64),
        ("closed", np.uint64),
        ("taught", np.uint64),
        ("copied", np.uint64),
        ("provisional_created", np.uint64),
        ("provisional_evicted", np.uint64),
        ("provisional_expired", np.uint64),
        ("transactions_evicted", np.uint64),
        ("duplicated", np.uint64),
        ("recovered", np.uint64),
        ("trunk_datagrams", np.uint64, 2),
        ("trunk_bytes", np.uint64, 2),
        ("trunk_oversize", np.uint64),
        ("trunk_singly", np.uint64),
        ("batches", np.uint64, (2, BATCH_BUCKETS)),
        ("residence", np.uint64, (2, RESIDENCE_BUCKETS)),
        ("residence_sum_ns", np.uint64, 2),
        ("loops", np.uint64),
        ("naps", np.uint64),
        ("blocks", np.uint64),
        ("receive_errors", np.uint64),
    ]
)

SHARD_HEADER: Final = _struct(
    [
        ("magic", "S8"),
        ("layout_version", np.uint32),
        ("index", np.uint32),
        ("flows_capacity", np.uint32),
        ("flows_max", np.uint32),
        ("provisional_capacity", np.uint32),
        ("transactions_capacity", np.uint32),
        ("ports_capacity", np.uint32),
        ("backends_capacity", np.uint32),
        ("port_first", np.uint16, 2),
        ("port_count", np.uint16, 2),
        ("zero", np.uint32),
        ("counters_offset", np.uint64),
        ("flows_offset", np.uint64),
        ("provisional_offset", np.uint64),
        ("provisional_index_offset", np.uint64),
        ("transactions_offset", np.uint64),
        ("ports_offset", np.uint64),
        ("port_use_offset", np.uint64),
        ("links_offset", np.uint64),
        ("batch_offset", np.uint64),
        ("total_bytes", np.uint64),
        ("flows_count", np.uint32),
        ("provisional_count", np.uint32),
        ("provisional_born", np.uint32),
        ("ports_count", np.uint32),
        ("flows_cursor", np.uint32),
        ("provisional_cursor", np.uint32),
        ("ports_cursor", np.uint32),
        ("port_next", np.uint32),
        ("counters_sequence", np.uint32),
        ("attached", np.uint32),
        ("sending", np.uint32),
        ("zero2", np.uint32),
    ]
)

STRUCTS: Final = {
    "fp_client": CLIENT,
    "fp_endpoint": ENDPOINT,
    "fp_ingress": INGRESS_ROW,
    "fp_backend": BACKEND,
    "fp_route": ROUTE,
    "fp_shared_header": SHARED_HEADER,
    "fp_flow": FLOW,
    "fp_provisional": PROVISIONAL,
    "fp_transaction": TRANSACTION,
    "fp_port": PORT,
    "fp_trunk_link": TRUNK_LINK,
    "fp_counters": COUNTERS,
    "fp_shard_header": SHARD_HEADER,
}
"""C name -> dtype, for the test that compares them and for tools that print memory."""


def residence_ends_s() -> list[float]:
    """Upper bounds of the residence buckets in seconds, the last one (it has none) left out.

    Bucket 4e+m ends at 2^e (1 + (m+1)/4) ns.
    """
    return [2 ** (bucket // 4) * (1 + (bucket % 4 + 1) / 4) / 1e9 for bucket in range(RESIDENCE_BUCKETS - 1)]


def age_ms(then_ms: int, now_ms: int) -> int:
    """Signed age of a time truncated to 32 bits: wrap-around is harmless."""
    return ((now_ms - then_ms + 0x80000000) & 0xFFFFFFFF) - 0x80000000
