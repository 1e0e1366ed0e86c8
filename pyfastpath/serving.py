"""How every HTTP server of ours is served: an aiohttp application on a listening socket, behind a gate.

One place for the limits, so that no listener can be forgotten (tests/test_house.py looks).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from pyfastpath.exposition import Family, family
from pyfastpath.guard import Gate, Guard
from pyfastpath.listeners import LISTEN_BACKLOG
from pyfastpath.metrics import Metric

SHUTDOWN_S: Final = 1.0
LINGER_S: Final = 1.0  # for the rest of a body that nobody wants
HANDSHAKE_S: Final = 5.0
GOODBYE_S: Final = 2.0  # of TLS
BODY_BROKE_OFF: Final = "the body broke off, or is not encoded as its head says. Send it whole."
HTTP_REFUSALS: Final = (
    web.HTTPRequestEntityTooLarge,
    web.HTTPNotFound,
    web.HTTPMethodNotAllowed,
    web.RequestPayloadError,
)
"""What aiohttp raises for requests that are at fault."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def http_refusal(
    request: web.Request, error: Exception, *, bytes_max: int, send: str, paths: str
) -> tuple[int, str, str]:
    """(status, code, sentence) of one of HTTP_REFUSALS. send: what instead of too long a body; paths: which
    there are."""
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return error.status, "too_large", f"the body is longer than {bytes_max} bytes. {send}"
    if isinstance(error, web.HTTPNotFound):
        return error.status, "not_found", f"no such path: {request.path}. {paths}"
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        text = f"{request.path} does not take {request.method}. Use {allowed}."
        return error.status, "method_not_allowed", text
    return 400, "bad_request", BODY_BROKE_OFF


async def start(
    app: web.Application,
    listening: socket.socket,
    gate: Gate,
    *,
    tls: ssl.SSLContext | None = None,
    shutdown_s: float = SHUTDOWN_S,
) -> tuple[web.AppRunner, asyncio.Server]:
    """Serve from now on. To end: close the server, then clean up the runner."""
    logging.getLogger("aiohttp.server").addFilter(_is_our_fault)
    app.middlewares.insert(0, _watched)
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=shutdown_s,
        keepalive_timeout=gate.limits.keepalive_s,
        lingering_time=LINGER_S,
        # The guard counts whole heads, which one field may fill: its answer comes first.
        max_line_size=2 * gate.limits.head_bytes,
        max_field_size=2 * gate.limits.head_bytes,
    )
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(
        partial(Guard, gate, runner.server),
        sock=listening,
        backlog=LISTEN_BACKLOG,
        ssl=tls,
        ssl_handshake_timeout=HANDSHAKE_S if tls is not None else None,
        ssl_shutdown_timeout=GOODBYE_S if tls is not None else None,
    )
    return runner, server


async def serve(
    undo: contextlib.AsyncExitStack, app: web.Application, listening: socket.socket, gate: Gate
) -> None:
    """Serve until `undo` ends it."""
    runner, server = await start(app, listening, gate)
    undo.push_async_callback(runner.cleanup)
    undo.callback(server.close)


def guard_of(request: web.Request) -> Guard | None:
    """The guard of a request's connection; None when that has just been lost, or has none."""
    protocol = request.transport.get_protocol() if request.transport is not None else None
    return protocol if isinstance(protocol, Guard) else None


def streaming(request: web.Request) -> contextlib.AbstractContextManager[None]:
    """While this lasts the answer is an event stream: open for as long as a call, it takes nobody's place."""
    guard = guard_of(request)
    return guard.streaming() if guard is not None else contextlib.nullcontext()


def families(connections: Metric, cuts: Metric, gates: Mapping[str, Gate]) -> Iterable[Family]:
    """What the gates count, by the setting that names the listener."""
    yield family(connections, (((name,), gate.connections) for name, gate in gates.items()))
    yield family(
        cuts, (((name, why), count) for name, gate in gates.items() for why, count in gate.cuts.items())
    )


@web.middleware
async def _watched(request: web.Request, handler: Handler) -> web.StreamResponse:
    """The guard of the connection knows when a request begins and ends."""
    guard = guard_of(request)
    if guard is None:
        return await handler(request)
    guard.request_began(request.content)
    try:
        return await handler(request)
    finally:
        guard.request_ended()


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whoever sends what is no HTTP gets a 400, or leaves; a traceback for each would fill the log."""
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, HttpProcessingError | web.RequestPayloadError | ConnectionResetError)
