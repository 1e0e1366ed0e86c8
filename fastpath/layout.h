/* Every struct that crosses a wall: the process wall between keeper and engine (tables, counters
 * and batch memory live in memfds that outlive an engine) or the module wall between two .pyx
 * files. One definition here, one numpy dtype in pyfastpath/relay/layout.py, one test that
 * compares them. Change a struct -> raise FP_LAYOUT_VERSION: an engine refuses memory of
 * another version.
 *
 * Integers are in host order. Times are CLOCK_MONOTONIC, truncated to 32 bits, in the unit the
 * name carries; compare them only by signed difference, so that wrap-around is harmless.
 */
#ifndef FASTPATH_LAYOUT_H
#define FASTPATH_LAYOUT_H

#include <stdint.h>
#include <stddef.h>
#include <sys/socket.h>

#define FP_MAGIC "FASTPATH"

enum {
    FP_LAYOUT_VERSION = 2,

    FP_BATCH = 64,               /* datagrams in one recvmmsg/sendmmsg call                       */
    FP_DATAGRAM_BYTES = 2048,    /* receive buffer of one datagram; longer ones are dropped       */
    FP_TRUNK_BATCH = 16,         /* trunk receive buffers: UDP_GRO fills up to 64 KiB each        */
    FP_TRUNK_BYTES = 65536,
    FP_CONTROL_BYTES = 128,      /* room for PKTINFO, TOS/TCLASS, UDP_GRO and a timestamp         */

    FP_BACKENDS = 256,           /* configured backends; entries above are address:port targets   */
    FP_INGRESS = 256,
    FP_SHARDS = 64,
    FP_LISTENERS = 16,           /* listen sockets of one shard                                   */
    FP_DEFAULT_TOS = 46 << 2,    /* what every socket is set to: Expedited Forwarding (RFC 3246), Not-ECT */
    FP_POOL = 65535,             /* plain ports of all shards at most: a pool index is 16 bits, 65535 is none */
    FP_KEYS = 7,                 /* token key ids 0..6                                            */
    FP_TRUNK_KEYS = 4,
    FP_REPLAY_BITS = 1024,
    FP_SESSION_CAP = 8,          /* provisional flows one ufrag may hold in one shard             */

    FP_RESIDENCE_BUCKETS = 96,   /* residence time: 4 buckets per power of two of nanoseconds     */
    FP_BATCH_BUCKETS = 8         /* batch sizes 1 2 4 8 16 32 64 more                             */
};
#define FP_NONE 0xffffffffu      /* no index                                                      */
#define FP_NO_PORT 0xffffu       /* no upstream port: the flow's backend is on a trunk            */

