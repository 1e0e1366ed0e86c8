"""The admin API: /v1/… on the UNIX socket and, with a bearer token, on TCP.

Every error is JSON, {"error": {"code", "message"}}, whose message says what to do. Handlers run in the
control thread, so each of them sees and leaves the tables between two moments.
"""

import logging
from collections.abc import Awaitable, Callable
from ipaddress import ip_address
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web

from pyfastpath.access import refusal
from pyfastpath.config import Backend, redacted
from pyfastpath.errors import ConfigError, FastpathError, RouteError, WireError
from pyfastpath.relay import report
from pyfastpath.relay.capture import (
    BYTES_MAX,
    BYTES_MAX_MAX,
    BYTES_MAX_MIN,
    DURATION_MAX_S,
    DURATION_S,
    SNAP_BYTES,
    Captures,
    Wanted,
)
from pyfastpath.relay.control import Control, Reloaded
from pyfastpath.relay.listing import Filter
from pyfastpath.relay.routing import BulkResult
from pyfastpath.relay.sessions import parse_route, session_hash
from pyfastpath.serving import HTTP_REFUSALS, http_refusal
from pyfastpath.types import Endpoint, canonical

log = logging.getLogger("pyfastpath.admin")

SDP_BYTES_MAX: Final = 256 << 10
JSON_BYTES_MAX: Final = 64 << 10
BULK_LINES: Final = 5000  # installed in one go; then other requests have their turn
DRAIN_MAX_S: Final = 604_800  # a week, as drain_deadline_s
FLOWS_LIMIT: Final = 1000
FLOWS_LIMIT_MAX: Final = 100_000

STATUS: Final = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "unknown_backend": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "bad_target": 422,
    "bad_sdp": 422,
    "bad_config": 422,
    "table_full": 503,
    "internal": 500,
}
"""HTTP status by error code; a code not named here is a 400."""

CONTROL = web.AppKey("control", Control)
CAPTURES = web.AppKey("captures", Captures)
RELOAD: web.AppKey[Callable[[], Reloaded]] = web.AppKey("reload")
TOKEN = web.AppKey("token", bytes)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


def admin_app(
    control: Control, captures: Captures, *, reload: Callable[[], Reloaded], token: bytes = b""
) -> web.Application:
    """The application of one admin listener. token: asked of every request; empty on the UNIX socket."""
    app = web.Application(middlewares=[_errors, _guard], client_max_size=SDP_BYTES_MAX)
    app[CONTROL], app[CAPTURES], app[RELOAD], app[TOKEN] = control, captures, reload, token
    app.on_shutdown.append(_end_capture)
    app.add_routes(
        [
            web.put("/v1/routes", _put_route),
            web.post("/v1/routes", _post_routes),
            web.get("/v1/routes/{ufrag:.+}", _get_route),
            web.delete("/v1/routes/{ufrag:.+}", _delete_route),
            web.post("/v1/answers", _post_answer),
            web.get("/v1/backends", _get_backends),
            web.get("/v1/backends/{id}", _get_backend),
            web.put("/v1/backends/{id}", _put_backend),
            web.delete("/v1/backends/{id}", _delete_backend),
            web.post("/v1/backends/{id}/drain", _drain_backend),
            web.post("/v1/backends/{id}/undrain", _undrain_backend),
            web.get("/v1/flows", _get_flows),
            web.get("/v1/workers", _get_workers),
            web.put("/v1/workers", _put_workers),
            web.get("/v1/drain", _get_drain),
            web.post("/v1/drain", _post_drain),
            web.delete("/v1/drain", _delete_drain),
            web.get("/v1/config", _get_config),
            web.post("/v1/reload", _post_reload),
            web.get("/v1/upgrade", _get_upgrade),
            web.post("/v1/upgrade", _post_upgrade),
            web.get("/v1/loglevel", _get_loglevel),
            web.put("/v1/loglevel", _put_loglevel),
            web.get("/v1/status", _get_status),
            web.get("/v1/capture", _get_capture, allow_head=False),
            web.delete("/v1/capture", _delete_capture),
            web.get("/v1/counters", _get_counters),
        ]
    )
    return app


