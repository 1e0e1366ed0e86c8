"""A client of an edge that knows each of its datagrams: RtcClient on a real socket, calling a real gateway.

async with EdgeCaller(edge.page, server=shim.front) as caller:
    await caller.place()
    await caller.connect()             it checks, and talks, from now on by itself
    await caller.hears()
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Any, Self
from urllib.parse import urljoin

import aiohttp

from pyfastpath.transceiver.srtp import SrtpError
from pyfastpath.types import Endpoint
from tests.support.relay import Address
from tests.support.rtc_client import RtcClient
from tests.support.shim import new_end

CALLS = "/v1/realtime/calls?model=echo"
WHIP = "/whip?model=echo"
SDP = {"Content-Type": "application/sdp"}
RESTART = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
TIMEOUT_S = 30
TURN_S = 0.005
FRAME_S = 0.02
CHECK_EVERY_S = 1.0
OPUS_20_MS = b"\x78"  # the table-of-contents byte of one 20 ms frame; echo looks no further


class EdgeCaller:
    """It says numbers, 50 a second, and knows which of them came back. server: where it sends."""

    def __init__(self, page: str, server: Address) -> None:
        self.client = RtcClient()
        self.page, self.server = page, server
        self.socket: socket.socket = new_end()
        self.location = self.call_id = ""
        self.said = 0
        self.heard: set[int] = set()
        self.twice = 0  # packets that came a second time: refused, as replayed
        self.is_talking = True
        self._http = aiohttp.ClientSession()
        self._task: asyncio.Task[None] | None = None
        self._next_check_s = 0.0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        if self.location:
            async with self._http.post(f"{self.page}/v1/realtime/calls/{self.call_id}/hangup"):
                pass
        await self._http.close()
        self.socket.close()

    async def place(self, path: str = CALLS) -> None:
        """Offer and answer; nothing is sent to the answer's candidates, but to `server`."""
        async with self._http.post(f"{self.page}{path}", data=self.client.offer(), headers=SDP) as reply:
            answer = await reply.text()
            assert reply.status == 201, answer
            self.location = urljoin(self.page, reply.headers["Location"])
        self.call_id = self.location.rpartition("/")[2]
        self.client.accept(answer)

    async def connect(self) -> None:
        """The first check, the handshake; from then on it lives by itself."""
        self._task = asyncio.create_task(self._live())
        await self.until(lambda: self.client.successes, "our check is answered")
        self.send(*self.client.start_dtls(time.monotonic()))
        await self.until(lambda: self.client.srtp, "the handshake is done")

    async def hears(self, numbers: int = 5) -> float:
        """Until so many numbers said from now on have come back; gives the seconds until the first."""
        first, began_s, first_s = self.said + 1, time.monotonic(), 0.0

        def are_heard() -> bool:
            nonlocal first_s
            new = sum(number >= first for number in self.heard)
            if new and not first_s:
                first_s = time.monotonic()
            return new >= numbers

        await self.until(are_heard, "the numbers come back")
        return first_s - began_s

    async def quiet(self) -> int:
        """Stop talking and wait for what is on its way; gives how many of all numbers never came back."""
        self.is_talking = False
        await asyncio.sleep(0.5)
        return self.said - len(self.heard)

    async def restart_by_offer(self) -> None:
        """ICE restart as a browser makes it: PATCH with a whole offer."""
        self._draw_credentials()
        await self._patch(self.client.offer(), SDP)

    async def restart_by_fragment(self) -> None:
        """ICE restart as WHIP has it (RFC 9725, section 4.3.3)."""
        self._draw_credentials()
        await self._patch(f"a=ice-ufrag:{self.client.ufrag}\r\na=ice-pwd:{self.client.pwd}\r\n", RESTART)

    @contextlib.asynccontextmanager
    async def events(self) -> AsyncIterator[aiohttp.StreamReader]:
        """The call's event stream."""
        async with self._http.get(f"{self.page}/v1/realtime/calls/{self.call_id}/events") as reply:
            assert reply.status == 200, await reply.text()
            yield reply.content

    async def status_of_events(self) -> int:
        """What the gateway says to whoever asks for the event stream."""
        async with self._http.get(f"{self.page}/v1/realtime/calls/{self.call_id}/events") as reply:
            return reply.status

    def check(self) -> None:
        """Check now, and then again each second."""
        self._next_check_s = time.monotonic() + CHECK_EVERY_S
        self.send(self.client.check())

    def send(self, *datagrams: bytes) -> None:
        """To the server."""
        for datagram in datagrams:
            self.socket.sendto(datagram, self.server)

    async def until(self, done: Callable[[], Any], what: str) -> None:
        """While it lives, wait for something. AssertionError when it does not come."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not done():
            assert self._task is not None
            if self._task.done():
                self._task.result()
            assert time.monotonic() < deadline_s, f"not within {TIMEOUT_S} s: {what}"
            await asyncio.sleep(TURN_S)

    def _draw_credentials(self) -> None:
        fresh = RtcClient()
        self.client.ufrag, self.client.pwd = fresh.ufrag, fresh.pwd

    async def _patch(self, body: str, headers: dict[str, str]) -> None:
        async with self._http.patch(self.location, data=body, headers=headers) as reply:
            answer = await reply.text()
            assert reply.status == 200, answer
        before = self.client.remote["a=ice-ufrag"]
        self.client.accept(answer, dtls=False)
        assert self.client.remote["a=ice-ufrag"] != before
        self.check()

    async def _live(self) -> None:
        frame_s = time.monotonic()
        while True:
            self._receive()
            now = time.monotonic()
            if now >= self._next_check_s:
                self.check()
            dtls = self.client.dtls
            if dtls is not None and (due := dtls.get_timer()) is not None and due <= now:
                dtls.handle_timer(now)
                self.send(*self.client.follow())
            if self.client.srtp is not None and self.is_talking and now >= frame_s:
                frame_s = max(frame_s + FRAME_S, now - FRAME_S)
                self.said += 1
                self.send(self.client.audio(OPUS_20_MS + self.said.to_bytes(4, "big")))
            await asyncio.sleep(TURN_S)

    def _receive(self) -> None:
        host, port = self.socket.getsockname()
        while True:
            try:
                datagram = self.socket.recv(2048)
            except BlockingIOError:
                break
            try:
                answers = self.client.receive(datagram, time.monotonic(), Endpoint.parse(f"{host}:{port}"))
            except SrtpError as error:
                assert error.reason == "srtp_replayed", error
                self.twice += 1
                continue
            self.send(*answers)
        for packet in self.client.received:
            self.heard.add(int.from_bytes(packet.payload[1:5], "big"))
        self.client.received.clear()
