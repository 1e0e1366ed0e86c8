# F1: token T1: 22 characters of 0-9 A-Z a-z that are one AES block and the id of its key. The
# ufrag travels in the clear, so looking up its characters may depend on them; what is decrypted is judged
# by one comparison, and AES itself runs in constant time.
from libc.stdint cimport int16_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t

from fastpath.aes cimport fp_aes, fp_aes_decrypt
from fastpath.layout cimport FP_CLASS_bulk

cdef extern from * nogil:
    """
    /* Value of a base-62 digit; 0x80 marks every other byte. */
    static const unsigned char fp_base62[256] = {
        #define X8 0x80,0x80,0x80,0x80,0x80,0x80,0x80,0x80
        X8, X8, X8, X8, X8, X8,
        0,1,2,3,4,5,6,7, 8,9,0x80,0x80,0x80,0x80,0x80,0x80,
        0x80,10,11,12,13,14,15,16, 17,18,19,20,21,22,23,24, 25,26,27,28,29,30,31,32,
        33,34,35,0x80,0x80,0x80,0x80,0x80,
        0x80,36,37,38,39,40,41,42, 43,44,45,46,47,48,49,50, 51,52,53,54,55,56,57,58,
        59,60,61,0x80,0x80,0x80,0x80,0x80,
        X8, X8, X8, X8, X8, X8, X8, X8, X8, X8, X8, X8, X8, X8, X8, X8
        #undef X8
    };
    """
    const uint8_t fp_base62[256]
    ctypedef unsigned long long uint128_t "unsigned __int128"

cdef enum:
    TOKEN_CHARACTERS = 22
    TOKEN_OK = 0
    TOKEN_FORGED = 1
    TOKEN_EXPIRED = 2               # past, or too far ahead; the fields are filled

cdef enum:
    EXPIRY_UNIT_S = 32
    EXPIRY_AHEAD_S = 86400          # nobody mints further ahead
    EXPIRY_TOLERANCE_S = 64         # for clocks, on both sides

ctypedef struct token_fields:
    uint16_t expires                # units of 32 s since the Unix epoch, mod 2^16
    uint16_t cluster
    uint16_t xcvr
    uint8_t incarnation
    uint8_t traffic_class           # FP_CLASS_*: a class of the wire that does not exist reads as bulk
    uint64_t session


cdef inline bint token_has_shape(const uint8_t *ufrag, size_t length) noexcept nogil:
    """22 letters and digits: while token keys are configured, such a ufrag is a token or refused."""
    cdef uint8_t strange = 0
    cdef int i
    if length != TOKEN_CHARACTERS:
        return False
    for i in range(TOKEN_CHARACTERS):
        strange |= fp_base62[ufrag[i]]
    return strange & 0x80 == 0


cdef inline uint64_t base62_ten(const uint8_t *digits) noexcept nogil:
    """Ten digits as a number below 62^10 < 2^60. Pairs first: they do not wait for each other."""
    cdef uint64_t value = 0
    cdef int i
    for i in range(0, 10, 2):
        value = value * 3844 + (<uint64_t>fp_base62[digits[i]] * 62 + fp_base62[digits[i + 1]])
    return value


cdef inline uint32_t token_decode(const uint8_t *ufrag22, uint8_t *block) noexcept nogil:
    """V = kid * 2^128 + C: writes the 16 bytes of C and gives kid (7 is never valid)."""
    cdef uint64_t ten = 839299365868340224u       # 62^10
    cdef uint64_t first = <uint64_t>fp_base62[ufrag22[0]] * 62 + fp_base62[ufrag22[1]]
    cdef uint128_t head = <uint128_t>first * ten + base62_ten(ufrag22 + 2)          # 12 digits, 72 bits
    cdef uint128_t low = <uint128_t>(<uint64_t>head) * ten + base62_ten(ufrag22 + 12)
    cdef uint128_t high = <uint128_t>(<uint64_t>(head >> 64)) * ten + <uint64_t>(low >> 64)
    write_u64(block, <uint64_t>high)
    write_u64(block + 8, <uint64_t>low)
    return <uint32_t>(high >> 64)


cdef inline void write_u64(uint8_t *out, uint64_t value) noexcept nogil:
    cdef int i
    for i in range(8):
        out[i] = <uint8_t>(value >> (56 - 8 * i))


cdef inline uint64_t read_u64(const uint8_t *data) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(8):
        value = (value << 8) | data[i]
    return value


cdef inline bint token_in_time(uint16_t expires, int64_t wall_s) noexcept nogil:
    """Expiry counts modulo 2^16 units (24 days), so it is read as the moment nearest to now."""
    cdef int64_t now_units = wall_s >> 5
    cdef int16_t ahead = <int16_t>(expires - <uint16_t>now_units)
    cdef int64_t left_s = <int64_t>ahead * EXPIRY_UNIT_S - (wall_s & (EXPIRY_UNIT_S - 1))
    return -EXPIRY_TOLERANCE_S <= left_s <= EXPIRY_AHEAD_S + EXPIRY_TOLERANCE_S


cdef inline int token_parse(const fp_aes *keys, uint32_t kid_mask, const uint8_t *ufrag22, int64_t wall_s,
                            token_fields *out) noexcept nogil:
    """TOKEN_OK, TOKEN_FORGED or TOKEN_EXPIRED for 22 bytes. keys: by kid 0..6, kid_mask: those in use."""
    cdef uint8_t block[16]
    cdef uint8_t plain[16]
    cdef uint32_t kid
    cdef uint64_t high, low
    if not token_has_shape(ufrag22, TOKEN_CHARACTERS):
        return TOKEN_FORGED
    kid = token_decode(ufrag22, block)
    if kid > 6 or not (kid_mask >> kid) & 1:
        return TOKEN_FORGED
    fp_aes_decrypt(&keys[kid], block, plain)
    high = read_u64(plain)
    low = read_u64(plain + 8)
    if (low & 0xffffffffffu) | (high & 0x1000) != 0:          # the tag (bits 88..127) and bit 51
        return TOKEN_FORGED
    out.expires = <uint16_t>(high >> 48)
    out.cluster = <uint16_t>((high >> 36) & 0xfff)
    out.xcvr = <uint16_t>((high >> 20) & 0xffff)
    out.incarnation = <uint8_t>((high >> 16) & 0xf)
    out.traffic_class = <uint8_t>((high >> 13) & 7)
    if out.traffic_class > FP_CLASS_bulk:
        out.traffic_class = FP_CLASS_bulk
    out.session = ((high & 0xfff) << 24) | (low >> 40)        # bits 52..87
    return TOKEN_OK if token_in_time(out.expires, wall_s) else TOKEN_EXPIRED
