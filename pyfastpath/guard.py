"""Between a connection and aiohttp: how many there may be, and how long and how large one may make us wait.

aiohttp waits without end for the rest of a request, keeps 128 headers of any length it allows for one, and
waits for a client that does not read. A client that does any of it holds a socket and memory, so here each
connection is in one of four phases, against the clock:

    head    of a request: head_s from its first byte, or from the connection, and head_bytes
    body    it ended or body_bytes_per_s of it came, looked at each body_s: an upload may have any length. But
            not more framing than content: aiohttp goes on reading what it has found to be no body
    answer  the application's own time; as much as head_bytes may come ahead of it
    idle    keepalive_s, which aiohttp keeps; whatever it did not close is cut a little later

In each of them, whoever does not read what we send is cut write_s after the send buffer was full. And whoever
waits for his client makes room for a newcomer when all places are taken, the longest waiting first, so
thousands of idle connections lock nobody out. Event streams take none of the places.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Literal, Protocol, cast

from pyfastpath.access import client_key
from pyfastpath.metrics import HTTP_CUTS

LINGER_S: Final = 1.0  # for whoever is refused to read why
OVERDUE_S: Final = 5.0  # after keepalive_s: aiohttp closes first
_BUSY: Final = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n"
_OVERSIZE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
_CLOSE: Final = b"Connection: close\r\nContent-Length: 0\r\n\r\n"
_HEAD_END: Final = b"\r\n\r\n"

Phase = Literal["head", "body", "answer", "idle", "refused"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one listener; the defaults are for those of operators.

    connections: event streams apart. client_connections: of one client address; 0: no bound of its own.
    """

    connections: int = 256
    client_connections: int = 0
    head_bytes: int = 32 << 10
    head_s: float = 10.0
    body_s: float = 20.0
    body_bytes_per_s: int = 1000
    write_s: float = 10.0
    keepalive_s: float = 30.0


class Body(Protocol):
    """What a guard needs of a request's body: aiohttp's StreamReader. total_bytes: of content, so far."""

    total_bytes: int

    def on_eof(self, callback: Callable[[], None]) -> None:
        """Call it at the end; at once when that has come."""


class Gate:
    """The places of one listener, and why connections to it were cut.

    is_exempt: tells of an address that client_connections does not bind it, as a proxy's.
    """

    def __init__(
        self, limits: Limits | None = None, *, is_exempt: Callable[[str], bool] = lambda address: False
    ) -> None:
        self.limits = limits or Limits()
        self.connections = 0  # event streams included
        self.cuts = dict.fromkeys(HTTP_CUTS, 0)
        self._is_exempt = is_exempt
        self._taken = 0
        self._taken_by_client: Counter[str] = Counter()
        self._waiting: dict[Guard, None] = {}  # for their clients, the longest first

    def admit(self, guard: Guard) -> bool:
        """A place for a newcomer, if need be that of one who waits; False when nobody does."""
        limits = self.limits
        is_bound = bool(guard.client and limits.client_connections) and not self._is_exempt(guard.address)
        if is_bound and self._taken_by_client[guard.client] >= limits.client_connections:
            longest = next((one for one in self._waiting if one.client == guard.client), None)
        elif self._taken >= limits.connections:
            longest = next(iter(self._waiting), None)
        else:
            longest = guard  # nobody has to go
        if longest is None:
            self.cuts["too_many"] += 1
            return False
        if longest is not guard:
            longest.cut("made_room")
        self.connections += 1
        self.take(guard)
        return True

    def take(self, guard: Guard) -> None:
        """One place more is taken."""
        self._taken += 1
        self._taken_by_client[guard.client] += 1

    def free(self, guard: Guard) -> None:
        """One place less is."""
        self._taken -= 1
        self._taken_by_client[guard.client] -= 1
        if not self._taken_by_client[guard.client]:
            del self._taken_by_client[guard.client]

    def note(self, guard: Guard, *, waits: bool) -> None:
        """Does it wait for its client? Counted from when that was first said."""
        if waits:
            self._waiting.setdefault(guard)
        else:
            self._waiting.pop(guard, None)


