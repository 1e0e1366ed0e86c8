"""What the taps noted becomes a pcapng: raw IP packets between client and ingress, in order of time. Pure.

The relay has no packets, only datagrams, so IP and UDP headers are made up again: addresses, ports and
lengths are true; TTL, DSCP and ECN are not those of the wire. Each flow's first packet carries a comment
that says whose it is; each dropped one says why.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from fastpath.counters import DROP_REASONS

from pyfastpath.relay.layout import UP
from pyfastpath.types import Endpoint
from pyfastpath.wire.frames import LINK_RAW
from pyfastpath.wire.pcapng import PcapngWriter

DROP_NONE: Final = 0
STATISTICS_BYTES: Final = 64  # more than the last block takes
FLOWS_NAMED_MAX: Final = 65_536  # first packets that are remembered: of later flows none has a comment

_UNKNOWN_INGRESS: Final = "unknown_ingress"
_UDP: Final = 17
_UDP_HEADER_BYTES: Final = 8
_IPV4_HEADER_BYTES: Final = 20
_TTL: Final = 64
_NOT_COMPUTED: Final = b"\0\0"


class Note(NamedTuple):
    """What fastpath.tap gives of one datagram: a row of Tap.read."""

    time_ns: int  # wall clock
    direction: int  # layout.UP or layout.DOWN
    reason: int  # drop reason, DROP_NONE
    backend: int | None  # index
    address: bytes  # of the client, 16 bytes
    port: int
    family: int
    ingress: int
    length: int  # of the datagram, bytes
    data: bytes  # what was captured of it


class Recorder:
    """Notes in, blocks of a pcapng out, at most `bytes_max` of them."""

    def __init__(
        self,
        *,
        ingress_of: Callable[[int], Endpoint],
        backend_of: Callable[[int], str],
        label: str = "",
        snap_bytes: int,
        bytes_max: int,
    ) -> None:
        """ingress_of, backend_of: what numbers stand for. label: stands in comments beside the backend."""
        self._ingress_of, self._backend_of, self._label = ingress_of, backend_of, label
        self._snap_bytes = snap_bytes
        self._left_bytes = bytes_max - STATISTICS_BYTES
        self._writer = PcapngWriter()
        self._waiting: list[Note] = []
        self._named: set[tuple[bytes, int, int, int]] = set()
        self._paths: dict[tuple[bytes, int, int, int, int], _Path] = {}
        self.written = 0
        self.is_full = False

    def begin(self) -> bytes:
        """The blocks before the first packet."""
        snap_bytes = self._snap_bytes + 40 + _UDP_HEADER_BYTES
        begun = self._writer.section_header() + self._writer.interface(LINK_RAW, snap_bytes, "clients")
        self._left_bytes -= len(begun)
        return begun

    def add(self, notes: list[Note]) -> None:
        """Notes of any shard; those of one shard come in its order."""
        self._waiting += notes

    def take(self, until_ns: int) -> bytes:
        """The packets up to a time, oldest first. Sets `is_full` when there is no room for the next."""
        self._waiting.sort(key=_time)
        blocks = []
        for note in self._waiting:
            if note.time_ns > until_ns:
                break
            block = self._packet(note)
            if len(block) > self._left_bytes:
                self.is_full = True
                break
            self._left_bytes -= len(block)
            blocks.append(block)
        self.written += len(blocks)
        del self._waiting[: len(blocks)]
        return b"".join(blocks)

    def end(self, matched: int) -> bytes:
        """The last block: how many datagrams were asked for, and how many of them are not in the file."""
        return self._writer.statistics(matched, matched - self.written)

    def _packet(self, note: Note) -> bytes:
        inbound = note.direction == UP
        data = self._path(note).packet(inbound, note.length, note.data)
        headers = len(data) - len(note.data)
        return self._writer.packet(
            note.time_ns, data, headers + note.length, inbound=inbound, comment=self._comment(note)
        )

    def _path(self, note: Note) -> "_Path":
        lost = note.reason != DROP_NONE and DROP_REASONS[note.reason][0] == _UNKNOWN_INGRESS
        key = note.address, note.port, note.family, note.ingress, lost
        path = self._paths.get(key)
        if path is None:
            if len(self._paths) == FLOWS_NAMED_MAX:
                self._paths.clear()
            client = Endpoint.from_address16(note.address, note.port, note.family)
            nowhere = Endpoint.from_address16(bytes(16), 0, note.family)
            path = _Path(client, nowhere if lost else self._ingress_of(note.ingress))
            self._paths[key] = path
        return path

    def _comment(self, note: Note) -> str:
        said = []
        key = note.address, note.port, note.family, note.ingress
        if note.backend is not None and key not in self._named and len(self._named) < FLOWS_NAMED_MAX:
            self._named.add(key)
            said.append(f"backend {self._backend_of(note.backend)}")
            if self._label:
                said.append(self._label)
        if note.reason != DROP_NONE:
            said.append(f"dropped: {DROP_REASONS[note.reason][0]}")
        return ", ".join(said)


def _time(note: Note) -> int:
    return note.time_ns


class _Path:
    """Client and ingress as bytes of headers: what all packets of a flow have in common."""

    __slots__ = ("_addresses", "_family", "_ports", "_sum")

    def __init__(self, client: Endpoint, ingress: Endpoint) -> None:
        self._family = client.family
        near, far = ingress.address.packed, client.address.packed
        near_port, far_port = ingress.port.to_bytes(2), client.port.to_bytes(2)
        self._addresses = near + far, far + near  # [inbound]
        self._ports = near_port + far_port, far_port + near_port
        fixed = b"\x45\0\0\0\0\0\x40\0" + bytes((_TTL, _UDP, 0, 0))
        self._sum = _ones(fixed + near + far) if self._family == 4 else 0

    def packet(self, inbound: bool, length: int, data: bytes) -> bytes:
        """IP and UDP header, and `data` of a payload of `length` bytes."""
        udp_bytes = _UDP_HEADER_BYTES + length
        udp = self._ports[inbound] + udp_bytes.to_bytes(2)
        addresses = self._addresses[inbound]
        if self._family == 4:
            total = _IPV4_HEADER_BYTES + udp_bytes
            header = b"\x45\0" + total.to_bytes(2) + b"\0\0\x40\0" + bytes((_TTL, _UDP))
            return header + _checksum(self._sum + total) + addresses + udp + _NOT_COMPUTED + data
        header = b"\x60\0\0\0" + udp_bytes.to_bytes(2) + bytes((_UDP, _TTL)) + addresses
        return header + udp + self._udp_checksum(addresses, udp, length, data) + data

    @staticmethod
    def _udp_checksum(addresses: bytes, udp: bytes, length: int, data: bytes) -> bytes:
        """Over IPv6 there must be one (RFC 8200, 8.1). Of a datagram that was cut nobody can check it."""
        if len(data) < length:
            return b"\xff\xff"
        pseudo = addresses + udp[4:6] + bytes((0, _UDP))
        return _checksum(_ones(pseudo + udp + data + bytes(length % 2))).replace(b"\0\0", b"\xff\xff")


def _ones(data: bytes) -> int:
    """Sum of 16-bit words in one's complement, of an even number of bytes: 2^16 is 1 (RFC 1071)."""
    return int.from_bytes(data) % 0xFFFF


def _checksum(total: int) -> bytes:
    """Folded and inverted."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (total ^ 0xFFFF).to_bytes(2)
