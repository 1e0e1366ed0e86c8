"""One endpoint on a real socket, and its clients: RtcClient with a network and a data channel.

world = World(Echo, capacity=5)
caller = await world.live()             checked, shaken hands
await caller.hears(b"\\x78word")         says it until it comes back
await world.close()
"""

import asyncio
import gc
import os
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

from aiortc.rtcdatachannel import RTCDataChannel, RTCDataChannelParameters
from aiortc.rtcsctptransport import RTCSctpCapabilities, RTCSctpTransport

from pyfastpath.transceiver.agent import Agent
from pyfastpath.transceiver.agents.echo import Echo
from pyfastpath.transceiver.answering import Answering
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.endpoint import Endpoint
from pyfastpath.transceiver.requests import CreateSession
from pyfastpath.transceiver.seat import Seat
from pyfastpath.transceiver.sockets import PlainSocket
from pyfastpath.types import Endpoint as Address
from tests.support.rtc_client import RtcClient, certificate

LOOPBACK = Address.parse("127.0.0.1:0")
TIMEOUT_S = 30
FRAME_S = 0.02
BURST = 64  # datagrams at once: what any socket's buffer holds


class World:
    """One endpoint, and clients on sockets of their own. agents: makes a call's agent by its session object,
    instead of `agent`."""

    def __init__(
        self,
        agent: Callable[[], Agent],
        capacity: int,
        *,
        agents: Callable[[Mapping[str, Any]], Agent] | None = None,
    ) -> None:
        self.agent = agent  # makes the agent of the next call
        self.counters = Counters()
        answering = Answering(
            certificate=certificate(),
            counters=self.counters,
            entropy=os.urandom,
            agents=agents or (lambda wanted: self.agent()),
            ntp_offset_s=time.time() - time.monotonic(),
            longest_s=600,
        )
        self.plain = PlainSocket(LOOPBACK)
        self.server = (str(self.plain.address.address), self.plain.address.port)
        self.endpoint = Endpoint(answering, self.counters, trunk=None, plain=self.plain, capacity=capacity)
        self.endpoint.open()
        self.sids = 0
        self.clients: list[Caller] = []

    def request(self, offer: str, wanted: dict[str, Any]) -> CreateSession:
        """What a gateway would ask for this offer."""
        self.sids += 1
        return CreateSession(
            self.sids, f"rtc_{self.sids}", f"ufrag{self.sids}", offer, (self.plain.address,), wanted
        )

    def call(self, *, offer: dict[str, Any] | None = None, **wanted: Any) -> "Caller":
        """A client whose offer was answered; it has sent nothing yet. offer: changes of the client's."""
        client = RtcClient()
        client.accept(self.endpoint.create(self.request(client.offer(**offer or {}), wanted)))
        caller = Caller(client, self.sids, self.server)
        self.clients.append(caller)
        return caller

    async def live(self, **wanted: Any) -> "Caller":
        """A client with keys."""
        caller = self.call(**wanted)
        await caller.connect()
        return caller

    async def flood(self, datagrams: Iterable[bytes], sender: socket.socket) -> int:
        """Send them no faster than they are received; how many there were."""
        counters, count = self.counters, 0
        expected = counters.received
        for datagram in datagrams:
            sender.sendto(datagram, self.server)
            count += 1
            expected += 1
            if count % BURST == 0:
                await self.until(lambda expected=expected: counters.received >= expected)
        await self.until(lambda: counters.received >= expected)
        return count

    async def until(self, done: Callable[[], Any]) -> None:
        """Let the endpoint work, in the test's own loop, until something has come about."""
        deadline = time.monotonic() + TIMEOUT_S
        while not done():
            assert time.monotonic() < deadline, "it never came"
            await asyncio.sleep(0)

    @property
    def dropped(self) -> dict[str, int]:
        """What was dropped so far, by reason."""
        return {name: count for name, count in self.counters.dropped.items() if count}

    @property
    def closed(self) -> dict[str, int]:
        """Why calls ended so far."""
        return {name: count for name, count in self.counters.closed.items() if count}

    async def seats(self) -> int:
        """How many sessions are in memory, those included that ended and that something still holds."""
        await asyncio.sleep(0.01)  # the end of a data channel is a task
        gc.collect()
        return sum(
            isinstance(thing, Seat) and thing._wish.__self__ is self.endpoint  # type: ignore[attr-defined]
            for thing in gc.get_objects()
        )

    async def close(self) -> None:
        """End what lives; every datagram and every session must have been counted."""
        if self.plain.fileno() >= 0:
            await self.endpoint.close()
        for caller in self.clients:
            caller.socket.close()
        assert self.counters.conservation_error == 0
        assert not any(self.counters.sessions.values())
        assert self.counters.opened == sum(self.counters.closed.values())


