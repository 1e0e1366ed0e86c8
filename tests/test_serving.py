"""Every HTTP server we have, attacked: admin, control and health of each daemon, and the public one.

tests/test_guard.py tries each bound alone. Here are the real listeners with all their handlers: whatever is
sent gets a bounded answer or is closed, in bounded memory, and whoever asks properly is served meanwhile.
Only the seconds are fewer than in production.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import random
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from pyfastpath import guard
from pyfastpath.config import RelayConfig, TransceiverConfig, load
from pyfastpath.guard import Limits
from pyfastpath.notify import ServiceManager
from pyfastpath.relay.relay import Relay
from pyfastpath.signalling import gateway as gateway_module
from pyfastpath.tools.ports import free_port
from pyfastpath.transceiver import process as process_module
from pyfastpath.transceiver.starts import Start
from pyfastpath.types import Endpoint, Secret
from tests.signalling.rig import running
from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.rtc_world import rss_bytes

TOKEN = "0123456789abcdef"
MB = 1 << 20
LISTENING = "0A"  # in /proc/net/tcp
QUICK = {"head_s": 1.0, "body_s": 1.0, "body_bytes_per_s": 10_000, "write_s": 1.0, "keepalive_s": 3.0}


@dataclass(frozen=True)
class Listener:
    """One of ours. good: a request it answers 200. large: method and path of one that reads a body."""

    name: str
    where: Path | tuple[str, int]
    good: str
    large: tuple[str, str]
    token: str = ""

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self.where, Path):
            return await asyncio.open_unix_connection(str(self.where))
        return await asyncio.open_connection(*self.where)

    def head(self, method: str, path: str, *headers: str) -> bytes:
        own = [f"Authorization: Bearer {self.token}"] if self.token else []
        return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", *own, *headers, "", ""]).encode()

    async def send(self, *pieces: bytes) -> bytes:
        """What comes back until the other side closes; the connection is kept open for it."""
        async with self.wire() as (reader, writer):
            sending = asyncio.create_task(_send(writer, pieces))
            try:
                return await received(reader)
            finally:
                sending.cancel()

    @asynccontextmanager
    async def wire(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        reader, writer = await self.connect()
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def is_served(self) -> bool:
        """Does somebody who asks properly get an answer?"""
        said = await self.send(self.head("GET", self.good, "Connection: close"))
        return said.startswith(b"HTTP/1.1 200 ")


async def _send(writer: asyncio.StreamWriter, pieces: tuple[bytes, ...]) -> None:
    with contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()


async def received(reader: asyncio.StreamReader) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(20):
            while chunk := await reader.read(65_536):
                got += chunk[: 4096 - len(got)]
    return got


@pytest.fixture
async def listeners(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Listener]]:
    """All of them, in this process; in the end each of them must serve, and a call be undisturbed."""
    monkeypatch.setattr(guard, "Limits", functools.partial(Limits, **QUICK))
    for module, name in (
        (gateway_module, "CLIENTS"),
        (gateway_module, "TRANSCEIVERS"),
        (process_module, "CONTROL"),
    ):
        monkeypatch.setattr(module, name, replace(getattr(module, name), **QUICK))
    async with contextlib.AsyncExitStack() as undo:
        server = undo.enter_context(udp_end())
        found = [
            *relay_listeners(undo, tmp_path, server),
            *await transceiver_listeners(undo, tmp_path),
            *await gateway_listeners(undo, tmp_path),
        ]
        yield found
        for one in found:
            assert await one.is_served(), one.name


def tcp() -> tuple[str, int]:
    return "127.0.0.1", free_port(socket.SOCK_STREAM)


def pair(endpoint: Endpoint) -> tuple[str, int]:
    return str(endpoint.address), endpoint.port


def text(where: tuple[str, int]) -> str:
    return f"{where[0]}:{where[1]}"


def relay_flags(port: int) -> dict[str, object]:
    return {
        "listen": [f"127.0.0.1:{port}"], "shards": "1", "workers": "1", "pin": "false", "flows_max": "1024",
        "routes_max": "1024", "targets_max": "64", "plain_ports": "16", "receive_buffer_bytes": "262144",
        "allow_clients": ["127.0.0.0/8"],
    }  # fmt: skip


def relay_listeners(undo: contextlib.AsyncExitStack, folder: Path, server: socket.socket) -> list[Listener]:
    admin, health, udp = tcp(), tcp(), free_port(socket.SOCK_DGRAM)
    flags = relay_flags(udp) | {
        "admin_socket": str(folder / "relay.sock"),
        "admin_tcp": text(admin),
        "admin_token": TOKEN,
        "health_listen": text(health),
        "backends": [f"a={endpoint_text(server)}"],
    }
    relay = undo.enter_context(Relay(load(None, kind=RelayConfig, environ={}, flags=flags, cpus=2)))
    relay.routes.install("ufrag1", "a")
    call = undo.enter_context(PlainCall(("127.0.0.1", udp), server, "ufrag1"))
    call.confirm()
    undo.callback(lambda: [call.exchange(number) for number in range(50)])  # in the end it goes on as before
    large = ("PUT", "/v1/routes")
    return [
        Listener("relay admin_socket", folder / "relay.sock", "/v1/drain", large),
        Listener("relay admin_tcp", admin, "/v1/drain", large, TOKEN),
        Listener("relay health_listen", health, "/healthz", ("POST", "/metrics")),
    ]


async def transceiver_listeners(undo: contextlib.AsyncExitStack, folder: Path) -> list[Listener]:
    control, health = tcp(), tcp()
    flags = {
        "plain_listen": "127.0.0.1:0", "control_socket": str(folder / "control.sock"),
        "control_listen": text(control), "control_token": TOKEN, "health_listen": text(health),
    }  # fmt: skip
    config = load(None, kind=TransceiverConfig, environ={}, flags=flags, cpus=2)
    await process_module.Process(config, Start(1, 1), ServiceManager({})).open(undo)
    large = ("POST", "/v1/sessions")
    return [
        Listener("transceiver control_socket", folder / "control.sock", "/v1/drain", large),
        Listener("transceiver control_listen", control, "/v1/drain", large, TOKEN),
        Listener("transceiver health_listen", health, "/healthz", ("POST", "/metrics")),
    ]


async def gateway_listeners(undo: contextlib.AsyncExitStack, folder: Path) -> list[Listener]:
    admin = tcp()
    rig = await undo.enter_async_context(
        running(folder, admin_listen=text(admin), admin_token=Secret(TOKEN.encode()))
    )
    health, public = rig.gateway.health_address, rig.gateway.address
    assert health is not None
    assert public is not None
    large = ("PUT", "/v1/transceivers/t1")
    return [
        Listener("gateway admin_socket", folder / "admin.sock", "/v1/transceivers", large),
        Listener("gateway admin_listen", admin, "/v1/transceivers", large, TOKEN),
        Listener("gateway health_listen", pair(health), "/healthz", ("POST", "/metrics")),
        Listener("gateway listen", pair(public), "/", ("POST", "/v1/realtime/client_secrets")),
    ]


async def attack(listeners: list[Listener], way: Callable[[Listener], Awaitable[bytes]]) -> dict[str, bytes]:
    """All at once, while others are served; what each said, by listener. Memory stays where it was."""
    before = rss_bytes()
    attacking = asyncio.ensure_future(asyncio.gather(*map(way, listeners)))
    for one in listeners:
        assert await one.is_served(), f"{one.name}, while it is attacked"
    said = await asyncio.wait_for(attacking, 60)
    assert rss_bytes() - before < 64 * MB
    return dict(zip((one.name for one in listeners), said, strict=True))


def status(said: bytes) -> int:
    """Of an answer; 0 when the connection was closed without one."""
    return int(said[9:12]) if said.startswith(b"HTTP/1.") else 0


def drops(data: bytes, seconds: float) -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    """A byte now and then, for as long as it is let."""

    async def drip(writer: asyncio.StreamWriter) -> None:
        end = time.monotonic() + seconds
        with contextlib.suppress(ConnectionError):
            for byte in data:
                if time.monotonic() > end or writer.is_closing():
                    return
                writer.write(bytes((byte,)))
                await asyncio.sleep(0.05)

    return drip


async def many_drip(one: Listener, begin: bytes, data: bytes, count: int = 10) -> bytes:
    """Several clients that send as slowly as they can; what the first was told. All are closed in the end."""

    async def slow() -> bytes:
        async with one.wire() as (reader, writer):
            writer.write(begin)
            dripping = asyncio.create_task(drops(data, 60)(writer))
            try:
                return await received(reader)
            finally:
                dripping.cancel()

    return (await asyncio.gather(*(slow() for _ in range(count))))[0]


async def test_heads_that_drip_are_cut(listeners: list[Listener]) -> None:
    said = await attack(listeners, lambda one: many_drip(one, b"GET / HTTP/1.1\r\nX: ", b"a" * 10_000))
    assert set(map(status, said.values())) == {0}


async def test_bodies_that_drip_are_refused_or_cut(listeners: list[Listener]) -> None:
    def slow(one: Listener) -> Awaitable[bytes]:
        return many_drip(one, one.head(*one.large, "Content-Length: 10000"), b"a" * 10_000)

    for name, said in (await attack(listeners, slow)).items():
        assert status(said) in ((405,) if "health" in name else (0, 408)), name


async def test_a_body_without_end_is_refused_by_its_size(listeners: list[Listener]) -> None:
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"

    def endless(one: Listener) -> Awaitable[bytes]:
        return one.send(one.head(*one.large, "Transfer-Encoding: chunked"), *[chunk] * 4000)  # 64 MB

    for name, said in (await attack(listeners, endless)).items():
        assert status(said) in ((405, 0) if "health" in name else (413, 0)), (name, said[:200])


async def test_chunks_with_trailers_and_extensions_without_end(listeners: list[Listener]) -> None:
    for begin, more in (
        (b"0\r\n", b"X: y\r\n"),
        (b"0\r\n", b"X: " + b"y" * 5000 + b"\r\n"),
        (b"5;", b"e" * 5000),
        (b"", b"0" * 5000),
        (b"0\r\n", b"\r\n"),
    ):

        def endless(one: Listener, begin: bytes = begin, more: bytes = more) -> Awaitable[bytes]:
            head = one.head(*one.large, "Transfer-Encoding: chunked")
            return one.send(head + begin, *[more * 10] * 500)

        said = await attack(listeners, endless)
        assert {status(one) // 100 for one in said.values()} <= {0, 2, 4}, (begin, more[:10])


async def test_a_head_without_end_is_431(listeners: list[Listener]) -> None:
    line = b"X: " + b"y" * 4000 + b"\r\n"
    said = await attack(listeners, lambda one: one.send(b"GET / HTTP/1.1\r\nHost: x\r\n", *[line] * 1000))
    assert {name: status(one) for name, one in said.items()} == dict.fromkeys(said, 431)


NONSENSE = {
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "zeros": bytes(5000),
    "stun": bytes.fromhex("000100002112a442") + bytes(12),
    "random": random.Random(6).randbytes(5000),
}


async def test_what_is_no_http_is_closed_and_fills_no_log(
    listeners: list[Listener], caplog: pytest.LogCaptureFixture
) -> None:
    for name, data in NONSENSE.items():
        said = await attack(listeners, lambda one, data=data: one.send(data))  # type: ignore[misc]
        assert set(map(status, said.values())) <= {0, 400}, name
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_requests_without_end_that_read_nothing(listeners: list[Listener]) -> None:
    """They wait, or are cut: what they cost is bounded."""

    async def deaf(one: Listener) -> bytes:
        is_unix, loop = isinstance(one.where, Path), asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX if is_unix else socket.AF_INET) as wire:
            wire.setblocking(False)
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(wire, str(one.where) if is_unix else one.where)
            with contextlib.suppress(ConnectionError, TimeoutError):
                while True:
                    sending = loop.sock_sendall(wire, one.head("GET", one.good) * 100)
                    await asyncio.wait_for(sending, 2)  # cut, or made to wait
        return b""

    await attack(listeners, deaf)


async def test_deep_json_is_a_bad_request(listeners: list[Listener]) -> None:
    """Alone, in a key that is known, and in one that is not."""
    deep_list = "[" * 3000 + "]" * 3000
    keys = ("x", "session", "id", "sid", "ufrag", "candidates")
    for body in (deep_list, '{"a":' * 1300 + "1" + "}" * 1300, *(f'{{"{key}":{deep_list}}}' for key in keys)):

        def deep(one: Listener, data: bytes = body.encode()) -> Awaitable[bytes]:
            return one.send(one.head(*one.large, f"Content-Length: {len(data)}", "Connection: close") + data)

        for name, said in (await attack(listeners, deep)).items():
            assert status(said) == (405 if "health" in name else 400), (name, body[:10], said)
            if "health" not in name:
                assert json.loads(said.partition(b"\r\n\r\n")[2])["error"]["message"]


async def test_more_idle_connections_than_there_are_places_lock_nobody_out(listeners: list[Listener]) -> None:
    for one in listeners:
        if "health" in one.name or "relay" in one.name:
            async with contextlib.AsyncExitStack() as held:
                for _ in range(300):
                    await held.enter_async_context(one.wire())
                assert await one.is_served(), one.name


# ---- who may ------------------------------------------------------------------------------------------

OPERATORS = {f"/v1/{name}" for name in (
    "routes", "backends", "flows", "workers", "drain", "config", "reload", "loglevel", "status", "counters",
    "sessions", "state", "transceivers",
)}  # fmt: skip
HEALTH = {"/healthz", "/live", "/readyz", "/ready", "/metrics"}
PUBLIC = {"/v1/realtime/calls", "/whip", "/static/main.js", "/"}
EVERY_PATH = sorted(OPERATORS | HEALTH | PUBLIC | {"/debug", "/v2", "/.env"})
REBOUND = (
    "evil.example",
    "127.0.0.1.evil.example:80",
    "localhost.evil.example",
    "evil@127.0.0.1",
    "0x7f.1",
    "",
)


async def answered(one: Listener, path: str, *headers: str, token: str = "") -> int:
    lines = [f"GET {path} HTTP/1.1", *headers, *([f"Authorization: Bearer {token}"] if token else [])]
    return status(await one.send("\r\n".join([*lines, "Connection: close", "", ""]).encode()))


async def test_each_listener_answers_its_own_paths_and_no_others(listeners: list[Listener]) -> None:
    """Nothing on a health port but health and metrics; nothing of operators on the public one."""
    for one in listeners:
        said = [await answered(one, path, "Host: 127.0.0.1", token=one.token) for path in EVERY_PATH]
        found = {path for path, code in zip(EVERY_PATH, said, strict=True) if code != 404}
        if "health" in one.name:
            assert found == HEALTH, one.name
        elif one.name == "gateway listen":
            assert found == PUBLIC
        else:
            assert {one.good} <= found <= OPERATORS, one.name


async def test_on_tcp_an_operators_api_wants_the_token_and_an_address(listeners: list[Listener]) -> None:
    asked = [one for one in listeners if one.token]
    assert len(asked) == 3
    for one in asked:
        for path in (one.good, "/nothing", f"{one.good}?token={TOKEN}"):
            for token in ("", TOKEN[:-1], TOKEN + "0", TOKEN.upper()):
                assert await answered(one, path, "Host: 127.0.0.1", token=token) == 401, one.name
        for host in REBOUND:  # a page of another origin whose name leads here now
            assert await answered(one, one.good, f"Host: {host}", token=TOKEN) in (400, 403), host
        assert await answered(one, one.good, "Host: localhost:1", token=TOKEN) == 200


def test_without_a_setting_there_is_no_listener(tmp_path: Path) -> None:
    """The admin API is on its UNIX socket and nowhere else, unless TCP was asked for."""
    before = listening_tcp()
    flags = relay_flags(free_port(socket.SOCK_DGRAM))
    flags |= {"admin_socket": str(tmp_path / "relay.sock"), "health_listen": ""}
    with Relay(load(None, kind=RelayConfig, environ={}, flags=flags, cpus=2)):
        assert listening_tcp() == before
        assert stat.S_IMODE((tmp_path / "relay.sock").stat().st_mode) == 0o600


def listening_tcp() -> set[str]:
    """The inodes of this process's listening TCP sockets."""
    ours = {str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING and f"socket:[{fields[9]}]" in ours:
                found.add(fields[9])
    return found
