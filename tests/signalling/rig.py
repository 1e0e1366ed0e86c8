"""A gateway on loopback, in the test's own event loop, and transceivers that register with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from pyfastpath.config import GatewayConfig, TokenKey
from pyfastpath.registry.remote import RemoteRegistry
from pyfastpath.signalling.gateway import Gateway
from pyfastpath.types import Secret
from tests.signalling.scripted import Scripted

TOKEN_KEY = bytes(range(16))
CALL_KEY = bytes(range(32))
CALLS = "/v1/realtime/calls"
CANDIDATES = ("203.0.113.9:3478", "[2001:db8::9]:3478")


@dataclass
class Rig:
    """A gateway that runs, and a client for it."""

    gateway: Gateway
    http: aiohttp.ClientSession
    admin: RemoteRegistry
    folder: Path
    crew: list[Scripted] = field(default_factory=list)

    async def join(self, **fields: Any) -> Scripted:
        """A transceiver that has registered, once."""
        one = await Scripted(**fields).start(str(self.folder / f"{fields.get('id', 't1')}.sock"))
        self.crew.append(one)
        await self.announce(one)
        return one

    async def announce(self, one: Scripted) -> None:
        await self.admin.announce(one.record, 0.0)

    async def call(
        self, offer: str = "v=0\r\n", path: str = "/v1/realtime/calls", **headers: str
    ) -> aiohttp.ClientResponse:
        """POST an offer."""
        return await self.http.post(path, data=offer, headers={"Content-Type": "application/sdp", **headers})

    async def error(self, reply: aiohttp.ClientResponse) -> dict[str, Any]:
        """The error of a reply that must be one."""
        assert reply.status >= 400, await reply.text()
        body = await reply.json()
        assert set(body) == {"error"}
        assert (
            {"type", "code", "message", "param"}
            <= set(body["error"])
            <= {"type", "code", "message", "param", "line"}
        )
        return body["error"]


def settings(folder: Path, **changed: Any) -> GatewayConfig:
    """A configuration as load() would make it."""
    fields: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "token_keys": (TokenKey(kid=1, key=Secret(TOKEN_KEY)),),
        "token_kid": 1,
        "call_key": Secret(CALL_KEY),
        "candidates": CANDIDATES,
        "admin_socket": str(folder / "admin.sock"),
        "health_listen": "127.0.0.1:0",
        "calls_per_minute": 0,
    }
    return GatewayConfig(**{**fields, **changed})


@asynccontextmanager
async def running(folder: Path, **changed: Any) -> AsyncIterator[Rig]:
    """A gateway from its start to its end; whatever goes wrong in it is the test's failure."""
    config = settings(folder, **changed)
    gateway, started = Gateway(config), asyncio.Event()
    task = asyncio.create_task(gateway.run(started.set))
    waiting = asyncio.create_task(started.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if task.done():
        task.result()
    admin = RemoteRegistry(f"unix:{config.admin_socket}")
    async with aiohttp.ClientSession(f"http://{gateway.address}") as http:
        rig = Rig(gateway, http, admin, folder)
        try:
            yield rig
        finally:
            await admin.close()
            for one in rig.crew:
                await one.die()
            gateway.stop()
            await asyncio.wait_for(task, 5)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for something that other tasks bring about."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of any kind, told by nobody
            await asyncio.sleep(0.01)
