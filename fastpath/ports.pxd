# F2: plain mode's upstream ports of one shard: which (port, backend address) belongs to which flow.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastpath.layout cimport fp_backend, fp_endpoint, fp_port, fp_shard_header

ctypedef struct port_table:
    fp_port *slots
    fp_shard_header *header
    const fp_backend *backends
    const uint8_t *seed
    uint16_t *in_use                # [backend]: ports taken or in quarantine for its address
    uint16_t *pairs                 # [pool index]: backend addresses this port is taken or at rest for
    uint32_t mask
    bint exists                     # False: this shard has no plain ports

cdef fp_port *ports_lookup(const port_table *table, uint16_t port,
                           const fp_endpoint *address) noexcept nogil
cdef uint16_t ports_acquire(port_table *table, uint32_t backend, uint8_t state,
                            uint32_t holder) noexcept nogil
cdef void ports_hand_over(const port_table *table, uint16_t port, uint32_t backend, uint8_t state,
                          uint32_t holder) noexcept nogil
cdef void ports_release(const port_table *table, uint16_t port, uint32_t backend,
                        uint32_t now_ms) noexcept nogil
cdef bint ports_owns(const port_table *table, uint16_t port) noexcept nogil
cdef void ports_expire(port_table *table, uint32_t now_ms, uint32_t budget) noexcept nogil
cdef void ports_attach(port_table *table, uint32_t now_ms) noexcept nogil
cdef bint ports_restore(port_table *table, uint16_t port, uint32_t backend, uint8_t state,
                        uint32_t holder) noexcept nogil
