"""Calls outlive what happens to their clients, to the relay and to other transceivers; real processes."""

import asyncio
import json
import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from examples.aiortc_echo.call import Exchange, echo_call
from tests.support import http, npm
from tests.support.edge import Edge, running_edge
from tests.support.edge_caller import CALLS, WHIP, EdgeCaller
from tests.support.edge_inside import (
    TRANSCEIVERS,
    control,
    engine,
    holder,
    numbers,
    records,
    relay_address,
    sessions,
    wait_until,
    wait_until_whole,
)
from tests.support.relay import Address
from tests.support.shim import Shim, new_end
from tests.support.wrtc import FOLDER, wrtc_clients

LOST_WITHIN_S = 5.0
NOTICED_WITHIN_S = 60.0
TALK_S = 1.5
Record = Callable[[str, object], None]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with running_edge(tmp_path_factory.mktemp("edge")) as edge:
        yield edge


class Orphan(threading.Thread):
    """A call of aiortc's whose transceiver is killed. It follows no event stream: only ICE can tell it."""

    def __init__(self, edge: Edge) -> None:
        super().__init__()
        self._edge = edge
        self.is_orphaned = threading.Event()
        self.state = ""  # of its connection at last
        self.noticed_s = 0.0  # after the kill

    def run(self) -> None:
        """Until the connection is one no more."""
        try:
            asyncio.run(self._call())
        finally:
            self.is_orphaned.set()

    async def _call(self) -> None:
        ids: list[str] = []
        async with echo_call(gateway_exchange(self._edge, ids.append)) as (call, _, listener):
            await eventually(lambda: listener.heard, "aiortc hears itself")
            os.kill(self._edge.process(holder(self._edge, ids[0])), signal.SIGKILL)
            killed_s = time.monotonic()
            self.is_orphaned.set()
            await eventually(lambda: call.connectionState != "connected", "aiortc notices", NOTICED_WITHIN_S)
            self.state, self.noticed_s = call.connectionState, round(time.monotonic() - killed_s, 1)


@pytest.fixture(scope="module")
def orphan(running: Edge) -> Iterator[Orphan]:
    """It takes half a minute to notice: that begins before the first test and ends in the last."""
    thread = Orphan(running)
    thread.start()
    assert thread.is_orphaned.wait(TALK_S + 20)
    yield thread
    thread.join()


@pytest.fixture
def edge(running: Edge, orphan: Orphan) -> Edge:
    """An edge both of whose transceivers take calls."""
    wait_until_whole(running)
    return running


@asynccontextmanager
async def live(edge: Edge, server: Address | None = None, path: str = CALLS) -> AsyncIterator[EdgeCaller]:
    """A client that talks and hears itself. server: where it sends in place of the relay."""
    async with EdgeCaller(edge.page, server or relay_address(edge)) as caller:
        await caller.place(path)
        await caller.connect()
        await caller.hears()
        yield caller


async def eventually(done: Callable[[], Any], what: str, timeout_s: float = 20) -> None:
    """While the event loop runs, until it is so."""
    await asyncio.to_thread(wait_until, done, what, timeout_s)


def handshakes(edge: Edge) -> int:
    """How many the transceivers have finished."""
    return sum(numbers(edge, name).total("transceiver_handshake_seconds_count") for name in TRANSCEIVERS)


def gateway_exchange(edge: Edge, placed: Callable[[str], None] = lambda call_id: None) -> Exchange:
    """Offer to answer; `placed` is told the call's id."""

    async def exchange(offer: str) -> str:
        headers = {"Content-Type": "application/sdp"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{edge.page}{CALLS}", data=offer, headers=headers) as reply,
        ):
            assert reply.status == 201, await reply.text()
            placed(reply.headers["Location"].rpartition("/")[2])
            return await reply.text()

    return exchange


def by_shim(edge: Edge, shim: Shim) -> Exchange:
    """The same, but the answer's one candidate is the shim."""
    ask = gateway_exchange(edge)

    async def exchange(offer: str) -> str:
        lines = (await ask(offer)).splitlines()
        first = next(line for line in lines if line.startswith("a=candidate:")).split()
        first[4:6] = map(str, shim.front)
        rest = [line for line in lines if not line.startswith("a=candidate:")]
        place = rest.index("a=end-of-candidates")
        return "\r\n".join([*rest[:place], " ".join(first), *rest[place:]]) + "\r\n"

    return exchange


