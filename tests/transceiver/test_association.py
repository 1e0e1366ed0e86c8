"""The data channel against aiortc's own SCTP as the client, in memory; and against clients that mean harm."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from random import Random
from typing import Any

import google_crc32c
import pytest
from aiortc import rtcsctptransport as sctp
from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters

from pyfastpath.transceiver import association as module
from pyfastpath.transceiver.association import Association


class Client:
    """aiortc's SCTP over a queue. It is the transport of its own association, too."""

    state = "connected"

    def __init__(self, role: str) -> None:
        self._role = role
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.send: Callable[[bytes], None] = lambda data: None
        self.sctp = sctp.RTCSctpTransport(self)
        self.messages: list[str | bytes] = []
        self.changed = asyncio.Event()

    def _register_data_receiver(self, receiver: object) -> None: ...

    def _unregister_data_receiver(self, receiver: object) -> None: ...

    async def _send_data(self, data: bytes) -> None:
        self.send(data)

    async def pump(self) -> None:
        while True:
            await self.sctp._handle_data(await self.inbox.get())
            self.changed.set()

    def open(self, label: str) -> RTCDataChannel:
        opened = RTCDataChannel(self.sctp, RTCDataChannelParameters(label=label))
        opened.on("message", self.messages.append)
        return opened


class Call:
    """An association of ours, and its client."""

    def __init__(self, *, is_client: bool = False, max_message_size: int = 65536) -> None:
        self.client = Client("server" if is_client else "client")
        self.heard: list[tuple[str, ...]] = []
        self.on_text: Callable[[str, str], None] = lambda label, text: None
        self.association = Association(
            send=self.client.inbox.put_nowait,
            is_client=is_client,
            remote_port=5000,
            max_message_size=max_message_size,
            on_open=lambda label: self.note("open", label),
            on_text=self.text,
            on_closed=lambda label: self.note("closed", label),
        )
        self.client.send = self.association.receive

    def note(self, *what: str) -> None:
        self.heard.append(what)
        self.client.changed.set()

    def text(self, label: str, text: str) -> None:
        self.note("text", label, text)
        self.on_text(label, text)

    async def until(self, condition: Callable[[], object]) -> None:
        while not condition():
            await asyncio.wait_for(self.client.changed.wait(), 20)
            self.client.changed.clear()

    async def connect(self, label: str = "oai-events") -> RTCDataChannel:
        opened = self.client.open(label)
        await self.client.sctp.start(sctp.RTCSctpTransport.getCapabilities(), 5000)
        await self.until(lambda: ("open", label) in self.heard)
        return opened


@pytest.fixture
async def calls() -> AsyncIterator[Callable[..., Call]]:
    """Makes calls; ends them."""
    made: list[tuple[Call, asyncio.Task[None]]] = []

    def make(**options: Any) -> Call:
        call = Call(**options)
        made.append((call, asyncio.create_task(call.client.pump())))
        return call

    yield make
    for call, pump in made:
        await call.association.close()
        await call.client.sctp.stop()
        pump.cancel()


@pytest.mark.parametrize("is_client", [False, True])
async def test_text_goes_both_ways(calls: Callable[..., Call], is_client: bool) -> None:
    call = calls(is_client=is_client)
    opened = await call.connect()
    opened.send("hello")
    opened.send("")
    await call.until(lambda: len(call.heard) == 3)
    assert call.heard == [("open", "oai-events"), ("text", "oai-events", "hello"), ("text", "oai-events", "")]
    assert call.association.send_text("oai-events", '{"type": "session.created"}')
    assert call.association.send_text("oai-events", "Grüße")
    await call.until(lambda: len(call.client.messages) == 2)
    assert call.client.messages == ['{"type": "session.created"}', "Grüße"]
    assert call.association.refused == 0


async def test_what_is_said_in_on_open_is_the_first_thing_the_client_hears(
    calls: Callable[..., Call],
) -> None:
    call = calls()
    call.association._on_open = lambda label: call.association.send_text(label, "welcome")
    call.client.open("oai-events")
    await call.client.sctp.start(None, 5000)
    await call.until(lambda: call.client.messages == ["welcome"])


async def test_long_messages_arrive_whole(calls: Callable[..., Call]) -> None:
    call = calls(max_message_size=0)
    opened = await call.connect()
    up, down = "u" * 250_000, "d" * 250_000
    opened.send(up)
    assert call.association.send_text("oai-events", down)
    await call.until(lambda: call.client.messages and len(call.heard) == 2)
    assert call.heard[1] == ("text", "oai-events", up)
    assert call.client.messages == [down]


async def test_what_the_client_cannot_take_is_not_sent(calls: Callable[..., Call]) -> None:
    call = calls(max_message_size=1000)
    await call.connect()
    assert not call.association.send_text("oai-events", "x" * 1001)
    assert call.association.send_text("oai-events", "x" * 1000)


