"""Clients that hold a connection: too many of them, heads that do not come, answers that are not read."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from pyfastpath.signalling import front
from pyfastpath.signalling.guard import Gate
from pyfastpath.signalling.numbers import Numbers
from tests.signalling.rig import until

PATIENT = {"head_s": 30.0, "write_s": 30.0}


@asynccontextmanager
async def served(numbers: Numbers, body: bytes = b"hello", **limits: float) -> AsyncIterator[int]:
    """A small application behind a gate; gives its port."""

    async def hello(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=body)

    app = web.Application(middlewares=[front.counting(numbers)])
    app.router.add_route("*", "/", hello)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    assert runner.server is not None
    gate = Gate(runner.server, numbers, **{**PATIENT, **limits})  # type: ignore[arg-type]
    server = await asyncio.get_running_loop().create_server(gate, "127.0.0.1", 0)
    yield server.sockets[0].getsockname()[1]
    server.close()
    await runner.cleanup()
    await until(lambda: numbers.connections == 0)


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", port)


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What came until the other side closed or reset the connection."""
    got = b""
    try:
        async with asyncio.timeout(5):
            while chunk := await reader.read(65_536):
                got += chunk
    except ConnectionResetError:
        pass
    return got


async def get(port: int, pair: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> bytes:
    reader, writer = pair
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 200 ")
    return await reader.readexactly(5)


async def test_a_client_that_sends_nothing_is_cut() -> None:
    numbers = Numbers()
    async with served(numbers, head_s=0.2) as port:
        reader, writer = await connect(port)
        assert await closed(reader) == b""
        writer.close()
    assert numbers.cuts["slow_request"] == 1


async def test_a_head_that_comes_byte_by_byte_is_cut() -> None:
    """Slow loris: each byte in time, the whole never."""
    numbers = Numbers()
    async with served(numbers, head_s=0.5) as port:
        reader, writer = await connect(port)

        async def drip() -> None:
            for byte in b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 1000:
                writer.write(bytes([byte]))
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drip())
        assert await closed(reader) == b""
        dripping.cancel()
        writer.close()
    assert numbers.cuts["slow_request"] == 1


async def test_a_connection_serves_many_requests_and_each_head_has_its_time() -> None:
    numbers = Numbers()
    async with served(numbers, head_s=0.6) as port:
        pair = await connect(port)
        for _ in range(3):
            assert await get(port, pair) == b"hello"
            await asyncio.sleep(0.3)  # idle between requests is not slow: 0.9 s in all
        pair[1].write(b"GET / HT")
        assert await closed(pair[0]) == b""
        pair[1].close()
    assert numbers.cuts["slow_request"] == 1
    assert numbers.requests["other", "200"] == 3


async def test_a_request_under_way_is_not_cut_for_its_head() -> None:
    """Its body has a deadline of its own, which whoever reads the body keeps."""
    numbers = Numbers()
    async with served(numbers, head_s=0.2) as port:
        reader, writer = await connect(port)
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nab")
        await asyncio.sleep(0.5)
        writer.write(b"cd")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200 ")
        writer.close()
    assert numbers.cuts["slow_request"] == 0


async def test_a_client_that_does_not_read_is_cut() -> None:
    numbers = Numbers()
    async with served(numbers, b"x" * (32 << 20), write_s=0.3) as port:
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            await asyncio.get_running_loop().sock_connect(deaf, ("127.0.0.1", port))
            deaf.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: numbers.cuts["slow_reader"] == 1)
            await until(lambda: numbers.connections == 0)


async def test_a_slow_reader_that_reads_gets_everything() -> None:
    numbers, size = Numbers(), 8 << 20
    async with served(numbers, b"x" * size, write_s=1.0) as port:
        reader, writer = await connect(port)
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        left = size
        while left:
            left -= len(await reader.read(1 << 20))
            await asyncio.sleep(0.01)
        writer.close()
    assert numbers.cuts["slow_reader"] == 0


async def test_more_connections_than_allowed_are_turned_away() -> None:
    numbers = Numbers()
    async with served(numbers, connections_max=2) as port:
        pairs = [await connect(port) for _ in range(2)]
        assert await get(port, pairs[0]) == b"hello"
        await until(lambda: numbers.connections == 2)
        reader, writer = await connect(port)
        assert (await closed(reader)).startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
        writer.close()
        assert numbers.cuts["too_many"] == 1
        assert await get(port, pairs[1]) == b"hello", "those that are in stay"
        pairs[0][1].close()
        await until(lambda: numbers.connections == 1)
        late = await connect(port)
        assert await get(port, late) == b"hello"
        for _, writer in (pairs[1], late):
            writer.close()


async def test_what_is_no_http_gets_a_400_and_is_forgotten() -> None:
    numbers = Numbers()
    async with served(numbers, head_s=0.5) as port:
        reader, writer = await connect(port)
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert (await closed(reader)).startswith(b"HTTP/1.")
        writer.close()