# ---- the client moves -------------------------------------------------------------------------------


async def test_a_client_whose_address_changes_keeps_its_call(edge: Edge, record_property: Record) -> None:
    shim = Shim(relay_address(edge))
    async with live(edge, shim.front) as caller:
        before = handshakes(edge)
        first, second = shim.way, shim.move()
        silence_s = await caller.hears()
        came = first.came["media"]
        await caller.hears(25)
        assert first.came["media"] == came, "the address the client has left still gets media"
        assert handshakes(edge) == before
    record_property("silence_s", round(float(silence_s), 3))
    assert second.came["media"] >= 25
    assert second.went["handshake"] == second.came["handshake"] == 0
    shim.close()


async def test_so_does_a_client_that_nominates_only_once(edge: Edge, record_property: Record) -> None:
    """aiortc's later checks are for consent alone (RFC 7675), and name no candidate."""
    shim = Shim(relay_address(edge))
    async with echo_call(by_shim(edge, shim)) as (_, _, listener):
        await eventually(lambda: len(listener.heard) >= 2, "aiortc hears itself")
        before = handshakes(edge)
        moved_s, second = time.perf_counter(), shim.move()
        await eventually(lambda: listener.heard[-1] > moved_s + 1, "aiortc hears itself again")
        again_s = next(heard for heard in listener.heard if heard > moved_s + 1) - moved_s
        assert handshakes(edge) == before
    record_property("silence_s", round(float(again_s), 3))
    assert second.went["handshake"] == second.came["handshake"] == 0
    shim.close()


async def test_nobody_who_does_not_answer_our_check_gets_media(edge: Edge) -> None:
    """Somebody who has the client's checks, but cannot answer ours."""
    shim = Shim(relay_address(edge))
    thief = Shim(relay_address(edge), is_deaf=True)
    async with live(edge, shim.front) as caller:
        for _ in range(15):
            caller.socket.sendto(caller.client.check(), thief.front)
            await caller.hears()
        assert await caller.quiet() == 0
    assert set(thief.way.came) == {"stun"}
    assert thief.way.came_bytes <= 3 * thief.way.went_bytes
    for one in (shim, thief):
        one.close()


# ---- ICE restart ------------------------------------------------------------------------------------


async def test_a_call_goes_on_after_an_ice_restart(edge: Edge) -> None:
    assert await asyncio.gather(restarted_by_calls(edge), restarted_by_whip(edge)) == [0, 0]


async def restarted_by_calls(edge: Edge) -> int:
    """From a new address and once more from there; gives the datagrams of handshakes that took."""
    shim = Shim(relay_address(edge))
    async with live(edge, shim.front) as caller:
        shim.move()
        shim.way.went.clear()
        for _ in range(2):
            await caller.restart_by_offer()
            await caller.hears(25)
        took = shim.way.went["handshake"] + shim.way.came["handshake"]
    shim.close()
    return took


async def restarted_by_whip(edge: Edge) -> int:
    """Gives how many of all numbers never came back."""
    async with live(edge, path=WHIP) as caller:
        await caller.restart_by_fragment()
        await caller.hears(25)
        return await caller.quiet()


async def test_libwebrtc_restarts_ice(edge: Edge) -> None:
    npm.install(FOLDER)
    before = handshakes(edge)
    async with wrtc_clients(edge.page, 2) as clients:
        await asyncio.sleep(TALK_S)
        await clients.restart_ice()
        await asyncio.sleep(3 * TALK_S)
        reports = await clients.report()
        assert handshakes(edge) == before + 2
        await clients.hang_up()
    for report in reports:
        assert report["restarted"]
        assert report["state"] == "connected"
        assert report["windows"][-2:] == ["own", "own"], report


# ---- the relay's engine -----------------------------------------------------------------------------


async def test_a_call_goes_on_when_the_relays_engine_is_killed(edge: Edge, record_property: Record) -> None:
    before = numbers(edge, "relay")
    async with live(edge) as caller:
        killed = engine(edge)
        os.kill(killed, signal.SIGKILL)
        await caller.hears(25)
        await eventually(lambda: engine(edge) != killed, "another engine")
        await caller.hears(25)
        lost = await caller.quiet()
    record_property("packets", caller.said)
    record_property("packets_lost", lost)
    record_property("packets_twice", caller.twice)
    after = numbers(edge, "relay")
    assert after.total("engine_starts") == before.total("engine_starts") + 1
    assert after.total("conservation_error_datagrams") == 0
    assert lost == 0


