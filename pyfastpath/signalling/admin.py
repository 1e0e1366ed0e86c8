"""Where transceivers register: /v1/transceivers on a UNIX socket and, with a bearer token, on TCP.

Every error is JSON, {"error": {"code", "message"}}, as the relay's admin API has it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from pyfastpath.access import refusal
from pyfastpath.registry.record import (
    RECORD_BYTES_MAX,
    Registry,
    RegistryError,
    TransceiverRecord,
    build_record,
    parse_record,
)
from pyfastpath.serving import HTTP_REFUSALS, http_refusal
from pyfastpath.signalling.errors import CallError

log = logging.getLogger("pyfastpath.signalling")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_FAILED: Final = 503  # of the registry itself


class Admin:
    """The handlers over one registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def app(self, token: bytes = b"") -> web.Application:
        """The application of one listener. token: asked of every request; empty on the UNIX socket."""
        app = web.Application(middlewares=[_errors, _guard(token)], client_max_size=RECORD_BYTES_MAX)
        app.add_routes(
            [
                web.get("/v1/transceivers", self._list),
                web.get("/v1/transceivers/{id}", self._show),
                web.put("/v1/transceivers/{id}", self._announce),
                web.delete("/v1/transceivers/{id}", self._withdraw),
            ]
        )
        return app

    async def _list(self, request: web.Request) -> web.Response:
        now = time.monotonic()
        rows = [_row(record, now) for record in await self._registry.records(now)]
        return web.json_response({"transceivers": rows})

    async def _show(self, request: web.Request) -> web.Response:
        now, id = time.monotonic(), request.match_info["id"]
        for record in await self._registry.records(now):
            if record.id == id:
                return web.json_response(_row(record, now))
        raise CallError(
            f"no transceiver {id!r} is alive", "GET /v1/transceivers lists all.", code="not_found"
        )

    async def _announce(self, request: web.Request) -> web.Response:
        """The body is a record; its id is that of the path."""
        now, id = time.monotonic(), request.match_info["id"]
        try:
            record = parse_record(await request.read())
        except RegistryError as error:
            raise CallError(error.message, error.hint, code="bad_request") from None
        if record.id != id:
            raise CallError(
                f"the path says {id!r}, the body {record.id!r}", "Name one id.", code="bad_request"
            )
        known = {one.id: one for one in await self._registry.records(now)}
        for one in known.values():
            if one.id != id and (one.cluster, one.xcvr) == (record.cluster, record.xcvr):
                raise CallError(
                    f"{one.id!r} is already number {record.xcvr} of cluster {record.cluster}",
                    "A token names one transceiver: give each its own number.",
                    code="conflict",
                )
        await self._registry.announce(record, now)
        if id not in known:
            log.info("a transceiver registered", extra={"transceiver": id, "control": record.control})
        elif known[id].state != record.state:
            log.info("a transceiver changed", extra={"transceiver": id, "state": record.state})
        return web.json_response(_row(msgspec.structs.replace(record, heard_s=now), now))

    async def _withdraw(self, request: web.Request) -> web.Response:
        await self._registry.withdraw(request.match_info["id"])
        log.info("a transceiver left", extra={"transceiver": request.match_info["id"]})
        return web.Response(status=204)


def _row(record: TransceiverRecord, now: float) -> dict[str, object]:
    """A record, and how long ago it was heard: clocks of two processes have nothing in common."""
    return {
        "record": msgspec.json.decode(build_record(record)),
        "heard_ago_s": round(max(0.0, now - record.heard_s), 3),
    }


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except CallError as error:
        return _error(error.status, error.code, str(error))
    except RegistryError as error:
        log.error("the registry failed: %s", error)  # noqa: TRY400 - its sentence says it all
        return _error(_FAILED, "registry_failed", str(error))
    except HTTP_REFUSALS as error:
        paths = "Try /v1/transceivers."
        send = "Send one record."
        return _error(*http_refusal(request, error, bytes_max=RECORD_BYTES_MAX, send=send, paths=paths))
    except (web.HTTPException, ConnectionResetError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _error(500, "internal", "the gateway failed to answer. Its log has the reason.")


def _error(status: int, code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=status)


def _guard(token: bytes) -> Middleware:
    """On TCP: a Host that is an address, and the token."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = refusal(request.host, request.headers.get("Authorization", ""), token, setting="admin_token")
        if why is not None:
            raise CallError(why.message, why.hint, code=why.code)
        return await handler(request)

    return guard
