"""A call to a gateway by a client of another make (aiortc), as a browser would make it, and what it saw.

Tone bursts go out, the agent `echo` sends them back. Two latencies, both seen by the client: *network* is the
RTCP round trip (LSR/DLSR, RFC 3550 6.4.1), through the relay twice; *audio* is from a burst's first sample
handed to the encoder to the first loud sample decoded, most of which are aiortc's own jitter buffers.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCSessionDescription,
)

from pyfastpath.errors import FastpathError
from pyfastpath.tools.tones import BurstListener, ToneBursts

CONNECT_TIMEOUT_S: Final = 10.0
HTTP_TIMEOUT: Final = aiohttp.ClientTimeout(total=10)
DATA_CHANNEL: Final = "oai-events"


class CallError(FastpathError):
    """The call did not come about; the text says what to look at."""


@dataclass(frozen=True, slots=True)
class CallReport:
    """What the caller saw, while the call still lived. Times in milliseconds; None: it never happened.

    candidates: what the answer offered. remotes: every remote address its ICE agent ever knew. answer_ms,
    connected_ms, event_ms: from the POST on. steps_ms: what the transceiver says of the same time.
    """

    candidates: tuple[str, ...]
    remotes: tuple[str, ...]
    answer_ms: float
    connected_ms: float
    event_ms: float | None
    first_event: str
    steps_ms: Mapping[str, float]
    packets_sent: int
    packets_received: int
    bursts_sent: int
    bursts_heard: int
    network_ms: float | None
    audio_ms: float | None


@dataclass(slots=True)
class SelfCall:
    """One call: `place`, `talk` for a while, `report`, `hang_up`; `close` in any case.

    gateway: http(s)://host:port. agent: a built-in one, named as the model. via: an IP address that stands in
    for every candidate's, where this machine cannot reach its own public address.
    """

    gateway: str
    agent: str = "echo"
    via: str = ""
    _call: RTCPeerConnection = field(
        default_factory=lambda: RTCPeerConnection(RTCConfiguration(iceServers=[]))
    )
    _tone: ToneBursts = field(default_factory=ToneBursts)
    _listener: BurstListener = field(default_factory=BurstListener)
    _listening: list[asyncio.Task[None]] = field(default_factory=list)
    _location: str = ""
    _candidates: tuple[str, ...] = ()
    _posted_s: float = 0.0
    _answered_s: float = 0.0
    _connected_s: float = 0.0
    _first_event: tuple[float, str] | None = None

    async def place(self) -> None:
        """Offer, answer, ICE and DTLS. CallError when one of them fails."""
        call, connected = self._call, asyncio.Event()
        call.addTrack(self._tone)
        call.createDataChannel(DATA_CHANNEL).on("message", self._receive_event)

        @call.on("track")
        def hear(track: MediaStreamTrack) -> None:
            self._listening.append(asyncio.create_task(self._listener.listen(track)))

        @call.on("connectionstatechange")
        def follow() -> None:
            if call.connectionState in ("connected", "failed"):
                self._connected_s = time.perf_counter()
                connected.set()

        await call.setLocalDescription(await call.createOffer())
        answer = await self._exchange(call.localDescription.sdp)
        await call.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        with suppress(TimeoutError):
            await asyncio.wait_for(connected.wait(), CONNECT_TIMEOUT_S)
        if call.connectionState != "connected":
            raise CallError(
                f"no connection through {', '.join(self._candidates)} within {CONNECT_TIMEOUT_S:.0f} s",
                "The relay's drop counters say why: is a firewall in between?",
            )

    async def talk(self, seconds: float) -> None:
        """Send bursts for a while."""
        await asyncio.sleep(seconds)

    async def report(self) -> CallReport:
        """What was seen so far; the call must live."""
        stats = list((await self._call.getStats()).values())
        trips = [
            one.roundTripTime
            for one in stats
            if one.type == "remote-inbound-rtp" and one.roundTripTime is not None
        ]
        ice = self._call.getSenders()[0].transport.transport
        return CallReport(
            candidates=self._candidates,
            remotes=tuple(f"{one.ip}:{one.port}" for one in ice.getRemoteCandidates()),
            answer_ms=self._since_post(self._answered_s),
            connected_ms=self._since_post(self._connected_s),
            event_ms=self._since_post(self._first_event[0]) if self._first_event else None,
            first_event=self._first_event[1] if self._first_event else "",
            steps_ms=await self._steps(),
            packets_sent=sum(one.packetsSent for one in stats if one.type == "outbound-rtp"),
            packets_received=sum(one.packetsReceived for one in stats if one.type == "inbound-rtp"),
            bursts_sent=len(self._tone.started),
            bursts_heard=len(self._listener.heard),
            network_ms=statistics.median(trips) * 1000 if trips else None,
            audio_ms=self._audio_ms(),
        )

    async def hang_up(self) -> None:
        """End the call by the gateway, as an API client does. CallError when it refuses."""
        async with self._http() as http, http.post(f"{self._location}/hangup") as reply:
            if not reply.ok:
                raise CallError(f"the gateway does not hang up: {await _message(reply)}")

    async def close(self) -> None:
        """Release everything."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        await self._call.close()

    async def _exchange(self, offer: str) -> str:
        self._posted_s = time.perf_counter()
        url = f"{self.gateway}/v1/realtime/calls"
        try:
            async with (
                self._http() as http,
                http.post(
                    url,
                    params={"model": self.agent},
                    data=offer,
                    headers={"Content-Type": "application/sdp"},
                ) as reply,
            ):
                if reply.status != 201:
                    raise CallError(f"the gateway refuses the call: {await _message(reply)}")
                answer = await reply.text()
                # Its path only: the public address may be another one than this machine can use.
                self._location = urljoin(self.gateway, urlsplit(reply.headers["Location"]).path)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise CallError(f"the gateway at {self.gateway} does not answer: {error}") from None
        self._answered_s = time.perf_counter()
        lines = answer.splitlines()
        found = [line.split() for line in lines if line.startswith("a=candidate:")]
        self._candidates = tuple(f"{words[4]}:{words[5]}" for words in found)
        return "\r\n".join(map(self._by_way, lines)) + "\r\n" if self.via else answer

    def _by_way(self, line: str) -> str:
        words = line.split(" ")
        return " ".join([*words[:4], self.via, *words[5:]]) if line.startswith("a=candidate:") else line

    def _receive_event(self, text: str | bytes) -> None:
        if self._first_event is None:
            with suppress(ValueError):
                self._first_event = time.perf_counter(), str(json.loads(text).get("type"))

    async def _steps(self) -> dict[str, float]:
        """The first event of the call's stream: the steps of its set-up as the transceiver saw them."""
        async with self._http() as http, http.get(f"{self._location}/events") as reply:
            async for line in reply.content:
                if line.startswith(b"data:"):
                    return dict(json.loads(line.removeprefix(b"data:")).get("steps_ms", {}))
        return {}

    def _audio_ms(self) -> float | None:
        delays = []
        for heard in self._listener.heard:
            earlier = [began for began in self._tone.started if began < heard]
            if earlier:
                delays.append(heard - earlier[-1])
        return statistics.median(delays) * 1000 if delays else None

    def _since_post(self, moment_s: float) -> float:
        return (moment_s - self._posted_s) * 1000

    def _http(self) -> aiohttp.ClientSession:
        # The certificate may be self-signed: DTLS below is verified by its fingerprint all the same.
        return aiohttp.ClientSession(timeout=HTTP_TIMEOUT, connector=aiohttp.TCPConnector(ssl=False))


async def _message(reply: aiohttp.ClientResponse) -> str:
    """What an error says, or its status."""
    try:
        said: Any = json.loads(await reply.text())
        return str(said["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {reply.status}"
