"""SRTP and SRTCP of one session (RFC 3711, RFC 7714) by libsrtp; every failure has a name.

The order inside is libsrtp's: replay check, authentication, decryption. A packet that fails leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import pylibsrtp
from pylibsrtp._binding import ffi, lib

from pyfastpath.errors import FastpathError
from pyfastpath.transceiver.keys import SrtpKeys, SrtpProfile

Transform = Callable[[bytes], bytes]
REPLAY_WINDOW: Final = 1024  # packets: 20 s of audio; two paths of an ICE restart may differ by seconds
TAG_BYTES: Final = 16  # at most (GCM); no MKI is used
INDEX_BYTES: Final = 4  # of SRTCP
SSRCS_MAX: Final = 8  # libsrtp keeps a context for each authentic one: bounded, since clients choose them

_PROFILES: Final = {
    SrtpProfile.AEAD_AES_128_GCM: pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    SrtpProfile.AES128_CM_SHA1_80: pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
}
# libsrtp's words -> the drop reason (counters.DROP_REASONS).
_REASONS: Final = {
    "replay check failed (bad index)": "srtp_replayed",
    "replay check failed (index too old)": "srtp_too_old",
    "packet index is too old to consider": "srtp_too_old",
    "authentication failure": "srtp_auth_failed",
    "error parsing data": "srtp_malformed",
    "unsupported parameter": "srtp_malformed",
    "cipher failure": "srtp_malformed",  # GCM without room for its tag
}


class SrtpError(FastpathError):
    """A packet that is not what it has to be. `reason` is a drop reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"this packet is not to be trusted ({reason})")
        self.reason = reason


class SrtpSession:
    """Both directions of one handshake's keys. Packets are whole RTP packets or RTCP compounds."""

    __slots__ = ("_ssrcs", "_unprotect", "_unprotect_rtcp", "protect", "protect_rtcp")

    protect: Transform
    """RTP to SRTP, for any SSRC. ValueError: longer than 1,484 bytes."""
    protect_rtcp: Transform
    """RTCP to SRTCP. ValueError: longer than 1,480 bytes."""

    def __init__(self, keys: SrtpKeys) -> None:
        sending = _session(keys.profile, keys.local, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        receiving = _session(keys.profile, keys.remote, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self.protect = _transform(sending, lib.srtp_protect, TAG_BYTES)
        self.protect_rtcp = _transform(sending, lib.srtp_protect_rtcp, TAG_BYTES + INDEX_BYTES)
        self._unprotect = _transform(receiving, lib.srtp_unprotect)
        self._unprotect_rtcp = _transform(receiving, lib.srtp_unprotect_rtcp)
        self._ssrcs: set[bytes] = set()

    def unprotect(self, packet: bytes) -> bytes:
        """SRTP to RTP. SrtpError with the reason."""
        if packet[8:12] in self._ssrcs:
            return self._unprotect(packet)
        return self._open(self._unprotect, packet, packet[8:12])

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """SRTCP to RTCP. SrtpError with the reason."""
        return self._open(self._unprotect_rtcp, packet, packet[4:8])

    def _open(self, unprotect: Transform, packet: bytes, ssrc: bytes) -> bytes:
        if ssrc not in self._ssrcs and len(self._ssrcs) >= SSRCS_MAX:
            raise SrtpError("srtp_too_many_ssrcs")
        plain = unprotect(packet)
        self._ssrcs.add(ssrc)
        return plain


def _session(profile: SrtpProfile, key: bytes, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=_PROFILES[profile])
    policy.window_size = REPLAY_WINDOW
    return pylibsrtp.Session(policy=policy)


def _transform(session: pylibsrtp.Session, call: Any, room_bytes: int = 0) -> Transform:
    """One of libsrtp's four calls. pylibsrtp's own method takes twice as long, because it prepares the call
    anew for every packet. room_bytes: what may grow behind it. SrtpError: libsrtp refuses."""
    handle, data, buffer, size = session._srtp, session._cdata, session._buffer, ffi.new("int *")
    longest = len(data) - room_bytes

    def transform(packet: bytes) -> bytes:
        length = len(packet)
        if length > longest:
            raise ValueError(f"{length} bytes are too long") if room_bytes else SrtpError("srtp_malformed")
        buffer[0:length] = packet
        size[0] = length
        status = call(handle[0], data, size)
        if status:
            raise SrtpError(_REASONS.get(pylibsrtp.ERRORS[status], "srtp_failed"))
        plain: bytes = buffer[0 : size[0]]
        return plain

    return transform
