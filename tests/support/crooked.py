"""A relay that does wrong when it is told to: what a player must notice.

with CrookedRelay(ends, route, faults={(True, payload): "drop"}) as relay:     # each fault happens once
    ...                                                    # clients send to relay.listen
relay.passed                                               # every datagram that came in: (upstream, payload)
"""

import selectors
import socket
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address
from types import TracebackType
from typing import Self

from pyfastpath.types import Endpoint
from pyfastpath.wire import trunk

Address = tuple[str, int]
Fault = str  # drop, twice, corrupt, cut, swap, elsewhere, back, late, twice elsewhere
DATAGRAM_BYTES = 65_536
BUFFER_BYTES = 4 << 20


class CrookedRelay:
    """ends: where backends listen. route: the end of the client whose first datagram this is.

    key: the trunk key of the ends, b"" when they have none; None: plain mode, an upstream port a client.
    late_s: how long a late datagram takes.
    """

    def __init__(
        self,
        ends: list[Address],
        route: Callable[[bytes], int],
        *,
        faults: dict[tuple[bool, bytes], Fault] | None = None,
        key: bytes | None = None,
        late_s: float = 0.3,
    ) -> None:
        self._ends, self._route, self._key, self._late_s = ends, route, key, late_s
        self._faults = dict(faults or {})
        self.passed: list[tuple[bool, bytes]] = []
        self._front = self._socket()
        self._trunk = self._socket()
        self.listen: Address = self._front.getsockname()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._front, selectors.EVENT_READ)
        self._selector.register(self._trunk, selectors.EVENT_READ)
        self._end_of: dict[Address, int] = {}
        self._upstream: dict[Address, socket.socket] = {}
        self._client_of: dict[socket.socket, Address] = {}
        self._sequences = [0] * len(ends)
        self._moved: list[socket.socket] = []
        self._late: list[tuple[float, Callable[[], None]]] = []
        self._swapped: Callable[[], None] | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._thread.join(timeout=5)
        for each in [self._front, self._trunk, *self._upstream.values(), *self._moved]:
            each.close()
        self._selector.close()
        assert not self._thread.is_alive()

    def ping(self, opaque: bytes = b"12345678") -> None:
        """Ask each trunk end for a pong."""
        for end in range(len(self._ends)):
            self._to_trunk(end, trunk.Record(trunk.build_control(trunk.Ping(opaque)), control=True))

    def move(self, client: Address) -> None:
        """The client's flow has another upstream port from now on."""
        self._moved.append(self._upstream.pop(client))

    def _socket(self) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
        made.bind(("127.0.0.1", 0))
        made.setblocking(False)
        return made

    def _run(self) -> None:
        while not self._stopping:
            for ready, _ in self._selector.select(0.01):
                self._take(ready.fileobj)  # type: ignore[arg-type]
            now_s = time.monotonic()
            for when in [each for each in self._late if each[0] <= now_s]:
                self._late.remove(when)
                when[1]()

    def _take(self, from_: socket.socket) -> None:
        while True:
            try:
                data, source = from_.recvfrom(DATAGRAM_BYTES)
            except BlockingIOError:
                return
            if from_ is self._front:
                self._up(source, data)
            elif from_ is self._trunk:
                for record in self._records(data):
                    if not record.control:
                        self._down((str(record.client.address), record.client.port), record.payload)
            else:
                self._down(self._client_of[from_], data)

    def _up(self, client: Address, payload: bytes) -> None:
        if client not in self._end_of:
            self._end_of[client] = self._route(payload)
        end = self._end_of[client]

        def send(data: bytes = payload, to: int = end) -> None:
            self._to_end(to, client, data)

        self._judge(
            True, payload, send, (end + 1) % len(self._ends), lambda: self._to_client(client, payload)
        )

    def _down(self, client: Address, payload: bytes) -> None:
        clients = list(self._end_of)
        other = clients[(clients.index(client) + 1) % len(clients)]

        def send(data: bytes = payload, to: Address = client) -> None:
            self._to_client(to, data)

        back = self._end_of[client]
        self._judge(False, payload, send, other, lambda: self._to_end(back, client, payload))

    def _judge(
        self,
        upstream: bool,
        payload: bytes,
        send: Callable[..., None],
        other: object,
        back: Callable[[], None],
    ) -> None:
        self.passed.append((upstream, payload))
        fault = self._faults.pop((upstream, payload), "")
        swapped, self._swapped = self._swapped, None
        if fault == "swap":
            self._swapped = send
        elif fault == "late":
            self._late.append((time.monotonic() + self._late_s, send))
        elif fault == "back":
            back()
        elif fault == "elsewhere":
            send(to=other)
        elif fault == "corrupt":
            send(payload[:20] + bytes([payload[20] ^ 0x40]) + payload[21:])
        elif fault == "cut":
            send(payload[:-5])
        elif fault != "drop":
            send()
        if fault == "twice":
            send()
        elif fault == "twice elsewhere":
            send(to=other)
        if swapped is not None:
            swapped()

    def _to_client(self, client: Address, data: bytes) -> None:
        self._front.sendto(data, client)

    def _to_end(self, end: int, client: Address, data: bytes) -> None:
        if self._key is not None:
            self._to_trunk(end, trunk.Record(data, Endpoint(ip_address(client[0]), client[1])))
            return
        if client not in self._upstream:
            self._upstream[client] = made = self._socket()
            self._client_of[made] = client
            self._selector.register(made, selectors.EVENT_READ)
        self._upstream[client].sendto(data, self._ends[end])

    def _to_trunk(self, end: int, record: trunk.Record) -> None:
        self._sequences[end] += 1
        head = trunk.Header(1, self._sequences[end], bool(self._key))
        key = trunk.direction_key(self._key, "up") if self._key else b""
        self._trunk.sendto(trunk.build_datagram(head, [record], key), self._ends[end])

    def _records(self, data: bytes) -> list[trunk.Record]:
        if self._key:
            assert trunk.tag_holds(trunk.direction_key(self._key, "down"), data)
            data = data[: -trunk.TAG_BYTES]
        found = list(trunk.parse_records(data))
        assert all(isinstance(each, trunk.Record) for each in found)
        return found  # type: ignore[return-value]
