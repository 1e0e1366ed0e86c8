# F1: the trunk FT1 between relay and transceiver: header, records, tag. All integers big endian.
#
#   datagram  header record* [tag]
#   header    'F' 'T' | version 1 | flags: bit 0 tagged, bits 1-2 key id | epoch u32 | sequence u32
#   record    u16 payload length | u8 flags | u8 ingress | u16 client port | client address 4 or 16 | payload
#   flags     bits 0-1 ECN, bit 2 IPv6, bit 3 CONFIRMED, bit 4 CONTROL, bits 5-7 zero
#
# A record of length 0, or fewer than 2 bytes left, is padding to the end.
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset

from fastpath.layout cimport fp_client
from fastpath.siphash cimport siphash128

cdef enum:
    TRUNK_HEADER_BYTES = 12
    TRUNK_TAG_BYTES = 16
    TRUNK_VERSION = 1

cdef enum:                      # flags of a record
    TRUNK_ECN = 3
    TRUNK_IPV6 = 4
    TRUNK_CONFIRMED = 8
    TRUNK_CONTROL = 16
    TRUNK_RESERVED = 0xe0

cdef enum:                      # first payload byte of a control record
    CONTROL_PING = 1
    CONTROL_PONG = 2
    CONTROL_STATE = 3
    CONTROL_FLOW_CLOSED = 4

cdef enum:
    TRUNK_OK = 0
    TRUNK_BAD = 1
    TRUNK_RECORD = 2            # a record is in `out`, `offset` stands behind it
    TRUNK_END = 3
    TRUNK_BAD_RECORD = 4        # `offset` stands where the next call goes on: behind it, or at the end

ctypedef struct trunk_header:
    bint tagged
    uint8_t key_id
    uint32_t epoch
    uint32_t sequence

ctypedef struct trunk_record:
    const uint8_t *payload
    uint16_t length
    uint8_t flags
    fp_client client


cdef inline uint32_t read_u32(const uint8_t *data) noexcept nogil:
    return (<uint32_t>data[0] << 24) | (<uint32_t>data[1] << 16) | (<uint32_t>data[2] << 8) | data[3]


cdef inline void write_u32(uint8_t *out, uint32_t value) noexcept nogil:
    out[0] = <uint8_t>(value >> 24)
    out[1] = <uint8_t>(value >> 16)
    out[2] = <uint8_t>(value >> 8)
    out[3] = <uint8_t>value


cdef inline int trunk_parse_header(const uint8_t *data, size_t length, trunk_header *out) noexcept nogil:
    """TRUNK_OK, or TRUNK_BAD: too short (for its tag), not FT1, or reserved flag bits."""
    if (length < TRUNK_HEADER_BYTES or data[0] != 0x46 or data[1] != 0x54 or data[2] != TRUNK_VERSION
            or data[3] & 0xf8):
        return TRUNK_BAD
    out.tagged = data[3] & 1
    out.key_id = data[3] >> 1
    out.epoch = read_u32(data + 4)
    out.sequence = read_u32(data + 8)
    if out.tagged and length < TRUNK_HEADER_BYTES + TRUNK_TAG_BYTES:
        return TRUNK_BAD
    return TRUNK_OK


cdef inline bint must_not_travel(const uint8_t *address) noexcept nogil:
    """::ffff:0:0/96 and 64:ff9b::/96 hide an IPv4 address, fe80::/10 means nothing on another link."""
    cdef uint64_t middle
    if address[0] == 0xfe and address[1] & 0xc0 == 0x80:
        return True
    memcpy(&middle, address + 4, 8)
    if read_u32(address) == 0x0064ff9b and middle == 0:
        return True
    memcpy(&middle, address, 8)
    return middle == 0 and read_u32(address + 8) == 0xffff


