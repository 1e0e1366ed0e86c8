"""A transceiver makes itself known to relay and registry, again when they forgot, and takes its leave."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from aiohttp import web

from pyfastpath.errors import FastpathError
from pyfastpath.registry.file import FileRegistry
from pyfastpath.registry.memory import MemoryRegistry
from pyfastpath.registry.record import RegistryError, TransceiverRecord
from pyfastpath.tools.ports import free_port
from pyfastpath.transceiver import announce
from pyfastpath.transceiver.announce import Announcer
from pyfastpath.transceiver.endpoint import Endpoint
from pyfastpath.transceiver.member import Member
from pyfastpath.transceiver.sockets import TrunkSocket
from pyfastpath.types import Endpoint as Address
from pyfastpath.types import Secret
from tests.support import http, relay
from tests.support.transceiver import LOOPBACK, open_endpoint

KEY = bytes(range(16))
TIMEOUT_S = 30


def member() -> Member:
    return Member("t1", 0, 7, 3, "unix:/run/t1.sock")


@contextlib.asynccontextmanager
async def announcing(
    trunk_port: int, registry: Any = None, **relays: Any
) -> AsyncIterator[tuple[Announcer, Endpoint]]:
    where = Address.parse(f"127.0.0.1:{trunk_port}")
    trunk = TrunkSocket(LOOPBACK, [where], keys={0: KEY}, key_id=0, epoch=int(time.time()), mtu_bytes=1400)
    async with open_endpoint(trunk=trunk) as endpoint:
        announcer = Announcer(endpoint, member(), registry=registry, **relays)
        announcer.start()
        try:
            yield announcer, endpoint
        finally:
            await announcer.close()


async def until(done: Callable[[], Any]) -> None:
    deadline = time.monotonic() + TIMEOUT_S
    while not await asyncio.to_thread(done):
        assert time.monotonic() < deadline, "it never came"
        await asyncio.sleep(0.05)


def trunk_relay(tmp_path: Path, trunk_port: int) -> Any:
    return relay.running_relay(
        tmp_path, shards=1, trunk_port=trunk_port, trunk_keys=[f"0:{KEY.hex()}"], backends=[]
    )


def backend(admin: Path) -> dict[str, Any]:
    status, said = http.ask(admin, "GET", "/v1/backends/t1")
    return said if status == 200 else {}


class StartedRelay:
    """A relay that is not ready before a transceiver is there: started without waiting for it."""

    def __init__(self, tmp_path: Path, trunk_port: int) -> None:
        self.tmp_path, self.trunk_port = tmp_path, trunk_port
        self.admin = tmp_path / "admin.sock"
        self._stack = contextlib.ExitStack()

    def start(self) -> None:
        self._stack.enter_context(trunk_relay(self.tmp_path, self.trunk_port))

    def stop(self) -> None:
        self._stack.close()


async def test_a_relay_learns_it_hears_it_and_is_told_again_when_it_forgot(tmp_path: Path) -> None:
    trunk_port = free_port(socket.SOCK_DGRAM)
    one = StartedRelay(tmp_path, trunk_port)
    async with announcing(trunk_port, relays=[str(one.admin)]) as (announcer, endpoint):
        await until(lambda: "no answer" in " ".join(announcer.troubles()))
        await asyncio.to_thread(one.start)  # it waits until it is ready, which is: until it has a backend
        try:
            await until(lambda: not announcer.troubles())
            known = backend(one.admin)
            assert known["mode"] == "trunk"
            assert known["address"] == str(endpoint.trunk.address if endpoint.trunk else "")
            assert known["identity"] == {"cluster": 0, "transceiver": 7, "incarnation": 3}
            assert known["state"] == "up"
            endpoint.is_draining = True
            announcer.changed()
            await until(lambda: backend(one.admin).get("state") == "draining")
        finally:
            await asyncio.to_thread(one.stop)
        endpoint.is_draining = False
        await asyncio.to_thread(one.start)
        try:
            await until(lambda: backend(one.admin).get("state") == "up")
            await announcer.close()
            assert backend(one.admin) == {}
        finally:
            await asyncio.to_thread(one.stop)


async def test_the_registry_gets_the_record_and_every_change(tmp_path: Path) -> None:
    registry = FileRegistry(tmp_path / "registry")

    async def found() -> list[TransceiverRecord]:
        return await FileRegistry(tmp_path / "registry").records(time.monotonic())

    async with announcing(free_port(socket.SOCK_DGRAM), registry) as (announcer, endpoint):
        await asyncio.sleep(0.3)
        assert [record.state for record in await found()] == ["up"]
        assert announcer.troubles() == []
        endpoint.is_draining = True
        announcer.changed()
        await asyncio.sleep(0.3)
        assert [record.state for record in await found()] == ["draining"]
    assert await found() == []


class BrokenRegistry(MemoryRegistry):
    """Refuses until it is mended."""

    is_broken = True

    async def announce(self, record: TransceiverRecord, now: float) -> None:
        if self.is_broken:
            raise RegistryError("it is broken", "Mend it.")
        await super().announce(record, now)


async def test_a_registry_that_refuses_is_asked_again() -> None:
    registry = BrokenRegistry()
    async with announcing(free_port(socket.SOCK_DGRAM), registry) as (announcer, _):
        await asyncio.sleep(0.1)
        assert announcer.troubles() == ["registry: it is broken. Mend it."]
        registry.is_broken = False
        await asyncio.sleep(announce.ANNOUNCE_EVERY_S + 0.3)
        assert announcer.troubles() == []


async def test_it_ends_in_the_moment_of_a_change(tmp_path: Path) -> None:
    """SIGTERM changes the record and closes in one turn of the loop; wait_for would have missed the close."""
    async with announcing(free_port(socket.SOCK_DGRAM), MemoryRegistry()) as (announcer, _):
        await asyncio.sleep(0.1)
        announcer.changed()
        await asyncio.sleep(0)
        await asyncio.wait_for(announcer.close(), 5)


async def test_one_relay_of_two_is_enough_and_the_token_goes_along() -> None:
    asked: list[tuple[str, str | None]] = []

    async def put(request: web.Request) -> web.Response:
        asked.append((request.method, request.headers.get("Authorization")))
        return web.json_response({"state": "up"})

    app = web.Application()
    app.router.add_route("*", "/v1/backends/t1", put)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        there = f"127.0.0.1:{runner.addresses[0][1]}"
        nowhere = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        token = Secret(b"0123456789abcdef")
        async with announcing(free_port(socket.SOCK_DGRAM), relays=[nowhere, there], relay_token=token) as (
            announcer,
            _,
        ):
            await asyncio.sleep(0.5)
            assert announcer.troubles() == []
            assert announcer.desks[0].trouble.startswith("no answer")
    finally:
        await runner.cleanup()
    assert asked[0] == ("PUT", "Bearer 0123456789abcdef")
    assert asked[-1] == ("DELETE", "Bearer 0123456789abcdef")


async def test_what_a_relay_refuses_is_said(tmp_path: Path) -> None:
    """A relay without a trunk."""
    with relay.running_relay(tmp_path, backends=[{"id": "a", "address": "127.0.0.1:9"}]) as plain:
        async with announcing(free_port(socket.SOCK_DGRAM), relays=[str(plain.admin)]) as (announcer, _):
            await until(lambda: "trunk_port" in " ".join(announcer.troubles()))


async def test_a_relay_that_hangs_does_not_hold_up_the_end() -> None:
    hanging = asyncio.Event()

    async def hang(request: web.Request) -> web.Response:
        if request.method == "DELETE":
            await hanging.wait()
        return web.json_response({"state": "up"})

    app = web.Application()
    app.router.add_route("*", "/v1/backends/t1", hang)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        where = f"127.0.0.1:{runner.addresses[0][1]}"
        token = Secret(b"0123456789abcdef")
        with contextlib.suppress(FastpathError):
            async with announcing(free_port(socket.SOCK_DGRAM), relays=[where], relay_token=token) as (
                announcer,
                _,
            ):
                await asyncio.sleep(0.3)
                await asyncio.wait_for(announcer.close(), announce.GOODBYE_S + 2)
    finally:
        hanging.set()
        await runner.cleanup()
