"""Calls outlive what fails around a transceiver: its sends, its relay, its descriptors, the wall clock."""

import asyncio
import errno
import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import http
from tests.support.edge import Edge, running_edge
from tests.support.edge_caller import EdgeCaller
from tests.support.edge_inside import (
    TRANSCEIVERS,
    holder,
    numbers,
    relay_address,
    settings,
    wait_until,
    wait_until_whole,
)
from tests.support.faults import Faults

MEDIA_BYTES = 60  # of a trunk datagram with one packet in it; pings and state records are shorter
FEW = 3  # descriptors: those every process has
Record = Callable[[str, object], None]


@dataclass(frozen=True)
class Faulty:
    """An edge whose processes' system calls fail to order."""

    edge: Edge
    faults: Faults

    def trunk_port(self, name: str) -> int:
        """Where a transceiver's trunk is bound."""
        status, said = http.ask(
            Path(settings(self.edge, "relay")["admin_socket"]), "GET", f"/v1/backends/{name}"
        )
        assert status == 200, said
        return int(said["address"].rpartition(":")[2])


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    directory = tmp_path_factory.mktemp("edge")
    with Faults(directory) as faults, running_edge(directory) as edge:
        wait_until_whole(edge)
        yield Faulty(edge, faults)


@asynccontextmanager
async def live(edge: Edge) -> AsyncIterator[EdgeCaller]:
    """A client that talks and hears itself."""
    async with EdgeCaller(edge.page, relay_address(edge)) as caller:
        await caller.place()
        await caller.connect()
        await caller.hears()
        yield caller


@pytest.mark.parametrize("error", [errno.EINTR, errno.ENOBUFS, errno.ENETDOWN], ids=errno.errorcode.get)
async def test_a_transceiver_whose_sends_fail_counts_what_is_lost_and_its_calls_go_on(
    it: Faulty, error: int, record_property: Record
) -> None:
    """Each send is one trunk datagram here, with a packet or a few: it is gone when it fails twice."""
    async with live(it.edge) as caller:
        name = holder(it.edge, caller.call_id)
        before = numbers(it.edge, name).by("transceiver_trunk_dropped", "reason")
        failed = it.faults.failed("sendmmsg")
        it.faults.fail("sendmmsg", error, times=6, port=it.trunk_port(name), size_bytes=MEDIA_BYTES)
        await caller.until(lambda: it.faults.failed("sendmmsg") == failed + 6, "the sends fail")
        await caller.hears(25)
        after = numbers(it.edge, name).by("transceiver_trunk_dropped", "reason")
        reason = {errno.ENOBUFS: "send_blocked", errno.ENETDOWN: "send_failed"}.get(error)
        lost = {
            name: count - before.get(name, 0) for name, count in after.items() if count != before.get(name)
        }
        assert lost == ({reason: 3} if reason else {})
        packets_lost = await caller.quiet()
    record_property("packets_lost", packets_lost)
    assert reason or packets_lost == 0


async def test_the_wall_clock_steps_and_calls_go_on_and_come(it: Faulty) -> None:
    """Of all processes at once, as a machine's does."""
    async with live(it.edge) as caller:
        for hours in (5.0, -10.0, 5.0):
            it.faults.step_clock(hours=hours)
            await caller.hears(25)
            async with live(it.edge):
                pass
        assert await caller.quiet() == 0


async def test_no_descriptor_is_left_and_calls_go_on(it: Faulty) -> None:
    """New calls are refused meanwhile, and come again once there are descriptors."""
    async with live(it.edge) as caller:
        pids = [it.edge.process(name) for name in TRANSCEIVERS]
        before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
        for pid, (_, hard) in before.items():
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (FEW, hard))
        try:
            await caller.hears(50)
        finally:
            for pid, limits in before.items():
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
        await asyncio.to_thread(wait_until_whole, it.edge)
        async with live(it.edge):
            pass
        assert await caller.quiet() == 0


async def test_a_relay_that_is_killed_and_comes_back_gets_its_calls_again(it: Faulty) -> None:
    """Keeper and engine, with all they knew. The next check makes the flow anew, in each relay."""
    async with live(it.edge) as caller:
        killed = it.edge.process("relay")
        os.kill(killed, signal.SIGKILL)
        await asyncio.to_thread(
            wait_until,
            lambda: it.edge.process("relay") != killed and numbers(it.edge, "relay"),
            "another relay",
        )
        await asyncio.to_thread(wait_until_whole, it.edge)
        await caller.hears(25)
    async with live(it.edge) as caller:
        await caller.hears()
        assert await caller.quiet() == 0
