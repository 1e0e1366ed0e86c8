"""Trunk datagrams FT1: header, records, tag and replay window as the twin has them, and the transceiver's
end, which believes, refuses and answers what the twin does."""

import socket
from collections import Counter
from collections.abc import Iterator

from fastpath.link import Link

from fastpath._testing import leaves
from pyfastpath.errors import WireError
from pyfastpath.wire import trunk
from tests.fuzz.tape import Tape
from tests.vectors.trunk import BAD_HEADERS, KEY, RECORDS, UNTAGGED

BYTES_MAX = 4096
SMOKE_RUNS = 400
ON_DATA_PLANE = True
CRASHERS: dict[str, bytes] = {}

KEYS = {0: KEY, 3: KEY[::-1]}
UP_KEYS = {kid: trunk.direction_key(key, "up") for kid, key in KEYS.items()}
FRAMED, TAGGED = 1, 2
RawRecord = tuple[bytes, tuple[int, tuple[bytes, int, int]], int]


class End:
    """One transceiver's end and the twin of it, with a relay's socket in front."""

    def __init__(self, keys: dict[int, bytes]) -> None:
        self.is_keyed = bool(keys)
        self.relay, self.here = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        for each in (self.relay, self.here):
            each.bind(("127.0.0.1", 0))
            each.setblocking(False)
        self.to = self.here.getsockname()
        self.name = bytes([127, 0, 0, 1]).ljust(16, b"\0"), self.relay.getsockname()[1], 4
        self.keys = keys

    def begin(self) -> None:
        """Anew for each input: the same input does the same."""
        self.link = Link(self.here.fileno(), relays=[self.name], keys=self.keys, epoch=1)
        self.window = trunk.ReplayWindow()
        self.refused: Counter[str] = Counter()

    def receive(self, datagram: bytes) -> None:
        """loopback delivers within the call."""
        self.relay.sendto(datagram, self.to)
        found = [(payload, path[1:], ecn) for payload, path, ecn in self.link.receive()]
        wanted, pongs = self._as_the_twin(datagram)
        assert found == wanted
        assert self.link.dropped == self.refused
        for pong in pongs:
            answer = self.relay.recv(2048)
            assert trunk.parse_header(answer).tagged == self.is_keyed
            (record,) = trunk.parse_records(answer[: -trunk.TAG_BYTES] if self.is_keyed else answer)
            assert isinstance(record, trunk.Record)
            assert record.control
            assert trunk.parse_control(record.payload) == pong

    def _as_the_twin(self, datagram: bytes) -> tuple[list[RawRecord], list[trunk.Pong]]:
        found: list[RawRecord] = []
        pongs: list[trunk.Pong] = []
        reason = refusal(datagram, UP_KEYS if self.is_keyed else {}, self.window)
        if reason:
            self.refused[reason] += 1
            return found, pongs
        for record in trunk.parse_records(datagram[: -trunk.TAG_BYTES] if self.is_keyed else datagram):
            if isinstance(record, trunk.BadRecord):
                self.refused["bad_record"] += 1
            elif record.control:
                control = trunk.parse_control(record.payload)
                pongs += [trunk.Pong(control.opaque)] if isinstance(control, trunk.Ping) else []
            else:
                client = record.client.address16, record.client.port, record.client.family
                found.append((record.payload, (record.ingress, client), record.ecn))
        return found, pongs


def refusal(datagram: bytes, keys: dict[int, bytes], window: trunk.ReplayWindow) -> str:
    """Why an end that has these keys does not believe a datagram; empty when it does."""
    try:
        header = trunk.parse_header(datagram)
    except WireError:
        return "bad_trunk"
    if header.tagged != bool(keys):
        return "bad_tag"
    if keys:
        if header.key_id not in keys or not trunk.tag_holds(keys[header.key_id], datagram):
            return "bad_tag"
        seen = window.check(header.epoch, header.sequence)
        if seen != "ok":
            return seen
        window.accept(header.epoch, header.sequence)
    return ""


ENDS = [End({}), End(KEYS)]


def seeds() -> Iterator[bytes]:
    """How (FRAMED, TAGGED), epoch, sequence, key id, then the datagram or what follows its header."""
    for datagram in (UNTAGGED, *BAD_HEADERS.values(), *(data for data, _ in RECORDS.values())):
        yield bytes(5) + len(datagram).to_bytes(2, "big") + datagram
        body = datagram[trunk.HEADER_BYTES :]
        yield bytes([FRAMED | TAGGED, 1, 0, 1, 0]) + len(body).to_bytes(2, "big") + body
    ping = trunk.build_record(trunk.Record(trunk.build_control(trunk.Ping(bytes(8))), control=True))
    yield bytes([FRAMED | TAGGED, 1, 0, 1, 3]) + len(ping).to_bytes(2, "big") + ping
    twice = bytes([FRAMED | TAGGED, 1, 0, 9, 0, 0, 0])
    yield twice + twice + twice.replace(b"\x01", b"\0", 1)


def one_input(data: bytes) -> None:
    tape = Tape(data)
    for end in ENDS:
        end.begin()
    while tape.left:
        datagram = next_datagram(tape)
        compare(datagram)
        for end in ENDS:
            end.receive(datagram)


def next_datagram(tape: Tape) -> bytes:
    """As the input has it, or with a good header before it and a good tag behind it."""
    how, epoch, sequence, key_id = tape.number(), tape.number() & 7, tape.number(2), tape.number() & 3
    body = tape.piece()
    if how & FRAMED:
        header = trunk.Header(epoch, sequence, bool(how & TAGGED), key_id)
        body = trunk.build_header(header) + body
    return body + trunk.tag(UP_KEYS.get(key_id, KEY), body) if how & TAGGED else body


def compare(datagram: bytes) -> None:
    """The leaves alone, as both ends of the trunk use them."""
    try:
        header = trunk.parse_header(datagram)
    except WireError:
        assert leaves.trunk_header_of(datagram) is None
    else:
        fields = header.tagged, header.key_id, header.epoch, header.sequence
        assert leaves.trunk_header_of(datagram) == fields
        assert leaves.build_trunk_header(*fields) == datagram[: trunk.HEADER_BYTES]
    if len(datagram) >= trunk.HEADER_BYTES:
        records = list(trunk.parse_records(datagram))
        assert leaves.trunk_records(datagram) == list(map(as_leaf, records))
        for record in records:
            if isinstance(record, trunk.Record):
                assert (
                    next(trunk.parse_records(bytes(trunk.HEADER_BYTES) + trunk.build_record(record)))
                    == record
                )
    if len(datagram) >= trunk.TAG_BYTES:
        assert leaves.trunk_tag_holds(KEY, datagram) == trunk.tag_holds(KEY, datagram)


def as_leaf(record: trunk.Record | trunk.BadRecord) -> tuple | None:
    """A record as the leaf's wrapper shows it."""
    if isinstance(record, trunk.BadRecord):
        return None
    client = record.client
    flags = record.ecn | (client.family == 6) << 2 | record.confirmed << 3 | record.control << 4
    return flags, (client.address16, client.port, record.ingress, client.family), record.payload
