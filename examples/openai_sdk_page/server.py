"""The server of a page that calls with the OpenAI Agents SDK: the page, the SDK's files, and keys for it.

A page never holds the API key: it asks its own server, which asks the gateway for an ephemeral one (`ek_…`).
The call itself goes from the browser to the gateway.
"""

from pathlib import Path

import aiohttp
from aiohttp import web

FOLDER = Path(__file__).parent
SDK = FOLDER / "node_modules" / "@openai" / "agents-realtime" / "dist" / "bundle"
CALLS = "/v1/realtime/calls"
KEYS = "/v1/realtime/client_secrets"
GATEWAY_TIMEOUT = aiohttp.ClientTimeout(total=10)


class SdkPage:
    """What the page needs beside the gateway. FileNotFoundError: `npm ci` has not been run."""

    def __init__(self, gateway: str, api_key: str = "") -> None:
        self._gateway = gateway.rstrip("/")
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        if not SDK.is_dir():
            raise FileNotFoundError(f"{SDK} is missing: run `npm ci` in {FOLDER}")

    def app(self) -> web.Application:
        """`GET /`, its files, the SDK's, and `POST /key`."""
        app = web.Application()
        app.router.add_get("/", self.page)
        app.router.add_post("/key", self.key)
        app.router.add_static("/page", FOLDER / "page")
        app.router.add_static("/sdk", SDK)
        return app

    async def page(self, _: web.Request) -> web.FileResponse:
        """The page with its buttons."""
        return web.FileResponse(FOLDER / "page" / "index.html")

    async def key(self, _: web.Request) -> web.Response:
        """A key for one call, and where to call: {"key": "ek_…", "calls": "…/v1/realtime/calls"}."""
        try:
            async with (
                aiohttp.ClientSession(timeout=GATEWAY_TIMEOUT) as http,
                http.post(f"{self._gateway}{KEYS}", json={}, headers=self._headers) as reply,
            ):
                said = await reply.json()
        except (aiohttp.ClientError, TimeoutError) as error:
            message = f"the gateway {self._gateway} gives no key: {error}"
            return web.json_response({"error": {"message": message}}, status=502)
        if not reply.ok:
            return web.json_response(said, status=reply.status)
        return web.json_response({"key": said["value"], "calls": f"{self._gateway}{CALLS}"})
