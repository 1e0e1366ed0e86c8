"""The transceiver's control API, for gateways: /v1/… on a UNIX socket and, with a bearer token, on TCP.

Every error is JSON, {"error": {"code", "message"}}, with "line" where an offer is at fault. Sessions are
named by their sid, nine hex digits.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta

from pyfastpath.access import refusal
from pyfastpath.errors import FastpathError
from pyfastpath.serving import HTTP_REFUSALS, http_refusal, streaming
from pyfastpath.transceiver.endpoint import Endpoint
from pyfastpath.transceiver.member import Member
from pyfastpath.transceiver.requests import CreateSession, SessionError, SessionInfo
from pyfastpath.types import Endpoint as Address

log = logging.getLogger("pyfastpath.transceiver.service")

BODY_BYTES_MAX: Final = 512 << 10  # an offer of 64 KiB and a session object, in JSON
COMMENT_EVERY_S: Final = 1.0  # the sign of life of an event stream
REASON_CHARACTERS: Final = 40
STATUS: Final = {
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "method_not_allowed": 405,
    "conflict": 409,
    "too_large": 413,
    "too_many_streams": 429,
    "internal": 500,
    "no_capacity": 503,
    "draining": 503,
}
"""HTTP status by error code; a code not named here (what is wrong with an offer) is a 400."""

Sid = Annotated[str, Meta(pattern=r"^[0-9a-f]{9}$")]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
T = TypeVar("T")


class CreateBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /v1/sessions."""

    sid: Sid
    ufrag: str
    offer: str
    candidates: list[str]
    call: str = ""
    session: dict[str, Any] = msgspec.field(default_factory=dict)


class RestartBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Body of POST /v1/sessions/{sid}/restart. sid: the one in the new token; the session keeps its own."""

    ufrag: str
    offer: str
    sid: Sid = "000000000"
    candidates: list[str] = msgspec.field(default_factory=list)


class Service:
    """The handlers over one endpoint. changed: called after whatever changes the transceiver's record."""

    def __init__(self, endpoint: Endpoint, member: Member, changed: Callable[[], None]) -> None:
        self._endpoint = endpoint
        self._member = member
        self._changed = changed

    def app(self, token: bytes = b"") -> web.Application:
        """The application of one listener. token: asked of every request; empty on the UNIX socket."""
        app = web.Application(middlewares=[_errors, _guard(token)], client_max_size=BODY_BYTES_MAX)
        app.add_routes(
            [
                web.post("/v1/sessions", self._create),
                web.get("/v1/sessions", self._list),
                web.get("/v1/sessions/{sid}", self._show),
                web.delete("/v1/sessions/{sid}", self._close),
                web.post("/v1/sessions/{sid}/restart", self._restart),
                web.get("/v1/sessions/{sid}/events", self._events),
                web.get("/v1/drain", self._get_drain),
                web.post("/v1/drain", self._drain),
                web.delete("/v1/drain", self._drain),
                web.get("/v1/state", self._state),
            ]
        )
        return app

    async def _create(self, request: web.Request) -> web.Response:
        body = _json(await request.read(), CreateBody)
        answer = self._endpoint.create(
            CreateSession(
                sid=int(body.sid, 16),
                call=body.call,
                ufrag=body.ufrag,
                offer=body.offer,
                candidates=_addresses(body.candidates),
                session=body.session,
            )
        )
        self._changed()
        return web.json_response({"sid": body.sid, "answer": answer}, status=201)

    async def _restart(self, request: web.Request) -> web.Response:
        sid, body = _sid(request), _json(await request.read(), RestartBody)
        answer = self._endpoint.restart(sid, body.ufrag, body.offer, _addresses(body.candidates))
        return web.json_response({"answer": answer})

    async def _close(self, request: web.Request) -> web.Response:
        reason = request.query.get("reason", "hangup")[:REASON_CHARACTERS]
        self._endpoint.close_session(_sid(request), reason)
        self._changed()
        return web.Response(status=204)

    async def _list(self, request: web.Request) -> web.Response:
        return web.json_response({"sessions": [session_json(one) for one in self._endpoint.sessions()]})

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(session_json(self._endpoint.session(_sid(request))))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        """text/event-stream: the state now and at each change, a comment each second; ends with `closed`."""
        left = contextlib.suppress(ConnectionResetError)  # whoever listened
        with self._endpoint.watch(_sid(request)) as changes, streaming(request), left:
            reply = web.StreamResponse(
                headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
            )
            await reply.prepare(request)
            state = ""
            while state != "closed":
                try:
                    async with asyncio.timeout(COMMENT_EVERY_S):
                        info = await changes.get()
                except TimeoutError:
                    await reply.write(b":\n\n")
                    continue
                state = info.state
                await reply.write(f"event: state\ndata: {json.dumps(session_json(info))}\n\n".encode())
        return reply

    async def _get_drain(self, request: web.Request) -> web.Response:
        return self._drain_reply()

    async def _drain(self, request: web.Request) -> web.Response:
        self._endpoint.is_draining = request.method == "POST"
        self._changed()
        return self._drain_reply()

    def _drain_reply(self) -> web.Response:
        live, draining = len(self._endpoint), self._endpoint.is_draining
        return web.json_response({"draining": draining, "sessions": live, "done": draining and not live})

    async def _state(self, request: web.Request) -> web.Response:
        record = msgspec.structs.asdict(self._member.record(self._endpoint))
        del record["heard_s"]  # means nothing to anybody else
        return web.json_response(record)


