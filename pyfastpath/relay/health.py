"""/healthz, /readyz and /metrics, without a token: for probes and Prometheus, by default on loopback only."""

from collections.abc import Mapping

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from pyfastpath.exposition import registry_of
from pyfastpath.guard import Gate
from pyfastpath.relay.collector import RelayCollector
from pyfastpath.relay.control import Control

CONTROL = web.AppKey("control", Control)
REGISTRY = web.AppKey("registry", CollectorRegistry)


def health_app(control: Control, gates: Mapping[str, Gate]) -> web.Application:
    """The application of the health listener. gates: of every listener, by the setting that names it."""
    app = web.Application()
    app[CONTROL] = control
    app[REGISTRY] = registry_of(RelayCollector(control, gates))
    for path in ("/healthz", "/live"):
        app.router.add_get(path, _healthz)
    for path in ("/readyz", "/ready"):
        app.router.add_get(path, _readyz)
    app.router.add_get("/metrics", _metrics)
    return app


async def _healthz(request: web.Request) -> web.Response:
    """This process only: the control thread answers and every worker runs."""
    whole = request.app[CONTROL].crew.is_whole()
    return web.json_response({"healthy": whole}, status=200 if whole else 503)


async def _readyz(request: web.Request) -> web.Response:
    """Can it route new sessions, and should it get any?"""
    reasons = request.app[CONTROL].unready()
    return web.json_response({"ready": not reasons, "reasons": reasons}, status=503 if reasons else 200)


async def _metrics(request: web.Request) -> web.Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(request.app[REGISTRY]), headers={"Content-Type": content_type})
