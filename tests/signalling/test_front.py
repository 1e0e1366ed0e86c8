"""What every request meets: CORS, counting, deadlines of bodies, errors of paths."""

from __future__ import annotations

import asyncio
import gzip
import re
from pathlib import Path

import pytest

from pyfastpath.signalling import front
from tests.signalling.rig import CALLS, Rig, running, until


async def test_a_browsers_preflight_allows_what_openais_libraries_send(rig: Rig) -> None:
    """@openai/agents-realtime: POST with Authorization, Content-Type and X-OpenAI-Agents-SDK."""
    for path in (CALLS, "/v1/realtime/client_secrets", "/whip", f"{CALLS}/rtc_x/hangup", "/anything"):
        reply = await rig.http.options(
            path,
            headers={
                "Origin": "https://app.example.org",
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization,content-type,x-openai-agents-sdk",
            },
        )
        assert reply.status == 204
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert {"POST", "PATCH", "DELETE"} <= set(reply.headers["Access-Control-Allow-Methods"].split(", "))
        allowed = reply.headers["Access-Control-Allow-Headers"].lower().split(", ")
        assert {"authorization", "content-type", "x-openai-agents-sdk", "if-match"} <= set(allowed)


async def test_options_say_what_whip_takes(rig: Rig) -> None:
    reply = await rig.http.options("/whip")
    assert reply.headers["Accept-Post"] == "application/sdp"
    assert "application/trickle-ice-sdpfrag" in reply.headers["Accept-Patch"]


async def test_any_origin_may_read_answers_and_refusals(rig: Rig) -> None:
    await rig.join()
    for reply in (await rig.call(), await rig.http.post("/nothing"), await rig.call(path="/whip")):
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        exposed = reply.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Location", "ETag", "Retry-After"} <= set(exposed)


async def test_only_listed_origins_may_where_they_are_listed(tmp_path: Path) -> None:
    async with running(tmp_path, allow_origins=("https://a.example", "https://b.example")) as rig:
        await rig.join()
        good = await rig.call(Origin="https://b.example")
        assert good.headers["Access-Control-Allow-Origin"] == "https://b.example"
        for headers in ({}, {"Origin": "https://c.example"}, {"Origin": "https://b.example.evil"}):
            assert "Access-Control-Allow-Origin" not in (await rig.call(**headers)).headers
        assert good.headers["Vary"] == "Origin"


async def test_a_body_that_does_not_come_is_408(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "BODY_S", 0.2)
    await rig.join()
    address = rig.gateway.address
    assert address is not None
    reader, writer = await asyncio.open_connection(str(address.address), address.port)
    writer.write(
        b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n"
        b"Content-Length: 100\r\n\r\nv=0\r\n"
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    assert head.startswith(b"HTTP/1.1 408 ")
    assert b"too_slow" in await asyncio.wait_for(reader.read(), 5), "and the connection is closed"
    writer.close()


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 100\r\n\r\nv=0\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nv=0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip",
        b"Content-Encoding: deflate\r\nContent-Length: 8\r\n\r\nno zlib!",
    ],
)
async def test_a_body_that_breaks_off_or_is_none_leaves_no_traceback(
    rig: Rig, rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Strangers could fill the log with them."""
    await rig.join()
    address = rig.gateway.address
    assert address is not None
    reader, writer = await asyncio.open_connection(str(address.address), address.port)
    writer.write(b"POST /v1/realtime/calls HTTP/1.1\r\nHost: x\r\nContent-Type: application/sdp\r\n" + rest)
    await asyncio.sleep(0.1)
    writer.write_eof()
    reply = await asyncio.wait_for(reader.read(), 5)
    assert not reply or re.match(rb"HTTP/1.[01] 4", reply), reply
    writer.close()
    assert (await rig.call()).status == 201
    assert not [one for one in caplog.records if one.exc_info]


async def test_a_small_body_that_unpacks_to_a_large_one_is_413(rig: Rig) -> None:
    await rig.join()
    bomb = gzip.compress(b"v=0\r\n" * 2_000_000)
    headers = {"Content-Type": "application/sdp", "Content-Encoding": "gzip"}
    reply = await rig.http.post(CALLS, data=bomb, headers=headers)
    assert reply.status == 413


async def test_every_request_is_counted_by_route_and_status(rig: Rig) -> None:
    await rig.join()
    numbers = rig.gateway._numbers
    location = (await rig.call()).headers["Location"]
    await rig.call(path="/v1/realtime")
    await rig.call("", path="/whip")
    await rig.http.delete("/whip/rtc_x")
    await rig.http.post(location + "/hangup")
    await rig.http.get("/wp-login.php")
    await rig.http.options(CALLS)
    await rig.http.get("/")
    await until(lambda: sum(numbers.requests.values()) == 8)
    assert numbers.requests == {
        ("calls", "201"): 2,
        ("whip", "400"): 1,
        ("whip_session", "404"): 1,
        ("hangup", "200"): 1,
        ("other", "404"): 1,
        ("preflight", "204"): 1,
        ("page", "200"): 1,
    }
    assert sum(numbers.request_s["calls"].counts) == 2
    assert 0 < numbers.request_s["calls"].sum < 5
