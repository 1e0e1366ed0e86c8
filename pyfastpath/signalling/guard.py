"""Between a client's connection and aiohttp: how many there may be, and how long one may take.

aiohttp waits without end for the rest of a request's head and for a client that does not read. A client
that does either holds a socket and memory, so each connection gets a deadline for the head of a request and
one for a full send buffer. The deadline of a body belongs to whoever reads it (`front.read_body`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, cast

from pyfastpath.signalling.numbers import Numbers

CONNECTIONS_MAX: Final = 4096
HEAD_S: Final = 10.0
WRITE_S: Final = 10.0
_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
)


class Gate:
    """Makes a guarded protocol for each new connection of one server."""

    def __init__(
        self,
        inner: Callable[[], asyncio.Protocol],
        numbers: Numbers,
        *,
        connections_max: int = CONNECTIONS_MAX,
        head_s: float = HEAD_S,
        write_s: float = WRITE_S,
    ) -> None:
        """inner: makes the HTTP protocol, aiohttp's `web.Server`."""
        self.inner = inner
        self.numbers = numbers
        self.connections_max = connections_max
        self.head_s = head_s
        self.write_s = write_s

    def __call__(self) -> asyncio.Protocol:
        """The protocol of one connection."""
        return Guard(self)


class Guard(asyncio.Protocol):
    """One connection: everything passes through to the HTTP protocol, against the clock."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport | None = None
        self._head: asyncio.TimerHandle | None = None
        self._write: asyncio.TimerHandle | None = None
        self._requests = 0  # in the hands of the application

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counted, or turned away at once."""
        transport = self._transport = cast(asyncio.Transport, transport)
        numbers = self._gate.numbers
        if numbers.connections >= self._gate.connections_max:
            numbers.cuts["too_many"] += 1
            transport.write(_TOO_MANY)
            transport.close()
            return
        numbers.connections += 1
        self._inner = self._gate.inner()
        self._inner.connection_made(transport)
        self._await_head()

    def connection_lost(self, error: Exception | None) -> None:
        """No deadline outlives the connection."""
        for timer in (self._head, self._write):
            if timer is not None:
                timer.cancel()
        if self._inner is not None:
            self._gate.numbers.connections -= 1
            self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """The first bytes after a request begin another one."""
        if self._inner is None:
            return
        if self._head is None and not self._requests:
            self._await_head()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """aiohttp decides whether the other direction stays open."""
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        """The send buffer is full: the client has some seconds to read."""
        if self._inner is not None:
            self._inner.pause_writing()
            loop = asyncio.get_running_loop()
            self._write = loop.call_later(self._gate.write_s, self._cut, "slow_reader")

    def resume_writing(self) -> None:
        """It has read."""
        if self._write is not None:
            self._write.cancel()
            self._write = None
        if self._inner is not None:
            self._inner.resume_writing()

    def request_began(self) -> None:
        """The application has a whole head in hand."""
        self._requests += 1
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def request_ended(self) -> None:
        """The application is done with one."""
        self._requests -= 1

    def _await_head(self) -> None:
        self._head = asyncio.get_running_loop().call_later(self._gate.head_s, self._cut, "slow_request")

    def _cut(self, why: str) -> None:
        self._gate.numbers.cuts[why] += 1
        if self._transport is not None:
            self._transport.abort()


def guard_of(transport: asyncio.BaseTransport | None) -> Guard | None:
    """The guard of a request's connection; None when it has just been lost or there is none."""
    protocol = transport.get_protocol() if transport is not None else None
    return protocol if isinstance(protocol, Guard) else None
