"""/healthz, /readyz and /metrics of a transceiver, over real HTTP."""

from aiohttp import ClientSession, web
from prometheus_client import CollectorRegistry, Gauge

from pyfastpath.transceiver.health import health_app


async def test_ready_says_why_not_and_metrics_are_the_registrys():
    reasons = ["it drains"]
    registry = CollectorRegistry()
    Gauge("fastpath_test", "help", registry=registry).set(7)
    runner = web.AppRunner(health_app(lambda: reasons, registry))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        base = "http://{}:{}".format(*runner.addresses[0][:2])
        async with ClientSession() as http:
            for path in ("/healthz", "/live"):
                async with http.get(base + path) as reply:
                    assert (reply.status, await reply.json()) == (200, {"healthy": True})
            for path in ("/readyz", "/ready"):
                async with http.get(base + path) as reply:
                    assert reply.status == 503
                    assert await reply.json() == {"ready": False, "reasons": ["it drains"]}
            reasons.clear()
            async with http.get(base + "/readyz") as reply:
                assert (reply.status, await reply.json()) == (200, {"ready": True, "reasons": []})
            async with http.get(base + "/metrics") as reply:
                assert "fastpath_test 7.0" in await reply.text()
                assert reply.headers["Content-Type"].startswith("text/plain")
    finally:
        await runner.cleanup()
