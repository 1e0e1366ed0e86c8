"""The certificate a transceiver shows in DTLS: self-signed, made at start, one a process (RFC 8827, 6.5).

Clients know its fingerprint from the answer; names and dates in it mean nothing to them.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cached_property
from hashlib import sha256, sha384, sha512
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from pyfastpath.transceiver.keys import SrtpProfile

Fingerprint = tuple[str, bytes]
"""Hash name as in SDP (`sha-256`), digest of the DER certificate (RFC 8122)."""

# Weakest first. SHA-1 and MD5 are no proof of anything any more.
_DIGESTS: Final = {"sha-256": sha256, "sha-384": sha384, "sha-512": sha512}

_NAME: Final = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pyfastpath")])
_BEFORE: Final = timedelta(days=1)  # clients' clocks
_AFTER: Final = timedelta(days=3650)

_DTLS_1_2: Final = 0xFEFD
# RFC 8827, section 6.5, and what the certificates of other servers need when we are the DTLS client.
_CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA"
)


class Certificate:
    """An ECDSA P-256 key, its certificate, and the OpenSSL context made of them."""

    def __init__(self, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self._certificate = certificate

    @classmethod
    def generate(cls, now_wall_s: float) -> Certificate:
        """A new one, valid from a day before `now_wall_s` (seconds since 1970)."""
        key = ec.generate_private_key(ec.SECP256R1())
        now = datetime.fromtimestamp(now_wall_s, UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(_NAME)
            .issuer_name(_NAME)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _BEFORE)
            .not_valid_after(now + _AFTER)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """For the answer."""
        return ("sha-256", _digest("sha-256", self._certificate))

    @cached_property
    def context(self) -> SSL.Context:
        """For every DTLS 1.2 connection of this process, in either role.

        The other side must show a certificate. It is accepted when the connection's app data, the
        fingerprints of the offer, name it.
        """
        context = SSL.Context(SSL.DTLS_METHOD)
        context.set_min_proto_version(_DTLS_1_2)
        context.set_max_proto_version(_DTLS_1_2)
        context.set_options(SSL.OP_NO_QUERY_MTU | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _is_expected)
        context.set_cipher_list(_CIPHERS.encode())
        context.set_tlsext_use_srtp(":".join(profile.value for profile in SrtpProfile).encode())
        context.use_certificate(self._certificate)
        context.use_privatekey(self._key)
        return context


def is_named(certificate: x509.Certificate, fingerprints: Iterable[Fingerprint]) -> bool:
    """Does the strongest of these fingerprints that we understand name the certificate? Several of one
    strength: any of them (RFC 8122, section 5)."""
    said = [(name.lower(), digest) for name, digest in fingerprints]
    for name in reversed(_DIGESTS):
        wanted = [digest for other, digest in said if other == name]
        if wanted:
            return _digest(name, certificate) in wanted
    return False


def _digest(name: str, certificate: x509.Certificate) -> bytes:
    return _DIGESTS[name](certificate.public_bytes(Encoding.DER)).digest()


def _is_expected(connection: SSL.Connection, certificate: object, error: int, depth: int, ok: int) -> bool:
    """OpenSSL's verdict does not matter: certificates are self-signed. What stands above the first one in a
    chain does not either."""
    if depth > 0:
        return True
    try:
        shown = certificate.to_cryptography()  # type: ignore[attr-defined]
    except Exception:  # of many kinds: OpenSSL reads more than cryptography does
        return False
    return is_named(shown, connection.get_app_data())
