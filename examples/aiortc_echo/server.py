"""An ordinary aiortc server that echoes audio, behind the relay.

aiortc itself is not changed: its own ICE agent, a UDP port per session. Two lines make it live behind the
relay: the client's candidates are taken out of the offer (so nothing can pass by the relay), and the answer
goes through the relay's `POST /v1/answers`, which installs the route of its ufrag and puts the relay's
candidates in.
"""

import argparse
import asyncio
import json
import logging
import re
import signal
import sys
from pathlib import Path

import aiohttp
from aiohttp import web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from examples.aiortc_echo.addresses import offer_loopback_if_alone

PAGE = Path(__file__).parent / "page"
CANDIDATE_LINES = re.compile(r"^a=(?:candidate:|end-of-candidates).*(?:\r\n|\n)?", re.MULTILINE)
OFFER_BYTES_MAX = 65_536
RELAY_TIMEOUT = aiohttp.ClientTimeout(total=5)

log = logging.getLogger("aiortc_echo")


class RelayError(Exception):
    """The relay did not take the answer."""


def without_candidates(sdp: str) -> tuple[str, int]:
    """The offer without the client's candidates (and their end mark), and how many there were."""
    return CANDIDATE_LINES.sub("", sdp), sdp.count("a=candidate:")


class EchoServer:
    """Answers calls and keeps them until they end."""

    def __init__(self, relay_admin: Path, backend: str) -> None:
        self._relay_admin = relay_admin
        self._backend = backend
        self._calls: set[RTCPeerConnection] = set()

    def app(self) -> web.Application:
        """The page, `POST /offer` and nothing else."""
        app = web.Application(client_max_size=OFFER_BYTES_MAX)
        app.router.add_get("/", self.page)
        app.router.add_post("/offer", self.offer)
        app.router.add_static("/page", PAGE)
        app.on_shutdown.append(self.close)
        return app

    async def page(self, _: web.Request) -> web.FileResponse:
        """The page with the start button."""
        return web.FileResponse(PAGE / "index.html")

    async def offer(self, request: web.Request) -> web.Response:
        """JSON {type, sdp} in; {type, sdp} out, and the offer as aiortc saw it."""
        try:
            body = await request.json()
            offer, removed = without_candidates(body["sdp"])
            description = RTCSessionDescription(sdp=offer, type=body["type"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            return web.json_response(
                {"error": f"send JSON with type and sdp of an offer ({error})"}, status=400
            )
        call = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        try:
            answer = await self._answer(call, description)
            answer = await self._pass_through_relay(answer)
        except RelayError as error:
            await self._end(call)
            return web.json_response({"error": str(error)}, status=502)
        except Exception as error:  # a bad SDP surfaces from aiortc as an error of almost any kind
            log.info("an offer that aiortc cannot answer", exc_info=True)
            await self._end(call)
            return web.json_response({"error": f"aiortc cannot answer this offer: {error}"}, status=400)
        return web.json_response(
            {"type": "answer", "sdp": answer, "offer": offer, "candidates_removed": removed}
        )

    async def _answer(self, call: RTCPeerConnection, offer: RTCSessionDescription) -> str:
        self._calls.add(call)

        @call.on("track")
        def echo(track: MediaStreamTrack) -> None:
            if track.kind == "audio":
                call.addTrack(track)

        @call.on("connectionstatechange")
        async def follow() -> None:
            log.info("call %x is %s", id(call), call.connectionState)
            if call.connectionState in ("failed", "closed"):
                await self._end(call)

        await call.setRemoteDescription(offer)
        await call.setLocalDescription(await call.createAnswer())
        return call.localDescription.sdp

    async def _pass_through_relay(self, answer: str) -> str:
        url = f"http://relay/v1/answers?backend={self._backend}"
        connector = aiohttp.UnixConnector(str(self._relay_admin))
        try:
            async with (
                aiohttp.ClientSession(connector=connector, timeout=RELAY_TIMEOUT) as session,
                session.post(url, data=answer, headers={"Content-Type": "application/sdp"}) as reply,
            ):
                text = await reply.text()
        except (OSError, aiohttp.ClientError, TimeoutError) as error:
            raise RelayError(
                f"the relay does not answer at {self._relay_admin}: is it running? ({error})"
            ) from None
        if not reply.ok:
            message = json.loads(text)["error"]["message"]
            raise RelayError(f"the relay refused the answer ({reply.status}): {message}")
        return text

    async def _end(self, call: RTCPeerConnection) -> None:
        self._calls.discard(call)
        await call.close()

    async def close(self, _: web.Application) -> None:
        """End all calls."""
        await asyncio.gather(*(self._end(call) for call in list(self._calls)))


def main() -> int:
    """Serve until interrupted; prints the page's address when it is ready."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--relay-admin", type=Path, required=True, help="the relay's admin UNIX socket")
    parser.add_argument("--backend", default="aiortc", help="id of this server in the relay's configuration")
    parser.add_argument("--host", default="127.0.0.1", help="address of the page")
    parser.add_argument("--port", type=int, default=8080, help="port of the page, 0 for any free one")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("aioice").setLevel(logging.WARNING)
    if offer_loopback_if_alone():
        log.info("this machine has no address but 127.0.0.1: aiortc offers that one")
    try:
        asyncio.run(_serve(arguments))
    except OSError as error:
        print(
            f"server.py: cannot serve on {arguments.host}:{arguments.port}: {error.strerror}", file=sys.stderr
        )
        return 1
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    runner = web.AppRunner(EchoServer(arguments.relay_admin, arguments.backend).app(), access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, arguments.host, arguments.port).start()
        host, port = runner.addresses[0][:2]
        print(f"page: http://{host}:{port}", flush=True)
        await _interrupted()
    finally:
        await runner.cleanup()


async def _interrupted() -> None:
    """Until SIGINT or SIGTERM."""
    interrupted = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, interrupted.set)
    await interrupted.wait()


if __name__ == "__main__":
    sys.exit(main())
