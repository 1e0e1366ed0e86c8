"""Packing records into trunk datagrams, and datagrams into runs of equal size (trunk FT1).

A bundle holds only what is at hand: nothing waits for it. A run leaves with one sendmsg and UDP_SEGMENT,
which wants equal segments (the last may be shorter); a bundle is padded with zeros to its run's size where
that wastes at most 5 %, else it ends the run. Lengths are planned first, then everything is written once.
"""
from libc.string cimport memcpy, memset

from fastpath.trunk cimport (
    TRUNK_HEADER_BYTES, TRUNK_TAG_BYTES, trunk_build_header, trunk_build_record_header, trunk_record,
    trunk_record_bytes, trunk_tag)

cdef enum:
    WASTE_DIVISOR = 20              # pad where the padding is at most 1/20 of the segment


cdef struct segment:
    uint16_t first
    uint16_t items
    uint32_t length                 # header, records and tag, without padding


cdef uint32_t bundle(const trunk_record *items, uint32_t count, uint32_t mtu_bytes, bint singly,
                     const bundle_seal *seal, uint8_t *buffer, bundle_run *runs) noexcept nogil:
    """Write `count` <= 64 records into `buffer` and describe the sends in `runs` (room for 64).

    Gives the number of runs.
    """
    cdef segment segments[BUNDLE_ITEMS]
    cdef uint32_t planned = plan_segments(items, count, mtu_bytes, seal.key != NULL, segments)
    cdef uint32_t widest = widest_within(segments, planned, mtu_bytes)
    cdef uint32_t run_count = 0, next = 0, members
    cdef const segment *last
    cdef bundle_run *run
    while next < planned:
        members = 1 if singly else run_members(segments + next, planned - next, widest)
        last = &segments[next + members - 1]
        run = &runs[run_count]
        run.data = buffer
        run.datagrams = <uint16_t>members
        run.first_item = segments[next].first
        run.items = <uint16_t>(last.first + last.items - run.first_item)
        run.oversize = segments[next].length > mtu_bytes
        run.segment_bytes = <uint16_t>(widest if members > 1 else segments[next].length)
        buffer = write_run(items, segments + next, members, run.segment_bytes, seal, buffer)
        run.length = <uint32_t>(buffer - run.data)
        run_count += 1
        next += members
    return run_count


cdef uint32_t plan_segments(const trunk_record *items, uint32_t count, uint32_t mtu_bytes, bint tagged,
                            segment *out) noexcept nogil:
    cdef uint32_t overhead = TRUNK_HEADER_BYTES
    cdef uint32_t planned = 0, i, needed
    if tagged:
        overhead += TRUNK_TAG_BYTES
    for i in range(count):
        needed = <uint32_t>trunk_record_bytes(items[i].client.family, items[i].length)
        if planned and out[planned - 1].length + needed <= mtu_bytes:
            out[planned - 1].length += needed
            out[planned - 1].items += 1
        else:
            out[planned].first, out[planned].items, out[planned].length = <uint16_t>i, 1, overhead + needed
            planned += 1
    return planned


cdef uint32_t widest_within(const segment *segments, uint32_t count, uint32_t mtu_bytes) noexcept nogil:
    cdef uint32_t widest = 0, i
    for i in range(count):
        if widest < segments[i].length <= mtu_bytes:
            widest = segments[i].length
    return widest


cdef uint32_t run_members(const segment *segments, uint32_t count, uint32_t widest) noexcept nogil:
    """How many of the next segments one run can take: near enough to `widest`, then at most one shorter."""
    cdef uint32_t members = 0
    while (members < count and (members + 1) * widest <= BUNDLE_RUN_BYTES
           and segments[members].length <= widest):
        members += 1
        if (widest - segments[members - 1].length) * WASTE_DIVISOR > widest:
            break
    return members if members > 1 else 1


cdef uint8_t *write_run(const trunk_record *items, const segment *segments, uint32_t members,
                        uint32_t segment_bytes, const bundle_seal *seal, uint8_t *out) noexcept nogil:
    """Header, records, padding, tag of each segment; all but the last fill `segment_bytes`. Gives the end."""
    cdef uint32_t i, k, length
    cdef uint8_t *at
    cdef const trunk_record *item
    for i in range(members):
        length = segments[i].length
        if i < members - 1:
            length = segment_bytes
        trunk_build_header(out, seal.key != NULL, seal.key_id, seal.epoch, seal.sequence[0])
        seal.sequence[0] += 1
        at = out + TRUNK_HEADER_BYTES
        for k in range(segments[i].items):
            item = &items[segments[i].first + k]
            at = trunk_build_record_header(at, item.flags, &item.client, item.length)
            memcpy(at, item.payload, item.length)
            at += item.length
        if seal.key != NULL:
            length -= TRUNK_TAG_BYTES
        memset(at, 0, <size_t>(out + length - at))
        if seal.key != NULL:
            trunk_tag(seal.key, out, length, out + length)
            length += TRUNK_TAG_BYTES
        out += length
    return out
