"""A transceiver's control API with scripted answers: a real HTTP server on a UNIX socket or on TCP.

What it was asked is kept; what it answers is `script`: by (method, the path's last word) a function of the
request's body, or nothing for the plain good answer. `die` closes everything at once, as a kill does.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from pyfastpath.listeners import LISTEN_BACKLOG
from pyfastpath.registry.record import TransceiverRecord

Answer = Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]


def said(status: int, code: str, message: str = "as the script says.", **more: object) -> web.Response:
    return web.json_response({"error": {"code": code, "message": message, **more}}, status=status)


def refusing(status: int, code: str, message: str = "as the script says.", **more: object) -> Answer:
    async def answer(_body: dict[str, Any]) -> web.StreamResponse:
        return said(status, code, message, **more)

    return answer


def answer_to(offer: str) -> str:
    """What stands for an SDP answer: it shows which offer it is for."""
    return f"v=0\r\ns=answer to {len(offer)}\r\n"


@dataclass
class Scripted:
    """One transceiver. control: its address once `start` was called."""

    id: str = "t1"
    cluster: int = 0
    xcvr: int = 1
    incarnation: int = 2
    capacity: int = 10
    state: str = "up"
    token: str = ""
    is_silent: bool = False  # event streams carry no comment
    control: str = ""
    asked: list[tuple[str, str, Any]] = field(default_factory=list)
    script: dict[tuple[str, str], Answer] = field(default_factory=dict)
    sessions: dict[str, list[asyncio.Queue[dict[str, Any] | None]]] = field(default_factory=dict)
    _runner: web.AppRunner | None = None

    async def start(self, path: str = "") -> Scripted:
        """Listen on the UNIX socket `path`, or on a free TCP port."""
        app = web.Application(middlewares=[self._note])
        app.add_routes(
            [
                web.post("/v1/sessions", self._create),
                web.get("/v1/sessions/{sid}", self._show),
                web.delete("/v1/sessions/{sid}", self._close),
                web.post("/v1/sessions/{sid}/restart", self._restart),
                web.get("/v1/sessions/{sid}/events", self._events),
                web.get("/v1/state", self._state),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        site: web.BaseSite
        if path:
            site = web.UnixSite(self._runner, path, backlog=LISTEN_BACKLOG)
            self.control = f"unix:{path}"
        else:
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        if not path:
            self.control = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def die(self) -> None:
        """Close every socket; nobody is told anything."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def record(self) -> TransceiverRecord:
        """What it would announce."""
        return TransceiverRecord(
            id=self.id,
            cluster=self.cluster,
            xcvr=self.xcvr,
            incarnation=self.incarnation,
            control=self.control,
            state=self.state,  # type: ignore[arg-type]
            sessions=len(self.sessions),
            capacity=self.capacity,
        )

    def tell(self, sid: str, **event: Any) -> None:
        """Send a state change down every event stream of the session; nothing ends the stream."""
        for queue in self.sessions[sid]:
            queue.put_nowait(event or None)

    def bodies(self, method: str, path: str) -> list[Any]:
        """What was sent to a path, request by request."""
        return [
            body
            for asked_method, asked_path, body in self.asked
            if (asked_method, asked_path) == (method, path)
        ]

    @web.middleware
    async def _note(self, request: web.Request, handler: Any) -> web.StreamResponse:
        body = await request.read()
        content = json.loads(body) if body else None
        self.asked.append((request.method, request.path, content))
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return said(401, "unauthorized")
        scripted = self.script.get((request.method, request.path.rpartition("/")[2]))
        return await (scripted(content or {}) if scripted else handler(request))

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if body["sid"] in self.sessions:
            return said(409, "conflict")
        self.sessions[body["sid"]] = []
        return web.json_response({"sid": body["sid"], "answer": answer_to(body["offer"])}, status=201)

    async def _restart(self, request: web.Request) -> web.Response:
        if request.match_info["sid"] not in self.sessions:
            return said(404, "not_found")
        return web.json_response({"answer": answer_to((await request.json())["offer"])})

    async def _show(self, request: web.Request) -> web.Response:
        sid = request.match_info["sid"]
        return web.json_response({"sid": sid}) if sid in self.sessions else said(404, "not_found")

    async def _close(self, request: web.Request) -> web.Response:
        sid = request.match_info["sid"]
        if sid not in self.sessions:
            return said(404, "not_found")
        self.tell(sid, state="closed", reason="hangup")
        del self.sessions[sid]
        return web.Response(status=204)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        sid = request.match_info["sid"]
        if sid not in self.sessions:
            return said(404, "not_found")
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self.sessions[sid].append(queue)
        reply = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await reply.prepare(request)
        state = "created"
        await reply.write(b'event: state\ndata: {"state": "created"}\n\n')
        while state != "closed":
            try:
                event = await asyncio.wait_for(queue.get(), 1.0)
            except TimeoutError:
                if not self.is_silent:
                    await reply.write(b":\n\n")
                continue
            if event is None:
                break
            state = event["state"]
            await reply.write(f"event: state\ndata: {json.dumps(event)}\n\n".encode())
        return reply

    async def _state(self, request: web.Request) -> web.Response:
        fields = {name: getattr(self.record, name) for name in TransceiverRecord.__struct_fields__}
        del fields["heard_s"]
        return web.json_response(fields)
