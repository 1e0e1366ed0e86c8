"""Clients that hold a connection: too many of them, heads and bodies that do not come or do not end, answers
that are not read. Here the gate alone, over real sockets; tests/test_serving.py has it before our servers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from pyfastpath.guard import Gate, Limits
from pyfastpath.serving import start, streaming
from tests.signalling.rig import until

HELLO = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENT: dict[str, Any] = {"head_s": 30.0, "body_s": 30.0, "write_s": 30.0, "keepalive_s": 60.0}


class Served:
    """A small server behind a gate: / says hello after it has read the body, /wait when `go` is set,
    /stream an event for each that is put into `events`."""

    def __init__(self, gate: Gate, answer: bytes) -> None:
        self.gate, self.answer = gate, answer
        self.go = asyncio.Event()
        self.under_way = 0
        self.port = 0

    async def hello(self, request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=self.answer)

    async def wait(self, request: web.Request) -> web.Response:
        self.under_way += 1
        await self.go.wait()
        return web.Response(body=self.answer)

    async def stream(self, request: web.Request) -> web.StreamResponse:
        reply = web.StreamResponse()
        with streaming(request):
            await reply.prepare(request)
            self.under_way += 1
            while not self.go.is_set():
                await reply.write(self.answer)
                await asyncio.sleep(0.001)
        return reply


@asynccontextmanager
async def served(
    answer: bytes = b"hello", *, exempt: Callable[[str], bool] | None = None, **limits: Any
) -> AsyncIterator[Served]:
    gate = Gate(Limits(**{**PATIENT, **limits}), **({"is_exempt": exempt} if exempt else {}))
    one = Served(gate, answer)
    app = web.Application(client_max_size=1 << 30)
    app.add_routes(
        [web.route("*", "/", one.hello), web.get("/wait", one.wait), web.get("/stream", one.stream)]
    )
    listening = socket.create_server(("127.0.0.1", 0))
    one.port = listening.getsockname()[1]
    runner, server = await start(app, listening, gate, shutdown_s=0.1)
    yield one
    one.go.set()
    server.close()
    await runner.cleanup()
    await until(lambda: gate.connections == 0)
    assert (gate._taken, gate._taken_by_client, gate._waiting) == (0, {}, {}), "nothing of them is left"


class Client:
    """One connection, and its bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def of(cls, port: int, source: str = "127.0.0.1") -> Client:
        return cls(*await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0)))

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def status(self) -> int:
        """Of the next answer, whose body is read too; 0 when the connection ended instead."""
        try:
            async with asyncio.timeout(10):
                head = await self.reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
                await self.reader.readexactly(int(length or 0))
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0
        return int(head.split(b" ", 2)[1])

    async def ask(self, request: bytes = HELLO) -> int:
        self.send(request)
        return await self.status()

    async def ended(self) -> bytes:
        """What came until the other side closed or reset the connection."""
        got = b""
        try:
            async with asyncio.timeout(10):
                while chunk := await self.reader.read(65_536):
                    got += chunk
        except ConnectionError:
            pass
        return got

    async def drip(self, data: bytes, every_s: float = 0.02) -> None:
        """Byte by byte, until it is cut."""
        for byte in data:
            if self.writer.is_closing():
                return
            self.send(bytes((byte,)))
            await asyncio.sleep(every_s)

    def close(self) -> None:
        self.writer.transport.abort()


