"""Texts that only holders of one secret can make or read: encrypted and authenticated, kept by the client.

AES-SIV (RFC 5297) under a key derived for one purpose (HKDF, RFC 5869), so that a sealed text of one kind
never opens as another. The same content gives the same text.
"""

import base64
import binascii
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_KEY_BYTES: Final = 32  # AES-SIV-256: two keys of 128 bits
_TAG_BYTES: Final = 16


class Sealer:
    """Seals and opens texts of one purpose, all under one secret."""

    def __init__(self, secret: bytes, purpose: str) -> None:
        """secret: 16 bytes or more of randomness; purpose: what the texts are, any other opens nothing."""
        derived = HKDF(SHA256(), _KEY_BYTES, salt=None, info=f"fastpath {purpose}".encode()).derive(secret)
        self._cipher = AESSIV(derived)

    def seal(self, content: bytes) -> str:
        """Letters, digits, - and _: 4/3 of the content and 22 more."""
        return base64.urlsafe_b64encode(self._cipher.encrypt(content, None)).rstrip(b"=").decode()

    def open(self, text: str) -> bytes | None:
        """The content; None for whatever this secret did not seal for this purpose."""
        try:
            sealed = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", validate=True)
            if len(sealed) < _TAG_BYTES:
                return None
            content = self._cipher.decrypt(sealed, None)
        except (binascii.Error, UnicodeEncodeError, InvalidTag):
            return None
        # Base 64 leaves spare bits at the end: only the one spelling that `seal` gives is a name.
        return content if self.seal(content) == text else None
