# F1: a Binding Request (RFC 8489) as an ICE agent sends it, and the success response to one, for the
# generator and the sink. The relay itself never builds STUN.
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcpy

cdef enum:
    BINDING_TRANSACTION = 8              # offset of the 12-byte transaction id
    BINDING_HEADER_BYTES = 20
    BINDING_RESPONSE_BYTES = 44          # room for a success response to an IPv6 client

cdef inline bint binding_is(const uint8_t *data, size_t length, uint8_t kind_high) noexcept nogil:
    """kind_high 0: Binding Request 0x0001; 1: success response 0x0101 (RFC 8489 section 5)."""
    return (length >= BINDING_HEADER_BYTES and data[0] == kind_high and data[1] == 1 and data[4] == 0x21
            and data[5] == 0x12 and data[6] == 0xa4 and data[7] == 0x42)


cdef inline size_t binding_success(uint8_t *out, const uint8_t *request, const uint8_t *address,
                                   uint16_t port, uint8_t family) noexcept nogil:
    """Writes the success response with XOR-MAPPED-ADDRESS (RFC 8489 section 14.2) and returns its length.
    `address`: 4 or 16 bytes by family 4 or 6; `port` in host order; `request` at least a STUN header."""
    cdef size_t address_bytes = 4 if family == 4 else 16
    cdef size_t i
    out[0] = 1
    out[1] = 1
    out[2] = 0
    out[3] = <uint8_t>(8 + address_bytes)
    memcpy(out + 4, request + 4, 16)
    out[20] = 0
    out[21] = 0x20
    out[22] = 0
    out[23] = <uint8_t>(4 + address_bytes)
    out[24] = 0
    out[25] = 1 if family == 4 else 2
    out[26] = <uint8_t>(port >> 8) ^ 0x21
    out[27] = <uint8_t>port ^ 0x12
    for i in range(address_bytes):       # XOR with cookie and transaction id, as they stand in the header
        out[28 + i] = address[i] ^ request[4 + i]
    return 28 + address_bytes
