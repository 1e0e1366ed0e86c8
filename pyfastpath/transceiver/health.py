"""/healthz, /readyz and /metrics, without a token: for probes and Prometheus, by default on loopback only."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder


def health_app(unready: Callable[[], list[str]], metrics: CollectorRegistry) -> web.Application:
    """The application of the health listener. unready: why no new call may come; empty when one may."""

    async def healthz(_: web.Request) -> web.Response:
        """The event loop answers, and it is all there is."""
        return web.json_response({"healthy": True})

    async def readyz(_: web.Request) -> web.Response:
        reasons = unready()
        return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)

    async def scrape(request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(metrics), headers={"Content-Type": content_type})

    app = web.Application()
    app.add_routes([web.get(path, healthz) for path in ("/healthz", "/live")])
    app.add_routes([web.get(path, readyz) for path in ("/readyz", "/ready")])
    app.router.add_get("/metrics", scrape)
    return app
