# F1: SHA-1 (FIPS 180-4) and HMAC (RFC 2104), as MESSAGE-INTEGRITY of STUN needs them: the generator signs
# every Binding Request at the moment it sends it, so that a million flows need no memory for requests.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

cdef enum:
    SHA1_BYTES = 20
    SHA1_BLOCK_BYTES = 64

ctypedef struct hmac_key:                # the states after the padded key: two blocks that are hashed once
    uint32_t inner[5]
    uint32_t outer[5]


cdef inline uint32_t rotated(uint32_t value, int bits) noexcept nogil:
    return value << bits | value >> (32 - bits)


cdef inline void sha1_start(uint32_t *h) noexcept nogil:
    h[0], h[1], h[2], h[3], h[4] = 0x67452301u, 0xefcdab89u, 0x98badcfeu, 0x10325476u, 0xc3d2e1f0u


cdef inline uint32_t sha1_mixed(int t, uint32_t b, uint32_t c, uint32_t d) noexcept nogil:
    """f_t and K_t of FIPS 180-4 sections 4.1.1 and 4.2.1, added."""
    if t < 20:
        return (d ^ (b & (c ^ d))) + 0x5a827999u
    if t < 40:
        return (b ^ c ^ d) + 0x6ed9eba1u
    if t < 60:
        return ((b & c) | (d & (b | c))) + 0x8f1bbcdcu
    return (b ^ c ^ d) + 0xca62c1d6u


cdef inline void sha1_block(uint32_t *h, const uint8_t *block) noexcept nogil:
    cdef uint32_t w[80]
    cdef uint32_t a = h[0], b = h[1], c = h[2], d = h[3], e = h[4], next
    cdef int t
    for t in range(16):
        w[t] = (<uint32_t>block[4 * t] << 24 | <uint32_t>block[4 * t + 1] << 16
                | <uint32_t>block[4 * t + 2] << 8 | block[4 * t + 3])
    for t in range(16, 80):
        w[t] = rotated(w[t - 3] ^ w[t - 8] ^ w[t - 14] ^ w[t - 16], 1)
    for t in range(80):
        next = rotated(a, 5) + sha1_mixed(t, b, c, d) + e + w[t]
        e = d
        d = c
        c = rotated(b, 30)
        b = a
        a = next
    h[0] += a
    h[1] += b
    h[2] += c
    h[3] += d
    h[4] += e


cdef inline void sha1_finish(uint32_t *h, const uint8_t *message, size_t length, size_t hashed,
                             uint8_t *out) noexcept nogil:
    """Hashes `message` with its padding into `h`, which has taken `hashed` bytes before it."""
    cdef uint8_t tail[2 * SHA1_BLOCK_BYTES]
    cdef size_t whole = length & ~<size_t>(SHA1_BLOCK_BYTES - 1), left = length - whole, at = 0, i
    cdef size_t tail_bytes = SHA1_BLOCK_BYTES
    cdef uint64_t bits = <uint64_t>(hashed + length) * 8
    if left >= SHA1_BLOCK_BYTES - 8:         # no room for the length
        tail_bytes = 2 * SHA1_BLOCK_BYTES
    while at < whole:
        sha1_block(h, message + at)
        at += SHA1_BLOCK_BYTES
    memset(tail, 0, sizeof(tail))
    memcpy(tail, message + whole, left)
    tail[left] = 0x80
    for i in range(8):
        tail[tail_bytes - 1 - i] = <uint8_t>(bits >> (8 * i))
    sha1_block(h, tail)
    if tail_bytes > SHA1_BLOCK_BYTES:
        sha1_block(h, tail + SHA1_BLOCK_BYTES)
    for i in range(<size_t>SHA1_BYTES):
        out[i] = <uint8_t>(h[i >> 2] >> (24 - 8 * (i & 3)))


cdef inline void hmac_sha1_prepare(hmac_key *key, const uint8_t *secret, size_t length) noexcept nogil:
    """`length` <= 64 bytes of secret."""
    cdef uint8_t inner[SHA1_BLOCK_BYTES]
    cdef uint8_t outer[SHA1_BLOCK_BYTES]
    cdef size_t i
    memset(inner, 0x36, sizeof(inner))
    memset(outer, 0x5c, sizeof(outer))
    for i in range(length):
        inner[i] ^= secret[i]
        outer[i] ^= secret[i]
    sha1_start(key.inner)
    sha1_start(key.outer)
    sha1_block(key.inner, inner)
    sha1_block(key.outer, outer)


cdef inline void hmac_sha1(const hmac_key *key, const uint8_t *message, size_t length,
                           uint8_t *out) noexcept nogil:
    cdef uint32_t h[5]
    cdef uint8_t digest[SHA1_BYTES]
    memcpy(h, key.inner, sizeof(h))
    sha1_finish(h, message, length, SHA1_BLOCK_BYTES, digest)
    memcpy(h, key.outer, sizeof(h))
    sha1_finish(h, digest, SHA1_BYTES, SHA1_BLOCK_BYTES, out)
