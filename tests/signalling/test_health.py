"""What probes and Prometheus see of a gateway."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pyfastpath import metrics
from tests.signalling.rig import Rig, running


async def get(rig: Rig, path: str) -> tuple[int, Any]:
    reply = await rig.http.get(f"http://{rig.gateway.health_address}{path}")
    return reply.status, await (reply.text() if path == "/metrics" else reply.json())


async def test_it_is_ready_when_a_call_could_be_placed(rig: Rig) -> None:
    assert await get(rig, "/healthz") == (200, {"healthy": True})
    assert await get(rig, "/readyz") == (503, {"ready": False, "reasons": ["no transceiver is alive"]})
    one = await rig.join(capacity=1)
    assert await get(rig, "/readyz") == (200, {"ready": True, "reasons": []})
    assert (await rig.call()).status == 201
    assert await get(rig, "/ready") == (503, {"ready": False, "reasons": ["every transceiver is full"]})
    one.sessions.clear()
    one.state = "draining"
    await rig.announce(one)
    assert (await get(rig, "/readyz"))[1]["reasons"] == ["every transceiver is draining"]
    assert (await get(rig, "/live"))[0] == 200


async def test_while_it_drains_it_is_not_ready(rig: Rig) -> None:
    await rig.join()
    rig.gateway._numbers.is_draining = True
    assert await get(rig, "/readyz") == (503, {"ready": False, "reasons": ["the gateway drains"]})
    assert (await get(rig, "/healthz"))[0] == 200


async def test_metrics_are_the_list(rig: Rig) -> None:
    await rig.join()
    await rig.call()
    status, text = await get(rig, "/metrics")
    assert status == 200
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert set(families) == {metric.family for metric in metrics.GATEWAY_METRICS}
    placed = families["fastpath_gateway_calls"].samples
    assert [one.value for one in placed if one.labels == {"outcome": "placed"}] == [1]
    assert families["fastpath_gateway_ready"].samples[0].value == 1


async def test_a_registry_that_fails_makes_it_unready(tmp_path: Path) -> None:
    async with running(tmp_path, registry=f"file:{tmp_path}/registry") as rig:
        (tmp_path / "registry").rmdir()
        status, said = await get(rig, "/readyz")
        assert status == 503
        assert said["reasons"] == ["who is alive is not known at this moment"]
        assert (await get(rig, "/metrics"))[0] == 200
        (tmp_path / "registry").mkdir()


async def test_a_listener_of_its_own_or_none(tmp_path: Path) -> None:
    async with running(tmp_path, health_listen="") as rig:
        assert rig.gateway.health_address is None
        assert (await rig.http.get("/healthz")).status == 404, "not on the public listener"
        assert (await rig.http.get("/metrics")).status == 404