# ---- who may ask, and how errors look ---------------------------------------------------------------


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FastpathError as error:
        others = error.others if isinstance(error, ConfigError) else ()
        return _error(_code_of(error), " ".join(map(str, (error, *others))))
    except HTTP_REFUSALS as error:
        send, paths = "Send less, or NDJSON to /v1/routes.", "All of them begin with /v1/."
        _, code, text = http_refusal(request, error, bytes_max=SDP_BYTES_MAX, send=send, paths=paths)
        return _error(code, text)
    except (web.HTTPException, ConnectionResetError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _error("internal", "the relay failed to answer. Its log has the reason.")


def _code_of(error: FastpathError) -> str:
    if isinstance(error, RouteError):
        return error.code
    return (
        "bad_sdp"
        if isinstance(error, WireError)
        else "bad_config"
        if isinstance(error, ConfigError)
        else "refused"
    )


def _error(code: str, message: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message}}, status=STATUS.get(code, 400))


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """On TCP: a Host that is an address, and the token."""
    why = refusal(
        request.host,
        request.headers.get("Authorization", ""),
        request.app[TOKEN],
        setting="admin_token",
    )
    if why is not None:
        raise RouteError(why.message, why.hint, code=why.code)
    return await handler(request)


# ---- routes -----------------------------------------------------------------------------------------


async def _put_route(request: web.Request) -> web.Response:
    control = request.app[CONTROL]
    route = control.routing.put(parse_route(await _body(request, JSON_BYTES_MAX)))
    return web.json_response({**route, "candidates": report.candidates(control)})


async def _post_routes(request: web.Request) -> web.Response:
    """NDJSON of any length, read as it comes: one line a route."""
    control, result = request.app[CONTROL], BulkResult()
    lines: list[bytes] = []
    rest, done = b"", 0
    async for chunk in request.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        if len(rest) > JSON_BYTES_MAX:
            raise RouteError(
                f"line {done + len(lines) + 1} is too long.", "One route a line.", code="too_large"
            )
        lines += whole
        while len(lines) >= BULK_LINES:
            control.routing.put_lines(lines[:BULK_LINES], done + 1, result)
            lines, done = lines[BULK_LINES:], done + BULK_LINES
    control.routing.put_lines([*lines, rest], done + 1, result)
    return web.json_response(msgspec.to_builtins(result), status=200 if not result.refused else 207)


async def _get_route(request: web.Request) -> web.Response:
    return web.json_response(request.app[CONTROL].routing.get(request.match_info["ufrag"]))


async def _delete_route(request: web.Request) -> web.Response:
    request.app[CONTROL].routing.remove(request.match_info["ufrag"])
    return web.Response(status=204)


async def _post_answer(request: web.Request) -> web.Response:
    query = _query(request, "backend", "session", "target", "replace")
    if not query.get("backend"):
        raise RouteError("no backend is named.", "Add ?backend=ID.", code="bad_request")
    body = await _body(request, SDP_BYTES_MAX)
    answer = request.app[CONTROL].routing.answer(
        query["backend"],
        body.decode(errors="surrogateescape"),
        session=query.get("session", ""),
        target=query.get("target", ""),
        replace=_flag(query, "replace"),
    )
    return web.Response(body=answer.encode(errors="surrogateescape"), content_type="application/sdp")


# ---- backends ---------------------------------------------------------------------------------------


async def _get_backends(request: web.Request) -> web.Response:
    control = request.app[CONTROL]
    rows = [report.backend(control, entry) for entry in control.registry.entries.values()]
    return web.json_response({"backends": rows, "retiring": report.retiring(control)})


async def _get_backend(request: web.Request) -> web.Response:
    return _backend_reply(request)


async def _put_backend(request: web.Request) -> web.Response:
    """The body holds the keys of a [[backends]] table; `id` may be left out."""
    body = _json(await _body(request, JSON_BYTES_MAX), dict[str, Any])
    named = request.match_info["id"]
    if body.setdefault("id", named) != named:
        raise RouteError(
            f"the path says {named!r}, the body {body['id']!r}.", "Name one id.", code="bad_request"
        )
    try:
        spec = msgspec.convert(body, Backend)
    except msgspec.ValidationError as error:
        keys = ", ".join(Backend.__struct_fields__)
        raise RouteError(f"not a backend: {error}.", f"Its keys: {keys}.", code="bad_request") from None
    request.app[CONTROL].add_backend(spec)
    return _backend_reply(request)


