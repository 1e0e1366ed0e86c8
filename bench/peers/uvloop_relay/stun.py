"""The server ufrag of a STUN Binding Request: the only thing the reference relay reads."""

import struct

MAGIC_COOKIE = 0x2112A442
BINDING_REQUEST = 0x0001
USERNAME = 0x0006
HEADER_BYTES = 20


def server_ufrag(datagram: bytes) -> bytes | None:
    """What stands before ':' in the USERNAME (RFC 8489 sections 5 and 14.3), None if there is none."""
    if len(datagram) < HEADER_BYTES:
        return None
    kind, length, cookie = struct.unpack_from("!HHI", datagram)
    if kind != BINDING_REQUEST or cookie != MAGIC_COOKIE or length != len(datagram) - HEADER_BYTES:
        return None
    offset = HEADER_BYTES
    while offset + 4 <= len(datagram):
        attribute, size = struct.unpack_from("!HH", datagram, offset)
        if offset + 4 + size > len(datagram):
            return None
        if attribute == USERNAME:
            ufrag, colon, _ = datagram[offset + 4 : offset + 4 + size].partition(b":")
            return ufrag if colon and ufrag else None
        offset += 4 + (size + 3 & ~3)
    return None