class Guard(asyncio.Protocol):
    """One connection: everything passes through to the HTTP protocol, against the clock."""

    def __init__(self, gate: Gate, make_inner: Callable[[], asyncio.Protocol]) -> None:
        """make_inner: makes the HTTP protocol, aiohttp's `web.Server`."""
        self.address = ""  # of the client; empty on a UNIX socket
        self.client = ""  # the same for all addresses that are counted together
        self._gate = gate
        self._limits = gate.limits
        self._make_inner = make_inner
        self._inner: asyncio.Protocol | None = None
        self._transport: asyncio.Transport
        self._phase: Phase = "head"
        self._timer: asyncio.TimerHandle | None = None  # of the phase
        self._write_timer: asyncio.TimerHandle | None = None
        self._is_open = False
        self._is_stream = False
        self._phase_bytes = 0  # received in this phase
        self._head_rest: bytes | None = b""  # where the end of the head may have begun; None: it has come
        self._is_in_hand = False  # does the application have a request?
        self._body: Body | None = None  # of the newest request
        self._weighed_bytes = 0  # of it, when last looked at
        self._unread_bytes = 0  # in the send buffer, when last looked at

    # ---- the protocol -----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Counted, or turned away at once."""
        self._transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        if isinstance(name, tuple):
            self.address, self.client = str(name[0]), client_key(str(name[0]))
        if not self._gate.admit(self):
            self._transport.write(_BUSY + _CLOSE)
            self._transport.close()
            return
        self._is_open = True
        self._inner = self._make_inner()
        self._inner.connection_made(transport)
        self._await_head()

    def connection_lost(self, error: Exception | None) -> None:
        """No deadline outlives the connection."""
        self._leave()
        if self._inner is not None:
            self._inner.connection_lost(error)

    def data_received(self, data: bytes) -> None:
        """More of a head, of a body, or of what comes ahead of its time."""
        if self._inner is None or self._phase == "refused":
            return
        if self._phase == "idle":
            self._await_head()
        if self._phase == "head":
            self._phase_bytes += self._head_bytes_of(data)
        else:
            self._phase_bytes += len(data)
        if self._phase != "body" and self._phase_bytes > self._limits.head_bytes:
            self._refuse()
            return
        self._inner.data_received(data)
        if self._phase == "body" and self._phase_bytes > self._limits.head_bytes + 2 * self._content_bytes:
            self.cut("oversize")

    def eof_received(self) -> bool | None:
        """aiohttp decides whether the other direction stays open."""
        return self._inner.eof_received() if self._inner is not None else None

    def pause_writing(self) -> None:
        """The send buffer is full: the client has some seconds to read."""
        if self._inner is not None:
            self._inner.pause_writing()
            loop = asyncio.get_running_loop()
            self._write_timer = loop.call_later(self._limits.write_s, self.cut, "slow_reader")
            self._note()

    def resume_writing(self) -> None:
        """It has read."""
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None
            self._note()
        if self._inner is not None:
            self._inner.resume_writing()

    # ---- what the application tells ---------------------------------------------------------------

    def request_began(self, body: Body) -> None:
        """It has a whole head in hand."""
        if self._is_open and self._phase != "refused":
            self._is_in_hand = True
            self._body, self._weighed_bytes = body, 0
            self._enter("body", self._limits.body_s, self._weigh_body)
            body.on_eof(self._body_ended)

    def request_ended(self) -> None:
        """It is done with one. The answer may be on its way still, and so may a body that nobody wants."""
        self._is_in_hand = False
        if self._is_open and self._phase == "answer":
            self._be_idle()

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """While this lasts it is an event stream, and takes none of the places."""
        if not self._is_open:
            yield
            return
        self._is_stream = True
        self._gate.free(self)
        self._note()
        try:
            yield
        finally:
            self._is_stream = False
            if self._is_open:
                self._gate.take(self)

    def cut(self, why: str) -> None:
        """Close it now, for one of HTTP_CUTS."""
        self._gate.cuts[why] += 1
        self._leave()
        self._transport.abort()

    # ---- phases -----------------------------------------------------------------------------------

    def _enter(self, phase: Phase, seconds: float = 0, then: Callable[[], None] | None = None) -> None:
        """The next phase, and what happens when it has lasted too long."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, then) if then is not None else None
        self._phase, self._phase_bytes = phase, 0
        self._note()

    def _await_head(self) -> None:
        self._head_rest = b""
        self._enter("head", self._limits.head_s, lambda: self.cut("slow_request"))

    def _head_bytes_of(self, data: bytes) -> int:
        """How much of it still belongs to the head. Blank lines before a head do not end it (RFC 9112,
        section 2.2)."""
        if self._head_rest is None:
            return 0
        seen = self._head_rest + data if self._head_rest else data.lstrip(b"\r\n")
        rest_bytes, end = len(self._head_rest), seen.find(_HEAD_END)
        self._head_rest = seen[1 - len(_HEAD_END) :] if end < 0 else None
        return (len(seen) if end < 0 else end) - rest_bytes

    def _body_ended(self) -> None:
        if self._is_open and self._phase == "body":
            self._enter("answer")
            if not self._is_in_hand:
                self._be_idle()

    def _be_idle(self) -> None:
        self._unread_bytes = 0
        self._enter("idle", self._limits.keepalive_s + OVERDUE_S, self._look_whether_it_reads)

    @property
    def _content_bytes(self) -> int:
        return self._body.total_bytes if self._body is not None else 0

    def _weigh_body(self) -> None:
        """Its time has come, unless enough of it did."""
        limits = self._limits
        if self._phase_bytes - self._weighed_bytes < limits.body_bytes_per_s * limits.body_s:
            self.cut("slow_request")
        else:
            self._weighed_bytes = self._phase_bytes
            self._timer = asyncio.get_running_loop().call_later(limits.body_s, self._weigh_body)

    def _look_whether_it_reads(self) -> None:
        """Long idle: an answer is on its way still, or nobody reads it, or half a head came ahead."""
        unread_bytes = self._transport.get_write_buffer_size()
        if unread_bytes and unread_bytes != self._unread_bytes:
            self._unread_bytes = unread_bytes
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._limits.write_s, self._look_whether_it_reads)
        else:
            self.cut("slow_reader" if unread_bytes else "slow_request")

    def _refuse(self) -> None:
        """Too large: told so, and given a moment to read it while what comes is thrown away."""
        self._gate.cuts["oversize"] += 1
        if self._phase == "head":
            self._transport.write(_OVERSIZE + _CLOSE)
        self._enter("refused", LINGER_S, self._transport.abort)

    # ---- places -----------------------------------------------------------------------------------

    def _note(self) -> None:
        waits = self._phase != "answer" or self._write_timer is not None
        self._gate.note(self, waits=waits and self._is_open and not self._is_stream)

    def _leave(self) -> None:
        for timer in (self._timer, self._write_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._write_timer = None
        if self._is_open:
            self._is_open = False
            self._gate.connections -= 1
            self._gate.note(self, waits=False)
            if not self._is_stream:
                self._gate.free(self)
