"""What every request of a client meets first and last: deadlines, counting, CORS, errors in their shape."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from pyfastpath.metrics import GATEWAY_ROUTES
from pyfastpath.serving import BODY_BROKE_OFF
from pyfastpath.signalling.calls import BODY_BYTES_MAX
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.numbers import Numbers

log = logging.getLogger("pyfastpath.signalling")

BODY_S: Final = 10.0
CLIENT_LEFT: Final = 499  # counted as nginx counts them
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

ALLOW_METHODS: Final = "GET, POST, PATCH, DELETE, OPTIONS"
ALLOW_HEADERS: Final = "Authorization, Content-Type, If-Match, OpenAI-Beta, X-OpenAI-Agents-SDK"
EXPOSE_HEADERS: Final = "Location, ETag, Accept-Patch, Retry-After"
PREFLIGHT_AGE_S: Final = "7200"  # the longest that Chromium keeps one


def counting(numbers: Numbers) -> Middleware:
    """One request, one count."""

    @web.middleware
    async def count(request: web.Request, handler: Handler) -> web.StreamResponse:
        began_s, status = time.monotonic(), CLIENT_LEFT
        try:
            reply = await handler(request)
            status = reply.status
            return reply
        finally:
            route = _route_name(request)
            numbers.requests[route, str(status)] += 1
            if route != "events":
                numbers.request_s[route].observe(time.monotonic() - began_s)

    return count


def _route_name(request: web.Request) -> str:
    if request.method == "OPTIONS":
        return "preflight"
    name = request.match_info.route.name or "other"
    name = name.partition("-")[0]
    return name if name in GATEWAY_ROUTES else "other"


def cors(allow_origins: tuple[str, ...]) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """For `on_response_prepare`: tells browsers which other origins may read an answer, streams too."""
    anyone = "*" in allow_origins

    async def share(request: web.Request, reply: web.StreamResponse) -> None:
        reply.headers.update(_cors_headers(request.headers.get("Origin"), anyone, allow_origins))

    return share


def _cors_headers(origin: str | None, anyone: bool, allow_origins: tuple[str, ...]) -> dict[str, str]:
    if anyone:
        allowed = {"Access-Control-Allow-Origin": "*"}
    elif origin in allow_origins:
        allowed = {"Access-Control-Allow-Origin": str(origin), "Vary": "Origin"}
    else:
        return {"Vary": "Origin"}
    return {**allowed, "Access-Control-Expose-Headers": EXPOSE_HEADERS}


@web.middleware
async def preflights(request: web.Request, handler: Handler) -> web.StreamResponse:
    """OPTIONS, of any path: what a browser may send, and what WHIP takes (RFC 9725)."""
    if request.method != "OPTIONS":
        return await handler(request)
    headers = {
        "Access-Control-Allow-Methods": ALLOW_METHODS,
        "Access-Control-Allow-Headers": ALLOW_HEADERS,
        "Access-Control-Max-Age": PREFLIGHT_AGE_S,
        "Accept-Post": "application/sdp",
        "Accept-Patch": "application/trickle-ice-sdpfrag, application/sdp",
    }
    return web.Response(status=204, headers=headers)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal as JSON; what was not foreseen as a 500 that tells nothing."""
    try:
        return await handler(request)
    except CallError as error:
        return refusal(request, error)
    except web.HTTPRequestEntityTooLarge:
        return refusal(request, CallError(
            f"the body is longer than {BODY_BYTES_MAX} bytes", "Send less.", code="too_large"
        ))  # fmt: skip
    except web.HTTPNotFound:
        return refusal(request, CallError(f"there is nothing at {request.path}", code="not_found"))
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        reply = refusal(request, CallError(
            f"{request.path} does not take {request.method}", f"Use {allowed}.", code="method_not_allowed"
        ))  # fmt: skip
        reply.headers["Allow"] = allowed
        return reply
    except (web.HTTPException, ConnectionResetError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return refusal(request, CallError("the gateway failed. Its log has the reason", code="internal"))


def refusal(request: web.Request, error: CallError) -> web.Response:
    """The answer to a request that is refused."""
    # Strangers can have any number of refusals: only what is not their fault is worth a line.
    level = logging.WARNING if error.status >= 500 else logging.DEBUG
    log.log(level, "refused: %s", error.why or error, extra={"path": request.path, "code": error.code})
    reply = web.json_response(error.body(), status=error.status, headers=error.headers())
    if not request.content.is_eof():
        reply.force_close()  # the rest of the body is not worth waiting for
    return reply


async def read_body(request: web.Request) -> bytes:
    """The whole body, in time. CallError too_slow, bad_request; aiohttp's own error when it is too long."""
    try:
        async with asyncio.timeout(BODY_S):
            return await request.read()
    except TimeoutError:
        raise CallError(
            f"the body did not come within {BODY_S:.0f} s", "Send it at once.", code="too_slow"
        ) from None
    except web.RequestPayloadError:
        raise CallError(BODY_BROKE_OFF.removesuffix("."), code="bad_request") from None