class Caller:
    """An RtcClient on a UDP socket. sent: every datagram, for those who want to bend or replay them."""

    def __init__(self, client: RtcClient, sid: int, server: tuple[str, int]) -> None:
        self.client, self.sid, self.server = client, sid, server
        self.socket = new_socket()
        self.sent: list[bytes] = []
        self.data: DataChannel | None = None

    def send(self, *datagrams: bytes) -> None:
        self.sent += datagrams
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
            if self.data is not None:
                self.data.receive()

    async def until(self, done: Callable[[], Any]) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not done():
            assert time.monotonic() < deadline, "it never came"
            await asyncio.sleep(0.005)
            self.receive()

    async def connect(self) -> None:
        """Check, nominate, shake hands."""
        self.send(self.client.check())
        await self.until(lambda: self.client.successes)
        self.send(*self.client.start_dtls(time.monotonic()))
        await self.until(lambda: self.client.srtp)

    async def hears(self, word: bytes) -> None:
        """Say a word until it comes back; a path that is new needs a round trip to be believed."""

        def is_heard() -> bool:
            self.send(self.client.audio(word))
            return any(packet.payload == word for packet in self.client.received)

        await self.until(is_heard)

    def hang_up(self) -> None:
        """Close DTLS."""
        assert self.client.dtls is not None
        self.client.dtls.close()
        self.send(*self.client.follow())

    async def open_data(self, label: str = "oai-events") -> "DataChannel":
        """The client's data channel, open."""
        self.data = DataChannel(self, label)
        await self.data.start()
        await self.until(lambda: self.data is not None and self.data.is_open)
        return self.data


class DataChannel:
    """aiortc's SCTP over the client's DTLS. It is the transport of its own association, too."""

    state = "connected"
    _role = "client"

    def __init__(self, caller: Caller, label: str) -> None:
        self._caller = caller
        self._taken = 0  # of the client's SCTP packets
        self.sctp = RTCSctpTransport(self)  # type: ignore[arg-type]
        self.texts: list[str] = []
        self.channel = self.open(label)

    def open(self, label: str) -> RTCDataChannel:
        """One more on the same association."""
        opened = RTCDataChannel(self.sctp, RTCDataChannelParameters(label=label))
        opened.on("message", self.texts.append)
        return opened

    @property
    def is_open(self) -> bool:
        return self.channel.readyState == "open"

    async def start(self) -> None:
        await self.sctp.start(RTCSctpCapabilities(maxMessageSize=0), 5000)  # may send messages of any size

    async def close(self) -> None:
        """Stop its timers; the other side is told."""
        await self.sctp.stop()

    def receive(self) -> None:
        """Take what DTLS brought."""
        packets = self._caller.client.data[self._taken :]
        self._taken += len(packets)
        for packet in packets:
            step = self.sctp._handle_data(packet)
            try:
                step.send(None)  # it never waits: its transport does not
            except StopIteration:
                continue

    def send_raw(self, packet: bytes) -> None:
        """Anything, where an SCTP packet is expected."""
        dtls = self._caller.client.dtls
        assert dtls is not None
        dtls.send_data(packet)
        self._caller.send(*dtls.datagrams_to_send())

    async def _send_data(self, data: bytes) -> None:
        self.send_raw(data)

    def _register_data_receiver(self, receiver: object) -> None: ...

    def _unregister_data_receiver(self, receiver: object) -> None: ...


class Bystander:
    """A live call with an echo that goes on talking whatever happens to others.

    async with Bystander(world):
        attack()
    At its end every word must have come back, on the one path there ever was.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.said = 0

    async def __aenter__(self) -> Self:
        agent, self._world.agent = self._world.agent, Echo
        self._caller = await self._world.live()
        self._world.agent = agent
        self._task = asyncio.create_task(self._talk())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if kind is None:
            await self._caller.until(lambda: len(self._caller.client.received) >= self.said)
            heard = [packet.payload for packet in self._caller.client.received]
            assert heard == [_word(number) for number in range(self.said)]
            assert self._world.endpoint.session(self._caller.sid).state == "live"

    async def _talk(self) -> None:
        while True:
            self._caller.receive()
            if self.said % 10 == 0:
                self._caller.send(self._caller.client.check())
            self._caller.send(self._caller.client.audio(_word(self.said)))
            self.said += 1
            await asyncio.sleep(FRAME_S)


def _word(number: int) -> bytes:
    return b"\x78" + number.to_bytes(4, "big")


def new_socket(address: tuple[str, int] = ("127.0.0.1", 0)) -> socket.socket:
    """A UDP socket for a client."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(address)
    bound.setblocking(False)
    return bound


def rss_bytes() -> int:
    """Memory of this process that is in use."""
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no file, and read often
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
