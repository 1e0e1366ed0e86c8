"""Where calls go: to the best transceiver, to the next when it fails, to nobody who drains or is dead."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from pyfastpath.registry.file import FileRegistry
from tests.signalling.rig import Rig, running, until
from tests.signalling.scripted import Scripted, refusing


async def place(rig: Rig, count: int = 1) -> list[int]:
    return [(await rig.call()).status for _ in range(count)]


async def test_calls_spread_over_the_transceivers(rig: Rig) -> None:
    crew = [await rig.join(id=f"t{n}", xcvr=n, capacity=100) for n in range(4)]
    assert await place(rig, 20) == [201] * 20
    assert [len(one.sessions) for one in crew] == [5] * 4


async def test_the_own_cluster_first(tmp_path: Path) -> None:
    async with running(tmp_path, cluster=7) as rig:
        far = await rig.join(id="far", cluster=1, capacity=1000)
        near = await rig.join(id="near", cluster=7, capacity=2)
        assert await place(rig, 3) == [201] * 3
        assert (len(near.sessions), len(far.sessions)) == (2, 1)


async def test_a_draining_one_gets_nothing_and_keeps_its_calls(rig: Rig) -> None:
    first = await rig.join(id="t1", xcvr=1)
    location = (await rig.call()).headers["Location"]
    first.state = "draining"
    await rig.announce(first)
    second = await rig.join(id="t2", xcvr=2)
    assert await place(rig, 3) == [201] * 3
    assert (len(first.sessions), len(second.sessions)) == (1, 3)
    assert (await rig.http.post(location + "/hangup")).status == 200


async def test_when_one_is_dead_the_next_takes_the_call(rig: Rig) -> None:
    dead = await rig.join(id="t1", xcvr=1, capacity=1000)
    alive = await rig.join(id="t2", xcvr=2, capacity=100)
    await dead.die()
    assert await place(rig, 5) == [201] * 5
    assert len(alive.sessions) == 5
    numbers = rig.gateway._numbers
    assert numbers.placement_failures["unreachable"] == 1, "tried once, then last until it is heard again"
    assert numbers.calls["placed"] == 5


async def test_a_dead_one_is_left_out_three_seconds_after_its_last_word(rig: Rig) -> None:
    dead = await rig.join()
    died_s = time.monotonic()
    await dead.die()
    while (await rig.error(await rig.call()))["message"].startswith("no transceiver took"):
        assert time.monotonic() - died_s < 4.0
        await asyncio.sleep(0.05)
    assert "no transceiver is alive" in (await rig.error(await rig.call()))["message"]


async def test_refusals_for_want_of_room_go_round(rig: Rig) -> None:
    full, draining, failing = [await rig.join(id=f"t{n}", xcvr=n, capacity=100 - n) for n in range(3)]
    full.script["POST", "sessions"] = refusing(503, "no_capacity")
    draining.script["POST", "sessions"] = refusing(503, "draining")
    failing.script["POST", "sessions"] = refusing(500, "internal", "a secret of the inside")
    reply = await rig.call()
    assert reply.status == 503
    assert reply.headers["Retry-After"]
    error = await rig.error(reply)
    assert error["code"] == "no_capacity"
    assert "secret" not in error["message"]
    numbers = rig.gateway._numbers
    assert numbers.placement_failures == {"unreachable": 0, "no_capacity": 1, "draining": 1, "failed": 1}
    assert numbers.calls["no_capacity"] == 1
    del failing.script["POST", "sessions"]
    await rig.announce(failing)
    assert await place(rig) == [201]


async def test_a_call_goes_to_three_at_most(rig: Rig) -> None:
    """An offer that breaks what reads it must not go round the whole fleet."""
    crew = [await rig.join(id=f"t{n}", xcvr=n) for n in range(6)]
    for one in crew:
        one.script["POST", "sessions"] = refusing(500, "internal")
    assert await place(rig) == [503]
    assert sum(len(one.asked) for one in crew) == 3


async def test_one_that_hangs_costs_two_seconds_and_not_the_call(rig: Rig) -> None:
    hanging = await rig.join(id="t1", xcvr=1, capacity=1000)
    alive = await rig.join(id="t2", xcvr=2)
    asked = asyncio.Event()

    async def never(_body: dict[str, Any]) -> web.StreamResponse:
        asked.set()
        await asyncio.sleep(60)
        raise AssertionError

    hanging.script["POST", "sessions"] = never
    assert await place(rig) == [201]
    assert asked.is_set()
    assert len(alive.sessions) == 1


async def test_a_burst_fills_what_there_is_and_no_more(rig: Rig) -> None:
    crew = [await rig.join(id=f"t{n}", xcvr=n, capacity=5) for n in range(3)]
    replies = await asyncio.gather(*(rig.call() for _ in range(30)))
    assert sorted(reply.status for reply in replies) == [201] * 15 + [503] * 15
    assert [len(one.sessions) for one in crew] == [5] * 3


async def test_any_gateway_with_the_call_key_can_end_a_call(tmp_path: Path) -> None:
    """Two gateways, one registry in a directory, no state between them."""
    registry = f"file:{tmp_path}/registry"
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with (
        running(tmp_path / "a", registry=registry) as one,
        running(tmp_path / "b", registry=registry) as two,
    ):
        alive = await Scripted().start(str(tmp_path / "t1.sock"))
        await FileRegistry(tmp_path / "registry").announce(alive.record, 0.0)
        location = (await one.call()).headers["Location"]
        assert (await two.http.post(location + "/hangup")).status == 200
        assert (await one.http.post(location + "/hangup")).status == 404
        await alive.die()


async def test_a_gateway_that_has_just_started_waits_for_the_living(tmp_path: Path) -> None:
    """Its memory is empty until they announce themselves: a call that lives is not unknown."""
    one = await Scripted().start(str(tmp_path / "t1.sock"))
    async with running(tmp_path) as rig:
        await rig.announce(one)
        location = (await rig.call()).headers["Location"]
    async with running(tmp_path) as rig:
        ending = asyncio.create_task(rig.http.post(location + "/hangup"))
        await asyncio.sleep(0.3)
        assert not ending.done()
        await rig.announce(one)
        assert (await ending).status == 200
    await one.die()


async def test_a_registry_that_fails_is_said_as_no_capacity(tmp_path: Path) -> None:
    async with running(tmp_path, registry=f"file:{tmp_path}/registry") as rig:
        (tmp_path / "registry").rmdir()
        reply = await rig.call()
        assert (reply.status, (await rig.error(reply))["code"]) == (503, "no_capacity")
        (tmp_path / "registry").mkdir()


async def test_outcomes_and_times_are_counted(rig: Rig) -> None:
    one = await rig.join(capacity=2)
    assert await place(rig, 3) == [201, 201, 503]
    one.script["POST", "sessions"] = refusing(400, "bad_sdp")
    one.sessions.clear()
    await rig.announce(one)
    assert await place(rig) == [400]
    numbers = rig.gateway._numbers
    await until(lambda: sum(numbers.calls.values()) == 4)
    assert numbers.calls == {"placed": 2, "refused": 1, "no_capacity": 1, "failed": 0}
    assert sum(numbers.placement_s.counts) == 2
