"""Admission: how many new flows a network (/24 of IPv4, /56 of IPv6) may open, as token buckets.

A /24 may be the front of a carrier's NAT, a /56 is what one subscriber gets: the limit stops a flood, not a
crowd. The table has a fixed size, whoever asks: a network that has no bucket counts as one with a full
bucket, so only what is full again may be forgotten freely. Four-way sets under a keyed hash; where all four
are spent, the fullest makes room: a million networks can win one another back a few flows, but the one that
floods stays known.
"""
from fastpath.siphash cimport siphash13

cdef enum:
    FLOW = 1000                     # of the unit tokens are counted in: a rate per second is one per ms
    IPV4_OCTETS = 3                 # /24
    IPV6_OCTETS = 7                 # /56


cdef uint64_t network_of(const fp_client *client) noexcept nogil:
    """Family and network in one word; never 0."""
    cdef const uint8_t *address = <const uint8_t *>client       # the address comes first
    cdef uint64_t network = client.family
    cdef int i
    for i in range(IPV4_OCTETS if client.family == 4 else IPV6_OCTETS):
        network = (network << 8) | address[i]
    return network


cdef inline uint32_t tokens_now(const bucket *entry, const admission_limit *limit,
                                uint32_t now_ms) noexcept nogil:
    cdef uint64_t earned = <uint64_t>(now_ms - entry.filled_ms) * limit.flows_per_s
    cdef uint64_t full = <uint64_t>limit.burst * FLOW
    return <uint32_t>min(entry.tokens + earned, full)


cdef bint admission_take(const admission_table *table, const uint8_t *seed, const admission_limit *limit,
                         const fp_client *client, uint32_t now_ms) noexcept nogil:
    """May this client's network open one more flow? True takes a token."""
    cdef uint64_t network = network_of(client)
    cdef uint64_t hash
    cdef bucket *entry
    if limit.flows_per_s == 0:
        return True
    hash = siphash13(seed, <const uint8_t *>&network, sizeof(network))
    entry = bucket_of(&table.buckets[<size_t>(hash & table.mask) * ADMISSION_WAYS], limit, network, now_ms)
    entry.tokens, entry.filled_ms = tokens_now(entry, limit, now_ms), now_ms
    if entry.tokens < FLOW:
        return False
    entry.tokens -= FLOW
    return True


cdef bucket *bucket_of(bucket *ways, const admission_limit *limit, uint64_t network,
                       uint32_t now_ms) noexcept nogil:
    """The network's bucket; a new and full one in the place of a free one, else of the fullest."""
    cdef uint32_t most = 0, tokens
    cdef bucket *fullest = ways
    cdef int way
    for way in range(ADMISSION_WAYS):
        if ways[way].network == network:
            return &ways[way]
        tokens = 0xffffffffu if ways[way].network == 0 else tokens_now(&ways[way], limit, now_ms)
        if tokens > most:
            most, fullest = tokens, &ways[way]
    fullest.network, fullest.tokens, fullest.filled_ms = network, limit.burst * FLOW, now_ms
    return fullest
