"""SRTP and SRTCP of one session (RFC 3711, RFC 7714) by libsrtp; every failure has a name.

The order inside is libsrtp's: replay check, authentication, decryption. A packet that fails leaves no trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pylibsrtp

from pyfastpath.errors import FastpathError
from pyfastpath.transceiver.keys import SrtpKeys, SrtpProfile

REPLAY_WINDOW: Final = 1024  # packets: 20 s of audio; two paths of an ICE restart may differ by seconds
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

    __slots__ = ("_receiving", "_sending", "_ssrcs", "protect", "protect_rtcp")

    protect: Callable[[bytes], bytes]
    """RTP to SRTP, for any SSRC. ValueError: longer than 1,356 bytes."""
    protect_rtcp: Callable[[bytes], bytes]
    """RTCP to SRTCP. ValueError: longer than 1,352 bytes."""

    def __init__(self, keys: SrtpKeys) -> None:
        self._sending = _session(keys.profile, keys.local, pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self._receiving = _session(keys.profile, keys.remote, pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self._ssrcs: set[bytes] = set()
        self.protect = self._sending.protect
        self.protect_rtcp = self._sending.protect_rtcp

    def unprotect(self, packet: bytes) -> bytes:
        """SRTP to RTP. SrtpError with the reason."""
        return self._open(self._receiving.unprotect, packet, packet[8:12])

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """SRTCP to RTCP. SrtpError with the reason."""
        return self._open(self._receiving.unprotect_rtcp, packet, packet[4:8])

    def _open(self, unprotect: Callable[[bytes], bytes], packet: bytes, ssrc: bytes) -> bytes:
        if ssrc in self._ssrcs:
            try:
                return unprotect(packet)
            except (pylibsrtp.Error, ValueError) as error:
                raise SrtpError(_reason_of(error)) from None
        if len(self._ssrcs) >= SSRCS_MAX:
            raise SrtpError("srtp_too_many_ssrcs")
        try:
            plain = unprotect(packet)
        except (pylibsrtp.Error, ValueError) as error:
            raise SrtpError(_reason_of(error)) from None
        self._ssrcs.add(ssrc)
        return plain


def _session(profile: SrtpProfile, key: bytes, direction: int) -> pylibsrtp.Session:
    policy = pylibsrtp.Policy(key=key, ssrc_type=direction, srtp_profile=_PROFILES[profile])
    policy.window_size = REPLAY_WINDOW
    return pylibsrtp.Session(policy=policy)


def _reason_of(error: pylibsrtp.Error | ValueError) -> str:
    """ValueError is pylibsrtp's for a packet beyond its buffer."""
    return "srtp_malformed" if isinstance(error, ValueError) else _REASONS.get(str(error), "srtp_failed")
