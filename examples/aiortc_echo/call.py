"""A scripted aiortc call to the echo server: tone bursts go out, come back through the relay, and are timed.

Two latencies, both of them seen by the client: *network* is the RTCP round trip (LSR/DLSR, RFC 3550 6.4.1),
through the relay twice; *audio* is from a burst's first sample handed to the encoder to the first loud sample
decoded. Most of the latter are aiortc's own jitter buffers (four 20 ms frames at either end).
"""

import asyncio
import statistics
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import aiohttp
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from pyfastpath.tools.tones import BurstListener, ToneBursts

CONNECT_TIMEOUT_S = 10


Exchange = Callable[[str], Awaitable[str]]  # an SDP offer in, the SDP answer out


class CallError(Exception):
    """The call did not come about; the text says what to look at."""


@dataclass(frozen=True)
class CallResult:
    """What the caller saw. `remotes` is every remote address its ICE agent ever knew, so it should be the
    relay alone.

    Latencies in milliseconds; None when nothing came back to measure.
    """

    remotes: tuple[str, ...]
    packets_sent: int
    packets_received: int
    bursts_sent: int
    bursts_heard: int
    network_ms: float | None
    audio_ms: float | None


@asynccontextmanager
async def echo_call(exchange: Exchange) -> AsyncIterator[tuple[RTCPeerConnection, ToneBursts, BurstListener]]:
    """A connected call to whoever answers `exchange`, closed at the end. Raises CallError."""
    call = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    tone, listener, connected = ToneBursts(), BurstListener(), asyncio.Event()
    listening: list[asyncio.Task[None]] = []
    call.addTrack(tone)

    @call.on("track")
    def hear(track: MediaStreamTrack) -> None:
        listening.append(asyncio.create_task(listener.listen(track)))

    @call.on("connectionstatechange")
    def follow() -> None:
        if call.connectionState in ("connected", "failed"):
            connected.set()

    try:
        await call.setLocalDescription(await call.createOffer())
        answer = await exchange(call.localDescription.sdp)
        await call.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
        with suppress(TimeoutError):
            await asyncio.wait_for(connected.wait(), CONNECT_TIMEOUT_S)
        if call.connectionState != "connected":
            raise CallError(
                f"no connection through the relay within {CONNECT_TIMEOUT_S} s; ask its drop counters why"
            )
        yield call, tone, listener
    finally:
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        await call.close()


def with_page(page: str) -> Exchange:
    """The exchange of server.py: JSON at http://host:port/offer."""

    async def exchange(offer: str) -> str:
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.post(f"{page}/offer", json={"type": "offer", "sdp": offer}) as reply,
            ):
                body = await reply.json()
        except aiohttp.ClientError as error:
            raise CallError(f"the server at {page} does not answer: {error}") from None
        if not reply.ok:
            raise CallError(body["error"])
        return str(body["sdp"])

    return exchange


async def make_call(exchange: Exchange, seconds: float) -> CallResult:
    """Call, talk for `seconds`, hang up."""
    async with echo_call(exchange) as (call, tone, listener):
        await asyncio.sleep(seconds)
        return await _result(call, tone, listener)


async def _result(call: RTCPeerConnection, tone: ToneBursts, listener: BurstListener) -> CallResult:
    stats = list((await call.getStats()).values())
    trips = [s.roundTripTime for s in stats if s.type == "remote-inbound-rtp" and s.roundTripTime is not None]
    delays = []
    for heard in listener.heard:
        earlier = [began for began in tone.started if began < heard]
        if earlier:
            delays.append(float(heard - earlier[-1]))
    ice = call.getSenders()[0].transport.transport
    return CallResult(
        remotes=tuple(f"{candidate.ip}:{candidate.port}" for candidate in ice.getRemoteCandidates()),
        packets_sent=sum(s.packetsSent for s in stats if s.type == "outbound-rtp"),
        packets_received=sum(s.packetsReceived for s in stats if s.type == "inbound-rtp"),
        bursts_sent=len(tone.started),
        bursts_heard=len(listener.heard),
        network_ms=statistics.median(trips) * 1000 if trips else None,
        audio_ms=statistics.median(delays) * 1000 if delays else None,
    )
