"""The endpoint over real sockets: one UDP socket, many sessions, and nothing left when they have ended."""

import asyncio
import contextlib
import gc
import os
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.answering import Answering
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.endpoint import Endpoint
from pyfastpath.transceiver.requests import CreateSession, SessionError
from pyfastpath.transceiver.seat import Seat
from pyfastpath.transceiver.sockets import PlainSocket
from pyfastpath.types import Endpoint as Address
from tests.support.rtc_client import RtcClient, certificate

LOOPBACK = Address.parse("127.0.0.1:0")
TIMEOUT_S = 10


class Faulty(Echo):
    """Falls over at the word."""

    def hear(self, frame):
        if frame.opus == b"\x78fall":
            raise RuntimeError("over")
        super().hear(frame)


class World:
    """One endpoint, and clients on sockets of their own."""

    def __init__(self, agent: Callable[[], Agent], capacity: int) -> None:
        self.counters = Counters()
        answering = Answering(
            certificate=certificate(),
            counters=self.counters,
            entropy=os.urandom,
            agents=lambda wanted: agent(),
            ntp_offset_s=time.time() - time.monotonic(),
            longest_s=600,
        )
        self.plain = PlainSocket(LOOPBACK)
        self.endpoint = Endpoint(answering, self.counters, trunk=None, plain=self.plain, capacity=capacity)
        self.endpoint.open()
        self.sids = 0
        self.clients: list[Caller] = []

    def call(self, **wanted: Any) -> "Caller":
        """A client whose offer was answered; it has sent nothing yet."""
        self.sids += 1
        client = RtcClient()
        request = CreateSession(
            self.sids, f"rtc_{self.sids}", f"ufrag{self.sids}", client.offer(), (self.plain.address,), wanted
        )
        client.accept(self.endpoint.create(request))
        caller = Caller(client, self.sids, self.plain.address)
        self.clients.append(caller)
        return caller

    async def live(self, **wanted: Any) -> "Caller":
        """A client with keys."""
        caller = self.call(**wanted)
        caller.send(caller.client.check())
        await caller.until(lambda: caller.client.successes)
        caller.send(*caller.client.start_dtls(time.monotonic()))
        await caller.until(lambda: caller.client.srtp)
        return caller