async def test_data_channels_are_told_apart_by_label(calls: Callable[..., Call]) -> None:
    call = calls()
    first = await call.connect("oai-events")
    second = call.client.open("other")
    await call.until(lambda: ("open", "other") in call.heard)
    second.send("from other")
    first.send("from first")
    await call.until(lambda: len(call.heard) == 4)
    assert set(call.heard[2:]) == {("text", "other", "from other"), ("text", "oai-events", "from first")}
    assert not call.association.send_text("third", "nobody there")


async def test_binary_messages_are_ignored(calls: Callable[..., Call]) -> None:
    call = calls()
    opened = await call.connect()
    opened.send(b"\0\1")
    opened.send("text")
    await call.until(lambda: len(call.heard) == 2)
    assert call.heard[1] == ("text", "oai-events", "text")


async def test_a_closed_data_channel_takes_nothing_more(calls: Callable[..., Call]) -> None:
    call = calls()
    opened = await call.connect()
    opened.close()
    await call.until(lambda: opened.readyState == "closed")
    assert not call.association.send_text("oai-events", "too late")
    assert call.heard == [("open", "oai-events"), ("closed", "oai-events")]
    again = call.client.open("oai-events")
    await call.until(lambda: len(call.heard) == 3)
    assert call.association.send_text("oai-events", "hello again")
    await call.until(lambda: call.client.messages == ["hello again"])
    assert again.readyState == "open"


async def test_of_two_with_one_label_the_newer_is_used(calls: Callable[..., Call]) -> None:
    call = calls()
    older = await call.connect()
    newer: list[str | bytes] = []
    call.client.open("oai-events").on("message", newer.append)
    await call.until(lambda: len(call.heard) == 2)
    older.close()
    await call.until(lambda: older.readyState == "closed")
    assert ("closed", "oai-events") not in call.heard
    assert call.association.send_text("oai-events", "hello")
    await call.until(lambda: newer == ["hello"])


async def test_a_client_that_aborts_is_reported_once(calls: Callable[..., Call]) -> None:
    call = calls()
    await call.connect()
    await call.client.sctp.stop()
    assert call.heard[1:] == [("closed", "oai-events")]
    assert not call.association.send_text("oai-events", "x")
    call.association.receive(bytes(100))
    await call.association.close()
    assert call.heard[1:] == [("closed", "oai-events")]


async def test_closing_tells_the_client_and_leaves_no_task_and_no_timer(calls: Callable[..., Call]) -> None:
    call = calls()
    await call.connect()
    before = asyncio.all_tasks()
    call.association.send_text("oai-events", "never acknowledged")
    await call.association.close()
    await call.association.close()
    await call.until(lambda: call.client.sctp.state == "closed")
    assert call.heard == [("open", "oai-events")]
    assert asyncio.all_tasks() <= before
    inside = call.association._sctp
    timers = ("_t1_handle", "_t2_handle", "_t3_handle", "_reconfig_handle")
    assert [getattr(inside, name) for name in timers] == [None] * 4


async def test_nothing_is_sent_after_the_abort(calls: Callable[..., Call]) -> None:
    """A retransmission that aiortc had scheduled just before."""
    call = calls()
    await call.connect()
    sent: list[bytes] = []
    call.association._send = sent.append
    call.association.send_text("oai-events", "lost")
    await asyncio.sleep(0)
    call.association._sctp._t3_expired()
    await call.association.close()
    assert sent[-1][12] == 6  # ABORT
    count = len(sent)
    await asyncio.sleep(0.01)
    assert len(sent) == count


async def test_a_client_that_never_answers_is_given_up(
    calls: Callable[..., Call], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sctp, "SCTP_RTO_INITIAL", 0.005)
    call = calls()
    deadline = asyncio.get_running_loop().time() + 5
    while not call.association._is_over:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.01)
    assert call.heard == []


async def test_an_error_in_a_callback_is_not_swallowed(calls: Callable[..., Call]) -> None:
    call = calls()
    opened = await call.connect()
    errors: list[BaseException] = []

    def receive(packet: bytes) -> None:
        try:
            call.association.receive(packet)
        except ZeroDivisionError as error:
            errors.append(error)
            call.client.changed.set()

    def fail(label: str, text: str) -> None:
        raise ZeroDivisionError

    call.client.send, call.on_text = receive, fail
    opened.send("boom")
    await call.until(lambda: errors)


# ---- clients that mean harm -------------------------------------------------------------------------


