# F3: one shard's view of all state: its own tables, the shared ones, its siblings. Process-private.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.admission cimport admission_table
from fastpath.backends cimport backend_table
from fastpath.flows cimport flow_table
from fastpath.layout cimport FP_SHARDS, fp_batch_memory, fp_counters, fp_shard_header, fp_shared_header
from fastpath.links cimport link_table
from fastpath.ports cimport port_table
from fastpath.provisional cimport provisional_ring
from fastpath.routes cimport route_table
from fastpath.settings cimport settings
from fastpath.transactions cimport transaction_table

ctypedef struct shard_state:
    fp_shared_header *shared
    fp_shard_header *header
    const uint8_t *seed             # SipHash key of every table
    const settings *settings        # the worker's private copy
    fp_counters counters            # private; published once a batch
    fp_counters *published
    fp_batch_memory *batch
    flow_table flows
    provisional_ring provisional
    transaction_table transactions
    port_table ports
    route_table routes
    backend_table backends
    link_table links
    uint32_t siblings_count
    shard_state *siblings[FP_SHARDS]
    uint32_t teach_second           # teach-back is limited to a number a second
    uint32_t taught_this_second
    uint32_t pressure               # of the worker that serves it: what is shed (fastpath.pressure)
    uint32_t rtcp_turn              # every second RTCP packet is shed
    uint32_t search_ms              # under pressure siblings are asked a number of times a millisecond
    uint32_t searches
    admission_table admission
    void *tap                       # of fastpath.tap, set by the control thread; NULL: nobody captures
    uint32_t tap_busy               # 1 while the worker uses it: whoever took it away waits

ctypedef shard_state *shard_pointer

cdef class Shared:
    cdef fp_shared_header *header
    cdef readonly object memory     # keeps the mapping alive
    cdef readonly object routes
    cdef readonly object backends

cdef class Shard:
    cdef shard_state state
    cdef readonly object memory
    cdef readonly Shared shared
