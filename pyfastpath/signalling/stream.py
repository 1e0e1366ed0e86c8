"""A call's event stream, passed through from its transceiver to the client.

Bytes pass as they come. What the gateway adds is the end: when the transceiver's side breaks or falls
silent before it said `closed`, the client learns at once that its call is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import StreamReader, web

from pyfastpath.serving import streaming
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.numbers import Numbers

log = logging.getLogger("pyfastpath.signalling")

HEADERS: Final = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy between would hold events back
    "X-Content-Type-Options": "nosniff",
}
LOST: Final = b'event: lost\ndata: {"state": "lost", "reason": "transceiver_gone"}\n\n'
LINE_BYTES_MAX: Final = 64 << 10
STREAMS_MAX: Final = 4096
STREAMS_A_CALL_MAX: Final = 8  # a page, its application's server, and each of them again before it is missed

_CLOSED: Final = re.compile(rb'^data:.*"state": ?"closed"', re.MULTILINE)


class ClosedWatch:
    """Sees `closed` go by in a stream of bytes, whatever way they are cut."""

    def __init__(self) -> None:
        self.is_closed = False
        self._rest = b""

    def see(self, chunk: bytes) -> None:
        """The next bytes."""
        whole, _, rest = (self._rest + chunk).rpartition(b"\n")
        self.is_closed = self.is_closed or _CLOSED.search(whole) is not None
        self._rest = rest[-LINE_BYTES_MAX:]


@dataclass(slots=True)
class Streams:
    """The streams that are open: whoever drains ends them, and clients open them again elsewhere."""

    numbers: Numbers
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)
    streams_max: int = STREAMS_MAX
    of_call: Counter[str] = field(default_factory=Counter)

    def end(self) -> None:
        """End them all, without a word about their calls."""
        for task in self.tasks:
            task.cancel()

    @contextlib.contextmanager
    def open(self, request: web.Request, call_id: str) -> Iterator[None]:
        """One more, for as long as the block lasts. CallError too_many_streams."""
        if len(self.tasks) >= self.streams_max or self.of_call[call_id] >= STREAMS_A_CALL_MAX:
            raise CallError(
                "too many event streams are open", "Close one.", code="too_many_streams", retry_after_s=1
            )
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.of_call[call_id] += 1
        self.numbers.streams += 1
        try:
            with streaming(request):
                yield
        finally:
            self.numbers.streams -= 1
            self.of_call -= Counter((call_id,))
            self.tasks.discard(task)


async def pass_on(request: web.Request, events: StreamReader, numbers: Numbers) -> web.StreamResponse:
    """Send the stream until the call has ended, the transceiver is gone or the client is."""
    reply, watch = _reply(), ClosedWatch()
    with contextlib.suppress(ConnectionResetError):  # the client left
        await reply.prepare(request)
        async for chunk in _chunks(events):
            watch.see(chunk)
            await reply.write(chunk)
        if not watch.is_closed:
            await _lose(reply, numbers)
        await reply.write_eof()
    return reply


async def tell_lost(request: web.Request, numbers: Numbers) -> web.StreamResponse:
    """A stream that says nothing else: the transceiver is announced as alive, but does not answer."""
    reply = _reply()
    with contextlib.suppress(ConnectionResetError):
        await reply.prepare(request)
        await _lose(reply, numbers)
        await reply.write_eof()
    return reply


def _reply() -> web.StreamResponse:
    return web.StreamResponse(headers=HEADERS)


async def _lose(reply: web.StreamResponse, numbers: Numbers) -> None:
    numbers.lost += 1
    log.warning("a call is lost: its transceiver is gone")
    await reply.write(b"\n\n" + LOST)  # ends a half event first, which counts for nothing


async def _chunks(events: StreamReader) -> AsyncIterator[bytes]:
    """Until the end or a break, which are the same to whoever reads."""
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        while chunk := await events.readany():
            yield chunk