/* ---- why a datagram was not forwarded: the enum, the metric label and docs/metrics.md ---------- */
#define FP_DROP_REASONS(X) \
    X(none,               "not dropped")                                                                          \
    X(not_webrtc,         "first byte is neither STUN, DTLS nor RTP/RTCP (RFC 7983), or the datagram is empty")   \
    X(oversize,           "longer than the receive buffer of 2,048 bytes")                                        \
    X(bad_stun,           "looks like STUN but does not parse, or is a request without a usable USERNAME")        \
    X(no_route,           "Binding Request with a ufrag that no session route, token or policy maps to a backend")\
    X(bad_token,          "a 22-character ufrag that fails authentication while token keys are configured")       \
    X(token_expired,      "an authentic token that is past its expiry, or more than 24 h ahead")                  \
    X(unknown_backend,    "an authentic token or route that names no registered backend or an old incarnation")   \
    X(backend_unavailable,"a new flow to a backend that is down or draining")                                     \
    X(draining,           "a new flow while this relay drains")                                                   \
    X(client_not_allowed, "a new flow from a private, loopback, link-local or multicast address that allow_clients does not list") \
    X(unknown_ingress,    "arrived at, or names, a local address that is no configured ingress")                  \
    X(unknown_flow,       "no flow for this client address (upstream) or for this record or port (downstream)")   \
    X(provisional,        "not STUN, on a flow that its backend has not confirmed yet")                           \
    X(amplification,      "would send more than 3 times the bytes received from an unconfirmed address")          \
    X(flow_table_full,    "the shard holds flows_max flows, or no free slot within the probe bound")              \
    X(no_upstream_port,   "every plain port is in use or in quarantine for this backend address")                 \
    X(wrong_backend,      "downstream datagram from a backend that does not own the flow")                        \
    X(untrusted_trunk,    "trunk datagram from an address:port that is no registered backend")                    \
    X(bad_trunk,          "trunk header malformed or of an unknown version")                                      \
    X(bad_tag,            "trunk datagram untagged or wrongly tagged on a keyed link")                            \
    X(old_epoch,          "trunk datagram of an epoch before the newest one seen")                                \
    X(replayed,           "trunk sequence number seen before or left of the replay window")                       \
    X(bad_record,         "trunk record past the end, with reserved flag bits, or with an address that must not be inside") \
    X(send_blocked,       "the socket's send buffer stayed full")                                                 \
    X(send_failed,        "the kernel refused the datagram (unreachable, too big, not permitted)")                \
    X(admission,          "a new flow from a network (/24, /56) that opens more than admission_flows_per_s")      \
    X(shed_unknown,       "overload, step 1: media without a flow; a Binding Request from a network beyond its admission, unread") \
    X(shed_new,           "overload, step 2: STUN from an address that has no confirmed flow")                    \
    X(shed_bulk,          "overload, step 3: media of a flow of class bulk")                                      \
    X(shed_video,         "overload, step 4: media of a flow of class video")                                     \
    X(shed_rtcp,          "overload, step 5: every second RTCP packet of the flows that are left")                \
    X(shed_voice,         "overload, step 6: RTP of every second flow that is left")

#define FP_X(name, help) FP_DROP_##name,
enum { FP_DROP_REASONS(FP_X) FP_DROP_COUNT };
#undef FP_X

/* ---- how the route of a new flow was decided --------------------------------------------------- */
#define FP_DECISIONS(X) \
    X(none,            "no new flow")                                          \
    X(session_route,   "an installed session route")                           \
    X(token,           "a token T1 that authenticated")                        \
    X(hash,            "rendezvous hash policy")                               \
    X(bad_token,       "refused: the token failed authentication")             \
    X(expired,         "refused: the token is past its expiry")                \
    X(unknown_backend, "refused: no such backend, transceiver or incarnation") \
    X(no_route,        "refused: nothing maps this ufrag")

#define FP_X(name, help) FP_DECISION_##name,
enum { FP_DECISIONS(FP_X) FP_DECISION_COUNT };
#undef FP_X

enum { FP_UP = 0, FP_DOWN = 1 };                          /* direction: towards backend, client    */
enum { FP_FORWARD = 1, FP_DROP = 2, FP_TAKEN = 3 };       /* verdict action; TAKEN: send composed  */
enum { FP_TRUNK = 1, FP_PLAIN = 2 };                      /* upstream mode of a backend            */
enum { FP_CLASS_voice = 0, FP_CLASS_voice_data = 1, FP_CLASS_video = 2, FP_CLASS_bulk = 3, FP_CLASS_COUNT = 4 };
enum { FP_BACKEND_free = 0, FP_BACKEND_up = 1, FP_BACKEND_draining = 2, FP_BACKEND_down = 3, FP_BACKEND_gone = 4 };

/* A client's transport address AND the ingress it was seen at: the key of a flow. IPv4 is four
 * bytes and twelve zeros with family 4: v4-in-v6 never occurs inside. */
typedef struct { uint8_t address[16]; uint16_t port; uint8_t ingress; uint8_t family; } fp_client;

/* A backend's transport address. Another type than fp_client, so that the two are never mixed. */
typedef struct { uint8_t address[16]; uint16_t port; uint8_t zero; uint8_t family; } fp_endpoint;

/* ---- one datagram in hand, and what is to become of it (process-private) ----------------------- */
typedef struct {
    fp_client client;
    uint32_t  length;
    const uint8_t *data;
    uint64_t  hash;              /* keyed hash of client, computed when its slot was prefetched    */
    uint8_t   ecn;
} fp_datagram;

