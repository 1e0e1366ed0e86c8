"""The gateway as a process: its start, its signals, its end; and what it leaves behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pyfastpath.errors import ConfigError, SocketError
from pyfastpath.signalling.gateway import Gateway
from pyfastpath.tools.ports import free_port
from pyfastpath.types import Secret
from tests.signalling.rig import running, settings, until
from tests.support.http import ask, request

KEYS = {"PYFASTPATH_GATEWAY_TOKEN_KEYS": "1:000102030405060708090a0b0c0d0e0f"}


# ---- in this process --------------------------------------------------------------------------------


async def test_a_request_under_way_is_finished_while_it_drains(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        one = await rig.join()
        asked, go_on = asyncio.Event(), asyncio.Event()

        async def slow(body: dict[str, Any]) -> web.StreamResponse:
            asked.set()
            await go_on.wait()
            return web.json_response({"answer": "v=0 late"}, status=201)

        one.script["POST", "sessions"] = slow
        placing = asyncio.create_task(rig.call())
        await asked.wait()
        rig.gateway.drain()
        await asyncio.sleep(0.1)
        address = rig.gateway.address
        assert address is not None
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(str(address.address), address.port)
        go_on.set()
        reply = await placing
        assert (reply.status, await reply.text()) == (201, "v=0 late")


async def test_event_streams_do_not_hold_up_a_drain(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await rig.join()
        location = (await rig.call()).headers["Location"]
        reply = await rig.http.get(location + "/events")
        await reply.content.readline()
        began_s = time.monotonic()
        rig.gateway.drain()
        try:
            rest = await asyncio.wait_for(reply.content.read(), 5)
        except aiohttp.ClientError:  # a body that breaks off
            rest = b""
        assert b"lost" not in rest, "the call lives on: another gateway follows it"
        assert time.monotonic() - began_s < 3
        assert rig.gateway._numbers.lost == 0


async def test_the_second_time_it_ends_at_once(tmp_path: Path) -> None:
    began_s = time.monotonic()
    async with running(tmp_path) as rig:
        one = await rig.join()
        asked = asyncio.Event()

        async def never(body: dict[str, Any]) -> web.StreamResponse:
            asked.set()
            await asyncio.sleep(60)
            raise AssertionError

        one.script["POST", "sessions"] = never
        placing = asyncio.create_task(rig.call())
        await asked.wait()
        rig.gateway.drain()
        await asyncio.sleep(0.1)
        rig.gateway.drain()
        with pytest.raises(aiohttp.ClientError):
            await placing
        await one.die()
    assert time.monotonic() - began_s < 5


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before, tasks = open_files(), asyncio.all_tasks()
    for _ in range(3):
        async with running(tmp_path, tls="self-signed") as rig:
            await rig.join()
        assert not (tmp_path / "admin.sock").exists()
    await asyncio.sleep(0.1)
    assert open_files() <= before
    assert asyncio.all_tasks() == tasks


async def test_a_setting_that_cannot_be_used_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for key in ("listen", "health_listen", "admin_listen"):
            with pytest.raises(SocketError, match=f"set {key} to another address"):
                await Gateway(settings(tmp_path, **{key: address})).run()
            assert not (tmp_path / "admin.sock").exists()
    with pytest.raises(SocketError, match="Set admin_socket"):
        await Gateway(settings(tmp_path, admin_socket=str(tmp_path / "no" / "x.sock"))).run()
    with pytest.raises(ConfigError, match="is no registry"):
        await Gateway(settings(tmp_path, registry="etcd://x")).run()
    with pytest.raises(ConfigError, match="no key to mint"):
        await Gateway(settings(tmp_path, token_kid=4)).run()


async def test_without_a_call_key_one_is_drawn_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, call_key=Secret(b"")) as rig:
        await rig.join()
        location = (await rig.call()).headers["Location"]
        assert (await rig.http.post(location + "/hangup")).status == 200
    assert "no call_key is set" in caplog.text


# ---- as a process of its own ------------------------------------------------------------------------


@contextmanager
def process(folder: Path, **flags: str) -> Iterator[tuple[subprocess.Popen[bytes], str, Path]]:
    """A gateway process; its address and log."""
    address = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    log = folder / "gateway.log"
    given = {
        "listen": address,
        "candidates": "203.0.113.9:3478",
        "admin_socket": str(folder / "admin.sock"),
        "health_listen": "",
        "log_file": str(log),
        **flags,
    }
    command = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    child = subprocess.Popen(
        [sys.executable, "-m", "pyfastpath", "gateway", *command],
        env={**os.environ, **KEYS},
        cwd=Path(__file__).parents[2],
    )
    try:
        deadline_s = time.monotonic() + 20
        while not (log.exists() and "the gateway serves" in log.read_text()):
            assert child.poll() is None, log.read_text() if log.exists() else "it ended at once"
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        yield child, address, log
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_it_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path) as (child, address, _log):
        assert request(address, "GET", "/")[0] == 200
        assert ask(tmp_path / "admin.sock", "GET", "/v1/transceivers") == (200, {"transceivers": []})
        child.send_signal(number)
        assert child.wait(10) == 0
        assert not (tmp_path / "admin.sock").exists()


def test_hup_goes_on_in_a_fresh_log(tmp_path: Path) -> None:
    with process(tmp_path) as (child, address, log):
        log.rename(tmp_path / "old.log")
        child.send_signal(signal.SIGHUP)
        deadline_s = time.monotonic() + 10
        while not log.exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        status, said = ask(
            address, "POST", "/v1/realtime/calls", b"v=0", **{"Content-Type": "application/sdp"}
        )
        assert (status, said["error"]["code"]) == (503, "no_capacity")
        deadline_s = time.monotonic() + 10
        while "no_capacity" not in log.read_text():
            assert time.monotonic() < deadline_s
            time.sleep(0.02)


def test_strangers_do_not_fill_the_log(tmp_path: Path) -> None:
    with process(tmp_path) as (_child, address, log):
        host, _, port = address.partition(":")
        for garbage in (b"\x16\x03\x01\x00\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"A" * 20_000 + b"\r\n\r\n"):
            with socket.create_connection((host, int(port)), 5) as stranger:
                stranger.sendall(garbage)
                stranger.settimeout(5)
                try:
                    while stranger.recv(65_536):
                        pass
                except OSError:
                    pass
        assert request(address, "GET", "/")[0] == 200
        assert "Traceback" not in log.read_text()


async def test_the_url_names_where_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as rig:
        await until(lambda: rig.gateway.address is not None)
        assert rig.gateway.url == f"http://{rig.gateway.address}"