def session_json(info: SessionInfo) -> dict[str, Any]:
    """One session as the API shows it."""
    shown = msgspec.to_builtins(info)
    return {**shown, "sid": f"{info.sid:09x}", "steps_ms": dict(info.steps_ms)}


# ---- who may ask, what was asked, and how errors look -------------------------------------------------


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except FastpathError as error:
        code, line = (error.code, error.line) if isinstance(error, SessionError) else ("refused", 0)
        return _error(code, str(error), line)
    except HTTP_REFUSALS as error:
        paths = "All of them begin with /v1/."
        _, code, text = http_refusal(request, error, bytes_max=BODY_BYTES_MAX, send="Send less.", paths=paths)
        return _error(code, text)
    except (web.HTTPException, ConnectionResetError):
        raise
    except Exception:
        log.exception("%s %s failed", request.method, request.path)
        return _error("internal", "the transceiver failed to answer. Its log has the reason.")


def _error(code: str, message: str, line: int = 0) -> web.Response:
    said: dict[str, Any] = {"code": code, "message": message}
    if line:
        said["line"] = line
    return web.json_response({"error": said}, status=STATUS.get(code, 400))


def _guard(token: bytes) -> Any:
    """On TCP: a Host that is an address, and the token."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        why = refusal(request.host, request.headers.get("Authorization", ""), token, setting="control_token")
        if why is not None:
            raise SessionError(why.message, why.hint, code=why.code)
        return await handler(request)

    return guard


def _json(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        keys = ", ".join(getattr(kind, "__struct_fields__", ()))
        raise SessionError(
            f"bad body: {error}.", f"Send a JSON object with {keys}.", code="bad_request"
        ) from None


def _addresses(texts: list[str]) -> tuple[Address, ...]:
    try:
        return tuple(map(Address.parse, texts))
    except ValueError as error:
        raise SessionError(
            f"bad candidate: {error}.", "Write 203.0.113.9:3478.", code="bad_request"
        ) from None


def _sid(request: web.Request) -> int:
    text = request.match_info["sid"]
    try:
        return int(msgspec.convert(text, Sid), 16)
    except msgspec.ValidationError:
        raise SessionError(
            f"no session {text[:20]!r}.", "It ended, or never was.", code="not_found"
        ) from None
