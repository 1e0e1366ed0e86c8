"""What a client's datagram is, by its first byte (RFC 7983, section 7)."""

from enum import IntEnum


class Kind(IntEnum):
    """The numbers are those of the data plane's leaf."""

    NOT_WEBRTC = 0
    STUN = 1
    DTLS = 2
    RTP = 3  # RTP or RTCP


def demux(datagram: bytes) -> Kind:
    """STUN 0..3, DTLS 20..63, RTP and RTCP 128..191; an empty datagram and the rest are none of ours."""
    if not datagram:
        return Kind.NOT_WEBRTC
    first = datagram[0]
    if first <= 3:
        return Kind.STUN
    if 20 <= first <= 63:
        return Kind.DTLS
    if 128 <= first <= 191:
        return Kind.RTP
    return Kind.NOT_WEBRTC