async def _delete_backend(request: web.Request) -> web.Response:
    request.app[CONTROL].remove_backend(request.match_info["id"])
    return web.Response(status=204)


async def _drain_backend(request: web.Request) -> web.Response:
    request.app[CONTROL].drain_backend(request.match_info["id"], True)
    return _backend_reply(request)


async def _undrain_backend(request: web.Request) -> web.Response:
    request.app[CONTROL].drain_backend(request.match_info["id"], False)
    return _backend_reply(request)


def _backend_reply(request: web.Request) -> web.Response:
    control = request.app[CONTROL]
    return web.json_response(report.backend(control, control.registry.get(request.match_info["id"])))


# ---- the relay itself -------------------------------------------------------------------------------


async def _get_flows(request: web.Request) -> web.Response:
    control = request.app[CONTROL]
    query = _query(request, "upstream", "backend", "client", "session", "limit")
    if "backend" in query:
        control.registry.get(query["backend"])
    limit = _number(query.get("limit", str(FLOWS_LIMIT)), "limit", 0, FLOWS_LIMIT_MAX)
    wanted = Filter(
        upstream=_endpoint(query, "upstream"),
        client=_endpoint(query, "client"),
        backend=query.get("backend", ""),
        session=session_hash(query["session"], control.shared.seed) if query.get("session") else None,
        limit=limit,
    )
    return web.json_response(report.flows(control, wanted))


async def _get_workers(request: web.Request) -> web.Response:
    return _workers_reply(request)


async def _put_workers(request: web.Request) -> web.Response:
    count = _json(await _body(request, JSON_BYTES_MAX), Count).count
    request.app[CONTROL].set_workers(count)
    return _workers_reply(request)


def _workers_reply(request: web.Request) -> web.Response:
    control = request.app[CONTROL]
    return web.json_response({"shards": len(control.shards), "workers": control.crew.rows()})


async def _get_drain(request: web.Request) -> web.Response:
    return web.json_response(report.drain(request.app[CONTROL]))


async def _post_drain(request: web.Request) -> web.Response:
    """The body may be empty."""
    said = await _body(request, JSON_BYTES_MAX)
    wanted = _json(said, DrainOrder) if said else DrainOrder()
    request.app[CONTROL].begin_drain(notice_s=wanted.notice_s, wait_s=wanted.wait_s)
    return web.json_response(report.drain(request.app[CONTROL]))


async def _delete_drain(request: web.Request) -> web.Response:
    request.app[CONTROL].end_drain()
    return web.json_response(report.drain(request.app[CONTROL]))


async def _get_config(request: web.Request) -> web.Response:
    config = request.app[CONTROL].config
    return web.json_response({"digest": config.digest(), "config": redacted(config)})


async def _post_reload(request: web.Request) -> web.Response:
    done = request.app[RELOAD]()
    return web.json_response({"changed": done.changed, "needs_restart": done.needs_restart})


async def _get_upgrade(request: web.Request) -> web.Response:
    return web.json_response(report.upgrade(request.app[CONTROL]))


async def _post_upgrade(request: web.Request) -> web.Response:
    request.app[CONTROL].begin_upgrade()
    return web.json_response(report.upgrade(request.app[CONTROL]), status=202)


async def _get_loglevel(request: web.Request) -> web.Response:
    return web.json_response({"level": request.app[CONTROL].log_level})


async def _put_loglevel(request: web.Request) -> web.Response:
    level = _json(await _body(request, JSON_BYTES_MAX), Level).level
    request.app[CONTROL].set_log_level(level)
    return web.json_response({"level": level})


async def _get_status(request: web.Request) -> web.Response:
    return web.json_response(report.status(request.app[CONTROL]))


async def _get_counters(request: web.Request) -> web.Response:
    return web.json_response(report.counters(request.app[CONTROL]))


# ---- capture ----------------------------------------------------------------------------------------


