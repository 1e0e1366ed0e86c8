"""/healthz, /readyz and /metrics, without a token: for probes and Prometheus, by default on loopback only."""

from __future__ import annotations

from aiohttp import web
from prometheus_client.exposition import choose_encoder

from pyfastpath.exposition import registry_of
from pyfastpath.registry.record import TransceiverRecord
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.numbers import GatewayCollector, Numbers
from pyfastpath.signalling.switchboard import Switchboard


class Health:
    """The handlers of the health listener."""

    def __init__(self, switchboard: Switchboard, numbers: Numbers) -> None:
        self._switchboard = switchboard
        self._numbers = numbers

    def app(self) -> web.Application:
        """The application of the health listener."""
        app = web.Application()
        for path in ("/healthz", "/live"):
            app.router.add_get(path, self._healthz)
        for path in ("/readyz", "/ready"):
            app.router.add_get(path, self._readyz)
        app.router.add_get("/metrics", self._metrics)
        return app

    async def _healthz(self, request: web.Request) -> web.Response:
        """This process only: its event loop answers."""
        return web.json_response({"healthy": True})

    async def _readyz(self, request: web.Request) -> web.Response:
        """Could it place a call, and should it get any?"""
        reasons = self._unready((await self._look())[1])
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def _metrics(self, request: web.Request) -> web.Response:
        records, why = await self._look()
        collector = GatewayCollector(self._numbers, records, is_ready=not self._unready(why))
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(registry_of(collector)), headers={"Content-Type": content_type})

    async def _look(self) -> tuple[list[TransceiverRecord], str]:
        """Who is alive, and why none of them takes a call; empty when one does."""
        try:
            records = await self._switchboard.records()
        except CallError as error:
            return [], error.message
        try:
            self._switchboard.has_room(records)
        except CallError as error:
            return records, error.message
        return records, ""

    def _unready(self, why: str) -> list[str]:
        reasons = ["the gateway drains"] if self._numbers.is_draining else []
        return [*reasons, why] if why else reasons
