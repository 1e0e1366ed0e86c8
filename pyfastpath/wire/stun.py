"""STUN (RFC 8489) as ICE uses it (RFC 8445): reading, building and checking messages.

`parse_message` is the twin of the data plane's stun.pxd: what it refuses, the relay drops as bad_stun.
"""

import hmac
import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from ipaddress import ip_address
from typing import Final

from pyfastpath.errors import WireError
from pyfastpath.types import Endpoint, canonical

MAGIC_COOKIE: Final = bytes.fromhex("2112a442")
HEADER_BYTES: Final = 20
TRANSACTION_BYTES: Final = 12
ATTRIBUTES_MAX: Final = 32  # walked; an ICE check carries about ten
USERNAME_BYTES_MAX: Final = 509  # RFC 8489, section 14.3

BINDING_REQUEST: Final = 0x0001
BINDING_INDICATION: Final = 0x0011
BINDING_SUCCESS: Final = 0x0101
BINDING_ERROR: Final = 0x0111

_ICE_CHARS: Final = re.compile(rb"[A-Za-z0-9+/]{4,256}")  # RFC 8839, section 5.4
_FINGERPRINT_XOR: Final = 0x5354554E
_INTEGRITY_BYTES: Final = 20  # HMAC-SHA1


class Attribute(IntEnum):
    """Attribute types (RFC 8489, section 18.3; RFC 8445, section 16.1)."""

    USERNAME = 0x0006
    MESSAGE_INTEGRITY = 0x0008
    ERROR_CODE = 0x0009
    UNKNOWN_ATTRIBUTES = 0x000A
    MESSAGE_INTEGRITY_SHA256 = 0x001C
    XOR_MAPPED_ADDRESS = 0x0020
    PRIORITY = 0x0024
    USE_CANDIDATE = 0x0025
    SOFTWARE = 0x8022
    FINGERPRINT = 0x8028
    ICE_CONTROLLED = 0x8029
    ICE_CONTROLLING = 0x802A


_UNDERSTOOD: Final = frozenset(Attribute)


@dataclass(frozen=True, slots=True)
class Message:
    """A well-formed message. `attributes` are those to be believed: (type, value without padding), none
    from behind MESSAGE-INTEGRITY."""

    type: int
    transaction: bytes
    attributes: tuple[tuple[int, bytes], ...] = ()
    has_fingerprint: bool = False

    def value(self, attribute: int) -> bytes | None:
        """Of the first attribute of this type."""
        return next((value for kind, value in self.attributes if kind == attribute), None)

    @property
    def ufrag(self) -> bytes | None:
        """The server's: what stands before ':' in USERNAME. None without a valid one."""
        name, colon, _ = (self.value(Attribute.USERNAME) or b"").partition(b":")
        return name if colon and is_ufrag(name) else None


@dataclass(frozen=True, slots=True)
class _Span:
    """An attribute where it stands: `start` of its header, `end` behind its padding."""

    type: int
    value: bytes
    start: int
    end: int


def is_ufrag(ufrag: bytes) -> bool:
    """4..256 ice-chars."""
    return _ICE_CHARS.fullmatch(ufrag) is not None


def parse_message(datagram: bytes) -> Message:
    """Read a message; WireError says what is wrong with it.

    Refused too: a second USERNAME, one of more than 509 bytes, a Binding Request without a usable one.
    """
    _check_header(datagram)
    believed: list[tuple[int, bytes]] = []
    sealed = has_fingerprint = False
    for span in _walk(datagram):
        if span.type == Attribute.FINGERPRINT:
            has_fingerprint = True
        elif not sealed:
            believed.append((span.type, span.value))
            sealed = span.type in {Attribute.MESSAGE_INTEGRITY, Attribute.MESSAGE_INTEGRITY_SHA256}
    names = [value for kind, value in believed if kind == Attribute.USERNAME]
    if len(names) > 1 or any(len(name) > USERNAME_BYTES_MAX for name in names):
        raise WireError("This STUN message has a second USERNAME, or one of more than 509 bytes.")
    kind = int.from_bytes(datagram[:2], "big")
    message = Message(kind, datagram[8:HEADER_BYTES], tuple(believed), has_fingerprint)
    if kind == BINDING_REQUEST and message.ufrag is None:
        raise WireError("This Binding Request has no USERNAME of a valid ufrag and ':'.")
    return message


