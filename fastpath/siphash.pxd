# F0: SipHash (Aumasson, Bernstein 2012): keyed, so that whoever chooses addresses, ufrags or trunk bytes can
# neither aim at collisions nor forge a tag. SipHash-2-4 where bytes on the wire or a 128-bit name depend on
# it; SipHash-1-3 where only a place in a table does, as CPython and Rust do. Host order is little endian.
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef inline uint64_t rotate(uint64_t word, int bits) noexcept nogil:
    return (word << bits) | (word >> (64 - bits))


cdef inline void sip_round(uint64_t *v) noexcept nogil:
    v[0] += v[1]
    v[2] += v[3]
    v[1] = rotate(v[1], 13) ^ v[0]
    v[3] = rotate(v[3], 16) ^ v[2]
    v[0] = rotate(v[0], 32)
    v[2] += v[1]
    v[0] += v[3]
    v[1] = rotate(v[1], 17) ^ v[2]
    v[3] = rotate(v[3], 21) ^ v[0]
    v[2] = rotate(v[2], 32)


cdef inline void sip_rounds(uint64_t *v, int rounds) noexcept nogil:
    cdef int _round
    for _round in range(rounds):
        sip_round(v)


cdef inline void sip_absorb(uint64_t *v, const uint8_t *key, const uint8_t *data, size_t length,
                            int rounds) noexcept nogil:
    """The state after key and data. The caller sets v[1] first: 0, or 0xee for 128 bits of output."""
    cdef uint64_t k[2]
    cdef uint64_t word
    cdef size_t i, whole = length & ~<size_t>7
    memcpy(k, key, 16)
    v[0] = 0x736f6d6570736575u ^ k[0]
    v[1] ^= 0x646f72616e646f6du ^ k[1]
    v[2] = 0x6c7967656e657261u ^ k[0]
    v[3] = 0x7465646279746573u ^ k[1]
    i = 0
    while i < whole:
        memcpy(&word, data + i, 8)
        v[3] ^= word
        sip_rounds(v, rounds)
        v[0] ^= word
        i += 8
    word = 0
    memcpy(&word, data + whole, length & 7)
    word |= <uint64_t>length << 56
    v[3] ^= word
    sip_rounds(v, rounds)
    v[0] ^= word


cdef inline uint64_t sip_squeeze(uint64_t *v, int rounds) noexcept nogil:
    sip_rounds(v, rounds)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline uint64_t siphash(const uint8_t *key, const uint8_t *data, size_t length) noexcept nogil:
    """64 bits of SipHash-2-4 under a 16-byte key. `data` may be NULL when length is 0."""
    cdef uint64_t[4] v
    v[1] = 0
    sip_absorb(v, key, data, length, 2)
    v[2] ^= 0xff
    return sip_squeeze(v, 4)


cdef inline uint64_t siphash13(const uint8_t *key, const uint8_t *data, size_t length) noexcept nogil:
    """64 bits of SipHash-1-3: a place in a table, never a tag."""
    cdef uint64_t[4] v
    v[1] = 0
    sip_absorb(v, key, data, length, 1)
    v[2] ^= 0xff
    return sip_squeeze(v, 3)


cdef inline void siphash128(const uint8_t *key, const uint8_t *data, size_t length,
                            uint64_t *out) noexcept nogil:
    """128 bits of SipHash-2-4; out[0], out[1] are the reference's 16 output bytes as little-endian words."""
    cdef uint64_t[4] v
    v[1] = 0xee
    sip_absorb(v, key, data, length, 2)
    v[2] ^= 0xee
    out[0] = sip_squeeze(v, 4)
    v[1] ^= 0xdd
    out[1] = sip_squeeze(v, 4)
