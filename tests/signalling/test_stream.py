"""A call's events: passed on as they come, and `lost` at once when the transceiver dies."""

from __future__ import annotations

import asyncio
import json
import random
import time

import aiohttp

from pyfastpath.signalling.stream import ClosedWatch
from tests.signalling.rig import Rig, until
from tests.signalling.scripted import Scripted


async def open_call(rig: Rig) -> tuple[Scripted, str, str]:
    """A transceiver, a call on it, and its sid."""
    one = await rig.join()
    location = (await rig.call()).headers["Location"]
    return one, location, one.bodies("POST", "/v1/sessions")[0]["sid"]


async def read_event(reply: aiohttp.ClientResponse) -> tuple[str, dict[str, object]]:
    """The next event; comments and empty blocks are passed over."""
    name = data = ""
    async for raw in reply.content:
        line = raw.decode().rstrip("\n")
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            data = line[5:].strip()
        elif not line and data:
            return name, json.loads(data)
    raise EOFError


async def test_events_are_passed_on_until_the_call_is_closed(rig: Rig) -> None:
    one, location, sid = await open_call(rig)
    async with rig.http.get(location + "/events") as reply:
        assert reply.status == 200
        assert reply.headers["Content-Type"] == "text/event-stream"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        assert await read_event(reply) == ("state", {"state": "created"})
        one.tell(sid, state="live", steps_ms={"ice": 12.5})
        assert await read_event(reply) == ("state", {"state": "live", "steps_ms": {"ice": 12.5}})
        await rig.http.post(location + "/hangup")
        assert await read_event(reply) == ("state", {"state": "closed", "reason": "hangup"})
        assert await reply.content.read() == b"", "nothing after closed"
    assert rig.gateway._numbers.lost == 0
    await until(lambda: rig.gateway._numbers.streams == 0)


async def test_a_comment_each_second_shows_that_it_lives(rig: Rig) -> None:
    _, location, _ = await open_call(rig)
    async with rig.http.get(location + "/events") as reply:
        await read_event(reply)
        line = await asyncio.wait_for(reply.content.readline(), 2.5)
        assert line == b":\n"


async def test_when_the_transceiver_dies_the_call_is_lost_at_once(rig: Rig) -> None:
    one, location, _ = await open_call(rig)
    async with rig.http.get(location + "/events") as reply:
        await read_event(reply)
        died_s = time.monotonic()
        await one.die()
        name, event = await asyncio.wait_for(read_event(reply), 5)
        assert (name, event["state"]) == ("lost", "lost")
        assert time.monotonic() - died_s < 5
        assert await reply.content.read() == b""
    assert rig.gateway._numbers.lost == 1


async def test_a_stream_that_breaks_off_in_the_middle_of_an_event_is_lost_too(rig: Rig) -> None:
    one, location, sid = await open_call(rig)
    async with rig.http.get(location + "/events") as reply:
        await read_event(reply)
        one.tell(sid)  # the stream ends without a word
        assert (await read_event(reply))[0] == "lost"


async def test_a_transceiver_that_falls_silent_is_lost_within_five_seconds(rig: Rig) -> None:
    """Stopped or hanging: its sockets stay open, nothing comes."""
    one, location, _ = await open_call(rig)
    async with rig.http.get(location + "/events") as reply:
        await read_event(reply)
        one.is_silent = True
        began_s = time.monotonic()
        assert (await asyncio.wait_for(read_event(reply), 8))[0] == "lost"
        assert time.monotonic() - began_s < 5


async def test_one_that_is_announced_but_does_not_answer_is_lost(rig: Rig) -> None:
    one, location, _ = await open_call(rig)
    await one.die()
    async with rig.http.get(location + "/events") as reply:
        assert reply.status == 200
        assert (await read_event(reply))[0] == "lost"
        assert await reply.content.read() == b""


async def test_a_call_that_has_ended_has_no_events(rig: Rig) -> None:
    _, location, _ = await open_call(rig)
    await rig.http.post(location + "/hangup")
    reply = await rig.http.get(location + "/events")
    assert (reply.status, (await rig.error(reply))["code"]) == (404, "unknown_call")


async def test_a_client_that_leaves_frees_both_sides(rig: Rig) -> None:
    _one, location, _ = await open_call(rig)
    numbers = rig.gateway._numbers
    for _ in range(5):
        reply = await rig.http.get(location + "/events")
        await read_event(reply)
        reply.close()
    await until(lambda: numbers.streams == 0)
    assert numbers.lost == 0


async def test_two_can_follow_one_call(rig: Rig) -> None:
    one, location, sid = await open_call(rig)
    async with rig.http.get(location + "/events") as first, rig.http.get(location + "/events") as second:
        for reply in (first, second):
            await read_event(reply)
        assert rig.gateway._numbers.streams == 2
        one.tell(sid, state="live")
        assert await read_event(first) == await read_event(second) == ("state", {"state": "live"})


def test_closed_is_seen_however_the_bytes_are_cut() -> None:
    text = (
        b'event: state\ndata: {"sid": "1", "state": "live", "reason": ""}\n\n:\n\n'
        b'event: state\ndata: {"sid": "1", "state": "closed", "reason": "hangup"}\n\n'
    )
    draw = random.Random(3)
    for _ in range(300):
        watch, rest = ClosedWatch(), text
        while rest:
            size = draw.randrange(1, 40)
            watch.see(rest[:size])
            rest = rest[size:]
        assert watch.is_closed


def test_what_only_speaks_of_closed_is_not_closed() -> None:
    watch = ClosedWatch()
    watch.see(b'event: state\ndata: {"state": "closing", "reason": "closed"}\n\n: "state": "closed"\n\n')
    assert not watch.is_closed
    watch.see(b"x" * 1_000_000)
    assert len(watch._rest) <= 64 << 10