typedef struct {
    uint8_t   action;            /* FP_FORWARD, FP_DROP; FP_TAKEN once its send has been composed  */
    uint8_t   reason;            /* FP_DROP_*, none unless dropped                                 */
    uint8_t   decision;          /* FP_DECISION_*, none unless this datagram asked for a new flow  */
    uint8_t   traffic_class;
    uint8_t   overrode;          /* 1: its ufrag named another flow than the cached one            */
    uint8_t   confirmed;         /* 1: this datagram turned a provisional flow into a confirmed one */
    uint16_t  upstream_port;     /* plain pool index, FP_NO_PORT on a trunk                        */
    uint32_t  backend;           /* up: where to; down: where from                                 */
    fp_client client;            /* down: where to                                                 */
} fp_verdict;

/* ---- shared region: ingress list, backends, routes. One writer: the control thread -------------- */
typedef struct {
    fp_endpoint address;         /* the local address a client must have used                      */
    uint8_t     used;
    uint8_t     listener;        /* index of the listen socket in every shard                      */
    uint8_t     wildcard;        /* 1: the listener is bound to a wildcard, replies need PKTINFO   */
    uint8_t     zero;
} fp_ingress;

typedef struct {
    uint32_t    state;           /* FP_BACKEND_*: written last when published (release)            */
    uint32_t    parent;          /* the configured backend a target belongs to; own index otherwise */
    fp_endpoint address;
    uint16_t    cluster;         /* cluster, xcvr, incarnation: what a token must name             */
    uint16_t    xcvr;
    uint8_t     incarnation;
    uint8_t     mode;            /* FP_TRUNK, FP_PLAIN                                             */
    uint8_t     keyed;           /* trunk link carries tags                                        */
    uint8_t     has_xcvr;        /* 1: tokens may name it                                          */
    uint32_t    touched_s;       /* a target: when a route or flow last named it                   */
    uint64_t    name_hash;       /* rendezvous weight seed                                         */
    uint32_t    born;            /* times this index was published: which backend a link's state is of */
    uint8_t     zero[12];
} fp_backend;

typedef struct {
    uint64_t hash[2];            /* SipHash-2-4-128 of the ufrag under the region's seed           */
    uint32_t backend;            /* FP_ROUTE_EMPTY, FP_ROUTE_TOMBSTONE or an index: written last   */
    uint32_t expires_s;          /* while no flow has used it                                      */
    uint32_t session;            /* keyed hash of the session's name, 0 = none                     */
    uint32_t used_s;             /* last time the sweep saw a flow on it, 0 = never                */
} fp_route;
#define FP_ROUTE_EMPTY     0u    /* stored index is backend + 2, so that fresh zeroed memory is empty */
#define FP_ROUTE_TOMBSTONE 1u

typedef struct {
    char       magic[8];
    uint32_t   layout_version;
    uint32_t   shards;
    uint8_t    seed[16];         /* SipHash key of every table; drawn once by the keeper           */
    uint32_t   backends_capacity;/* FP_BACKENDS + targets                                          */
    uint32_t   routes_capacity;  /* slots, a power of two, twice routes_max                        */
    uint32_t   routes_max;
    uint32_t   routes_count;
    uint64_t   backends_offset;
    uint64_t   routes_offset;
    uint64_t   total_bytes;
    uint32_t   flow_version;     /* atomic: orders the publishing of flows over all shards         */
    uint32_t   trunk_epoch;      /* rises at each engine start                                     */
    fp_ingress ingress[FP_INGRESS];
} fp_shared_header;

