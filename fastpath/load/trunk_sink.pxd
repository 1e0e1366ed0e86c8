# F6: a backend on a trunk as a load run needs it: the transceiver's end of FT1 with probes instead of
# sessions. See trunk_sink.pyx.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.load.arrivals cimport Arrivals, arrivals
from fastpath.bundles cimport BUNDLE_BUFFER_BYTES, BUNDLE_ITEMS, bundle_run
from fastpath.layout cimport FP_TRUNK_KEYS, fp_client
from fastpath.linux cimport iovec, mmsghdr, sockaddr_in6
from fastpath.load.pace cimport pace
from fastpath.trunk cimport trunk_record

cdef enum:
    TRUNK_SINK_BATCH = 16
    TRUNK_SINK_BYTES = 65536
    TRUNK_SINK_PROBE_BYTES = 2048
    TRUNK_SINK_RELAYS = 64               # relay shards that may speak to one sink

ctypedef struct trunk_sink_counters:
    uint64_t datagrams                   # on the trunk
    uint64_t bytes
    uint64_t records
    uint64_t requests                    # Binding Requests answered
    uint64_t pings                       # answered
    uint64_t states                      # state records sent
    uint64_t echoed
    uint64_t bad                         # datagrams or records that do not parse, or whose tag is wrong
    uint64_t gaps                        # trunk sequence numbers that never came (so far)
    uint64_t unsent                      # runs the kernel did not take
    uint64_t receive_calls
    uint64_t send_calls
    uint64_t opened                      # flows whose client and relay are known
    uint64_t sent                        # probes of its own
    uint64_t written_off                 # of these, given up after 100 ms watched without progress
    uint64_t late                        # sent more than 1 ms after the schedule
    uint64_t late_max_ns

ctypedef struct trunk_sink_relay:
    sockaddr_in6 name
    uint32_t name_bytes
    uint32_t sequence                    # of what we send
    uint32_t expected                    # next sequence from the relay
    uint32_t epoch                       # the relay's; another one starts `expected` anew

ctypedef struct trunk_sink_return:       # how a flow is reached
    fp_client client
    uint32_t relay                       # index + 1; 0: not yet known

ctypedef struct trunk_sink_state:
    int fd
    int epoll
    int stop
    bint echo
    bint keyed
    uint8_t key_id                       # signs what we send
    uint8_t key_mask                     # bit n: the key of id n is known; written after the key itself
    uint8_t up_keys[FP_TRUNK_KEYS][16]   # relay -> transceiver
    uint8_t down_keys[FP_TRUNK_KEYS][16]
    uint32_t epoch
    uint32_t mtu_bytes
    uint64_t nap_ns
    uint64_t end_ns
    uint64_t state_ns                    # when the last state records left
    uint8_t announcement[16]             # the payload of a state record
    trunk_sink_counters counters
    arrivals *into
    uint32_t relays
    trunk_sink_relay relay[TRUNK_SINK_RELAYS]
    mmsghdr received[TRUNK_SINK_BATCH]
    iovec vectors[TRUNK_SINK_BATCH]
    sockaddr_in6 names[TRUNK_SINK_BATCH]
    uint8_t control[TRUNK_SINK_BATCH][64]
    uint8_t data[TRUNK_SINK_BATCH][TRUNK_SINK_BYTES]
    trunk_sink_relay *to                 # whom the waiting items are for
    uint32_t items
    trunk_record item[BUNDLE_ITEMS]
    uint8_t payloads[BUNDLE_ITEMS][64]   # of responses and pongs; echoes point into `data`
    bundle_run runs[BUNDLE_ITEMS]
    uint8_t out[BUNDLE_BUFFER_BYTES]
    trunk_sink_return *returns           # of each flow
    uint64_t *sequences                  # of the sink's own probes
    uint32_t cursor                      # flow of the next
    uint32_t size_bytes
    uint32_t size_spread
    uint64_t late_before                 # of earlier runs
    pace plan                            # of the run that sends
    uint8_t probes[BUNDLE_ITEMS][TRUNK_SINK_PROBE_BYTES]


cdef class TrunkSink:
    cdef trunk_sink_state *state
    cdef object socket
    cdef readonly Arrivals arrivals
    cdef open_socket(self, address)
