"""What a DTLS handshake gives and SRTP takes: profile and master keys (RFC 5764)."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class SrtpProfile(Enum):
    """Protection profiles in order of preference; the values are OpenSSL's names (RFC 7714, RFC 5764)."""

    AEAD_AES_128_GCM = "SRTP_AEAD_AES_128_GCM"
    AES128_CM_SHA1_80 = "SRTP_AES128_CM_SHA1_80"

    @property
    def key_bytes(self) -> int:
        """Length of a master key."""
        return 16

    @property
    def salt_bytes(self) -> int:
        """Length of a master salt: 96 bits for GCM, 112 for counter mode."""
        return 12 if self is SrtpProfile.AEAD_AES_128_GCM else 14

    @property
    def exported_bytes(self) -> int:
        """What the exporter "EXTRACTOR-dtls_srtp" has to give: two keys and two salts."""
        return 2 * (self.key_bytes + self.salt_bytes)


@dataclass(frozen=True, slots=True)
class SrtpKeys:
    """Each side's master key with its salt behind it. Never shown: neither printed nor logged."""

    profile: SrtpProfile
    local: bytes = field(repr=False)  # protects what we send
    remote: bytes = field(repr=False)  # unprotects what we receive

    def __post_init__(self) -> None:
        wanted = self.profile.key_bytes + self.profile.salt_bytes
        if len(self.local) != wanted or len(self.remote) != wanted:
            raise ValueError(f"{self.profile.value} wants keys of {wanted} bytes, salt included")

    @classmethod
    def from_exported(cls, profile: SrtpProfile, material: bytes, *, is_client: bool) -> SrtpKeys:
        """Cut the exported keying material (RFC 5764, section 4.2): client key, server key, client salt,
        server salt. `is_client` is our role in the handshake."""
        if len(material) != profile.exported_bytes:
            raise ValueError(f"{profile.value} wants {profile.exported_bytes} bytes of keying material")
        key, salt = profile.key_bytes, profile.salt_bytes
        client = material[:key] + material[2 * key : 2 * key + salt]
        server = material[key : 2 * key] + material[2 * key + salt :]
        return cls(profile, client, server) if is_client else cls(profile, server, client)

    def swapped(self) -> SrtpKeys:
        """The same keys as the other side holds them."""
        return SrtpKeys(self.profile, self.remote, self.local)
