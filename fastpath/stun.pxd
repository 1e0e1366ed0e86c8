# F1: STUN as the relay reads it (RFC 8489, RFC 8445): only what routing needs, and nothing is ever built or
# changed here, since MESSAGE-INTEGRITY covers it all.
from libc.stdint cimport uint8_t, uint16_t, uint32_t
from libc.string cimport memchr

cdef extern from "<zlib.h>" nogil:
    unsigned long crc32(unsigned long crc, const uint8_t *data, unsigned int length)

cdef extern from * nogil:
    """
    /* ice-char (RFC 8839 section 5.4): A-Z a-z 0-9 + / */
    static const unsigned char fp_ice_char[256] = {
        ['+'] = 1, ['/'] = 1, ['0' ... '9'] = 1, ['A' ... 'Z'] = 1, ['a' ... 'z'] = 1
    };
    """
    const uint8_t fp_ice_char[256]

cdef enum:
    STUN_OK = 0
    STUN_BAD = 1
    STUN_HEADER_BYTES = 20
    STUN_BINDING_REQUEST = 0x0001
    STUN_BINDING_SUCCESS = 0x0101
    STUN_ATTRIBUTES_MAX = 32            # an ICE check carries about ten
    STUN_USERNAME_BYTES = 509           # RFC 8489 section 14.3

cdef enum:                              # RFC 8489 section 18.3
    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    MESSAGE_INTEGRITY_SHA256 = 0x001c
    FINGERPRINT = 0x8028

ctypedef struct stun_message:
    uint16_t type
    const uint8_t *transaction          # 12 bytes
    const uint8_t *ufrag                # the server's, valid: before ':' in USERNAME; NULL without one
    size_t ufrag_length
    bint has_fingerprint

ctypedef struct stun_attribute:
    uint32_t type
    size_t length                       # without padding
    size_t value                        # offset in the message


cdef inline uint32_t read_u16(const uint8_t *data) noexcept nogil:
    return (<uint32_t>data[0] << 8) | data[1]


cdef inline bint stun_header_holds(const uint8_t *data, size_t length) noexcept nogil:
    """RFC 8489 section 5: two zero bits, magic cookie, and a length field that is the datagram's own."""
    return (length >= STUN_HEADER_BYTES and data[0] & 0xc0 == 0
            and data[4] == 0x21 and data[5] == 0x12 and data[6] == 0xa4 and data[7] == 0x42
            and read_u16(data + 2) == length - STUN_HEADER_BYTES and length & 3 == 0)


cdef inline bint stun_next(const uint8_t *data, size_t length, size_t *offset,
                           stun_attribute *out) noexcept nogil:
    """The attribute at `offset`, which then stands behind its padding. False when it ends past the message.
    Only for offset < length, both multiples of 4: the 4 bytes of its header are there."""
    cdef size_t at = offset[0]
    out.type = read_u16(data + at)
    out.length = read_u16(data + at + 2)
    out.value = at + 4
    offset[0] = at + 4 + ((out.length + 3) & ~<size_t>3)
    return offset[0] <= length


cdef inline bint ufrag_is_valid(const uint8_t *ufrag, size_t length) noexcept nogil:
    """4..256 ice-chars (RFC 8839 section 5.4)."""
    cdef size_t i
    cdef uint8_t all_ice = 1
    if length < 4 or length > 256:
        return False
    for i in range(length):
        all_ice &= fp_ice_char[ufrag[i]]
    return all_ice


cdef inline int stun_parse(const uint8_t *data, size_t length, stun_message *out) noexcept nogil:
    """STUN_OK, or STUN_BAD: malformed, a second USERNAME, or a Binding Request without a usable one: a server
    ufrag of 4..256 ice-chars and ':'. What follows MESSAGE-INTEGRITY is not believed, but FINGERPRINT."""
    cdef stun_attribute attribute
    cdef size_t offset = STUN_HEADER_BYTES, name = 0, name_length = 0
    cdef int count = 0
    cdef bint sealed = False
    cdef const uint8_t *colon
    if not stun_header_holds(data, length):
        return STUN_BAD
    out.type = <uint16_t>read_u16(data)
    out.transaction = data + 8
    out.ufrag = NULL
    out.ufrag_length = 0
    out.has_fingerprint = False
    while offset < length and count < STUN_ATTRIBUTES_MAX and not out.has_fingerprint:
        if not stun_next(data, length, &offset, &attribute):
            return STUN_BAD
        count += 1
        if attribute.type == FINGERPRINT:
            out.has_fingerprint = True
        elif attribute.type == MESSAGE_INTEGRITY or attribute.type == MESSAGE_INTEGRITY_SHA256:
            sealed = True
        elif attribute.type == USERNAME and not sealed:
            if name != 0 or attribute.length > STUN_USERNAME_BYTES:
                return STUN_BAD
            name = attribute.value
            name_length = attribute.length
    colon = <const uint8_t *>memchr(data + name, 0x3a, name_length) if name != 0 else NULL
    if colon != NULL and ufrag_is_valid(data + name, <size_t>(colon - data) - name):
        out.ufrag = data + name
        out.ufrag_length = <size_t>(colon - out.ufrag)
    return STUN_BAD if out.type == STUN_BINDING_REQUEST and out.ufrag == NULL else STUN_OK


cdef inline bint stun_fingerprint_holds(const uint8_t *data, size_t length) noexcept nogil:
    """True when a message that stun_parse accepts carries no FINGERPRINT, or one that is last and right: the
    CRC-32 of all before it, XOR 0x5354554e (RFC 8489 section 14.7)."""
    cdef stun_attribute attribute
    cdef size_t offset = STUN_HEADER_BYTES
    cdef uint32_t expected
    cdef int count = 0
    while offset < length and count < STUN_ATTRIBUTES_MAX:
        if not stun_next(data, length, &offset, &attribute):
            return False
        count += 1
        if attribute.type == FINGERPRINT:
            if attribute.length != 4 or offset != length:
                return False
            expected = <uint32_t>crc32(0, data, <unsigned int>(attribute.value - 4)) ^ 0x5354554eu
            return (read_u16(data + attribute.value) << 16 | read_u16(data + attribute.value + 2)) == expected
    return True