def _check_header(datagram: bytes) -> None:
    if len(datagram) < HEADER_BYTES or datagram[0] & 0xC0 or datagram[4:8] != MAGIC_COOKIE:
        raise WireError("This is no STUN message: its header is too short or has no magic cookie.")
    if int.from_bytes(datagram[2:4], "big") != len(datagram) - HEADER_BYTES or len(datagram) % 4:
        raise WireError("The STUN header's length is not the datagram's, or no multiple of 4.")


def _walk(datagram: bytes) -> Iterator[_Span]:
    """At most 32 attributes, up to and including FINGERPRINT, which is the last one by definition."""
    at = HEADER_BYTES
    for _ in range(ATTRIBUTES_MAX):
        if at >= len(datagram):
            return
        kind = int.from_bytes(datagram[at : at + 2], "big")
        length = int.from_bytes(datagram[at + 2 : at + 4], "big")
        end = at + 4 + (length + 3) // 4 * 4
        if end > len(datagram):
            raise WireError(f"STUN attribute 0x{kind:04x} ends behind the message.")
        yield _Span(kind, datagram[at + 4 : at + 4 + length], at, end)
        if kind == Attribute.FINGERPRINT:
            return
        at = end


def fingerprint_holds(datagram: bytes) -> bool:
    """True when there is no FINGERPRINT, or it is the last attribute and right (RFC 8489, section 14.7)."""
    for span in _walk(datagram):
        if span.type == Attribute.FINGERPRINT:
            return span.end == len(datagram) and span.value == _fingerprint(datagram[: span.start])
    return True


def _fingerprint(before: bytes) -> bytes:
    return (zlib.crc32(before) ^ _FINGERPRINT_XOR).to_bytes(4, "big")


def integrity_holds(datagram: bytes, key: bytes) -> bool:
    """Does the first MESSAGE-INTEGRITY hold under this key? ICE: the password of the receiving side
    (RFC 8445, section 7.2.2). False without one."""
    for span in _walk(datagram):
        if span.type == Attribute.MESSAGE_INTEGRITY:
            return hmac.compare_digest(span.value, _integrity(datagram[: span.start], key))
    return False


def _integrity(before: bytes, key: bytes) -> bytes:
    """HMAC-SHA1 over all before it, the header's length as if it were the last (RFC 8489, section 14.5)."""
    return hmac.digest(key, _with_length(before, len(before) + 4 + _INTEGRITY_BYTES), "sha1")


def _with_length(message: bytes, total_bytes: int) -> bytes:
    return message[:2] + (total_bytes - HEADER_BYTES).to_bytes(2, "big") + message[4:]


def build_message(
    kind: int,
    transaction: bytes,
    attributes: Iterable[tuple[int, bytes]] = (),
    *,
    key: bytes | None = None,
    fingerprint: bool = True,
) -> bytes:
    """A whole message. With a `key` MESSAGE-INTEGRITY (HMAC-SHA1) follows the attributes."""
    if len(transaction) != TRANSACTION_BYTES:
        raise ValueError(f"a transaction id has {TRANSACTION_BYTES} bytes, not {len(transaction)}")
    message = kind.to_bytes(2, "big") + bytes(2) + MAGIC_COOKIE + transaction
    message += b"".join(_attribute(kind, value) for kind, value in attributes)
    if key is not None:
        message += _attribute(Attribute.MESSAGE_INTEGRITY, _integrity(message, key))
    if fingerprint:
        before = _with_length(message, len(message) + 8)
        message += _attribute(Attribute.FINGERPRINT, _fingerprint(before))
    return _with_length(message, len(message))


