"""The gateway against clients that mean harm: refused by name, in bounded time and memory; others are served.

What single parts do for themselves is tested beside them (guard, front, page, multipart, limits); here it is
the whole gateway, over real sockets, often with requests no library would send.
"""

import asyncio
import json
import logging
import random
import socket
import string
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from pyfastpath.guard import Gate
from pyfastpath.signalling import gateway as gateway_module
from pyfastpath.signalling.callid import CallIds, CallName
from pyfastpath.signalling.calls import BODY_BYTES_MAX
from pyfastpath.signalling.stream import STREAMS_A_CALL_MAX
from tests.signalling.rig import CALL_KEY, CALLS, Rig, running, until
from tests.support.rtc_world import rss_bytes

MB = 1 << 20
SDP = b"application/sdp"
FORM = b"multipart/form-data; boundary=X"
SECRETS = b"/v1/realtime/client_secrets"


@pytest.fixture
async def hostile(rig: Rig) -> AsyncIterator[Rig]:
    """A gateway with a call that somebody follows: in the end it must be alive, and a new one possible."""
    await rig.join(capacity=1000)
    alive = asyncio.create_task(announce_again_and_again(rig))
    location = (await rig.call()).headers["Location"]
    async with rig.http.get(location + "/events") as events:
        assert await events.content.readline() == b"event: state\n"
        yield rig
        rig.crew[0].tell(next(iter(rig.crew[0].sessions)), state="closed", reason="hangup")
        assert b'"closed"' in await asyncio.wait_for(events.content.read(), 5)
    assert (await rig.call()).status == 201
    alive.cancel()


async def announce_again_and_again(rig: Rig) -> None:
    """As transceivers do; a busy machine takes longer for a test than they are believed."""
    while True:
        await rig.announce(rig.crew[0])
        await asyncio.sleep(1)


