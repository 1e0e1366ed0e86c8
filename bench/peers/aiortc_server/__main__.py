"""The aiortc server that Fastpath's transceiver is compared with, as aiortc's own examples are written.

`--agent echo` sends every track back (decoded and encoded again, as aiortc does it); `--agent tone` says
440 Hz from the first moment on. The client's candidates are taken out of the offer: aiortc would resolve and
try them all, and a client is found by its checks without them.

    python -m bench.peers.aiortc_server --agent echo --port 8090         POST /offer {type, sdp}
"""

from __future__ import annotations

import argparse
import asyncio
import fractions
import os
import signal

import numpy as np
from aiohttp import web
from aiortc import AudioStreamTrack, MediaStreamTrack, RTCConfiguration, RTCPeerConnection
from aiortc import RTCSessionDescription as Description
from av import AudioFrame

from examples.aiortc_echo.addresses import offer_loopback_if_alone
from examples.aiortc_echo.server import without_candidates

RATE_HZ = 48_000
FRAME_SAMPLES = 960
SECOND = (8_000 * np.sin(2 * np.pi * 440 / RATE_HZ * np.arange(RATE_HZ))).astype(np.int16)


class Tone(AudioStreamTrack):
    """440 Hz, paced like aiortc's own silence."""

    def __init__(self) -> None:
        super().__init__()
        self._at = 0

    async def recv(self) -> AudioFrame:
        """The next 20 ms; the first ones at once."""
        loop = asyncio.get_running_loop()
        if self._at == 0:
            self._began_s = loop.time()
        else:
            await asyncio.sleep(max(0.0, self._began_s + self._at / RATE_HZ - loop.time()))
        begin = self._at % RATE_HZ
        frame = AudioFrame.from_ndarray(
            SECOND[begin : begin + FRAME_SAMPLES].reshape(1, -1), format="s16", layout="mono"
        )
        frame.pts, frame.sample_rate, frame.time_base = self._at, RATE_HZ, fractions.Fraction(1, RATE_HZ)
        self._at += FRAME_SAMPLES
        return frame


class Server:
    """Answers calls and keeps them until they end."""

    def __init__(self, agent: str) -> None:
        self._agent = agent
        self._calls: set[RTCPeerConnection] = set()

    def app(self) -> web.Application:
        """An empty page to call from, and `POST /offer`."""
        app = web.Application()
        app.router.add_get("/", self._page)
        app.router.add_post("/offer", self._offer)
        app.on_shutdown.append(self._close)
        return app

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text="<!doctype html><title>aiortc</title>", content_type="text/html")

    async def _offer(self, request: web.Request) -> web.Response:
        body = await request.json()
        call = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._calls.add(call)

        @call.on("track")
        def answer_track(track: MediaStreamTrack) -> None:
            if track.kind == "audio":
                call.addTrack(track if self._agent == "echo" else Tone())

        @call.on("connectionstatechange")
        async def follow() -> None:
            if call.connectionState in ("failed", "closed"):
                self._calls.discard(call)
                await call.close()

        offer, _ = without_candidates(body["sdp"])
        await call.setRemoteDescription(Description(sdp=offer, type="offer"))
        await call.setLocalDescription(await call.createAnswer())
        return web.json_response({"type": "answer", "sdp": call.localDescription.sdp})

    async def _close(self, _: web.Application) -> None:
        await asyncio.gather(*(call.close() for call in list(self._calls)))


async def serve(agent: str, port: int) -> None:
    """Until SIGINT or SIGTERM."""
    runner = web.AppRunner(Server(agent).app(), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    print(f"ready {os.getpid()}", flush=True)
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    await ended.wait()
    await runner.cleanup()


def main() -> None:
    """Parse and serve."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agent", choices=("echo", "tone"), default="echo")
    parser.add_argument("--port", type=int, required=True)
    arguments = parser.parse_args()
    offer_loopback_if_alone()
    asyncio.run(serve(arguments.agent, arguments.port))


if __name__ == "__main__":
    main()