class Caller:
    """An RtcClient on a UDP socket."""

    def __init__(self, client: RtcClient, sid: int, server: Address) -> None:
        self.client, self.sid = client, sid
        self.server = (str(server.address), server.port)
        self.socket = self.new_socket()

    def new_socket(self) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        return bound

    def send(self, *datagrams: bytes) -> None:
        for datagram in datagrams:
            self.socket.sendto(datagram, self.server)

    def receive(self) -> None:
        host, port = self.socket.getsockname()
        while True:
            try:
                datagram = self.socket.recv(2048)
            except BlockingIOError:
                return
            self.send(*self.client.receive(datagram, time.monotonic(), Address.parse(f"{host}:{port}")))

    async def until(self, done: Callable[[], Any]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not done():
            assert time.monotonic() < deadline, "it never came"
            await asyncio.sleep(0.005)
            self.receive()

    async def hears(self, word: bytes) -> None:
        """Say a word until it comes back; a path that is new needs a round trip to be believed."""

        def is_heard() -> bool:
            self.send(self.client.audio(word))
            return any(packet.payload == word for packet in self.client.received)

        await self.until(is_heard)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(Faulty, capacity=5)
    yield made
    if made.plain.fileno() >= 0:
        await made.endpoint.close()
    for caller in made.clients:
        caller.socket.close()
    assert made.counters.conservation_error == 0
    assert not any(made.counters.sessions.values())
    assert made.counters.opened == sum(made.counters.closed.values())


async def test_many_calls_share_one_socket(world):
    callers = [await world.live() for _ in range(5)]
    for number, caller in enumerate(callers):
        await caller.hears(b"\x78%d" % number)
    for number, caller in enumerate(callers):
        assert {packet.payload for packet in caller.client.received} == {b"\x78%d" % number}
    assert world.counters.sessions["live"] == 5
    assert not any(world.counters.dropped.values())


async def test_one_call_too_many_is_refused_and_a_drain_refuses_all(world):
    for _ in range(5):
        world.call()
    with pytest.raises(SessionError) as caught:
        world.call()
    assert caught.value.code == "no_capacity"
    world.endpoint.is_draining = True
    with pytest.raises(SessionError) as caught:
        world.call()
    assert caught.value.code == "draining"


async def test_a_fault_ends_one_call_and_no_other(world, caplog):
    victim, other = await world.live(), await world.live()
    victim.send(victim.client.audio(b"\x78fall"))
    await victim.until(lambda: victim.client.is_closed)
    assert "ends by a fault" in caplog.text
    assert world.counters.closed["fault"] == 1
    await other.hears(b"\x78still here")


async def test_strangers_are_dropped_by_name(world):
    caller = await world.live()
    stranger = Caller(RtcClient(remote=dict(caller.client.remote)), 0, world.plain.address)
    world.clients.append(stranger)
    stranger.send(
        b"\x80\x6f" + bytes(40),
        b"\x16" + bytes(40),
        b"",
        b"\x00\x01\x00\x00",
        stranger.client.check(key="x" * 24),
    )
    stranger.client.remote["a=ice-ufrag"] = "nobody"
    stranger.send(stranger.client.check())
    await caller.hears(b"\x78after them")
    dropped = {name: count for name, count in world.counters.dropped.items() if count}
    assert dropped == {
        "unknown_path": 3,
        "stun_malformed": 1,
        "stun_bad_integrity": 1,
        "stun_unknown_ufrag": 1,
    }


async def test_a_client_that_moves_is_followed_and_one_that_only_claims_to_is_not(world):
    caller = await world.live()
    await caller.hears(b"\x78old")
    old, caller.socket = caller.socket, caller.new_socket()
    caller.send(caller.client.check())
    await caller.hears(b"\x78new")
    old.close()
    caller.client.answers_checks = False
    silent = caller.new_socket()
    silent.sendto(caller.client.check(), caller.server)
    await caller.hears(b"\x78not there")
    silent.settimeout(0.3)
    kinds = set()
    with contextlib.suppress(TimeoutError):
        while True:
            kinds.add(silent.recv(2048)[0] >> 6)
    assert kinds == {0}
    silent.close()


async def test_who_watches_sees_every_step_to_the_end(world):
    caller = world.call()
    with world.endpoint.watch(caller.sid) as watch:
        caller.send(caller.client.check())
        caller.send(*caller.client.start_dtls(time.monotonic()))
        await caller.until(lambda: caller.client.srtp)
        world.endpoint.close_session(caller.sid)
        await caller.until(lambda: caller.client.is_closed)
        seen = []
        while not watch.empty():
            seen.append(watch.get_nowait())
    assert list(dict.fromkeys(info.state for info in seen)) == [
        "created",
        "connecting",
        "live",
        "closing",
        "closed",
    ]
    assert seen[-1].reason == "hangup"
    assert "keys" in seen[-1].steps_ms
    with pytest.raises(SessionError, match="no session"):
        world.endpoint.session(caller.sid)


async def test_a_restart_needs_no_new_handshake(world):
    caller = await world.live()
    await caller.hears(b"\x78before")
    client = caller.client
    client.ufrag, client.pwd = "fresh", "f" * 24
    client.accept(world.endpoint.restart(caller.sid, "ufragB", client.offer(), ()), dtls=False)
    assert client.remote["a=ice-ufrag"] == "ufragB"
    caller.socket.close()
    caller.socket = caller.new_socket()
    caller.send(client.check())
    await caller.hears(b"\x78after")


async def test_closing_says_goodbye_to_everybody(world):
    callers = [await world.live() for _ in range(3)]
    waiting = world.call()
    await world.endpoint.close()
    for caller in callers:
        await caller.until(lambda caller=caller: caller.client.is_closed)
    assert not waiting.client.is_closed
    assert len(world.endpoint) == 0


async def test_nothing_is_left_of_a_hundred_calls(world):
    async def one() -> None:
        caller = await world.live()
        await caller.hears(b"\x78hello")
        caller.client.dtls.close()
        caller.send(*caller.client.follow())
        await caller.until(lambda: len(world.endpoint) == 0)
        caller.socket.close()
        world.clients.remove(caller)

    await one()
    tasks = len(asyncio.all_tasks())
    for _ in range(100):
        await one()
    gc.collect()
    assert len(asyncio.all_tasks()) == tasks
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Seat)]
    assert world.endpoint._timers == []