def _attribute(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value + bytes(-len(value) % 4)


def build_binding_request(
    transaction: bytes,
    username: bytes,
    *,
    key: bytes | None = None,
    attributes: Iterable[tuple[int, bytes]] = (),
    fingerprint: bool = True,
) -> bytes:
    """A connectivity check: `username` is the receiver's ufrag, ':' and the sender's (RFC 8445, 7.2.2)."""
    return build_message(
        BINDING_REQUEST,
        transaction,
        [(Attribute.USERNAME, username), *attributes],
        key=key,
        fingerprint=fingerprint,
    )


def build_binding_success(
    transaction: bytes, mapped: Endpoint, *, key: bytes | None = None, fingerprint: bool = True
) -> bytes:
    """The answer to a check: `mapped` is the transport address it came from."""
    attributes = [(Attribute.XOR_MAPPED_ADDRESS, _xor_address(mapped, transaction))]
    return build_message(BINDING_SUCCESS, transaction, attributes, key=key, fingerprint=fingerprint)


def build_binding_error(
    transaction: bytes,
    code: int,
    reason: str,
    *,
    key: bytes | None = None,
    unknown: Iterable[int] = (),
) -> bytes:
    """A refusal (RFC 8489, section 14.8). `unknown` are the attribute types of a 420."""
    attributes = [(Attribute.ERROR_CODE, bytes([0, 0, code // 100, code % 100]) + reason.encode())]
    types = b"".join(kind.to_bytes(2, "big") for kind in unknown)
    if types:
        attributes.append((Attribute.UNKNOWN_ATTRIBUTES, types))
    return build_message(BINDING_ERROR, transaction, attributes, key=key)


def error_code(message: Message) -> int | None:
    """300..699 of ERROR-CODE; None without one, or with one that RFC 8489 does not allow."""
    value = message.value(Attribute.ERROR_CODE)
    if value is None or len(value) < 4:
        return None
    hundreds, rest = value[2] & 7, value[3]
    return hundreds * 100 + rest if 3 <= hundreds <= 6 and rest < 100 else None


def unknown_attributes(message: Message) -> tuple[int, ...]:
    """Types that must be understood (0x0000..0x7fff) and are none of ours: a request with one is refused
    with 420 (RFC 8489, section 6.3.1)."""
    return tuple(kind for kind, _ in message.attributes if kind < 0x8000 and kind not in _UNDERSTOOD)


def mapped_address(message: Message) -> Endpoint | None:
    """XOR-MAPPED-ADDRESS (RFC 8489, section 14.2); None without one. WireError when it is malformed."""
    value = message.value(Attribute.XOR_MAPPED_ADDRESS)
    if value is None:
        return None
    sizes = {1: 4, 2: 16}
    if len(value) < 4 or len(value) - 4 != sizes.get(value[1], -1):
        raise WireError("This XOR-MAPPED-ADDRESS has neither an IPv4 nor an IPv6 address.")
    port = int.from_bytes(value[2:4], "big") ^ int.from_bytes(MAGIC_COOKIE[:2], "big")
    return Endpoint(canonical(ip_address(_xor(value[4:], message.transaction))), port)


def _xor_address(endpoint: Endpoint, transaction: bytes) -> bytes:
    port = endpoint.port ^ int.from_bytes(MAGIC_COOKIE[:2], "big")
    family = 1 if endpoint.family == 4 else 2
    return bytes([0, family]) + port.to_bytes(2, "big") + _xor(endpoint.address.packed, transaction)


def _xor(address: bytes, transaction: bytes) -> bytes:
    """IPv4: with the cookie; IPv6: with cookie and transaction id."""
    return bytes(a ^ b for a, b in zip(address, MAGIC_COOKIE + transaction, strict=False))
