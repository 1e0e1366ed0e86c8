"""The control API as the gateway speaks it: over both kinds of address, and what its errors become."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.transceivers import Transceivers
from tests.signalling.scripted import Scripted, answer_to, refusing

SID = "00000002a"
TOKEN = "control-0123456789"


@pytest.fixture(params=["unix", "tcp"])
async def one(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Scripted]:
    scripted = Scripted(token="" if request.param == "unix" else TOKEN)
    await scripted.start(str(tmp_path / "t.sock") if request.param == "unix" else "")
    yield scripted
    await scripted.die()


@pytest.fixture
async def client() -> AsyncIterator[Transceivers]:
    transceivers = Transceivers(TOKEN.encode())
    yield transceivers
    await transceivers.close()


async def create(client: Transceivers, control: str, offer: str = "v=0\r\n") -> str:
    return await client.create(
        control,
        sid=SID,
        call="rtc_x",
        ufrag="u" * 22,
        offer=offer,
        candidates=("127.0.0.1:3478",),
        session={"model": "tone"},
    )


async def refusal(client: Transceivers, control: str) -> CallError:
    with pytest.raises(CallError) as refused:
        await create(client, control)
    return refused.value


async def test_a_session_from_create_to_delete(one: Scripted, client: Transceivers) -> None:
    assert await create(client, one.control) == answer_to("v=0\r\n")
    (asked,) = one.bodies("POST", "/v1/sessions")
    assert asked == {
        "sid": SID,
        "call": "rtc_x",
        "ufrag": "u" * 22,
        "offer": "v=0\r\n",
        "candidates": ["127.0.0.1:3478"],
        "session": {"model": "tone"},
    }
    await client.look(one.control, SID)
    answer = await client.restart(
        one.control, SID, new_sid="0000000ff", ufrag="w" * 22, offer="v=1\r\n", candidates=("127.0.0.1:1",)
    )
    assert answer == answer_to("v=1\r\n")
    assert one.bodies("POST", f"/v1/sessions/{SID}/restart") == [
        {"sid": "0000000ff", "ufrag": "w" * 22, "offer": "v=1\r\n", "candidates": ["127.0.0.1:1"]}
    ]
    await client.hang_up(one.control, SID)
    for gone in (client.hang_up, client.look):
        with pytest.raises(CallError) as refused:
            await gone(one.control, SID)
        assert refused.value.code == "unknown_call"


async def test_its_events_come_as_they_are_written(one: Scripted, client: Transceivers) -> None:
    await create(client, one.control)
    async with client.events(one.control, SID) as stream:
        assert await stream.readuntil(b"\n\n") == b'event: state\ndata: {"state": "created"}\n\n'
        one.tell(SID, state="closed", reason="x")
        assert b'"closed"' in await stream.readuntil(b"\n\n")
        assert await stream.read() == b""
    with pytest.raises(CallError) as refused:
        async with client.events(one.control, "fffffffff"):
            pass
    assert refused.value.code == "unknown_call"


@pytest.mark.parametrize(
    ("status", "said", "becomes", "line"),
    [
        (400, "no_audio", "no_audio", 3),
        (400, "bad_request", "bad_request", None),
        (409, "conflict", "conflict", None),
        (413, "too_large", "too_large", None),
        (503, "no_capacity", "no_capacity", None),
        (503, "draining", "draining", None),
        (401, "unauthorized", "transceiver_failed", None),
        (403, "forbidden", "transceiver_failed", None),
        (500, "internal", "transceiver_failed", None),
        (404, "not_found", "unknown_call", None),
    ],
)
async def test_what_its_errors_become(
    one: Scripted, client: Transceivers, status: int, said: str, becomes: str, line: int | None
) -> None:
    more = {} if line is None else {"line": line}
    one.script["POST", "sessions"] = refusing(status, said, "the reason.", **more)
    error = await refusal(client, one.control)
    assert (error.code, error.line) == (becomes, line)
    assert ("the reason" in str(error)) == (becomes not in ("transceiver_failed", "unknown_call"))
    assert ("the reason" in error.why) == (becomes == "transceiver_failed"), "for the log alone"


async def test_what_is_no_answer_is_a_failure_of_the_transceiver(one: Scripted, client: Transceivers) -> None:
    for reply in (
        web.Response(text="hello"),
        web.Response(text='{"answer": 5}'),
        web.Response(status=500, text="<html>"),
        web.Response(status=400, text='{"error": "flat"}'),
        web.Response(body=b'{"answer": "\xff"}'),
        web.Response(status=400, body=b'{"error": {"code": "bad_sdp", "message": "\xff"}}'),
        web.Response(status=302, headers={"Location": "/elsewhere"}),
        web.Response(body=b'{"answer": "' + b"x" * 600_000 + b'"}'),
    ):

        async def answer(_body: dict[str, Any], reply: web.Response = reply) -> web.Response:
            return reply

        one.script["POST", "sessions"] = answer
        assert (await refusal(client, one.control)).code == "transceiver_failed"


async def test_one_that_is_not_there_is_unreachable(client: Transceivers, tmp_path: Path) -> None:
    for control in (f"unix:{tmp_path}/nobody.sock", "http://127.0.0.1:1"):
        error = await refusal(client, control)
        assert (error.code, error.status) == ("transceiver_unreachable", 503)
        with pytest.raises(CallError) as refused:
            async with client.events(control, SID):
                pass
        assert refused.value.code == "transceiver_unreachable"


async def test_one_that_was_started_anew_is_reached_again(
    one: Scripted, client: Transceivers, tmp_path: Path
) -> None:
    """A connection that was kept to the old process costs no call."""
    await create(client, one.control)
    await one.die()
    if one.control.startswith("unix:"):
        await one.start(one.control.removeprefix("unix:"))
    else:
        await one.start()
    one.sessions.clear()
    await asyncio.sleep(0.05)
    assert await create(client, one.control) == answer_to("v=0\r\n")


async def test_the_token_goes_to_tcp_only(tmp_path: Path, client: Transceivers) -> None:
    seen = []

    async def show(request: web.Request) -> web.Response:
        seen.append(request.headers.get("Authorization"))
        return web.json_response({})

    app = web.Application()
    app.router.add_get("/v1/state", show)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "t.sock")).start()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await client.state(f"unix:{tmp_path}/t.sock")
    await client.state(f"http://127.0.0.1:{runner.addresses[1][1]}")
    assert seen == [None, f"Bearer {TOKEN}"]
    await runner.cleanup()
