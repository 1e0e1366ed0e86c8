"""DTLS records on the outside (RFC 6347, section 4.1): cutting datagrams in, packing datagrams out.

type (1)  version (2)  epoch (2)  sequence (6)  length (2)  fragment
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

HEADER_BYTES: Final = 13
FRAGMENT_HEADER_BYTES: Final = 12  # of a handshake message (RFC 6347, section 4.2.2)

CHANGE_CIPHER_SPEC: Final = 20
ALERT: Final = 21
HANDSHAKE: Final = 22
APPLICATION_DATA: Final = 23

CLIENT_HELLO: Final = 1  # handshake type, the first byte of a HANDSHAKE fragment of epoch 0

_TYPES: Final = frozenset({CHANGE_CIPHER_SPEC, ALERT, HANDSHAKE, APPLICATION_DATA})
_VERSIONS: Final = frozenset({b"\xfe\xff", b"\xfe\xfd"})  # 1.0 (a first ClientHello says so) and 1.2


class Record(NamedTuple):
    """One record, header included."""

    type: int
    epoch: int
    data: bytes

    @property
    def message(self) -> tuple[int, int, int] | None:
        """(handshake type, message sequence, fragment offset) of a handshake message that can be read: the
        first one, in epoch 0 (RFC 6347, section 4.2.2)."""
        header = self.data[HEADER_BYTES : HEADER_BYTES + FRAGMENT_HEADER_BYTES]
        if self.type != HANDSHAKE or self.epoch or len(header) < FRAGMENT_HEADER_BYTES:
            return None
        return header[0], int.from_bytes(header[4:6], "big"), int.from_bytes(header[6:9], "big")

    @property
    def longest_message_bytes(self) -> int:
        """Of the handshake messages, in epoch 0, that this record has a part of; 0 when it has none. Whoever
        puts them together needs as much memory for each."""
        at, longest = HEADER_BYTES, 0
        while self.type == HANDSHAKE and not self.epoch and at + FRAGMENT_HEADER_BYTES <= len(self.data):
            longest = max(longest, int.from_bytes(self.data[at + 1 : at + 4], "big"))
            at += FRAGMENT_HEADER_BYTES + int.from_bytes(self.data[at + 9 : at + 12], "big")
        return longest


def cut(datagram: bytes) -> Iterator[Record]:
    """The records of a datagram, up to the first thing that is none or not whole."""
    at = 0
    while at + HEADER_BYTES <= len(datagram):
        kind, version = datagram[at], datagram[at + 1 : at + 3]
        end = at + HEADER_BYTES + int.from_bytes(datagram[at + 11 : at + 13], "big")
        if kind not in _TYPES or version not in _VERSIONS or end > len(datagram):
            return
        yield Record(kind, int.from_bytes(datagram[at + 3 : at + 5], "big"), datagram[at:end])
        at = end


def pack(stream: bytes, mtu_bytes: int) -> list[bytes]:
    """Records in a row, as OpenSSL leaves them in a memory BIO, as datagrams of at most `mtu_bytes`. A record
    that is larger than that goes alone."""
    datagrams: list[bytes] = []
    for record in cut(stream):
        if datagrams and len(datagrams[-1]) + len(record.data) <= mtu_bytes:
            datagrams[-1] += record.data
        else:
            datagrams.append(record.data)
    return datagrams
