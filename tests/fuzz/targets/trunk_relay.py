"""The relay's end of the trunk: a whole worker over real sockets, one turn an input's datagram. What it
believes, drops by which reason, forwards to whom and answers is what the slow twin says."""

import socket
from collections import Counter
from collections.abc import Iterator
from typing import Any

from fastpath.backends import TRUNK
from fastpath.counters import DROP_REASONS

from pyfastpath.relay.decision import RelayModel
from pyfastpath.relay.rules import Backend, Route
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun, trunk
from tests.fuzz.tape import Tape
from tests.fuzz.targets.trunk import FRAMED, TAGGED, refusal
from tests.support.rig import Rig, now_ms, udp
from tests.vectors.trunk import BAD_HEADERS, KEY, RECORDS

BYTES_MAX = 4096
SMOKE_RUNS = 300
ON_DATA_PLANE = True
CRASHERS: dict[str, bytes] = {}

INGRESS = 3  # of a rig's first listener
CONFIRMED, CONTROL, STRANGER = 4, 8, 16
KEYS = {0: KEY}
DOWN_KEY = trunk.direction_key(KEY, "down")


class Turns(Rig):
    """A worker that runs when it is told to, for one turn."""

    def serve(self) -> None:
        super().serve()
        super().stop()

    def stop(self) -> None:
        """It never runs for longer."""

    def turn(self) -> None:
        """loopback delivers within the call: whatever was sent is served."""
        self.workers[0].stop()
        self.workers[0].run()


class World:
    """One relay, one client with a flow, a backend that is registered and one that is not; and the twin."""

    def __init__(self, keyed: bool) -> None:
        self.keyed = keyed
        self.rig = Turns(ports=0, flows=8, provisional=8, trunk_keys=KEYS)
        self.client, self.backend, self.stranger = udp("127.0.0.1"), udp("127.0.0.1"), udp("127.0.0.1")
        self.known = Endpoint.parse(f"127.0.0.1:{self.client.getsockname()[1]}")
        self.empty = bytes(self.rig.memories[0])

    def begin(self) -> None:
        """Anew for each input: the same input does the same."""
        self.rig.memories[0][:] = self.empty
        self.rig.add_backend(0, self.backend.getsockname()[1], TRUNK, keyed=self.keyed)
        self.rig.install("someUfrag", 0)
        self.rig.start()
        self.model = RelayModel(ingresses={INGRESS})
        self.model.allow_clients = [*map(self._network, ("127.0.0.0/8", "::1/128"))]
        address = Endpoint.parse(f"127.0.0.1:{self.backend.getsockname()[1]}")
        self.model.tables.backends[0] = Backend(address, "trunk")
        self.model.tables.routes[b"someUfrag"] = Route(0, 1 << 30, 0)
        self.window = trunk.ReplayWindow()
        self.wanted: Counter[str] = Counter()
        self.at_client: list[bytes] = []
        self.pongs = 0
        self._confirm()

    @staticmethod
    def _network(text: str) -> Any:
        from ipaddress import ip_network

        return ip_network(text)

    def _confirm(self) -> None:
        request = stun.build_binding_request(bytes(12), b"someUfrag:client")
        self.client.sendto(request, self.rig.address)
        self.rig.turn()
        self.model.from_client(0, self.known, INGRESS, request, now_ms(), 0)
        success = trunk.Record(stun.build_binding_success(bytes(12), self.known), self.known, INGRESS)
        header = trunk.Header(1, 0, self.keyed, 0)
        self.receive(trunk.build_datagram(header, [success], DOWN_KEY if self.keyed else b""), self.backend)
        assert self.model.shards[0].flows

    def receive(self, datagram: bytes, sender: socket.socket) -> None:
        sender.sendto(datagram, self.rig.trunks[0].getsockname())
        self.rig.turn()
        self._as_the_twin(datagram, sender is self.backend)
        found = self.drops()
        assert found == self.wanted, (found, self.wanted)
        for wanted in self.at_client:
            assert self.client.recv(4096) == wanted
        self.at_client.clear()

    def drops(self) -> Counter[str]:
        """What the relay booked towards clients: drops by reason, forwarded, punted."""
        counters = self.rig.counters()
        books = Counter(
            {
                name: int(count)
                for (name, _), count in zip(DROP_REASONS, counters["dropped"][1], strict=True)
                if count
            }
        )
        books["forwarded"], books["punted"] = int(counters["forwarded"][1]), int(counters["punted"][1])
        assert int(counters["received"][1]) == books.total()
        return books

    def _as_the_twin(self, datagram: bytes, is_backend: bool) -> None:
        keys = {0: DOWN_KEY} if self.keyed else {}
        reason = refusal(datagram, keys, self.window) if is_backend else "untrusted_trunk"
        if reason:
            self.wanted[reason] += 1
            return
        for record in trunk.parse_records(datagram[: -trunk.TAG_BYTES] if self.keyed else datagram):
            if isinstance(record, trunk.BadRecord):
                self.wanted["bad_record"] += 1
                continue
            verdict = self.model.from_trunk_record(0, 0, record, now_ms())
            self.wanted[{"forward": "forwarded", "punt": "punted"}.get(verdict.action, verdict.reason)] += 1
            if verdict.action == "forward" and verdict.client and verdict.client.endpoint == self.known:
                self.at_client.append(record.payload)


WORLDS = [World(False), World(True)]


def seeds() -> Iterator[bytes]:
    """The world, then how (FRAMED, TAGGED, CONFIRMED, CONTROL, STRANGER), epoch, sequence, and the body."""
    bodies = [
        b"\x80media",
        b"\x16\xfe\xfd",
        b"\x04",
        trunk.build_control(trunk.Ping(bytes(8))),
        b"\x01\x01" + bytes(18),
    ]
    for world in range(len(WORLDS)):
        for datagram in (*BAD_HEADERS.values(), *(data for data, _ in RECORDS.values())):
            yield bytes([world, 0, 0, 0, 0]) + len(datagram).to_bytes(2, "big") + datagram
            body = datagram[trunk.HEADER_BYTES :]
            yield bytes([world, FRAMED | TAGGED, 1, 0, 1]) + len(body).to_bytes(2, "big") + body
        for body in bodies:
            for more in (0, CONFIRMED, CONTROL, STRANGER):
                yield bytes([world, 32 | more, 1, 0, 1]) + len(body).to_bytes(2, "big") + body


def one_input(data: bytes) -> None:
    tape = Tape(data)
    world = tape.choose(WORLDS)
    world.begin()
    for _ in range(8):
        if tape.left:
            datagram, how = next_datagram(tape, world)
            world.receive(datagram, world.stranger if how & STRANGER else world.backend)


def next_datagram(tape: Tape, world: World) -> tuple[bytes, int]:
    """As the input has it; behind a good header; or as a good record for the client that is known."""
    how, epoch, sequence = tape.number(), tape.number() & 7, tape.number(2)
    body = tape.piece()
    header = trunk.Header(epoch, sequence, world.keyed, 0)
    if how & 32 and body:
        record = trunk.Record(
            body, world.known, INGRESS, confirmed=bool(how & CONFIRMED), control=bool(how & CONTROL)
        )
        return trunk.build_datagram(header, [record], DOWN_KEY if world.keyed else b""), how
    if how & FRAMED:
        body = trunk.build_header(header) + body
    return body + trunk.tag(DOWN_KEY, body) if how & TAGGED and world.keyed else body, how