cdef inline int trunk_next_record(const uint8_t *data, size_t length, size_t *offset,
                                  trunk_record *out) noexcept nogil:
    """The record at `offset` of a datagram without its tag; offset begins at TRUNK_HEADER_BYTES."""
    cdef size_t at = offset[0], address_bytes, payload_bytes
    if length - at < 2 or (data[at] | data[at + 1]) == 0:
        offset[0] = length
        return TRUNK_END
    payload_bytes = (<size_t>data[at] << 8) | data[at + 1]
    address_bytes = 16 if length - at > 2 and data[at + 2] & TRUNK_IPV6 else 4
    offset[0] = length
    if length - at < 6 + address_bytes + payload_bytes or data[at + 2] & TRUNK_RESERVED:
        return TRUNK_BAD_RECORD
    offset[0] = at + 6 + address_bytes + payload_bytes
    out.length = <uint16_t>payload_bytes
    out.flags = data[at + 2]
    out.payload = data + at + 6 + address_bytes
    memset(&out.client, 0, sizeof(fp_client))
    memcpy(out.client.address, data + at + 6, address_bytes)
    out.client.port = <uint16_t>((<uint16_t>data[at + 4] << 8) | data[at + 5])
    out.client.ingress = data[at + 3]
    out.client.family = 6 if address_bytes == 16 else 4
    return TRUNK_BAD_RECORD if address_bytes == 16 and must_not_travel(out.client.address) else TRUNK_RECORD


cdef inline uint32_t trunk_count_records(const uint8_t *data, size_t length) noexcept nogil:
    """How many records a datagram of our own making carries."""
    cdef size_t offset = TRUNK_HEADER_BYTES, end = length - (TRUNK_TAG_BYTES if data[3] & 1 else 0)
    cdef trunk_record record
    cdef uint32_t count = 0
    while trunk_next_record(data, end, &offset, &record) != TRUNK_END:
        count += 1
    return count


cdef inline size_t trunk_record_bytes(uint8_t family, size_t payload_length) noexcept nogil:
    """What a record takes in a bundle: 10 bytes more than its payload over IPv4, 22 over IPv6."""
    return payload_length + (22 if family == 6 else 10)


cdef inline void trunk_build_header(uint8_t *out, bint tagged, uint8_t key_id, uint32_t epoch,
                                    uint32_t sequence) noexcept nogil:
    """Writes TRUNK_HEADER_BYTES. key_id 0..3."""
    out[0] = 0x46               # 'F'
    out[1] = 0x54               # 'T'
    out[2] = TRUNK_VERSION
    out[3] = <uint8_t>((key_id & 3) << 1) | <uint8_t>(1 if tagged else 0)
    write_u32(out + 4, epoch)
    write_u32(out + 8, sequence)


cdef inline uint8_t *trunk_build_record_header(uint8_t *out, uint8_t flags, const fp_client *client,
                                               uint16_t length) noexcept nogil:
    """Writes what stands before the payload (10 or 22 bytes, by family); gives where that goes."""
    cdef size_t address_bytes = 16 if client.family == 6 else 4
    out[0] = <uint8_t>(length >> 8)
    out[1] = <uint8_t>(length & 0xff)
    out[2] = (flags & <uint8_t>~TRUNK_IPV6) | <uint8_t>(TRUNK_IPV6 if client.family == 6 else 0)
    out[3] = client.ingress
    out[4] = <uint8_t>(client.port >> 8)
    out[5] = <uint8_t>(client.port & 0xff)
    memcpy(out + 6, client, address_bytes)          # the address comes first
    return out + 6 + address_bytes


cdef inline void trunk_tag(const uint8_t *key, const uint8_t *data, size_t length,
                           uint8_t *out) noexcept nogil:
    """Writes the TRUNK_TAG_BYTES that follow `data`: SipHash-2-4-128 under the direction's key."""
    cdef uint64_t tag[2]
    siphash128(key, data, length, tag)
    memcpy(out, tag, TRUNK_TAG_BYTES)


cdef inline bint trunk_tag_holds(const uint8_t *key, const uint8_t *data, size_t length) noexcept nogil:
    """Is the end of a whole datagram the tag of what stands before it? Compared in constant time."""
    cdef uint64_t expected[2]
    cdef uint64_t found[2]
    if length < TRUNK_TAG_BYTES:
        return False
    siphash128(key, data, length - TRUNK_TAG_BYTES, expected)
    memcpy(found, data + length - TRUNK_TAG_BYTES, TRUNK_TAG_BYTES)
    return ((expected[0] ^ found[0]) | (expected[1] ^ found[1])) == 0