async def _get_capture(request: web.Request) -> web.StreamResponse:
    """A pcapng, as long as it lasts."""
    capture = request.app[CAPTURES].begin(_wanted(request))
    response = web.StreamResponse(headers={"Content-Type": "application/x-pcapng"})
    try:
        await response.prepare(request)
        await capture.run(response.write, lambda: request.transport is None)
        await response.write_eof()
    except (ConnectionError, TimeoutError) as error:
        log.info("whoever captured has gone (%s)", type(error).__name__)
        if request.transport is not None:
            request.transport.abort()  # a stream without its end must not look like one that has it
    finally:
        capture.close()
    return response


async def _delete_capture(request: web.Request) -> web.Response:
    if not request.app[CAPTURES].end():
        raise RouteError(
            "no capture runs.", "pyfastpath capture -o FILE begins one (GET /v1/capture).", code="not_found"
        )
    return web.Response(status=204)


async def _end_capture(app: web.Application) -> None:
    app[CAPTURES].end()


def _wanted(request: web.Request) -> Wanted:
    names = ("client", "ufrag", "session", "backend", "full", "snap", "duration_s", "max_bytes")
    query = _query(request, *names)
    return Wanted(
        client=_client(query),
        ufrag=query.get("ufrag", ""),
        session=query.get("session", ""),
        backend=query.get("backend", ""),
        whole=_flag(query, "full"),
        snap_bytes=_number(query.get("snap", str(SNAP_BYTES)), "snap", 1, SNAP_BYTES),
        duration_s=_number(query.get("duration_s", str(DURATION_S)), "duration_s", 1, DURATION_MAX_S),
        bytes_max=_number(query.get("max_bytes", str(BYTES_MAX)), "max_bytes", BYTES_MAX_MIN, BYTES_MAX_MAX),
    )


def _client(query: dict[str, str]) -> Endpoint | None:
    """ip, whose ports all count, or ip:port."""
    try:
        return Endpoint(canonical(ip_address(query.get("client", "").strip("[]"))), 0)
    except ValueError:
        return _endpoint(query, "client", hint="Give an IP address, or ip:port.")


# ---- what requests say ------------------------------------------------------------------------------


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of PUT /v1/workers."""

    count: int


class DrainOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /v1/drain: how long new flows are still taken, and how long live ones are waited for."""

    notice_s: Annotated[float, msgspec.Meta(ge=0, le=DRAIN_MAX_S)] = 0.0
    wait_s: Annotated[float, msgspec.Meta(ge=0, le=DRAIN_MAX_S)] | None = None


class Level(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of PUT /v1/loglevel."""

    level: str


async def _body(request: web.Request, bytes_max: int) -> bytes:
    body = await request.read()
    if len(body) > bytes_max:
        raise RouteError(f"the body is longer than {bytes_max} bytes.", "Send less.", code="too_large")
    return body


def _json(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        keys = getattr(kind, "__struct_fields__", ())
        hint = f"Send a JSON object with {', '.join(keys)}." if keys else "Send a JSON object."
        raise RouteError(f"bad body: {error}.", hint, code="bad_request") from None


def _query(request: web.Request, *known: str) -> dict[str, str]:
    for name in request.query:
        if name not in known:
            raise RouteError(
                f"unknown parameter {name!r}.", f"Known: {', '.join(known)}.", code="bad_request"
            )
    return dict(request.query)


def _flag(query: dict[str, str], name: str) -> bool:
    text = query.get(name, "0")
    if text not in ("0", "1", "false", "true"):
        raise RouteError(f"{name} is {text!r}.", "Give 0 or 1.", code="bad_request")
    return text in ("1", "true")


def _number(text: str, name: str, low: int, high: int) -> int:
    # int() itself refuses thousands of digits, with an error of another kind
    if not text.isdecimal() or len(text) > len(str(high)) or not low <= int(text) <= high:
        raise RouteError(f"{name} is {text!r}.", f"Give a number from {low} to {high}.", code="bad_request")
    return int(text)


def _endpoint(query: dict[str, str], name: str, *, hint: str = "Give ip:port.") -> Endpoint | None:
    if not query.get(name):
        return None
    try:
        return Endpoint.parse(query[name])
    except ValueError as error:
        raise RouteError(f"{name}: {error}.", hint, code="bad_request") from None
