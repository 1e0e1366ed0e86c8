"""The trunk FT1 between relay and transceiver: the twin of the data plane's trunk.pxd and replay.pxd.

    datagram  header record* [tag]
    header    'F' 'T' | version 1 | flags: bit 0 tagged, bits 1-2 key id | epoch u32 | sequence u32
    record    u16 payload length | u8 flags | u8 ingress | u16 client port | client address 4 or 16 | payload
    tag       SipHash-2-4-128 over all before it

All integers are big endian. A record of length 0, or fewer than 2 bytes left, is padding to the end.
"""

import hmac
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Network, ip_address
from typing import Final, Literal

from pyfastpath.errors import WireError
from pyfastpath.types import Endpoint
from pyfastpath.wire.siphash import siphash128

MAGIC: Final = b"FT"
VERSION: Final = 1
HEADER_BYTES: Final = 12
TAG_BYTES: Final = 16
REPLAY_BITS: Final = 1024

_TAGGED: Final = 1
_ECN: Final = 3
_IPV6: Final = 4
_CONFIRMED: Final = 8
_CONTROL: Final = 16
_RESERVED: Final = 0xE0
_HEADER: Final = struct.Struct(">2sBBII")
_RECORD: Final = struct.Struct(">HBBH")
_STATE: Final = struct.Struct(">BBBxHHII")
_NOWHERE: Final = Endpoint(IPv4Address(0), 0)
_MUST_NOT_TRAVEL: Final = tuple(map(IPv6Network, ("::ffff:0:0/96", "64:ff9b::/96", "fe80::/10")))

Direction = Literal["up", "down"]


@dataclass(frozen=True, slots=True)
class Header:
    """`epoch` rises at each start of a sender; `sequence` counts per sender socket and destination."""

    epoch: int
    sequence: int
    tagged: bool = False
    key_id: int = 0


@dataclass(frozen=True, slots=True)
class Record:
    """One client datagram (either way), or a control record. `confirmed`: transceiver to relay only."""

    payload: bytes
    client: Endpoint = _NOWHERE
    ingress: int = 0
    ecn: int = 0
    confirmed: bool = False
    control: bool = False


@dataclass(frozen=True, slots=True)
class BadRecord:
    """What stands where a record should be. The relay drops it as bad_record."""

    why: str


# ---- control records ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ping:
    """`opaque`: 8 bytes that come back in a Pong."""

    opaque: bytes


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a Ping."""

    opaque: bytes


@dataclass(frozen=True, slots=True)
class State:
    """What a transceiver tells each relay every second. `state`: 1 up, 2 draining, 3 stopping."""

    state: int
    incarnation: int
    cluster: int
    xcvr: int
    sessions: int
    capacity: int


@dataclass(frozen=True, slots=True)
class FlowClosed:
    """Forget the flow of the record's own ingress, address and port now."""


Control = Ping | Pong | State | FlowClosed


def parse_control(payload: bytes) -> Control | None:
    """What a control record says; None for an unknown type or too few bytes, which are ignored."""
    kind = payload[0] if payload else 0
    if kind in {1, 2} and len(payload) >= 12:
        return Ping(payload[4:12]) if kind == 1 else Pong(payload[4:12])
    if kind == 3 and len(payload) >= _STATE.size:
        return State(*_STATE.unpack_from(payload)[1:])
    return FlowClosed() if kind == 4 else None


def build_control(control: Control) -> bytes:
    """The payload of a control record."""
    match control:
        case Ping(opaque) | Pong(opaque):
            if len(opaque) != 8:
                raise ValueError(f"a ping carries 8 opaque bytes, not {len(opaque)}")
            return bytes([1 if isinstance(control, Ping) else 2, 0, 0, 0]) + opaque
        case State(state, incarnation, cluster, xcvr, sessions, capacity):
            return _STATE.pack(3, state, incarnation, cluster, xcvr, sessions, capacity)
        case FlowClosed():
            return b"\x04"


# ---- datagrams -----------------------------------------------------------------------------------------


def parse_header(datagram: bytes) -> Header:
    """The first 12 bytes. WireError: no FT1, reserved flags, or too short for header and tag."""
    if len(datagram) < HEADER_BYTES:
        raise WireError(f"A trunk datagram has at least {HEADER_BYTES} bytes, not {len(datagram)}.")
    magic, version, flags, epoch, sequence = _HEADER.unpack_from(datagram)
    if magic != MAGIC or version != VERSION or flags >> 3:
        raise WireError("This is no trunk datagram of version 1.")
    if flags & _TAGGED and len(datagram) < HEADER_BYTES + TAG_BYTES:
        raise WireError("This tagged trunk datagram is too short for its tag.")
    return Header(epoch, sequence, bool(flags & _TAGGED), flags >> 1)


