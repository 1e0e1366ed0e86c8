"""A captured STUN message made the message of one session. Pure.

Each session of a replay asks under a ufrag of its own and with transaction ids of its own; the relay knows
flows by both. So USERNAME and transaction id are replaced, an IPv6 XOR-MAPPED-ADDRESS is masked anew, and
what protects the message is computed again: MESSAGE-INTEGRITY (RFC 8489 section 14.5; its SHA-256 and its
short form too) where the password is known, FINGERPRINT always. Everything else stays byte for byte.
"""

from __future__ import annotations

import hmac
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pyfastpath.wire.stun import HEADER_BYTES, MAGIC_COOKIE, TRANSACTION_BYTES, Attribute

MASK_MAX: Final = 1 << 8 * TRANSACTION_BYTES
_SHORT_INTEGRITY: Final = 0xC060  # libwebrtc's GOOG-MESSAGE-INTEGRITY-32: 4 bytes of HMAC-SHA1
_DIGESTS: Final = {
    Attribute.MESSAGE_INTEGRITY: "sha1",
    Attribute.MESSAGE_INTEGRITY_SHA256: "sha256",
    _SHORT_INTEGRITY: "sha1",
}
_FINGERPRINT_XOR: Final = 0x5354554E
_IPV6: Final = 2


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes a message one session's: captured ufrag -> its own, and the mask of transaction ids."""

    ufrags: Mapping[bytes, bytes]
    mask: int

    def transaction(self, captured: bytes) -> bytes:
        """Its own id for one of the capture's: equal ones stay equal, different ones different."""
        return (int.from_bytes(captured, "big") ^ self.mask).to_bytes(TRANSACTION_BYTES, "big")


@dataclass(frozen=True, slots=True)
class _Part:
    """One attribute, or several that stay as they are (kind 0). `value` is without header and padding."""

    kind: int
    value: bytes


class Template:
    """A captured message, taken apart once and built for any number of sessions.

    payload has been read by `stun.parse_message`. passwords: those of the flow's sides; the one that signed
    the message is found by trying. `signed` says whether one did; None: it carries no MESSAGE-INTEGRITY.
    """

    def __init__(self, payload: bytes, passwords: Iterable[bytes] = ()) -> None:
        self._head = payload[:2]
        self._transaction = payload[8:HEADER_BYTES]
        self._parts: list[_Part] = []
        self._key: bytes | None = None
        self.signed: bool | None = None
        at = kept = HEADER_BYTES
        while at + 4 <= len(payload):
            kind = int.from_bytes(payload[at : at + 2], "big")
            length = int.from_bytes(payload[at + 2 : at + 4], "big")
            end = at + 4 + (length + 3) // 4 * 4
            if end > len(payload):
                break  # behind FINGERPRINT anything may stand
            if kind in _REWRITTEN:
                self._keep(payload[kept:at])
                value = payload[at + 4 : at + 4 + length]
                if kind in _DIGESTS:
                    self._find_key(payload[:at], kind, value, passwords)
                self._parts.append(_Part(kind, value))
                kept = end
            at = end
        self._keep(payload[kept:])

    def _keep(self, attributes: bytes) -> None:
        if attributes:
            self._parts.append(_Part(0, attributes))

    def _find_key(self, before: bytes, kind: int, value: bytes, passwords: Iterable[bytes]) -> None:
        if self.signed is None:
            self._key = next(
                (key for key in passwords if _digest(before, kind, len(value), key) == value), None
            )
            self.signed = self._key is not None

    def build(self, identity: Identity) -> bytes:
        """The message of one session."""
        transaction = identity.transaction(self._transaction)
        message = self._head + bytes(2) + MAGIC_COOKIE + transaction
        for part in self._parts:
            message += part.value if part.kind == 0 else self._attribute(part, message, identity, transaction)
        return _with_length(message, len(message))

    def _attribute(self, part: _Part, before: bytes, identity: Identity, transaction: bytes) -> bytes:
        value = part.value
        if part.kind == Attribute.USERNAME:
            value = b":".join(identity.ufrags.get(name, name) for name in value.split(b":"))
        elif part.kind == Attribute.XOR_MAPPED_ADDRESS:
            if value[1:2] == bytes([_IPV6]):  # an IPv4 address is masked with the cookie alone
                value = value[:8] + _xor(_xor(value[8:], self._transaction), transaction)
        elif part.kind == Attribute.FINGERPRINT:
            sum32 = zlib.crc32(_with_length(before, len(before) + 8)) ^ _FINGERPRINT_XOR
            value = sum32.to_bytes(4, "big")
        elif self._key is not None:
            value = _digest(before, part.kind, len(value), self._key)
        return part.kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


_REWRITTEN: Final = frozenset(
    {Attribute.USERNAME, Attribute.XOR_MAPPED_ADDRESS, Attribute.FINGERPRINT, *_DIGESTS}
)


def _digest(before: bytes, kind: int, size_bytes: int, key: bytes) -> bytes:
    """HMAC over all before it, the header's length as if it were the last attribute."""
    covered = _with_length(before, len(before) + 4 + size_bytes)
    return hmac.digest(key, covered, _DIGESTS[kind])[:size_bytes]


def _with_length(message: bytes, total_bytes: int) -> bytes:
    return message[:2] + (total_bytes - HEADER_BYTES).to_bytes(2, "big") + message[4:]


def _xor(value: bytes, mask: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(value, mask, strict=False)) + value[len(mask) :]
