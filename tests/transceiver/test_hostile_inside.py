"""What clients with the right keys may still do, and what agents may: at worst one call ends, others go on.

As in test_hostile: beside each test a call goes on talking, and every datagram is accounted for.
"""

import asyncio
import json
import random
import struct
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiohttp import web

from pyfastpath.transceiver.agent import Agent, AudioFrame
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.agents.parrot import Parrot
from pyfastpath.transceiver.member import Member
from pyfastpath.transceiver.requests import SessionError
from pyfastpath.transceiver.service import Service
from pyfastpath.transceiver.srtp import SSRCS_MAX
from pyfastpath.wire import rtp
from tests.support.rtc_client import RtcClient
from tests.support.rtc_world import BURST, Bystander, Caller, World, rss_bytes

MB = 1 << 20
OPUS, RED, DIGITS = 111, 63, 110


class Listener(Agent):
    """Hears PCM and remembers how much."""

    takes_turns = False

    def __init__(self) -> None:
        self.frames = 0
        self.samples = 0

    def hear(self, frame: AudioFrame) -> None:
        assert frame.pcm is not None
        self.frames += 1
        self.samples += len(frame.pcm)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    made = World(Echo, capacity=10)
    async with Bystander(made):
        yield made
    await made.close()


async def said(world: World, caller: Caller, datagrams: list[bytes]) -> None:
    """Send them, and wait until each was received; what comes back is taken meanwhile."""
    for at in range(0, len(datagrams), BURST):
        await world.flood(datagrams[at : at + BURST], caller.socket)
        caller.receive()


def packet(
    caller: Caller,
    payload: bytes,
    *,
    kind: int = OPUS,
    ahead: int = 1,
    timestamp: int | None = None,
    ssrc: int | None = None,
) -> bytes:
    """The next packet of a client that makes its headers as it likes."""
    client = caller.client
    client.sequence += ahead
    client.timestamp = client.timestamp + 960 * ahead if timestamp is None else timestamp
    header = rtp.build_header(
        kind,
        False,
        client.sequence & 0xFFFF,
        client.timestamp & 0xFFFFFFFF,
        client.ssrc if ssrc is None else ssrc,
    )
    return client.srtp.protect(header + payload)


# ---- RTP and RTCP -------------------------------------------------------------------------------------


async def test_timestamps_and_sequence_numbers_that_leap(world: World) -> None:
    listener = Listener()
    world.agent = lambda: listener
    caller = await world.live()
    draw = random.Random(1)
    before, begun = rss_bytes(), time.monotonic()
    leaping = [
        packet(
            caller,
            b"\x78" + draw.randbytes(40),
            ahead=draw.choice((1, 1, 2, 63, 64, 140, 151, 3001, 20_000)),
            timestamp=draw.getrandbits(32),
        )
        for _ in range(2000)
    ]
    await said(world, caller, leaping)
    assert rss_bytes() - before < 16 * MB
    seconds = time.monotonic() - begun
    assert listener.frames <= 2000 + 50 * (3 + seconds) + 64, "a packet that leaps is one packet"
    assert world.counters.rtp_received >= 2000
    assert world.closed == {}


async def test_sources_that_change_with_every_packet(world: World) -> None:
    caller = await world.live()
    await said(world, caller, [packet(caller, b"\x78", ssrc=number) for number in range(1, 501)])
    assert world.dropped == {"srtp_too_many_ssrcs": 500 - SSRCS_MAX}
    await said(world, caller, [packet(caller, b"\x78%d" % n, ssrc=n % SSRCS_MAX + 1) for n in range(500)])
    assert world.dropped == {"srtp_too_many_ssrcs": 500 - SSRCS_MAX}
    await caller.until(lambda: any(one.payload == b"\x78499" for one in caller.client.received))


async def test_packets_of_120_ms_and_of_any_other_length(world: World) -> None:
    listener = Listener()
    world.agent = lambda: listener
    caller = await world.live()
    await said(world, caller, [packet(caller, b"\x5b\x02" + bytes(30), ahead=6) for _ in range(100)])
    assert listener.samples == 0 or listener.samples % 60 == 0
    tocs = [packet(caller, bytes([toc, count]) + bytes(60)) for toc in range(256) for count in (1, 6, 48, 63)]
    await said(world, caller, tocs)
    assert world.closed == {}
    assert world.dropped == {}


