# F0: SipHash-2-4 (Aumasson, Bernstein 2012) with 64 or 128 bits of output: keyed, so that whoever chooses
# addresses, ufrags or trunk bytes can neither aim at collisions nor forge a tag. Host order is little endian.
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


cdef inline void sip_absorb(uint64_t *v, const uint8_t *key, const uint8_t *data,
                            size_t length) noexcept nogil:
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
        sip_round(v)
        sip_round(v)
        v[0] ^= word
        i += 8
    word = 0
    memcpy(&word, data + whole, length & 7)
    word |= <uint64_t>length << 56
    v[3] ^= word
    sip_round(v)
    sip_round(v)
    v[0] ^= word


cdef inline uint64_t sip_squeeze(uint64_t *v) noexcept nogil:
    sip_round(v)
    sip_round(v)
    sip_round(v)
    sip_round(v)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


cdef inline uint64_t siphash(const uint8_t *key, const uint8_t *data, size_t length) noexcept nogil:
    """64 bits of SipHash-2-4 under a 16-byte key. `data` may be NULL when length is 0."""
    cdef uint64_t[4] v
    v[1] = 0
    sip_absorb(v, key, data, length)
    v[2] ^= 0xff
    return sip_squeeze(v)


cdef inline void siphash128(const uint8_t *key, const uint8_t *data, size_t length,
                            uint64_t *out) noexcept nogil:
    """128 bits of SipHash-2-4; out[0], out[1] are the reference's 16 output bytes as little-endian words."""
    cdef uint64_t[4] v
    v[1] = 0xee
    sip_absorb(v, key, data, length)
    v[2] ^= 0xee
    out[0] = sip_squeeze(v)
    v[1] ^= 0xdd
    out[1] = sip_squeeze(v)
