# F1: what a client's datagram is, by its first byte (RFC 7983, section 7).
from libc.stdint cimport uint8_t

cdef enum:
    DEMUX_NOT_WEBRTC = 0
    DEMUX_STUN = 1
    DEMUX_DTLS = 2
    DEMUX_RTP = 3                    # RTP or RTCP


cdef inline int demux(const uint8_t *data, size_t length) noexcept nogil:
    if length == 0:
        return DEMUX_NOT_WEBRTC
    if 128 <= data[0] <= 191:        # most datagrams of a call
        return DEMUX_RTP
    if data[0] <= 3:
        return DEMUX_STUN
    if 20 <= data[0] <= 63:
        return DEMUX_DTLS
    return DEMUX_NOT_WEBRTC
