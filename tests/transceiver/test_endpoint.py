"""The endpoint over real sockets: one UDP socket, many sessions, and nothing left when they have ended."""

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator

import pytest

from pyfastpath.transceiver import ice
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.requests import SessionError
from pyfastpath.transceiver.seat import Seat
from pyfastpath.transceiver.sockets import TrunkSocket
from pyfastpath.types import Endpoint as Address
from pyfastpath.wire import trunk
from tests.support.rtc_client import RtcClient
from tests.support.rtc_world import LOOPBACK, Caller, World, new_socket


class Faulty(Echo):
    """Falls over at the word."""

    def hear(self, frame):
        if frame.opus == b"\x78fall":
            raise RuntimeError("over")
        super().hear(frame)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(Faulty, capacity=5)
    yield made
    await made.close()


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
    stranger = Caller(RtcClient(remote=dict(caller.client.remote)), 0, world.server)
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
    assert world.dropped == {
        "unknown_path": 3,
        "stun_malformed": 1,
        "stun_bad_integrity": 1,
        "stun_unknown_ufrag": 1,
    }


async def test_a_client_that_moves_is_followed_and_one_that_only_claims_to_is_not(world):
    caller = await world.live()
    await caller.hears(b"\x78old")
    old, caller.socket = caller.socket, new_socket()
    caller.send(caller.client.check())
    await caller.hears(b"\x78new")
    old.close()
    caller.client.answers_checks = False
    silent = new_socket()
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
    caller.socket = new_socket()
    caller.send(client.check())
    await caller.hears(b"\x78after")


async def test_a_client_that_restarts_without_end_has_few_names(world):
    caller = await world.live()
    for number in range(100):
        world.endpoint.restart(caller.sid, f"again{number}", caller.client.offer(), ())
    assert len(world.endpoint._roster._by_ufrag) <= 3
    await caller.hears(b"\x78still here")


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
        caller.hang_up()
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


async def test_an_empty_datagram_costs_nobody_else_a_word(world):
    """It comes in one batch with what others say."""
    empty, other = await world.live(), await world.live()
    await other.hears(b"\x78before")
    empty.send(b"")
    other.send(other.client.audio(b"\x78once"))
    await other.until(lambda: other.client.received[-1].payload == b"\x78once")
    assert world.dropped == {"not_webrtc": 1}


async def test_a_restart_under_another_calls_name_changes_nothing(world):
    caller, other = await world.live(), await world.live()
    taken = other.client.remote["a=ice-ufrag"]
    with pytest.raises(SessionError) as caught:
        world.endpoint.restart(caller.sid, taken, caller.client.offer(), ())
    assert caught.value.code == "conflict"
    caller.socket.close()
    caller.socket = new_socket()
    caller.send(caller.client.check())
    await caller.hears(b"\x78still with the old password")
    connection = world.endpoint._roster.of_sid(caller.sid).session.connection
    assert not connection._ice.owns(taken)


async def test_a_client_may_close_its_data_channel_and_open_another(world):
    caller = await world.live()
    data = await caller.open_data()
    await caller.until(lambda: data.texts)
    data.channel.close()
    await caller.until(lambda: data.channel.readyState == "closed")
    again = data.open("another")
    await caller.until(lambda: len(data.texts) == 2)
    assert all('"type":"session.created"' in text for text in data.texts)
    again.send('{"type": "nonsense"}')
    await caller.until(lambda: len(data.texts) == 3)
    assert "unknown_event" in data.texts[2]
    await data.close()


@pytest.mark.parametrize("end", ["hangup", "consent_expired"])
async def test_however_a_call_ends_the_relay_is_told_to_forget_its_client(world, monkeypatch, end):
    here = Address.parse("203.0.113.9:54321")
    with new_socket() as relay:
        address = Address.parse(f"127.0.0.1:{relay.getsockname()[1]}")
        made = TrunkSocket(LOOPBACK, [address], keys={}, key_id=0, epoch=1, mtu_bytes=1400)
        world.endpoint.trunk = made
        asyncio.get_running_loop().add_reader(made.fileno(), world.endpoint._readable, made)
        caller = world.call()
        monkeypatch.setattr(ice, "CONSENT_S", 0.3)
        records: list[trunk.Record] = []
        sequence = 0

        def up(*datagrams: bytes) -> None:
            nonlocal sequence
            sequence += 1
            bundle = [trunk.Record(datagram, here, 3) for datagram in datagrams]
            where = (str(made.address.address), made.address.port)
            relay.sendto(trunk.build_datagram(trunk.Header(1, sequence, False, 0), bundle), where)

        async def until(done) -> None:
            deadline = time.monotonic() + 5
            while not done():
                assert time.monotonic() < deadline
                await asyncio.sleep(0.01)
                with contextlib.suppress(BlockingIOError):
                    records.extend(trunk.parse_records(relay.recv(4096)))

        up(caller.client.check())
        await until(lambda: len(records) >= 2)  # the answer, and our own check
        for record in records:
            for answer in caller.client.receive(record.payload, time.monotonic(), here):
                up(answer)
        await until(lambda: "path" in world.endpoint.session(caller.sid).steps_ms)
        if end == "hangup":
            world.endpoint.close_session(caller.sid)
        await until(lambda: records[-1].control)
        assert isinstance(trunk.parse_control(records[-1].payload), trunk.FlowClosed)
        assert (records[-1].client, records[-1].ingress) == (here, 3)
        assert world.closed == {end: 1}