# ---- a transceiver drains ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["by its control API", "by SIGUSR1"])
async def test_a_drained_transceiver_keeps_its_call_and_gets_no_other(edge: Edge, how: str) -> None:
    async with live(edge) as caller, AsyncExitStack() as others:
        name = holder(edge, caller.call_id)
        if how == "by SIGUSR1":
            os.kill(edge.process(name), signal.SIGUSR1)
        else:
            assert http.ask(control(edge, name), "POST", "/v1/drain")[0] == 200
        await eventually(lambda: records(edge)[name]["state"] == "draining", "the gateway knows")
        for _ in range(4):
            other = await others.enter_async_context(live(edge))
            assert holder(edge, other.call_id) != name
        await caller.hears(25)
        assert http.ask(control(edge, name), "DELETE", "/v1/drain")[0] == 200
        await eventually(lambda: records(edge)[name]["state"] == "up", "the gateway knows")
        other = await others.enter_async_context(live(edge))
        assert holder(edge, other.call_id) == name
        assert await caller.quiet() == 0


# ---- a transceiver dies -----------------------------------------------------------------------------


async def test_a_killed_transceiver_takes_its_calls_and_no_others(
    edge: Edge, record_property: Record
) -> None:
    async with live(edge) as caller, live(edge) as bystander, AsyncExitStack() as others:
        victim = holder(edge, caller.call_id)
        (survivor,) = set(TRANSCEIVERS) - {victim}
        assert holder(edge, bystander.call_id) == survivor
        before = records(edge)[victim]["incarnation"]
        async with caller.events() as events:
            assert await next_event(events) == ("state", "live")
            os.kill(edge.process(victim), signal.SIGKILL)
            killed_s = time.monotonic()
            lost = asyncio.create_task(next_event(events))
            other = await others.enter_async_context(live(edge))
            record_property("new_call_s", round(float(time.monotonic() - killed_s), 3))
            assert await asyncio.wait_for(lost, LOST_WITHIN_S) == ("lost", "lost")
            record_property("lost_s", round(float(time.monotonic() - killed_s), 3))
        assert other.call_id in {session["call"] for session in sessions(edge, survivor)}
        await eventually(lambda: records(edge)[victim]["incarnation"] != before, "it is back")
        await asyncio.to_thread(wait_until_whole, edge)
        record_property("back_s", round(float(time.monotonic() - killed_s), 3))
        await assert_forgotten(edge, caller, victim)
        other = await others.enter_async_context(live(edge))
        assert holder(edge, other.call_id) == victim
        assert await bystander.quiet() == 0


async def next_event(events: aiohttp.StreamReader) -> tuple[str, str]:
    """Name and state of the next event of a stream."""
    name = ""
    while True:
        line = (await events.readline()).decode().strip()
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            return name, json.loads(line.removeprefix("data: "))["state"]


async def assert_forgotten(edge: Edge, caller: EdgeCaller, name: str) -> None:
    """The new incarnation knows nothing of the call, and nothing of the client reaches it."""
    assert await caller.status_of_events() == 404
    answered = len(caller.client.successes)
    caller.check()
    await asyncio.sleep(TALK_S)  # from its own address, whose flow the relay remembers
    refused = numbers(edge, "relay").total("dropped_datagrams", reason="unknown_backend")
    caller.socket.close()
    caller.socket = new_end()
    caller.check()
    await eventually(
        lambda: numbers(edge, "relay").total("dropped_datagrams", reason="unknown_backend") > refused,
        "the relay refuses its token",
    )
    assert len(caller.client.successes) == answered
    assert numbers(edge, name).total("transceiver_received_datagrams") == 0


async def test_a_client_without_the_event_stream_learns_it_from_ice(
    orphan: Orphan, record_property: Record
) -> None:
    await asyncio.to_thread(orphan.join, NOTICED_WITHIN_S)
    record_property("noticed_s", float(orphan.noticed_s))
    assert orphan.state in ("failed", "closed")
