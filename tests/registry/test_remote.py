"""The registry behind a gateway: a real one, over its admin socket and over TCP."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from aiohttp import web

from pyfastpath.listeners import open_tcp
from pyfastpath.registry.record import RegistryError
from pyfastpath.registry.remote import RemoteRegistry
from pyfastpath.types import Endpoint, Secret
from tests.registry.records import record
from tests.signalling.rig import running

TOKEN = "admin-0123456789abcdef"


async def test_what_one_announces_another_finds_on_its_own_clock(tmp_path: Path) -> None:
    async with running(tmp_path):
        one = RemoteRegistry(f"unix:{tmp_path}/admin.sock")
        other = RemoteRegistry(f"unix:{tmp_path}/admin.sock")
        await one.announce(record("t1", sessions=4), 1e9)
        (found,) = await other.records(50.0)
        assert found == record("t1", sessions=4, heard_s=found.heard_s)
        assert 48.0 < found.heard_s <= 50.0
        await one.withdraw("t1")
        assert await other.records(50.0) == []
        await one.close()
        await other.close()
        await other.close()


async def test_over_tcp_with_the_token(tmp_path: Path) -> None:
    free = open_tcp(Endpoint.parse("127.0.0.1:0"), key="x")
    listen = f"127.0.0.1:{free.getsockname()[1]}"
    free.close()
    async with running(tmp_path, admin_listen=listen, admin_token=Secret(TOKEN.encode())):
        good, bad = RemoteRegistry(f"http://{listen}/", TOKEN.encode()), RemoteRegistry(f"http://{listen}")
        await good.announce(record(), time.monotonic())
        assert [one.id for one in await good.records(0.0)] == ["t1"]
        with pytest.raises(RegistryError, match="refused PUT /v1/transceivers/t1: missing or wrong token"):
            await bad.announce(record(), 0.0)
        await good.close()
        await bad.close()


async def test_a_refusal_and_a_silence_are_registry_errors(tmp_path: Path) -> None:
    nobody = RemoteRegistry(f"unix:{tmp_path}/nobody.sock")
    with pytest.raises(RegistryError, match="does not answer"):
        await nobody.announce(record(), 0.0)
    await nobody.close()
    async with running(tmp_path):
        registry = RemoteRegistry(f"unix:{tmp_path}/admin.sock")
        await registry.announce(record("t1"), 0.0)
        with pytest.raises(RegistryError, match="already number 1 of cluster 0"):
            await registry.announce(record("t2"), 0.0)
        await registry.close()


@pytest.mark.parametrize("status", [200, 502])
@pytest.mark.parametrize("said", [b"<html>", b'"\xff"', b'{"transceivers": [5]}'])
async def test_whatever_a_proxy_says_is_a_registry_error(said: bytes, status: int) -> None:
    async def say(request: web.Request) -> web.Response:
        return web.Response(body=said, status=status)

    app = web.Application()
    app.router.add_get("/v1/transceivers", say)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    registry = RemoteRegistry(f"http://127.0.0.1:{runner.addresses[0][1]}")
    with pytest.raises(RegistryError, match="answered with something else" if status == 200 else "refused"):
        await registry.records(0.0)
    await registry.close()
    await runner.cleanup()


async def test_it_goes_on_when_the_gateway_comes_back(tmp_path: Path) -> None:
    registry = RemoteRegistry(f"unix:{tmp_path}/admin.sock")
    async with running(tmp_path):
        await registry.announce(record(), 0.0)
    with pytest.raises(RegistryError):
        await registry.announce(record(), 0.0)
    async with running(tmp_path):
        await registry.announce(record(), 0.0)
        assert len(await registry.records(0.0)) == 1
    await registry.close()
