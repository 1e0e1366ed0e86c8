"""A WHIP publisher (RFC 9725): sends a tone to the gateway and prints what became of it.

    python -m examples.whip_publisher http://127.0.0.1:8080/whip --seconds 5

WHIP has no data channel and expects no answer in audio; this edge sends one all the same: it is counted here.
"""

import argparse
import asyncio
import sys

import aiohttp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaBlackhole

from examples.aiortc_echo.call import ToneBursts

CONNECT_TIMEOUT_S = 10


class PublishError(Exception):
    """The publication did not come about; the text says why."""


async def publish(url: str, seconds: float, key: str) -> int:
    """Publish for so long, then end the session. Gives the packets that came back."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    call = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    sink, connected = MediaBlackhole(), asyncio.Event()
    call.addTrack(ToneBursts())
    call.on("track", sink.addTrack)
    call.on("connectionstatechange", lambda: call.connectionState == "connected" and connected.set())
    try:
        async with aiohttp.ClientSession(headers=headers) as http:
            await call.setLocalDescription(await call.createOffer())
            resource, answer = await _offer(http, url, call.localDescription.sdp)
            print(f"session {resource}", flush=True)
            try:
                await call.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))
                await sink.start()
                await asyncio.wait_for(connected.wait(), CONNECT_TIMEOUT_S)
                print("published; talking", flush=True)
                await asyncio.sleep(seconds)
                return await _received(call)
            finally:
                await (await http.delete(resource)).release()
    except TimeoutError:
        raise PublishError(f"no connection within {CONNECT_TIMEOUT_S} s") from None
    except aiohttp.ClientError as error:
        raise PublishError(f"{url} does not answer: {error}") from None
    finally:
        await sink.stop()
        await call.close()


async def _offer(http: aiohttp.ClientSession, url: str, offer: str) -> tuple[str, str]:
    """(URL of the session, answer)."""
    async with http.post(url, data=offer, headers={"Content-Type": "application/sdp"}) as reply:
        text = await reply.text()
        if reply.status != 201:
            raise PublishError(f"{url} says {reply.status}: {text}")
        return str(reply.url.join(reply.url.__class__(reply.headers["Location"]))), text


async def _received(call: RTCPeerConnection) -> int:
    statistics = (await call.getStats()).values()
    return sum(one.packetsReceived for one in statistics if one.type == "inbound-rtp")


def main() -> int:
    """Exit code 0: published to the end."""
    parser = argparse.ArgumentParser(description="Publish a tone by WHIP.")
    parser.add_argument("url", help="the gateway's WHIP endpoint, such as http://127.0.0.1:8080/whip")
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--key", default="", help="bearer key, where the gateway asks for one")
    wanted = parser.parse_args()
    try:
        received = asyncio.run(publish(wanted.url, wanted.seconds, wanted.key))
    except PublishError as error:
        print(f"whip_publisher: {error}", file=sys.stderr)
        return 1
    print(f"ended; {received} packets came back")
    return 0


if __name__ == "__main__":
    sys.exit(main())
