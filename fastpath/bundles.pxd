# F2: records -> trunk datagrams -> runs that leave with one UDP_SEGMENT send. No I/O.
from libc.stdint cimport uint8_t, uint16_t, uint32_t

from fastpath.trunk cimport trunk_record

cdef enum:
    BUNDLE_ITEMS = 64               # records in one call, and datagrams in one run (the kernel's limit)
    BUNDLE_RUN_BYTES = 65000        # of one run, headers of IP and UDP left out
    BUNDLE_BUFFER_BYTES = 64 * 2304      # 64 largest records in datagrams of their own, and 5 % of padding

ctypedef struct bundle_run:
    const uint8_t *data
    uint32_t length
    uint16_t segment_bytes          # of every datagram but the last; == length when it is alone
    uint16_t datagrams
    uint16_t first_item             # items[first_item : first_item + items] travel in this run
    uint16_t items
    bint oversize                   # a record that fits no bundle, alone and fragmented on its way

ctypedef struct bundle_seal:        # what the headers of one link and direction need
    uint32_t epoch
    uint32_t *sequence
    const uint8_t *key              # NULL: untagged
    uint8_t key_id

cdef uint32_t bundle(const trunk_record *items, uint32_t count, uint32_t mtu_bytes, bint singly,
                     const bundle_seal *seal, uint8_t *buffer, bundle_run *runs) noexcept nogil
