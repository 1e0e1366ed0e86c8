"""A NAT between a client and the relay, whose address changes when it is told to, and which counts.

shim = Shim(relay)                     the client sends to shim.front
first = shim.way                       as this address the relay sees it
second = shim.move()                   from now on as this one; what still comes to the first is lost
assert second.came["handshake"] == 0
"""

import asyncio
import socket
from collections import Counter

from tests.support.relay import Address

DATAGRAM_BYTES_MAX = 4096


def kind_of(datagram: bytes) -> str:
    """What a datagram holds, by its first byte (RFC 7983; of DTLS the content type)."""
    first = datagram[0]
    if first <= 3:
        return "stun"
    if first in (20, 22):
        return "handshake"
    return "dtls" if first < 64 else "media"


class Way:
    """One address of the client, as the relay sees it. went, came: datagrams by kind, up and down."""

    def __init__(self) -> None:
        self.socket = new_end()
        self.went: Counter[str] = Counter()
        self.came: Counter[str] = Counter()
        self.came_bytes = self.went_bytes = 0


class Shim:
    """In the running event loop until `close`. is_deaf: whatever comes back is swallowed."""

    def __init__(self, relay: Address, *, is_deaf: bool = False) -> None:
        self._relay = relay
        self._is_deaf = is_deaf
        self._loop = asyncio.get_running_loop()
        self._client: Address | None = None
        self._front = new_end()
        self._ways: list[Way] = []
        self.front: Address = self._front.getsockname()
        self.way = self.move()
        self._loop.add_reader(self._front, self._up)

    def move(self) -> Way:
        """The client has another address from now on."""
        self.way = Way()
        self._ways.append(self.way)
        self._loop.add_reader(self.way.socket, self._down, self.way)
        return self.way

    def close(self) -> None:
        """Nothing passes any more."""
        for end in (self._front, *(way.socket for way in self._ways)):
            self._loop.remove_reader(end)
            end.close()

    def _up(self) -> None:
        datagram, self._client = self._front.recvfrom(DATAGRAM_BYTES_MAX)
        self.way.went[kind_of(datagram)] += 1
        self.way.went_bytes += len(datagram)
        self.way.socket.sendto(datagram, self._relay)

    def _down(self, way: Way) -> None:
        datagram = way.socket.recv(DATAGRAM_BYTES_MAX)
        way.came[kind_of(datagram)] += 1
        way.came_bytes += len(datagram)
        if way is self.way and self._client is not None and not self._is_deaf:
            self._front.sendto(datagram, self._client)


def new_end() -> socket.socket:
    """A UDP socket on a port of loopback of its own, which never blocks."""
    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    end.bind(("127.0.0.1", 0))
    end.setblocking(False)
    return end