def build_header(header: Header) -> bytes:
    """The 12 bytes of a header."""
    if header.key_id not in range(4):
        raise ValueError(f"a trunk key id is 0..3, not {header.key_id}")
    flags = header.key_id << 1 | int(header.tagged)
    return _HEADER.pack(MAGIC, VERSION, flags, header.epoch, header.sequence)


def parse_records(datagram: bytes) -> Iterator[Record | BadRecord]:
    """The records behind the header of a datagram without its tag.

    A record with an address that must not travel is bad alone; one past the end, or with reserved flags,
    ends the datagram: nobody knows where the next would begin.
    """
    at = HEADER_BYTES
    while len(datagram) - at >= 2 and datagram[at : at + 2] != b"\0\0":
        if len(datagram) - at < _RECORD.size:
            yield BadRecord("ends behind the datagram")
            return
        length, flags, ingress, port = _RECORD.unpack_from(datagram, at)
        begin = at + _RECORD.size + (16 if flags & _IPV6 else 4)
        if flags & _RESERVED or begin + length > len(datagram):
            yield BadRecord("has reserved flags" if flags & _RESERVED else "ends behind the datagram")
            return
        address = ip_address(datagram[at + _RECORD.size : begin])
        at = begin + length
        if any(address in network for network in _MUST_NOT_TRAVEL):
            yield BadRecord(f"names {address}, which must not travel")
            continue
        yield Record(
            payload=datagram[begin:at],
            client=Endpoint(address, port),
            ingress=ingress,
            ecn=flags & _ECN,
            confirmed=bool(flags & _CONFIRMED),
            control=bool(flags & _CONTROL),
        )


def build_record(record: Record) -> bytes:
    """10 bytes more than the payload over IPv4, 22 over IPv6."""
    if not record.payload:
        raise ValueError("an empty record would be read as padding")
    flags = (
        record.ecn
        | (_IPV6 if record.client.family == 6 else 0)
        | (_CONFIRMED if record.confirmed else 0)
        | (_CONTROL if record.control else 0)
    )
    start = _RECORD.pack(len(record.payload), flags, record.ingress, record.client.port)
    return start + record.client.address.packed + record.payload


def build_datagram(header: Header, records: Iterable[Record], key: bytes = b"") -> bytes:
    """Header, records and, when the header says so, the tag under `key` (the one of the direction)."""
    datagram = build_header(header) + b"".join(map(build_record, records))
    return datagram + tag(key, datagram) if header.tagged else datagram


# ---- tag and replay window ------------------------------------------------------------------------------


def direction_key(key: bytes, direction: Direction) -> bytes:
    """Each direction has its own key, so that nothing can be reflected: "up" is towards the transceiver."""
    return siphash128(key, direction.encode())


def tag(key: bytes, before: bytes) -> bytes:
    """The 16 bytes that follow `before`."""
    return siphash128(key, before)


def tag_holds(key: bytes, datagram: bytes) -> bool:
    """Is the end of a whole datagram the tag of what stands before it?"""
    if len(datagram) < TAG_BYTES:
        return False
    return hmac.compare_digest(datagram[-TAG_BYTES:], tag(key, datagram[:-TAG_BYTES]))


class ReplayWindow:
    """Accepts each sequence of the newest epoch once, and none 1,024 or more below the highest.

    Sequences wrap: ahead means less than 2^31 ahead. `accept` only what `check` let through and whose tag
    holds.
    """

    def __init__(self) -> None:
        self.epoch: int | None = None
        self.highest = 0
        self.seen: set[int] = set()

    def check(self, epoch: int, sequence: int) -> Literal["ok", "old_epoch", "replayed"]:
        """The two refusals are drop reasons of the relay."""
        if self.epoch is None or _ahead(epoch, self.epoch) > 0:
            return "ok"
        if epoch != self.epoch:
            return "old_epoch"
        behind = -_ahead(sequence, self.highest)
        return "replayed" if behind >= REPLAY_BITS or sequence in self.seen else "ok"

    def accept(self, epoch: int, sequence: int) -> None:
        """Note a datagram."""
        if epoch != self.epoch:
            self.epoch, self.highest, self.seen = epoch, sequence, set()
        if _ahead(sequence, self.highest) > 0:
            self.highest = sequence
        self.seen.add(sequence)
        self.seen = {each for each in self.seen if 0 <= -_ahead(each, self.highest) < REPLAY_BITS}


def _ahead(a: int, b: int) -> int:
    """Signed distance of 32-bit counters (RFC 1982)."""
    return (a - b + 0x80000000) % 0x100000000 - 0x80000000