@asynccontextmanager
async def clients(port: int, count: int = 1, source: str = "127.0.0.1") -> AsyncIterator[list[Client]]:
    made = [await Client.of(port, source) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            one.close()


async def dripped(client: Client, data: bytes) -> bytes:
    """What came back to a client that sends as slowly as it can."""
    dripping = asyncio.create_task(client.drip(data))
    got = await client.ended()
    dripping.cancel()
    return got


# ---- time ---------------------------------------------------------------------------------------------


async def test_a_client_that_sends_nothing_is_cut() -> None:
    async with served(head_s=0.2) as one, clients(one.port) as (client,):
        assert await client.ended() == b""
        assert one.gate.cuts["slow_request"] == 1


async def test_a_head_that_comes_byte_by_byte_is_cut() -> None:
    """Slow loris: each byte in time, the whole never."""
    async with served(head_s=0.5) as one, clients(one.port) as (client,):
        assert await dripped(client, b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: " + b"a" * 1000) == b""
        assert one.gate.cuts["slow_request"] == 1


async def test_a_body_that_comes_byte_by_byte_is_cut() -> None:
    async with served(body_s=0.4) as one, clients(one.port) as (client,):
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert await dripped(client, b"a" * 1000) == b""
        assert one.gate.cuts["slow_request"] == 1


async def test_chunks_that_never_end_are_cut() -> None:
    async with served(body_s=0.4) as one, clients(one.port) as (client,):
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert await dripped(client, b"1\r\na\r\n" * 1000) == b""
        assert one.gate.cuts["slow_request"] == 1


async def test_an_upload_that_goes_on_may_take_longer() -> None:
    """The time of a body grows with what has come of it."""
    async with served(body_s=0.3, body_bytes_per_s=1000) as one, clients(one.port) as (client,):
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
        for _ in range(10):
            client.send(b"a" * 1000)
            await asyncio.sleep(0.1)
        assert await client.status() == 200
        assert one.gate.cuts["slow_request"] == 0


async def test_a_connection_serves_many_requests_and_each_head_has_its_time() -> None:
    async with served(head_s=0.6) as one, clients(one.port) as (client,):
        for _ in range(3):
            assert await client.ask() == 200
            await asyncio.sleep(0.3)  # idle between requests is not slow: 0.9 s in all
        client.send(b"GET / HT")
        assert await client.ended() == b""
        assert one.gate.cuts["slow_request"] == 1


async def test_an_idle_connection_is_closed_politely() -> None:
    async with served(keepalive_s=0.3) as one, clients(one.port) as (client,):
        assert await client.ask() == 200
        assert await client.ended() == b""
        assert sum(one.gate.cuts.values()) == 0


async def test_the_application_has_its_time() -> None:
    async with served(head_s=0.1, body_s=0.1, keepalive_s=0.1) as one, clients(one.port) as (client,):
        client.send(HELLO.replace(b"/ ", b"/wait ", 1))
        await asyncio.sleep(0.5)
        one.go.set()
        assert await client.status() == 200
        assert sum(one.gate.cuts.values()) == 0


async def test_half_a_request_behind_a_whole_one_is_closed() -> None:
    """It came before its connection was waiting for a head."""
    async with served(keepalive_s=0.3) as one, clients(one.port) as (client,):
        client.send(HELLO + b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert await client.status() == 200
        assert await client.ended() == b""


# ---- size ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 60_000,
        b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 60_000,
        b"GET / HTTP/1.1\r\nHost: x\r\n" + b"".join(b"X-%d: %s\r\n" % (n, b"a" * 1000) for n in range(60)),
        b"\r\n\r\n" * 100 + b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 60_000,
    ],
)
async def test_a_head_has_a_size_however_it_is_cut(head: bytes) -> None:
    draw = random.Random(3)
    async with served(head_bytes=8192) as one:
        for pieces in (1, 50):
            async with clients(one.port) as (client,):
                cuts = sorted(draw.randrange(len(head)) for _ in range(pieces - 1))
                for begin, end in zip([0, *cuts], [*cuts, len(head)], strict=True):
                    client.send(head[begin:end])
                    await asyncio.sleep(0)
                assert await client.status() == 431
        assert one.gate.cuts["oversize"] == 2
        async with clients(one.port) as (client,):
            assert await client.ask() == 200


async def test_a_head_as_large_as_allowed_and_a_body_behind_it() -> None:
    async with served(head_bytes=8192) as one, clients(one.port) as (client,):
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\nX: "
        head += b"a" * (8192 - len(head) - 4) + b"\r\n\r\n"
        for _ in range(3):
            assert await client.ask(head + b"b" * 500_000) == 200
        assert sum(one.gate.cuts.values()) == 0


async def test_requests_ahead_of_their_time_are_answered_in_order_up_to_a_size() -> None:
    async with served(head_bytes=8192) as one, clients(one.port, 2) as (client, greedy):
        client.send(HELLO * 100)
        assert [await client.status() for _ in range(100)] == [200] * 100
        greedy.send(HELLO.replace(b"/ ", b"/wait ", 1))
        await until(lambda: one.under_way == 1)
        greedy.send(HELLO * 1000)
        assert await greedy.ended() == b""
        assert one.gate.cuts["oversize"] == 1


# ---- answers that are not read ------------------------------------------------------------------------


@asynccontextmanager
async def deaf(port: int, path: bytes = b"/") -> AsyncIterator[socket.socket]:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", port))
        one.send(HELLO.replace(b"/ ", path + b" ", 1))
        yield one


async def test_a_client_that_does_not_read_is_cut() -> None:
    async with served(b"x" * (32 << 20), write_s=0.3) as one, deaf(one.port):
        await until(lambda: one.gate.cuts["slow_reader"] == 1)
        await until(lambda: one.gate.connections == 0)


async def test_a_stream_that_is_not_read_is_cut_too() -> None:
    async with served(b"x" * 16_384, write_s=0.3) as one, deaf(one.port, b"/stream"):
        await until(lambda: one.gate.cuts["slow_reader"] == 1)
        await until(lambda: one.gate.connections == 0)


async def test_what_is_left_unread_of_a_short_answer_does_not_stay_for_ever() -> None:
    """Less than makes the buffer full: the kernel's takes most of it, and then nothing moves."""
    size = 4 << 20
    async with served(b"x" * size, write_s=30, keepalive_s=0.1) as one, deaf(one.port):
        await until(lambda: one.gate.connections == 1)
        guard = next(iter(one.gate._waiting))
        await until(lambda: guard._phase == "idle" and guard._transport.get_write_buffer_size() > 0)
        guard._limits = Limits(write_s=0.1)
        guard._look_whether_it_reads()
        await until(lambda: one.gate.cuts["slow_reader"] == 1)


async def test_a_slow_reader_that_reads_gets_everything() -> None:
    size = 8 << 20
    async with served(b"x" * size, write_s=1.0) as one, clients(one.port) as (client,):
        client.send(HELLO)
        await client.reader.readuntil(b"\r\n\r\n")
        left = size
        while left:
            left -= len(await client.reader.read(1 << 20))
            await asyncio.sleep(0.01)
        assert one.gate.cuts["slow_reader"] == 0


# ---- places -------------------------------------------------------------------------------------------


async def test_whoever_waited_longest_makes_room() -> None:
    async with served(connections=3) as one, clients(one.port, 3) as (first, second, third):
        for client in (second, third, first):  # whoever has just been served waits since then
            assert await client.ask() == 200
        async with clients(one.port) as (late,):
            assert await late.ask() == 200
            assert await second.ended() == b""
            assert [await client.ask() for client in (third, first)] == [200, 200]
        assert one.gate.cuts["made_room"] == 1
        assert one.gate.cuts["too_many"] == 0


@pytest.mark.parametrize(
    "sent", [b"", b"GET / HTTP/1.1\r\nX-Slow: ", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nbo"]
)
async def test_hundreds_that_hold_on_lock_nobody_out(sent: bytes) -> None:
    async with served(connections=50) as one:
        kept: list[Client] = []
        for _ in range(8):
            for _ in range(50):
                kept.append(await Client.of(one.port))
                kept[-1].send(sent)
            async with clients(one.port) as (honest,):
                assert await honest.ask() == 200
            assert one.gate.connections <= 51
        assert one.gate.cuts["made_room"] >= 350
        for client in kept:
            client.close()


async def test_when_nobody_waits_a_newcomer_is_turned_away() -> None:
    async with served(connections=2) as one, clients(one.port, 2) as busy:
        for client in busy:
            client.send(HELLO.replace(b"/ ", b"/wait ", 1))
        await until(lambda: one.under_way == 2)
        async with clients(one.port) as (late,):
            assert (await late.ended()).startswith(b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\n")
        assert one.gate.cuts["too_many"] == 1
        one.go.set()
        assert [await client.status() for client in busy] == [200, 200], "those that are in stay"


async def test_one_client_has_its_own_bound_and_others_do_not_feel_it() -> None:
    async with (
        served(connections=20, client_connections=4) as one,
        clients(one.port, 2, "127.0.0.2") as others,
    ):
        for client in others:
            client.send(HELLO.replace(b"/ ", b"/wait ", 1))
        await until(lambda: one.under_way == 2)
        async with clients(one.port, 50):
            await until(lambda: one.gate.cuts["made_room"] == 46)
            assert one.gate.connections == 6
            one.go.set()
            assert [await client.status() for client in others] == [200, 200]


async def test_a_proxy_has_no_bound_of_its_own() -> None:
    async with (
        served(connections=20, client_connections=4, exempt=lambda address: address == "127.0.0.1") as one,
        clients(one.port, 15) as many,
    ):
        assert [await client.ask() for client in many] == [200] * 15
        assert sum(one.gate.cuts.values()) == 0


async def test_event_streams_take_no_places() -> None:
    async with served(connections=2, client_connections=2) as one, contextlib.AsyncExitStack() as streams:
        for number in range(1, 7):
            (client,) = await streams.enter_async_context(clients(one.port))
            client.send(HELLO.replace(b"/ ", b"/stream ", 1))
            await until(lambda number=number: one.under_way == number)  # type: ignore[misc]
        async with clients(one.port, 2) as pair:
            assert [await client.ask() for client in pair] == [200, 200]
            assert one.gate.connections == 8
        assert sum(one.gate.cuts.values()) == 0


# ---- nonsense -----------------------------------------------------------------------------------------


async def test_what_is_no_http_gets_a_400_and_is_forgotten() -> None:
    async with served(head_s=0.5) as one, clients(one.port) as (client,):
        client.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
        assert (await client.ended()).startswith(b"HTTP/1.")


async def test_random_bytes_in_random_pieces_leave_nothing() -> None:
    draw = random.Random(4)
    parts = (
        HELLO,
        b"\r\n",
        b"\r",
        b"\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n",
        b"hello",
        b"\0\xff",
    )
    async with served(head_bytes=512, connections=10, head_s=1.0, body_s=1.0, keepalive_s=0.5) as one:
        for _ in range(300):
            async with clients(one.port) as (client,):
                for _ in range(draw.randint(1, 6)):
                    client.send(b"".join(draw.choices(parts, k=draw.randint(1, 40))))
                    await asyncio.sleep(0)
        async with clients(one.port) as (client,):
            assert await client.ask() == 200