/* ---- shard region: one per shard. One writer: the worker that serves it ------------------------- */
enum { FP_FLOW_empty = 0, FP_FLOW_tombstone = 1, FP_FLOW_confirmed = 2, FP_FLOW_taught = 3 };
typedef struct {
    uint32_t  sequence;          /* seqlock: odd while the fields up to `traffic_class` are written */
    uint32_t  version;           /* of flow_version: of two copies the newer wins                  */
    fp_client client;
    uint32_t  backend;
    uint64_t  ufrag_hash;
    uint32_t  route;             /* slot of its session route, FP_NONE                             */
    uint16_t  upstream_port;
    uint8_t   state;
    uint8_t   traffic_class;
    uint32_t  last_seen_ms;      /* from here on: plain aligned stores outside the seqlock         */
    uint32_t  ufrag_seen_ms;     /* last Binding Request that carried this flow's own ufrag        */
    uint32_t  datagrams_up;
    uint32_t  datagrams_down;
} fp_flow;

enum { FP_PROVISIONAL_free = 0, FP_PROVISIONAL_waiting = 1, FP_PROVISIONAL_confirmed = 2 };
typedef struct {
    fp_client client;
    uint32_t  backend;
    uint64_t  ufrag_hash;
    uint32_t  route;
    uint16_t  upstream_port;
    uint8_t   state;             /* confirmed: a shadow that waits for the live flow to fall silent */
    uint8_t   traffic_class;
    uint32_t  last_seen_ms;
    uint32_t  born;              /* ring order: of one session's flows the oldest goes first       */
    uint32_t  bytes_up;
    uint32_t  bytes_down;
    uint32_t  next_by_client;    /* chains of the two indices, FP_NONE ends them                   */
    uint32_t  next_by_ufrag;
} fp_provisional;

typedef struct { uint64_t id; uint32_t flow; uint32_t seen_ms; } fp_transaction;   /* id 0 = empty  */
enum { FP_TRANSACTION_WAYS = 4 };

enum { FP_PORT_empty = 0, FP_PORT_tombstone = 1, FP_PORT_flow = 2, FP_PORT_provisional = 3, FP_PORT_quarantine = 4 };
typedef struct {                 /* one (plain port, backend address) in use or in quarantine      */
    uint32_t holder;             /* slot of the flow or provisional flow that owns it              */
    uint32_t backend;
    uint32_t since_ms;           /* quarantine: when it began                                      */
    uint16_t port;
    uint8_t  state;
    uint8_t  zero;
} fp_port;

typedef struct {                 /* one backend's trunk as this shard sees it                      */
    uint32_t tx_sequence;
    uint32_t rx_epoch;
    uint32_t rx_highest;
    uint32_t rx_seen;            /* 1 once anything was accepted                                   */
    uint64_t rx_window[FP_REPLAY_BITS / 64];
    uint32_t heard_ms;           /* last accepted trunk datagram                                   */
    uint32_t state_ms;           /* last state record, 0 = never                                   */
    uint32_t sessions;
    uint32_t capacity;
    uint16_t cluster;
    uint16_t xcvr;
    uint8_t  incarnation;
    uint8_t  state;              /* 1 up, 2 draining, 3 stopping                                   */
    uint8_t  gso_refused;        /* EINVAL/EMSGSIZE once: singly from then on                      */
    uint8_t  zero;
    uint32_t rtt_us;             /* of the newest pong                                             */
    uint32_t pings;
    uint32_t pongs;
    uint32_t born;               /* of the backend whose epoch, window and liveness these are      */
} fp_trunk_link;

typedef struct {
    uint64_t received[2], received_bytes[2];        /* [direction]                                 */
    uint64_t forwarded[2], forwarded_bytes[2];
    uint64_t punted[2];                             /* control records: for the relay itself       */
    uint64_t dropped[2][FP_DROP_COUNT];
    uint64_t decisions[FP_DECISION_COUNT];
    uint64_t overrides;                             /* a ufrag that overrode the flow cache        */
    uint64_t confirmed, expired, replaced, closed, taught, copied;     /* flows                    */
    uint64_t provisional_created, provisional_evicted, provisional_expired;
    uint64_t transactions_evicted;
    uint64_t duplicated;                            /* sent again after an engine restart, at most */
    uint64_t recovered;                             /* finished for an engine that died            */
    uint64_t trunk_datagrams[2], trunk_bytes[2], trunk_oversize, trunk_singly;
    uint64_t batches[2][FP_BATCH_BUCKETS];
    uint64_t residence[2][FP_RESIDENCE_BUCKETS];
    uint64_t residence_sum_ns[2];
    uint64_t loops, naps, blocks;                   /* of the worker: turns, coalescing, idle turns */
    uint64_t receive_errors;                        /* receives that gave an error, ICMP's above all */
} fp_counters;

