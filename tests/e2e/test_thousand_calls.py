"""A thousand calls, opened by the control API and carried over real sockets: in the end nothing is left.

Each has keys, media both ways and somebody who follows its events; every third has a data channel. 16 at a
time are under way, and end in turn by the client, by a hang-up and by silence.
"""

import asyncio
import ctypes
import gc
import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiortc.rtcsctptransport import RTCSctpTransport
from OpenSSL import SSL

from pyfastpath.transceiver import ice
from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.agents.parrot import Parrot
from pyfastpath.transceiver.agents.tone import Tone
from pyfastpath.transceiver.casting import Casting
from pyfastpath.transceiver.member import Member
from pyfastpath.transceiver.opus import Decoder, Encoder
from pyfastpath.transceiver.seat import Seat
from pyfastpath.transceiver.service import Service
from pyfastpath.transceiver.session import Session
from tests.support.rtc_client import RtcClient
from tests.support.rtc_world import Caller, World, rss_bytes

CALLS = 1000
AT_ONCE = 16
CONSENT_S = 3.0  # instead of 30: silence is waited for
MB = 1 << 20
GROWTH_MAX_BYTES = 3 * MB  # of the last 500 calls: 6 KB each; a call that stayed would be ten times as much
AGENTS = (Echo, Tone, Parrot)
MINE = (Seat, Session, RTCSctpTransport, SSL.Connection, Decoder, Encoder)


def _agent(number: int) -> type[Agent]:
    """Each agent's calls end in each way, with data channels and without."""
    return AGENTS[number // 3 % 3]


class Office:
    """Places calls at the control API, has them held, and ends them."""

    def __init__(self, world: World, http: aiohttp.ClientSession) -> None:
        self.world, self.http = world, http
        self.placed = 0
        self.told: Counter[str] = Counter()  # reasons that followers of events read
        self.followers: set[asyncio.Task[None]] = set()
        self.callers: list[Caller] = []

    async def work(self, until: int) -> None:
        """Place calls, one after the other, as long as there are not as many."""
        while self.placed < until:
            self.placed += 1
            await self.call(self.placed)

    async def call(self, number: int) -> None:
        """One call from its offer to its end."""
        caller = await self.place(number)
        await caller.connect()
        if number // 9 % 3 == 0:
            data = await caller.open_data()
            await caller.until(lambda: data.texts)
            assert json.loads(data.texts[0])["type"] == "session.created"
        await self.talk(caller, number)
        await self.end(caller, number)

    async def place(self, number: int) -> Caller:
        """The answer, and somebody who follows the call."""
        client, sid = RtcClient(), f"{number:09x}"
        body: dict[str, Any] = {
            "sid": sid,
            "ufrag": f"token{number}",
            "offer": client.offer(),
            "candidates": [str(self.world.plain.address)],
            "session": {"model": _agent(number).name, "instructions": "x" * 1000},
        }
        async with self.http.post("/v1/sessions", json=body) as reply:
            assert reply.status == 201, await reply.text()
            client.accept((await reply.json())["answer"])
        follower = asyncio.create_task(self.follow(sid))
        self.followers.add(follower)
        follower.add_done_callback(self.followers.discard)
        return Caller(client, number, self.world.server)

    async def follow(self, sid: str) -> None:
        """Its events to their end."""
        async with self.http.get(f"/v1/sessions/{sid}/events") as events:
            last = [line for line in (await events.text()).splitlines() if line.startswith("data:")][-1]
        said = json.loads(last[5:])
        assert said["state"] == "closed"
        self.told[said["reason"]] += 1

    async def talk(self, caller: Caller, number: int) -> None:
        """Media both ways, as its agent has it."""
        kind = _agent(number)
        if kind is Echo:
            await caller.hears(b"\x78word")
            return
        heard = self.world.counters.used["rtp"]
        caller.send(*[caller.client.audio(b"\x78\xff\xfe") for _ in range(5)])
        await caller.until(lambda: self.world.counters.used["rtp"] >= heard + 5)
        if kind is Tone:
            await caller.until(lambda: len(caller.client.received) >= 2)

    async def end(self, caller: Caller, number: int) -> None:
        """By the client, by a hang-up, or by nothing at all."""
        way = number % 3
        if way == 0:
            caller.hang_up()
        elif way == 1:
            async with self.http.delete(f"/v1/sessions/{number:09x}") as reply:
                assert reply.status == 204
            await caller.until(lambda: caller.client.is_closed)
        if caller.data is not None:
            await caller.data.close()
        self.callers.append(caller)

    async def close(self) -> None:
        """When the last call has ended: of those that fell silent, some were still being spoken to."""
        await self.world.until(lambda: len(self.world.endpoint) == 0)
        await asyncio.gather(*self.followers)
        for caller in self.callers:
            caller.socket.close()


def left() -> dict[str, int]:
    """What this process holds: tasks, open files, threads, timers of the loop, and objects of a call."""
    gc.collect()
    loop = asyncio.get_running_loop()
    found = Counter(kind.__name__ for thing in gc.get_objects() for kind in MINE if isinstance(thing, kind))
    return {
        "tasks": len(asyncio.all_tasks()),
        "files": len(list(Path("/proc/self/fd").iterdir())),
        "threads": threading.active_count(),
        "timers": sum(not timer.cancelled() for timer in loop._scheduled),  # type: ignore[attr-defined]
        **found,
    }


async def settled(world: World, before: dict[str, int]) -> None:
    """All calls have ended, the last watcher knows it, and what was there before is there again."""
    deadline = time.monotonic() + 5
    while (now := left()) != before:
        assert time.monotonic() < deadline, (before, now)
        await asyncio.sleep(0.1)
    assert world.endpoint._timers == []
    assert world.endpoint._dirty == {}
    assert world.endpoint._closing == set()
    assert world.endpoint._roster.by_identity == {}


@pytest.mark.slow
async def test_nothing_is_left_of_a_thousand_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ice, "CONSENT_S", CONSENT_S)
    world = World(Echo, capacity=2 * CALLS, agents=Casting("echo").make)
    member = Member(id="t", cluster=0, xcvr=1, incarnation=0, control="unix:/x")
    runner = web.AppRunner(Service(world.endpoint, member, lambda: None).app(), access_log=None)
    await runner.setup()
    await web.UnixSite(runner, str(tmp_path / "control.sock")).start()
    resident, told = [], Counter[str]()
    for goal in (50, CALLS - 500, CALLS):  # the first ones fill caches and pools
        before = left()
        connector = aiohttp.UnixConnector(str(tmp_path / "control.sock"), limit=0)
        async with aiohttp.ClientSession("http://transceiver", connector=connector) as http:
            office = Office(world, http)
            office.placed = world.counters.opened
            await asyncio.gather(*[office.work(goal) for _ in range(AT_ONCE)])
            await office.close()
        told += office.told
        del office
        await settled(world, before)
        ctypes.CDLL(None).malloc_trim(0)  # what is free and fragmented is no growth
        resident.append(rss_bytes())
    await runner.cleanup()
    await world.close()
    assert world.counters.opened == CALLS
    assert world.closed == told == {"closed_by_client": 333, "hangup": 334, "consent_expired": 333}
    assert resident[2] - resident[1] < GROWTH_MAX_BYTES, resident
