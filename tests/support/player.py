"""Plays BOTH sides of a capture through a live relay.

The capture's own order is kept as cause and effect: a side sends a datagram only when everything the other
side had sent on that flow before it has come out of the relay. So the server's recorded answers confirm the
flows exactly when they did in the real call, and the player needs no clock.
"""

import selectors
import socket
import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass
from typing import Any, Protocol

from tests.support.pcap import Address, Capture, Datagram

IN_FLIGHT_MAX = 64  # far below what a socket buffer holds, so the player itself never loses a datagram
ARRIVAL_TIMEOUT_S = 5.0
SILENCE_S = 0.05
DATAGRAM_MAX = 65535

BackendPath = tuple[Any, ...]  # where the answers of one flow must go; hashable


class Backend(Protocol):
    """One backend's socket as the player sees it."""

    def fileno(self) -> int: ...
    def receive(self) -> list[tuple[BackendPath, bytes]]: ...
    def send(self, path: BackendPath, payload: bytes) -> None: ...
    def client(self, path: BackendPath) -> Address | None: ...


class PlainBackend:
    """An ordinary UDP server: a path is the relay's source address and port."""

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self) -> list[tuple[BackendPath, bytes]]:
        return [(source, payload) for payload, source in _receive_all(self.socket)]

    def send(self, path: BackendPath, payload: bytes) -> None:
        self.socket.sendto(payload, path)

    def client(self, path: BackendPath) -> Address | None:
        """A plain upstream port does not tell the client's address."""
        return None

    def close(self) -> None:
        self.socket.close()


@dataclass(frozen=True)
class Played:
    """What went through: datagrams that came out unchanged, in order and at the right place."""

    up: int
    down: int
    flows: int
    per_backend: dict[int, int]


class Player:
    """Plays one capture. `owners` says which backend (index) owns which server ufrag."""

    def __init__(
        self, capture: Capture, relay: Address, backends: list[Backend], owners: dict[str, int]
    ) -> None:
        self._capture = capture
        self._relay = relay
        self._backends = backends
        self._owners = owners
        self._sockets: dict[Address, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._paths: dict[Address, tuple[int, BackendPath]] = {}
        self._clients: dict[tuple[int, BackendPath], Address] = {}
        self._requests: dict[bytes, Address] = {}
        self._expected: dict[tuple[Address, bool], deque[bytes]] = defaultdict(deque)
        self._arrived: Counter[tuple[Address, bool]] = Counter()

    def play(self) -> Played:
        """Play it all. Raises AssertionError at the first datagram that is lost, changed or misrouted."""
        self._open()
        try:
            for datagram in self._capture.datagrams:
                self._wait_until_empty((datagram.client, not datagram.upstream))
                self._send(datagram)
                if sum(map(len, self._expected.values())) >= IN_FLIGHT_MAX:
                    self._receive(SILENCE_S)
            for key in list(self._expected):
                self._wait_until_empty(key)
            assert not self._receive(SILENCE_S), "more datagrams came out than went in"
        finally:
            self._close()
        return self._played()

    def _open(self) -> None:
        for index, backend in enumerate(self._backends):
            self._selector.register(backend.fileno(), selectors.EVENT_READ, index)
        for client in dict.fromkeys(datagram.client for datagram in self._capture.datagrams):
            end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            end.bind(("127.0.0.1", 0))
            end.setblocking(False)
            self._sockets[client] = end
            self._selector.register(end, selectors.EVENT_READ, client)

    def _close(self) -> None:
        self._selector.close()
        for end in self._sockets.values():
            end.close()

    def _send(self, datagram: Datagram) -> None:
        client, payload = datagram.client, datagram.payload
        self._expected[client, datagram.upstream].append(payload)
        if datagram.upstream:
            if _is_binding_request(payload):
                self._requests[payload[8:20]] = client
            self._sockets[client].sendto(payload, self._relay)
        else:
            index, path = self._paths[client]
            self._backends[index].send(path, payload)

    def _wait_until_empty(self, key: tuple[Address, bool]) -> None:
        deadline = time.monotonic() + ARRIVAL_TIMEOUT_S
        while self._expected[key]:
            client, upstream = key
            way = "up" if upstream else "down"
            lost = f"datagram {self._arrived[key] + 1} {way} of client {client} never came out"
            assert time.monotonic() < deadline, lost
            if self._receive(SILENCE_S):
                deadline = time.monotonic() + ARRIVAL_TIMEOUT_S

    def _receive(self, timeout_s: float) -> int:
        """Take in whatever came out of the relay; returns how many datagrams."""
        count = 0
        for key, _ in self._selector.select(timeout_s):
            if isinstance(key.data, int):
                for path, payload in self._backends[key.data].receive():
                    self._at_backend(key.data, path, payload)
                    count += 1
            else:
                for payload, source in _receive_all(self._sockets[key.data]):
                    assert source == self._relay, (
                        f"client {key.data} got a datagram from {source}, not the relay"
                    )
                    self._arrive(key.data, False, payload)
                    count += 1
        return count

    def _at_backend(self, index: int, path: BackendPath, payload: bytes) -> None:
        client = self._clients.get((index, path))
        if client is None:
            client = self._learn(index, path, payload)
        self._arrive(client, True, payload)

    def _learn(self, index: int, path: BackendPath, payload: bytes) -> Address:
        """The first datagram of a flow is a Binding Request; its transaction id says whose it is."""
        assert _is_binding_request(payload), (
            f"backend {index}: {path} began with {payload[:4].hex()}, not a request"
        )
        client = self._requests[payload[8:20]]
        assert client not in self._paths, (
            f"client {client} moved from {self._paths[client]} to {(index, path)}"
        )
        owner = self._owner(payload)
        assert owner == index, f"client {client} belongs to backend {owner} but came out at {index}"
        seen_as = self._backends[index].client(path)
        assert seen_as in (None, self._sockets[client].getsockname()), (
            f"client {client} was shown as {seen_as}"
        )
        self._paths[client] = (index, path)
        self._clients[index, path] = client
        return client

    def _owner(self, request: bytes) -> int:
        for session in self._capture.sessions:
            if f"{session.server_ufrag}:{session.client_ufrag}".encode() in request:
                return self._owners[session.server_ufrag]
        raise AssertionError("a Binding Request that belongs to no session of the capture")

    def _arrive(self, client: Address, upstream: bool, payload: bytes) -> None:
        key = (client, upstream)
        waiting = self._expected[key]
        assert waiting, f"client {client}: an extra datagram came out ({payload[:8].hex()}…)"
        assert payload == waiting.popleft(), (
            f"client {client}: datagram {self._arrived[key] + 1} changed or out of order"
        )
        self._arrived[key] += 1

    def _played(self) -> Played:
        up = sum(count for (_, upstream), count in self._arrived.items() if upstream)
        per_backend: Counter[int] = Counter()
        for client, (index, _) in self._paths.items():
            per_backend[index] += self._arrived[client, True]
        return Played(up, self._arrived.total() - up, len(self._paths), dict(per_backend))


def _is_binding_request(payload: bytes) -> bool:
    return payload[:2] == b"\x00\x01" and len(payload) >= 20


def _receive_all(end: socket.socket) -> list[tuple[bytes, Address]]:
    received = []
    while True:
        try:
            received.append(end.recvfrom(DATAGRAM_MAX))
        except BlockingIOError:
            return received