def packet(call: Call, chunks: bytes) -> bytes:
    """From the client, with the right tag and checksum."""
    tag = call.association._sctp._local_verification_tag
    head = (5000).to_bytes(2, "big") * 2 + tag.to_bytes(4, "big")
    checksum = google_crc32c.value(head + bytes(4) + chunks).to_bytes(4, "little")
    return head + checksum + chunks


def chunk(kind: int, flags: int, body: bytes) -> bytes:
    return bytes([kind, flags]) + (4 + len(body)).to_bytes(2, "big") + body + bytes(-len(body) % 4)


def data(call: Call, after: int, user_data: bytes, *, flags: int = 3, stream: int = 0) -> bytes:
    """A DATA chunk `after` places behind the last one received."""
    tsn = (call.association._sctp._last_received_tsn or 0) + after & 0xFFFFFFFF
    body = tsn.to_bytes(4, "big") + stream.to_bytes(2, "big") + bytes(2) + (51).to_bytes(4, "big")
    return packet(call, chunk(0, flags, body + user_data))


async def still_works(call: Call, opened: RTCDataChannel) -> None:
    opened.send("still here")
    await call.until(lambda: call.heard[-1] == ("text", "oai-events", "still here"))


async def test_a_sack_of_millions_of_gaps_is_not_taken(calls: Callable[..., Call]) -> None:
    call = calls()
    opened = await call.connect()
    gaps = (1).to_bytes(2, "big") + (65535).to_bytes(2, "big")
    count = 280
    tsn = call.association._sctp._last_sacked_tsn.to_bytes(4, "big")
    body = tsn + bytes(4) + count.to_bytes(2, "big") + bytes(2) + gaps * count
    call.association.receive(packet(call, chunk(3, 0, body)))
    assert call.association.refused == 1
    await still_works(call, opened)


async def test_data_without_data_is_not_taken(calls: Callable[..., Call]) -> None:
    call = calls()
    opened = await call.connect()
    call.association.receive(data(call, 1, b"", flags=2))
    call.association.receive(packet(call, b"\0\3\0\0"))  # a chunk shorter than its header
    assert call.association.refused == 2
    await still_works(call, opened)


@pytest.mark.parametrize("harm", ["crumbs", "streams", "scattered", "window"])
async def test_a_client_that_fills_memory_loses_its_association(
    calls: Callable[..., Call], harm: str
) -> None:
    call = calls()
    await call.connect()
    for number in range(1, 2000):
        if ("closed", "oai-events") in call.heard:
            break
        if harm == "crumbs":  # a message that never ends
            sent = data(call, 1, b"x", flags=2 if number == 1 else 0)
        elif harm == "streams":
            sent = data(call, 1, b"x", stream=number)
        elif harm == "scattered":  # every other fragment, nothing ever consecutive
            sent = data(call, 2 * number, b"x", stream=0)
        else:
            sent = data(call, 1, bytes(1160), flags=2 if number == 1 else 0)
        call.association.receive(sent)
    assert call.heard[-1] == ("closed", "oai-events")
    bound = {"streams": module.STREAMS_MAX + 2, "window": 1024}.get(harm, module.FRAGMENTS_MAX + 2)
    assert number <= bound
    assert not call.association.send_text("oai-events", "x")


async def test_a_client_that_acknowledges_nothing_is_cut_off(calls: Callable[..., Call]) -> None:
    call = calls(max_message_size=0)
    await call.connect()
    call.association._send = lambda packet: None
    taken = 0
    while call.association.send_text("oai-events", "x" * 500_000):
        taken += 500_000
    assert module.BUFFERED_BYTES_MAX < taken <= module.BUFFERED_BYTES_MAX + 500_000
    await call.until(lambda: ("closed", "oai-events") in call.heard)


@pytest.mark.parametrize("seed", range(4))
async def test_bent_packets_raise_nothing(calls: Callable[..., Call], seed: int) -> None:
    """Random chunks of every type, with the right tag and checksum."""
    call = calls()
    await call.connect()
    random = Random(seed)
    for _ in range(500):
        chunks = b"".join(
            chunk(
                random.choice([*range(16), 130, 192]),
                random.randrange(8),
                random.randbytes(random.randrange(60)),
            )
            for _ in range(random.randrange(1, 4))
        )
        call.association.receive(packet(call, chunks))
        call.association.receive(random.randbytes(40))
        await asyncio.sleep(0)


async def test_a_stranger_to_the_association_changes_nothing(calls: Callable[..., Call]) -> None:
    """Wrong tag, wrong checksum, no packet at all."""
    call = calls()
    opened = await call.connect()
    good = data(call, 1, b"x")
    call.association.receive(b"")
    call.association.receive(good[:-1])
    call.association.receive(good[:4] + bytes(4) + good[8:])
    call.association.receive(good[:8] + bytes(4) + good[12:])
    await still_works(call, opened)