/* One receive slot: what recvmmsg fills. In shared memory, so that the next engine can finish what
 * a killed one had received but not sent. `done` counts the bytes of the datagram (for a trunk
 * buffer: up to the end of a record) whose fate is settled; length - done is still owed. */
typedef struct {
    uint32_t done;
    uint16_t source;             /* plain: pool index; client: listener; trunk: 0                  */
    uint16_t zero;
} fp_receive_note;

#define FP_RECEIVE_AREA(count, bytes) struct {      \
    struct mmsghdr  messages[count];                \
    struct iovec    vectors[count];                 \
    uint8_t         names[count][32];               \
    uint8_t         control[count][FP_CONTROL_BYTES]; \
    fp_receive_note notes[count];                   \
    uint8_t         data[count][bytes];             \
}
typedef FP_RECEIVE_AREA(FP_BATCH, FP_DATAGRAM_BYTES) fp_datagram_area;
typedef FP_RECEIVE_AREA(FP_TRUNK_BATCH, FP_TRUNK_BYTES) fp_trunk_area;
typedef struct { fp_datagram_area client, plain; fp_trunk_area trunk; } fp_batch_memory;

typedef struct {
    char     magic[8];
    uint32_t layout_version;
    uint32_t index;
    uint32_t flows_capacity;         /* slots, a power of two, twice flows_max                     */
    uint32_t flows_max;
    uint32_t provisional_capacity;   /* a power of two                                             */
    uint32_t transactions_capacity;  /* entries, a power of two                                    */
    uint32_t ports_capacity;         /* slots, a power of two, 0 without plain mode                */
    uint32_t backends_capacity;
    uint16_t port_first[2];          /* this shard's pool indices [first, first+count): IPv4, IPv6 */
    uint16_t port_count[2];
    uint32_t zero;
    uint64_t counters_offset, flows_offset, provisional_offset, provisional_index_offset,
             transactions_offset, ports_offset, port_use_offset, links_offset, batch_offset, total_bytes;
    uint32_t flows_count;            /* from here on: the worker's                                 */
    uint32_t provisional_count;
    uint32_t provisional_born;
    uint32_t ports_count;
    uint32_t flows_cursor, provisional_cursor, ports_cursor, port_next;
    uint32_t counters_sequence;      /* seqlock around the publishing of the counters              */
    uint32_t attached;               /* engine starts that attached this region                    */
    uint32_t sending;                /* 1 between a send and the note of what it sent              */
    uint32_t zero2;
} fp_shard_header;

_Static_assert(sizeof(fp_client) == 20 && sizeof(fp_endpoint) == 20, "addresses are 20 bytes");
_Static_assert(sizeof(fp_ingress) == 24, "fp_ingress");
_Static_assert(sizeof(fp_backend) == 64, "a backend is one cache line");
_Static_assert(sizeof(fp_route) == 32, "two routes a cache line");
_Static_assert(sizeof(fp_flow) == 64, "a flow is one cache line");
_Static_assert(offsetof(fp_flow, last_seen_ms) == 48, "the seqlock covers the first 48 bytes");
_Static_assert(sizeof(fp_provisional) == 64, "a provisional flow is one cache line");
_Static_assert(sizeof(fp_transaction) * FP_TRANSACTION_WAYS == 64, "a transaction set is one cache line");
_Static_assert(sizeof(fp_port) == 16, "fp_port");
_Static_assert(sizeof(fp_trunk_link) == 184, "fp_trunk_link");
_Static_assert(offsetof(fp_shared_header, ingress) == 80, "fp_shared_header");
_Static_assert(sizeof(fp_receive_note) == 8, "fp_receive_note");

#endif