@pytest.mark.parametrize("agent", [Listener, Parrot, Echo])
async def test_opus_garbage(world: World, agent: type[Agent]) -> None:
    world.agent = agent
    caller = await world.live()
    draw = random.Random(2)
    before = rss_bytes()
    payloads = [draw.randbytes(draw.choice((0, 1, 2, 3, 10, 80, 400, 1200))) for _ in range(1500)]
    await said(world, caller, [packet(caller, payload) for payload in payloads])
    assert rss_bytes() - before < 24 * MB
    assert world.closed == {}
    assert world.dropped == {}


def _red_bombs(draw: random.Random) -> Iterator[bytes]:
    head = (1 << 31 | OPUS << 24 | 960 << 10 | 1).to_bytes(4, "big")
    yield head * 260 + bytes([OPUS]) + b"\x78" * 261  # 260 copies in one packet
    yield (1 << 31 | OPUS << 24 | 960 << 10).to_bytes(4, "big") * 300 + bytes([OPUS])  # of nothing
    yield (1 << 31 | OPUS << 24 | 16383 << 10 | 1023).to_bytes(4, "big") * 2 + bytes([OPUS])
    yield b"\xff" * 1200
    yield (1 << 31 | RED << 24 | 960 << 10 | 100).to_bytes(4, "big") + bytes([RED]) + bytes(300)  # in itself
    yield bytes([RED]) * 600
    yield draw.randbytes(draw.randint(0, 1200))


@pytest.mark.parametrize("agent", [Listener, Echo])
async def test_red_bombs(world: World, agent: type[Agent]) -> None:
    world.agent = agent
    caller = await world.live()
    draw = random.Random(3)
    begun = time.process_time()
    for ahead in (1, 2, 64, 100):
        bombs = [bomb for _ in range(20) for bomb in _red_bombs(draw)]
        await said(world, caller, [packet(caller, bomb, kind=RED, ahead=ahead) for bomb in bombs])
        await asyncio.sleep(0.07)
    assert time.process_time() - begun < 5
    assert world.closed == {}
    assert world.dropped == {}


async def test_digits_without_end(world: World) -> None:
    caller = await world.live()
    data = await caller.open_data()
    draw = random.Random(4)
    digits = [packet(caller, draw.randbytes(draw.randint(0, 8)), kind=DIGITS) for _ in range(1000)]
    digits += [packet(caller, bytes([n % 16, 10, 0, 160]), kind=DIGITS) for n in range(500)]
    await said(world, caller, digits)
    await caller.until(lambda: len([t for t in data.texts if "dtmf_event_received" in t]) >= 500)
    await caller.hears(b"\x78still here")
    await data.close()


def _rtcp_garbage(draw: random.Random) -> Iterator[bytes]:
    """All of one SSRC, the first four bytes behind the header: SRTP knows only so many."""
    kinds = (192, 200, 201, 202, 203, 204, 205, 206, 207, 223)
    first, ssrc = bytes([0x80 | draw.randrange(64), draw.choice(kinds)]), b"\0\0\0\1"
    yield first + draw.randbytes(2) + ssrc + draw.randbytes(draw.randint(0, 1200))
    words = draw.randint(1, 250)
    yield first + words.to_bytes(2, "big") + ssrc + draw.randbytes(4 * words - 4)
    yield (b"\x80\xcb\0\1" + ssrc) * 100  # a hundred goodbyes
    yield b"\x81\xcd\x00\xfa" + ssrc + bytes(4) + b"\xff" * 4 * 248  # everything is missed
    yield b"\x9f\xc9\x00\xba" + ssrc + draw.randbytes(740)  # 31 reports


async def test_rtcp_garbage(world: World) -> None:
    caller = await world.live()
    await caller.hears(b"\x78before")
    draw = random.Random(5)
    client = caller.client
    reports = [client.srtp.protect_rtcp(garbage) for _ in range(300) for garbage in _rtcp_garbage(draw)]
    before = rss_bytes()
    await said(world, caller, reports)
    assert rss_bytes() - before < 8 * MB
    assert set(world.dropped) <= {"rtp_malformed"}
    assert world.counters.used["rtcp"] + world.counters.dropped["rtp_malformed"] >= len(reports)
    client.received.clear()
    await caller.hears(b"\x78still here")