class Wire:
    """One connection, for requests as bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, rig: Rig, source: str = "127.0.0.1") -> "Wire":
        address = rig.gateway.address
        assert address is not None
        return cls(*await asyncio.open_connection(str(address.address), address.port, local_addr=(source, 0)))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body of the first answer; 0 when there is none."""
        self.writer.write(request)
        try:
            async with asyncio.timeout(5):
                head = await self.reader.readuntil(b"\r\n\r\n")
                length = [line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
                size = int(length[0][15:]) if length and not request.startswith(b"HEAD ") else 0
                body = await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""
        return int(head.split(b" ", 2)[1]), body

    def close(self) -> None:
        self.writer.transport.abort()


def gate_of(rig: Rig) -> Gate:
    """That of the public listener."""
    return rig.gateway._numbers.gates["listen"]


async def once(rig: Rig, request: bytes, source: str = "127.0.0.1") -> tuple[int, bytes]:
    """Ask on a connection of its own."""
    wire = await Wire.open(rig, source)
    try:
        return await wire.ask(request)
    finally:
        wire.close()


def post(
    path: bytes = CALLS.encode(),
    body: bytes = b"v=0\r\n",
    kind: bytes = SDP,
    more: bytes = b"",
    method: bytes = b"POST",
) -> bytes:
    """A request with a body."""
    head = b"%s %s HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\n" % (method, path, kind)
    return head + more + b"Content-Length: %d\r\n\r\n" % len(body) + body


def form(session: bytes, sdp: bytes = b"v=0\r\n") -> bytes:
    """A body of FORM."""
    head = b'--X\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n'
    return head % (b"sdp", sdp) + head % (b"session", session) + b"--X--\r\n"


def get(path: bytes = b"/", more: bytes = b"", method: bytes = b"GET") -> bytes:
    """A request without a body."""
    return b"%s %s HTTP/1.1\r\nHost: x\r\n%s\r\n" % (method, path, more)


REQUESTS = {
    "a boundary of any bytes": (post(kind=b'multipart/form-data; boundary="\xff"', body=b"--\xff--"), 400),
    "a boundary without quotes": (post(kind=b"multipart/form-data; boundary=\xfe", body=b"--\xfe--"), 400),
    "a part's name of any bytes": (post(kind=FORM, body=form(b"").replace(b"session", b"\xff\xfe")), 201),
    "a content type of any bytes": (post(kind=b"\xff/\xfe"), 415),
    "an offer of any bytes": (post(body=bytes(range(256))), 400),
    "a model of any bytes": (post(CALLS.encode() + b"?model=%ff%fe%ed%a0%80"), 201),
    "many parameters": (post(CALLS.encode() + b"?" + b"model=x&" * 500), 201),
    "a key of any bytes": (post(more=b"Authorization: Bearer \xff\xfe\r\n"), 201),
    "an ephemeral key of any bytes": (post(more=b"Authorization: Bearer ek_\xff\xfe\r\n"), 401),
    "a tag of any bytes": (
        post(
            b"/whip/x", kind=b"application/trickle-ice-sdpfrag", more=b'If-Match: "\xff"\r\n', method=b"PATCH"
        ),
        404,
    ),
    "an id of any bytes": (post(b"/whip/%ff%00%0d%0aX:%20y", method=b"DELETE"), 404),
    "a raw path": (post(b"/whip/\xff", method=b"DELETE"), 400),
    "a cookie of any bytes": (post(more=b"Cookie: a=\xff; " + b"b" * 5000 + b"\r\n"), 201),
    "an origin of any bytes": (get(more=b"Origin: \xff\r\n"), 200),
    "a known tag of any bytes": (get(more=b"If-None-Match: \xff\r\n"), 200),
    "ranges": (get(more=b"Range: bytes=0-0,0-0,0-0\r\n"), 200),
    "trace": (get(method=b"TRACE"), 405),
    "connect": (get(b"x:443", method=b"CONNECT"), 404),
    "a method of its own": (get(method=b"BREW"), 400),
    "options of everything": (get(b"*", method=b"OPTIONS"), 204),
    "options of nothing": (get(b"/../..", method=b"OPTIONS"), 204),
    "head of a post": (get(CALLS.encode(), method=b"HEAD"), 405),
    "post to the page": (post(b"/"), 405),
    "a proxy's request": (get(b"http://elsewhere.example/"), 200),
    "a websocket": (get(more=b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n"), 200),
    "http/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "a negative length": (b"POST /whip HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
    "an endless length": (
        b"POST /whip HTTP/1.1\r\nHost: x\r\nContent-Length: 1" + b"0" * 30 + b"\r\n\r\n",
        400,
    ),
    "two lengths": (post(more=b"Content-Length: 7\r\n"), 400),
    "length and chunks": (post(more=b"Transfer-Encoding: chunked\r\n"), 400),
    "another encoding": (post(more=b"Transfer-Encoding: gzip\r\n"), 400),
    "an expectation": (post(more=b"Expect: miracles\r\n"), 417),
    "a thousand headers": (get(more=b"".join(b"X-%d: y\r\n" % n for n in range(1000))), 400),
    "many long headers": (get(more=b"".join(b"X-%d: %s\r\n" % (n, b"y" * 8000) for n in range(100))), 431),
    "a long header": (get(more=b"X: " + b"y" * 100_000 + b"\r\n"), 431),
    "a long path": (get(b"/" + b"y" * 100_000), 431),
    "a line folded": (get(more=b"X: y\r\n z\r\n"), 400),
    "a header's name with a blank": (get(more=b"X : y\r\n"), 400),
    "a header with a zero": (get(more=b"X: \0\r\n"), 400),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_a_request_that_no_library_sends(
    hostile: Rig, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    request, expected = REQUESTS[name]
    status, body = await once(hostile, request)
    assert status == expected, body
    said = [record.getMessage() for record in caplog.records if record.name.startswith(("pyfast", "aiohttp"))]
    assert said == (["call placed"] if expected == 201 else []), "strangers do not fill the log"


async def test_heads_bent_at_random_are_never_our_fault(
    hostile: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    draw = random.Random(1)
    good = [
        post(more=b"Authorization: Bearer x\r\nOrigin: https://a.example\r\n"),
        post(kind=FORM, body=form(b"{}")),
    ]
    for _ in range(400):
        bent = bytearray(draw.choice(good))
        for _ in range(draw.randint(1, 4)):
            bent[draw.randrange(len(bent))] = draw.choice((draw.randrange(256), 10, 13, 58, 32))
        status, body = await once(hostile, bytes(bent) + b"\r\n\r\n")
        assert status < 500, (bytes(bent), body)
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("path", [CALLS.encode(), SECRETS])
async def test_a_session_may_not_be_deeper_than_it_can_be_written_again(hostile: Rig, path: bytes) -> None:
    for levels in (10, 60, 100, 500, *range(880, 1010, 6), 5000, 30_000):
        session = b'{"a":' + b"[" * levels + b"]" * levels + b"}"
        if path == SECRETS:
            request = post(path, b'{"session":' + session + b"}", b"application/json")
        else:
            request = post(path, form(session), FORM)
        status, body = await once(hostile, request)
        assert status == ((201 if path != SECRETS else 200) if levels < 64 else 400), (levels, body)
        if status == 400:
            assert json.loads(body)["error"]["code"] in ("bad_session", "bad_request")


# ---- ids and keys -------------------------------------------------------------------------------------


def _neighbours(text: str) -> list[str]:
    """Every character replaced once, and pieces."""
    letters = string.ascii_letters + string.digits + "-_"
    draw = random.Random(2)
    changed = [
        text[:at] + draw.choice(letters.replace(text[at], "")) + text[at + 1 :] for at in range(len(text))
    ]
    return [*changed, text[:-1], text + "A", text + "=", text.swapcase(), text * 2]


async def test_no_call_is_reached_by_guessing_its_id(hostile: Rig) -> None:
    one = hostile.crew[0]
    (sid,) = one.sessions
    right = CallIds(CALL_KEY).build(CallName(one.cluster, one.xcvr, one.incarnation, int(sid, 16)))
    foreign = CallIds(bytes(32)).build(CallName(one.cluster, one.xcvr, one.incarnation, int(sid, 16)))
    secret = (await (await hostile.http.post(SECRETS.decode(), json={})).json())["value"]
    etag = (await hostile.call()).headers["ETag"].strip('"')
    asked = len(one.asked)
    wrong = [
        *_neighbours(right),
        foreign,
        "rtc_",
        "rtc_" + "A" * 5000,
        secret,
        "rtc_" + secret[3:],
        "rtc_" + etag,
    ]
    for call_id in wrong:
        assert (await hostile.http.post(f"{CALLS}/{call_id}/hangup")).status == 404
        assert (await hostile.http.delete(f"/whip/{call_id}")).status == 404
        assert (await hostile.http.get(f"{CALLS}/{call_id}/events")).status == 404
    assert len(one.asked) == asked, "the transceiver was asked nothing"
    assert sid in one.sessions


async def test_no_ephemeral_key_is_made_by_bending_another(hostile: Rig) -> None:
    secret = (await (await hostile.http.post(SECRETS.decode(), json={})).json())["value"]
    location = (await hostile.call()).headers["Location"]
    wrong = [*_neighbours(secret)[3:], "ek_" + location.rpartition("rtc_")[2], "ek_", "ek_" + "A" * 20_000]
    for key in wrong:
        if key.startswith("ek_"):
            reply = await hostile.call(Authorization=f"Bearer {key}")
            assert reply.status == 401, key
    assert (await hostile.call(Authorization=f"Bearer {secret}")).status == 201


async def test_guessing_is_limited_by_address_and_others_are_not(tmp_path: Path) -> None:
    async with running(tmp_path, calls_per_minute=20) as rig:
        await rig.join()
        statuses = []
        for number in range(60):
            key = b"Authorization: Bearer ek_%d\r\n" % number
            path = (CALLS.encode(), b"/whip", SECRETS)[number % 3]
            statuses.append((await once(rig, post(path, more=key)))[0])
        assert statuses.count(401) in range(20, 23)
        assert set(statuses[25:]) == {429}
        assert (await once(rig, post(), source="127.0.0.2"))[0] == 201


async def test_behind_a_trusted_proxy_each_client_has_its_own_bucket(tmp_path: Path) -> None:
    """Here 127.0.0.1 is the proxy, and 127.0.0.2 would like to be one."""

    def from_(client: bytes) -> bytes:
        return post(more=b"X-Forwarded-For: 198.51.100.1, %s\r\n" % client)

    async with running(tmp_path, calls_per_minute=3, trusted_proxies=("127.0.0.1/32",)) as rig:
        await rig.join(capacity=1000)
        for client in (b"203.0.113.1", b"203.0.113.2", b"[2001:db8::1]:99"):
            assert [(await once(rig, from_(client)))[0] for _ in range(4)] == [201, 201, 201, 429]
        statuses = [
            (await once(rig, from_(b"203.0.113.%d" % number), source="127.0.0.2"))[0]
            for number in range(10, 14)
        ]
        assert statuses == [201, 201, 201, 429], "a stranger who names others is limited as himself"


# ---- connections --------------------------------------------------------------------------------------


async def test_event_streams_kept_open_cost_nobody_else_and_leave_nothing(hostile: Rig) -> None:
    """Some of each call: its id is needed for each."""
    locations = [(await hostile.call()).headers["Location"] for _ in range(40)]
    tasks, before = len(asyncio.all_tasks()), rss_bytes()
    wires = [await Wire.open(hostile) for _ in range(40 * STREAMS_A_CALL_MAX)]
    for wire, location in zip(wires, locations * STREAMS_A_CALL_MAX, strict=True):
        wire.writer.write(get(f"{location}/events".encode()))
    numbers = hostile.gateway._numbers
    await until(lambda: numbers.streams == 1 + len(wires))
    assert rss_bytes() - before < 64 * MB
    status, body = await once(hostile, get(f"{locations[0]}/events".encode()))
    assert (status, json.loads(body)["error"]["code"]) == (429, "too_many_streams")
    assert (await hostile.call()).status == 201
    for wire in wires:
        wire.close()
    await until(lambda: numbers.streams == 1)
    assert len(hostile.gateway._streams.of_call) == 1
    await until(lambda: len(asyncio.all_tasks()) <= tasks + 2)


async def test_whoever_follows_a_call_and_does_not_read_is_cut_and_costs_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "CLIENTS", replace(gateway_module.CLIENTS, write_s=0.5))
    async with running(tmp_path) as rig:
        one = await rig.join()
        location = (await rig.call()).headers["Location"]
        (sid,) = one.sessions
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.setblocking(False)
            address = rig.gateway.address
            assert address is not None
            await asyncio.get_running_loop().sock_connect(deaf, (str(address.address), address.port))
            deaf.send(get(f"{location}/events".encode()))
            numbers = rig.gateway._numbers
            await until(lambda: numbers.streams == 1)
            before = rss_bytes()
            for _ in range(2000):  # 32 MB, if anybody kept them
                one.tell(sid, state="live", padding="x" * 16_000)
                await asyncio.sleep(0)
                if numbers.streams == 0:
                    break
            await until(lambda: gate_of(rig).cuts["slow_reader"] == 1)
            await until(lambda: numbers.streams == 0)
            assert rss_bytes() - before < 48 * MB  # the scripted transceiver's own queue among it
        await rig.announce(one)
        assert (await rig.call()).status == 201


async def test_slow_heads_by_the_hundred_are_cut_and_nobody_waits_for_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway_module, "CLIENTS", replace(gateway_module.CLIENTS, head_s=1.0))
    async with running(tmp_path) as rig:
        await rig.join(capacity=1000)
        alive = asyncio.create_task(announce_again_and_again(rig))
        wires = [await Wire.open(rig) for _ in range(300)]
        for wire in wires:
            wire.writer.write(b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        for _ in range(20):
            assert (await rig.call()).status == 201
            for wire in wires:
                wire.writer.write(b"a")
            await asyncio.sleep(0.02)
        await until(lambda: gate_of(rig).cuts["slow_request"] == 300)
        await until(lambda: gate_of(rig).connections <= 1)
        alive.cancel()
        for wire in wires:
            wire.close()


async def test_requests_without_end_on_one_connection_take_no_memory(hostile: Rig) -> None:
    """A client that asks and asks and reads nothing: it is made to wait, or cut for what comes ahead."""
    wire = await Wire.open(hostile)
    before = rss_bytes()
    is_full = False
    while not is_full:
        wire.writer.write(get() * 1000)
        try:
            await asyncio.wait_for(wire.writer.drain(), 0.3)
        except (TimeoutError, ConnectionError):
            is_full = True
    assert rss_bytes() - before < 32 * MB
    assert (await hostile.call()).status == 201
    wire.close()


async def test_half_a_request_behind_a_whole_one_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came before its connection was waiting for a head."""
    limits = replace(gateway_module.CLIENTS, head_s=0.3, keepalive_s=0.5)
    monkeypatch.setattr(gateway_module, "CLIENTS", limits)
    async with running(tmp_path) as rig:
        wire = await Wire.open(rig)
        assert (await wire.ask(get(b"/nothing") + b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "))[0] == 404
        async with asyncio.timeout(5):
            assert await wire.reader.read() == b""
        wire.close()


async def test_a_burst_of_connections_finds_room(rig: Rig) -> None:
    """While the gateway is busy with something else, which a test in its loop can arrange."""
    address = rig.gateway.address
    assert address is not None
    waiting = []
    for _ in range(400):
        waiting.append(socket.create_connection((str(address.address), address.port), timeout=1))
    for one in waiting:
        one.close()


# ---- bodies -------------------------------------------------------------------------------------------


async def test_a_body_has_a_size(hostile: Rig) -> None:
    fits = b"v=0\r\n".ljust(BODY_BYTES_MAX, b"\n")
    assert (await once(hostile, post(body=fits)))[0] == 201
    for path in (CALLS.encode(), b"/whip", SECRETS):
        status, body = await once(hostile, post(path, body=fits + b"\n"))
        assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")


async def test_chunks_without_end_are_refused_when_they_are_too_many(hostile: Rig) -> None:
    wire = await Wire.open(hostile)
    wire.writer.write(get(b"/whip", b"Content-Type: %s\r\nTransfer-Encoding: chunked\r\n" % SDP, b"POST"))
    before = rss_bytes()
    reply = asyncio.create_task(wire.ask(b""))
    for _ in range(10_000):
        if reply.done():
            break
        wire.writer.write(b"2000\r\n" + bytes(8192) + b"\r\n")
        await asyncio.sleep(0)
    assert (await reply)[0] == 413
    assert rss_bytes() - before < 16 * MB
    wire.close()


@pytest.mark.parametrize("encoding", [b"deflate", b"gzip"])
async def test_what_unpacks_to_a_hundred_megabytes_is_never_unpacked(hostile: Rig, encoding: bytes) -> None:
    packer = zlib.compressobj(9, wbits=31 if encoding == b"gzip" else 15)
    bomb = packer.compress(bytes(100 * MB)) + packer.flush()
    assert len(bomb) < BODY_BYTES_MAX
    tracemalloc.start()
    try:
        status, _ = await once(hostile, post(body=bomb, more=b"Content-Encoding: %s\r\n" % encoding))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert status == 413
    assert peak < 8 * MB


@pytest.mark.parametrize(
    "body",
    [
        b"--X\r\n" * 20_000,
        b"--X" * 40_000,
        b'--X\r\nContent-Disposition: form-data; name="sdp"' + b";" * 100_000 + b"\r\n\r\nv=0\r\n--X--",
        b"--X\r\nContent-Disposition: form-data" + b"; a" * 30_000,
        b'--X\r\nContent-Disposition: form-data; name="' + b"s" * 100_000,
        form(b"").replace(b"session", b"sdp"),
        b"\r\n" * 60_000,
    ],
)
async def test_a_form_that_is_none_is_refused_at_once(hostile: Rig, body: bytes) -> None:
    async with asyncio.timeout(2):
        status, said = await once(hostile, post(body=body, kind=FORM))
    assert (status, json.loads(said)["error"]["code"]) == (400, "bad_request")


# ---- what goes out ------------------------------------------------------------------------------------


async def test_no_header_of_a_client_stands_in_a_header_of_ours(hostile: Rig) -> None:
    evil: dict[str, Any] = {
        "Host": "evil.example",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Proto": "https",
        "Forwarded": "host=evil.example",
        "Origin": "https://evil.example",
        "Referer": "https://evil.example/",
        "Content-Type": "application/sdp",
    }
    async with aiohttp.ClientSession() as http:
        for path in (CALLS, "/v1/realtime?model=%0d%0aX-Evil:%20evil.example", "/whip"):
            async with http.post(f"{hostile.gateway.url}{path}", data="v=0\r\n", headers=evil) as reply:
                assert reply.status == 201
                assert reply.headers["Location"].startswith(("/v1/realtime/calls/rtc_", "/whip/rtc_"))
                assert "evil" not in str(reply.headers)
        async with http.get(f"{hostile.gateway.url}/%0d%0aX-Evil:%20evil", headers=evil) as reply:
            assert reply.status == 404
            assert "evil" not in str(reply.headers)
            assert reply.headers["Content-Type"].startswith("application/json")


async def test_every_method_of_every_path_is_answered(hostile: Rig) -> None:
    paths = ["/", "/static/main.js", CALLS, "/v1/realtime", f"{CALLS}/rtc_x/hangup", f"{CALLS}/rtc_x/events"]
    paths += [f"{CALLS}/rtc_x", "/whip", "/whip/rtc_x", SECRETS.decode(), "/nothing"]
    for path in paths:
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
            async with hostile.http.request(method, path) as reply:
                assert reply.status < 500, (method, path)
                if reply.status >= 400 and method != "HEAD":
                    assert (await reply.json())["error"]["message"]
                if reply.status == 405:
                    assert reply.headers["Allow"]
