"""The gateway's HTTP API for clients: OpenAI's calls, client secrets, WHIP, and the page."""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from pyfastpath.signalling import front, stream
from pyfastpath.signalling.calls import BODY_BYTES_MAX, SDP, merge_sessions, parse_call
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.limits import RateLimit
from pyfastpath.signalling.page import INDEX, File, Page
from pyfastpath.signalling.proxies import Proxies
from pyfastpath.signalling.secrets import NONCE_BYTES, Bearer, Keys, parse_secret_request
from pyfastpath.signalling.switchboard import Answered, Switchboard
from pyfastpath.signalling.whip import FRAGMENT, parse_patch

CALLS: Final = "/v1/realtime/calls"
WHIP: Final = "/whip"
DRAIN_RETRY_S: Final = 1


class Api:
    """The handlers of one gateway."""

    def __init__(
        self,
        switchboard: Switchboard,
        keys: Keys,
        limit: RateLimit,
        streams: stream.Streams,
        *,
        proxies: Proxies,
        public_url: str = "",
    ) -> None:
        """public_url: put before the path in Location; empty: the path alone, good behind any proxy."""
        self._switchboard = switchboard
        self._keys = keys
        self._limit = limit
        self._streams = streams
        self._proxies = proxies
        self._public_url = public_url.rstrip("/")

    def app(self, *, allow_origins: tuple[str, ...], page: Mapping[str, File] | None) -> web.Application:
        """The application of the public listener. page: its files; None serves none."""
        app = web.Application(
            middlewares=[front.counting(self._streams.numbers), front.preflights, front.errors],
            client_max_size=BODY_BYTES_MAX,
        )
        app.on_response_prepare.append(front.cors(allow_origins))
        app.add_routes(
            [
                web.post(CALLS, self.create_call, name="calls"),
                web.post("/v1/realtime", self.create_call, name="calls-beta"),
                web.post(f"{CALLS}/{{id}}/hangup", self.hang_up, name="hangup"),
                web.get(f"{CALLS}/{{id}}/events", self.events, name="events", allow_head=False),
                web.patch(f"{CALLS}/{{id}}", self.patch, name="restart"),
                web.post("/v1/realtime/client_secrets", self.create_secret, name="client_secrets"),
                web.post(WHIP, self.create_whip, name="whip"),
                web.delete(f"{WHIP}/{{id}}", self.hang_up, name="whip_session"),
                web.patch(f"{WHIP}/{{id}}", self.patch, name="whip_session-patch"),
            ]
        )
        if page is not None and INDEX in page:
            serve = Page(dict(page))
            app.router.add_get("/", serve.index, name="page")
            app.router.add_get("/static/{name:.+}", serve.static, name="page-static")
        return app

    # ---- calls ------------------------------------------------------------------------------------

    async def create_call(self, request: web.Request) -> web.Response:
        """POST /v1/realtime/calls"""
        return self._created(CALLS, await self._place(request))

    async def create_whip(self, request: web.Request) -> web.Response:
        """POST /whip (RFC 9725, section 4.2)"""
        reply = self._created(WHIP, await self._place(request))
        reply.headers["Accept-Patch"] = f"{FRAGMENT}, {SDP}"
        return reply

    async def _place(self, request: web.Request) -> Answered:
        self._admit(request)
        bearer = self._bearer(request)
        self._refuse_while_draining()
        body = await front.read_body(request)
        wanted = parse_call(request.headers.get("Content-Type", ""), body, request.query)
        return await self._switchboard.place(wanted.offer, merge_sessions(bearer.session, wanted.session))

    def _created(self, path: str, answered: Answered) -> web.Response:
        headers = {
            "Location": f"{self._public_url}{path}/{answered.call_id}",
            "ETag": answered.etag,
            "Cache-Control": "no-store",
        }
        return web.Response(text=answered.text, status=201, content_type=SDP, headers=headers)

    async def hang_up(self, request: web.Request) -> web.Response:
        """POST …/calls/{id}/hangup and DELETE /whip/{id}: 200 without a body."""
        self._bearer(request, late=True)
        await self._switchboard.hang_up(request.match_info["id"])
        return web.Response(status=200)

    async def patch(self, request: web.Request) -> web.Response:
        """PATCH …/calls/{id} and /whip/{id}: trickled candidates (204, ignored) or an ICE restart (200)."""
        self._admit(request)
        self._bearer(request, late=True)
        call_id, if_match = request.match_info["id"], request.headers.get("If-Match")
        body = await front.read_body(request)
        patch = parse_patch(request.headers.get("Content-Type", ""), if_match, body)
        await self._switchboard.check(call_id, if_match)
        if patch.kind == "trickle":
            return web.Response(status=204)
        answered = await self._switchboard.restart(call_id, patch)
        headers = {"ETag": answered.etag, "Cache-Control": "no-store"}
        return web.Response(text=answered.text, content_type=patch.content_type, headers=headers)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET …/calls/{id}/events. The call id is key enough: an EventSource can send no other."""
        if request.headers.get("Authorization"):
            self._bearer(request, late=True)
        call_id, numbers = request.match_info["id"], self._streams.numbers
        with self._streams.open(request, call_id):
            try:
                async with self._switchboard.events(call_id) as events:
                    return await stream.pass_on(request, events, numbers)
            except CallError as error:
                if error.code != "transceiver_unreachable":
                    raise
            return await stream.tell_lost(request, numbers)

    async def create_secret(self, request: web.Request) -> web.Response:
        """POST /v1/realtime/client_secrets: needs an API key, an ephemeral one makes no others."""
        self._admit(request)
        if self._bearer(request).expires_s is not None:
            raise CallError("an ephemeral key makes no others", "Use an API key.", code="forbidden")
        wanted = parse_secret_request(await front.read_body(request))
        value, expires_s = self._keys.issue(
            wanted, wall_s=int(time.time()), nonce=secrets.token_bytes(NONCE_BYTES)
        )
        session = {"type": "realtime", "object": "realtime.session", **wanted.session}
        said: dict[str, Any] = {"value": value, "expires_at": expires_s, "session": session}
        return web.json_response(said, headers={"Cache-Control": "no-store"})

    # ---- who may ----------------------------------------------------------------------------------

    def _admit(self, request: web.Request) -> None:
        """Before the key is looked at: guessing keys is limited too."""
        client = self._proxies.client_of(request.remote or "", request.headers)
        wait_s = self._limit.take(client, time.monotonic())
        if wait_s:
            raise CallError(
                "too many calls from this address",
                f"Try again in {wait_s} s.",
                code="rate_limited",
                retry_after_s=wait_s,
            )

    def _bearer(self, request: web.Request, *, late: bool = False) -> Bearer:
        header = request.headers.get("Authorization", "")
        return self._keys.check(header, wall_s=int(time.time()), late=late)

    def _refuse_while_draining(self) -> None:
        if self._streams.numbers.is_draining:
            raise CallError(
                "this gateway is about to end", "Try again.", code="draining", retry_after_s=DRAIN_RETRY_S
            )