async def test_a_client_that_misses_everything_gets_each_packet_once_more(world: World) -> None:
    sdp = RtcClient().offer().replace("a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 nack")
    client = RtcClient()
    offer = client.offer().replace("a=rtcp-fb:111 transport-cc", "a=rtcp-fb:111 nack")
    assert len(sdp) == len(offer)
    answer = world.endpoint.create(world.request(offer, {}))
    client.accept(answer)
    caller = Caller(client, world.sids, world.server)
    world.clients.append(caller)
    await caller.connect()
    await caller.hears(b"\x78%d" % 1)
    ssrc = int(answer.partition("a=ssrc:")[2].split()[0])
    everything = b"".join(struct.pack("!HH", first, 0xFFFF) for first in range(0, 65_536, 17))
    sent = world.counters.sent
    datagrams = []
    for at in range(0, len(everything), 1200):
        fci = everything[at : at + 1200]
        body = struct.pack("!II", 1, ssrc) + fci
        datagrams.append(client.srtp.protect_rtcp(b"\x81\xcd" + (len(body) // 4).to_bytes(2, "big") + body))
    client.srtp = _Deaf(client.srtp)  # type: ignore[assignment]
    await said(world, caller, datagrams * 5)
    assert world.counters.sent - sent < 500
    assert world.closed == {}


class _Deaf:
    """Takes what comes a second time, which a client's own replay protection would refuse."""

    def __init__(self, srtp: Any) -> None:
        self.protect, self.protect_rtcp = srtp.protect, srtp.protect_rtcp

    def unprotect(self, packet: bytes) -> bytes:
        return rtp.build_packet(111, False, 0, 0, 0, b"")

    unprotect_rtcp = unprotect


# ---- the data channel ---------------------------------------------------------------------------------


def codes(texts: list[str]) -> Counter[str]:
    """The codes of the errors among the events."""
    events = map(json.loads, texts)
    return Counter(event["error"]["code"] for event in events if event["type"] == "error")


async def test_messages_that_are_no_events_are_answered_each_and_the_call_goes_on(world: World) -> None:
    caller = await world.live()
    data = await caller.open_data()
    bad = {
        "invalid_json": ["{", "[1]", "null", "\x00", '{"type": "x", "a": ' + "[" * 200 + "]" * 200 + "}"],
        "missing_required_parameter": ["{}", '{"type": 5}', '{"type": "session.update"}'],
        "unknown_event": ['{"type": "x"}', json.dumps({"type": "y" * 5000})],
        "event_too_large": [json.dumps({"type": "x", "a": "b" * 300_000})],
    }
    for levels in (900, 990, 5000, 60_000):
        bad["invalid_json"].append('{"type": "x", "a": ' + "[" * levels + "]" * levels + "}")
    for code, texts in bad.items():
        for text in texts:
            data.channel.send(text)
            await caller.until(lambda code=code: codes(data.texts)[code])
    data.channel.send(b"\x00" * 10_000)
    await caller.until(lambda: sum(codes(data.texts).values()) == sum(map(len, bad.values())))
    assert {code: len(texts) for code, texts in bad.items()} == codes(data.texts)
    await caller.hears(b"\x78still here")
    await data.close()


async def test_a_thousand_events_at_once(world: World) -> None:
    caller = await world.live()
    data = await caller.open_data()
    before = rss_bytes()
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x" * 500}]}
    for _ in range(1000):
        data.channel.send(json.dumps({"type": "conversation.item.create", "item": item}))
    await caller.until(lambda: len([t for t in data.texts if "conversation.item.done" in t]) == 1000)
    assert rss_bytes() - before < 64 * MB
    await caller.hears(b"\x78still here")
    await data.close()


async def test_a_client_that_reads_nothing_loses_its_data_channel_and_not_its_call(world: World) -> None:
    caller = await world.live()
    data = await caller.open_data()
    big = json.dumps({"type": "session.update", "session": {"instructions": "x" * 60_000}})
    seat = world.endpoint._roster.of_sid(caller.sid)
    before = rss_bytes()
    for _ in range(100):  # each is answered with as much
        seat.session.receive_text(big, time.monotonic())
        seat.wish()
        await asyncio.sleep(0)
    await asyncio.sleep(0.05)
    assert seat._association is not None
    assert seat._association._is_over
    assert rss_bytes() - before < 64 * MB
    await caller.hears(b"\x78still here")
    await data.close()


async def test_streams_without_end_and_sctp_garbage(world: World) -> None:
    caller = await world.live()
    data = await caller.open_data()
    for number in range(100):
        data.open(f"more {number}")
        await asyncio.sleep(0)
        caller.receive()
    draw = random.Random(6)
    for _ in range(500):
        data.send_raw(draw.randbytes(draw.randint(0, 1200)))
    real = struct.pack("!HHI", 5000, 5000, 0)
    for _ in range(200):
        data.send_raw(real + draw.randbytes(draw.randint(4, 400)))
    await caller.hears(b"\x78still here")
    assert world.closed == {}
    assert set(world.dropped) <= {"dtls_malformed"}
    await data.close()


# ---- session objects ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "session",
    [
        {"instructions": "x" * 300_000},
        {"tools": [{}] * 200_000},
        {"a": json.loads("[" * 100 + "]" * 100)},
        {"audio": 5},
        {"audio": {"input": {"turn_detection": {"type": "server_vad", "threshold": "loud"}}}},
        {"type": "transcription"},
        {"modalities": 7, "audio": []},
    ],
)
async def test_a_session_object_that_cannot_be_is_refused(world: World, session: dict[str, Any]) -> None:
    with pytest.raises(SessionError) as caught:
        world.call(**session)
    assert caught.value.code == "bad_session"
    assert len(caught.value.message) < 1000
    assert len(world.endpoint) == 1


async def test_a_large_session_object_is_kept_and_the_call_works(world: World) -> None:
    caller = await world.live(instructions="x" * 120_000, tools=[{"type": "function", "name": "f"}] * 500)
    data = await caller.open_data()
    await caller.hears(b"\x78here")
    data.channel.send('{"type": "response.cancel"}')
    await caller.until(lambda: codes(data.texts)["response_cancel_not_active"])
    await data.close()


# ---- agents -------------------------------------------------------------------------------------------


class Broken(Agent):
    """Falls over in one of its methods."""

    where = ""

    def __getattribute__(self, name: str) -> Any:
        if name == type(self).where:
            return _fall
        return super().__getattribute__(name)

    def start(self, call: Any) -> None:
        super().start(call)
        if type(self).where == "woken":
            call.wake_in(0.01)

    def respond(self, request: Any) -> None:
        self.call.say(np.zeros(24_000, np.int16), 24_000)


class BrokenSpeaker(Broken):
    """One that speaks all the time."""

    takes_turns = False
    hears = "opus"

    def produce(self, samples: int) -> None:
        """Overridden, so that it is asked for."""


class BrokenEverywhere(Broken):
    """Even at its end."""

    def stop(self) -> None:
        raise RuntimeError("over")


def _fall(*_: Any) -> None:
    raise RuntimeError("over")


async def _use(caller: Caller) -> None:
    """Everything a client can do that an agent hears of."""
    data = await caller.open_data()
    for level in (-10,) * 10 + (-100,) * 40:
        caller.send(caller.client.audio(b"\x78", level=level))
    await asyncio.sleep(0.02)
    item = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    for event in (
        {"type": "conversation.item.create", "item": item},
        {"type": "response.create"},
        {"type": "response.cancel"},
    ):
        data.channel.send(json.dumps(event))
        await asyncio.sleep(0.02)
        caller.receive()


ALWAYS = ("start", "hear", "user_started", "user_stopped", "receive_event", "woken")
IN_TURNS = ("respond", "cancel")


@pytest.mark.parametrize(
    ("kind", "where"),
    [
        *[(Broken, where) for where in ALWAYS + IN_TURNS],
        *[(BrokenEverywhere, where) for where in ALWAYS + IN_TURNS],
        *[(BrokenSpeaker, where) for where in (*ALWAYS, "produce")],
    ],
)
async def test_an_agent_that_falls_over_ends_its_own_call(
    world: World, kind: type[Broken], where: str, caplog: pytest.LogCaptureFixture
) -> None:
    world.agent = type("Falls", (kind,), {"where": where})
    caller = world.call()
    caller.send(caller.client.check())
    await caller.until(lambda: caller.client.successes)
    caller.send(*caller.client.start_dtls(time.monotonic()))
    await caller.until(lambda: caller.client.srtp)
    if where not in ("start", "produce"):
        use = asyncio.create_task(_use(caller))
        await caller.until(lambda: world.closed)
        use.cancel()
    await caller.until(lambda: caller.client.is_closed)
    assert world.closed == {"fault": 1}
    assert "ends by a fault" in caplog.text
    assert len(world.endpoint) == 1
    if caller.data is not None:
        await caller.data.close()


async def test_an_agent_that_cannot_be_made_leaves_nothing(world: World) -> None:
    class Unmade(Agent):
        def __init__(self) -> None:
            raise RuntimeError("over")

    world.agent = Unmade
    with pytest.raises(RuntimeError):
        world.call()
    assert (len(world.endpoint), world.counters.opened) == (1, 1)


async def test_an_agent_that_falls_over_at_its_end_holds_up_nothing() -> None:
    world = World(type("Falls", (Broken,), {"where": "stop"}), capacity=10)
    callers = [await world.live() for _ in range(3)]
    world.endpoint.close_session(callers[0].sid)
    assert world.closed == {"hangup": 1}
    await callers[0].until(lambda: callers[0].client.is_closed)
    await world.endpoint.close()
    for caller in callers[1:]:
        await caller.until(lambda caller=caller: caller.client.is_closed)
    assert world.closed == {"hangup": 1, "drained": 2}
    await world.close()


class Talker(Agent):
    """Says ten minutes at once, more than are kept, and goes on when nobody is there any more."""

    minutes = 10

    def start(self, call: Any) -> None:
        super().start(call)
        self.say()

    def say(self) -> None:
        for _ in range(self.minutes * 60):
            self.call.say(np.ones(24_000, np.int16), 24_000)


async def test_what_an_agent_says_is_kept_until_it_is_heard_and_not_longer(world: World) -> None:
    """48 KB a second, up to ten minutes."""
    talker = Talker()
    world.agent = lambda: talker
    before = rss_bytes()
    caller = await world.live()
    said_bytes = 600 * 48_000
    queued = world.endpoint._roster.of_sid(caller.sid).session.pipeline._playout._responses[0].chunks
    assert sum(pcm.nbytes for pcm, _ in queued) > said_bytes * 0.9
    assert rss_bytes() - before < said_bytes + 16 * MB  # less where the allocator had some left
    for _ in range(5):
        talker.say()
    assert sum(pcm.nbytes for pcm, _ in queued) <= said_bytes
    assert world.counters.speech_dropped_s["queue_full"] == pytest.approx(5 * 600, abs=60)
    assert rss_bytes() - before < said_bytes + 16 * MB
    await caller.until(lambda: caller.client.received)
    caller.hang_up()
    await caller.until(lambda: len(world.endpoint) == 1)
    talker.say()
    assert await world.seats() == 2, "the agent holds its call; what it says there is gone"
    assert rss_bytes() - before < said_bytes + 16 * MB


# ---- the control API ----------------------------------------------------------------------------------


async def test_the_control_api_refuses_what_is_wrong_and_leaves_nothing(world: World) -> None:
    member = Member(id="t", cluster=0, xcvr=1, incarnation=0, control="http://127.0.0.1:1")
    runner = web.AppRunner(Service(world.endpoint, member, lambda: None).app(b"token"), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    good = {"sid": "00000000f", "ufrag": "tokenABC", "offer": RtcClient().offer(), "candidates": []}
    text = json.dumps(good)
    draw = random.Random(8)
    bodies = [b"", b"{", b"null", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 5000, text.encode()[:-1]]
    bodies += [
        json.dumps({**good, **change}).encode()
        for change in (
            {"sid": 15},
            {"sid": "0000000000"},
            {"sid": "GGGGGGGGG"},
            {"ufrag": "a b"},
            {"ufrag": "x" * 257},
            {"ufrag": "\u2028\u2029zz"},
            {"offer": None},
            {"offer": "v=0\r\n" * 10},
            {"candidates": ["nowhere"]},
            {"candidates": ["1.2.3.4:99999"]},
            {"candidates": "127.0.0.1:1"},
            {"session": []},
            {"session": {"audio": 1}},
            {"extra": 1},
        )
    ]
    for _ in range(200):
        bent = bytearray(text.encode())
        for _ in range(draw.randint(1, 5)):
            bent[draw.randrange(80)] = draw.randrange(256)
        bodies.append(bytes(bent))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        headers = {"Authorization": "Bearer token"}
        made = 0
        for body in bodies:
            async with http.post("/v1/sessions", data=body, headers=headers) as reply:
                said = await reply.json()
                if reply.status == 201:
                    made += 1
                    async with http.delete(f"/v1/sessions/{said['sid']}", headers=headers) as ended:
                        assert ended.status == 204
                    continue
                assert reply.status == 400, (body[:100], said)
                assert set(said["error"]) <= {"code", "message", "line"}
                assert said["error"]["message"]
        async with http.post("/v1/sessions", data=b" " * 600_000, headers=headers) as reply:
            assert reply.status == 413
        for wrong in ("", "Bearer", "Bearer x", "Bearer token x", "Basic token", "Bearer \udcff"):
            async with http.post(
                "/v1/sessions", data=text, headers={"Authorization": wrong} if wrong else {}
            ) as reply:
                assert reply.status == 401
    await runner.cleanup()
    assert made < 50
    assert len(world.endpoint) == 1
