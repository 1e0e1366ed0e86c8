"""A whole call whose agent is an external server: aiortc → relay → transceiver → WebSocket, and back.

The server is a script: it hears the caller's tone, answers with another one, is interrupted, is told what was
heard of its answer, calls a function, and dies.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from aiohttp import WSMsgType, web
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from pyfastpath.tools.tones import TONE_HZ, ToneBursts
from tests.support.edge import running_edge
from tests.support.story import matches

RATE_HZ = 24_000
ANSWER_HZ = 1_500
ANSWER_S = 8
PLAYED_S = 1.5
WAIT_S = 20
KEY = "sesame"


class Ear:
    """What somebody hears."""

    def __init__(self, rate_hz: int) -> None:
        self.rate_hz = rate_hz
        self.pcm = np.zeros(0, np.int16)
        self.more = asyncio.Event()

    def hear(self, pcm: Any) -> None:
        self.pcm = np.concatenate([self.pcm, pcm])
        self.more.set()

    async def hears_tone(self, hertz: float) -> None:
        """Sound is coming in, and this is the loudest of its frequencies."""
        async with asyncio.timeout(WAIT_S):
            while not self.last_second_is(hertz):
                self.more.clear()
                await self.more.wait()

    def last_second_is(self, hertz: float) -> bool:
        pcm = self.pcm[-self.rate_hz :]
        if len(pcm) < self.rate_hz or np.abs(pcm).max() < 2_000:
            return False
        return bool(abs(np.argmax(np.abs(np.fft.rfft(pcm))) - hertz) < 10)

    async def hears_no_more(self) -> None:
        """Half a second without a frame."""
        async with asyncio.timeout(WAIT_S):
            with suppress(TimeoutError):
                while True:
                    self.more.clear()
                    await asyncio.wait_for(self.more.wait(), 0.5)


class Server:
    """The external server: one conversation at a time, its script beside it."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ear = Ear(RATE_HZ)
        self.socket: web.WebSocketResponse | None = None
        self.request: web.Request | None = None

    async def handle(self, request: web.Request) -> web.WebSocketResponse:
        assert request.headers["Authorization"] == f"Bearer {KEY}"
        self.request, self.socket = request, web.WebSocketResponse()
        await self.socket.prepare(request)
        await self.says("session.created", session={"id": "sess_theirs", "type": "realtime"})
        async for message in self.socket:
            if message.type is WSMsgType.TEXT:
                event = json.loads(message.data)
                if event["type"] == "input_audio_buffer.append":
                    self.ear.hear(np.frombuffer(base64.b64decode(event["audio"]), "<i2"))
                else:
                    self.events.put_nowait(event)
        return self.socket

    async def says(self, kind: str, **fields: Any) -> None:
        assert self.socket is not None
        await self.socket.send_json({"type": kind, **fields})

    async def hears(self, kind: str, **fields: Any) -> dict[str, Any]:
        event = await asyncio.wait_for(self.events.get(), WAIT_S)
        assert event["type"] == kind, event
        assert matches(event, fields), event
        return event

    async def answers(self) -> None:
        """A tone, all of it at once: much faster than it is played."""
        place = {"response_id": "resp_1", "item_id": "item_1", "output_index": 0, "content_index": 0}
        await self.says("response.created", response={"id": "resp_1", "status": "in_progress"})
        phase = 2 * np.pi * ANSWER_HZ * np.arange(RATE_HZ * ANSWER_S) / RATE_HZ
        pcm = (10_000 * np.sin(phase)).astype("<i2").tobytes()
        for at in range(0, len(pcm), 9_600):
            delta = base64.b64encode(pcm[at : at + 9_600]).decode()
            await self.says("response.output_audio.delta", delta=delta, **place)
        await self.says("response.output_audio_transcript.done", transcript="piep", **place)

    def dies(self) -> None:
        assert self.request is not None
        assert self.request.transport is not None
        self.request.transport.abort()


class Caller:
    """An aiortc client with tone bursts for a microphone."""

    def __init__(self) -> None:
        self.call = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.ear = Ear(48_000)
        self.closed = asyncio.Event()
        self.call.addTrack(ToneBursts())
        self.channel = self.call.createDataChannel("oai-events")
        self.channel.on("message", lambda text: self.events.put_nowait(json.loads(text)))
        self.call.on("track", self.listen)
        self.call.on("connectionstatechange", self.follow)
        self.listening: asyncio.Task[None] | None = None

    async def place(self, gateway: str) -> None:
        await self.call.setLocalDescription(await self.call.createOffer())
        form = aiohttp.FormData()
        form.add_field("sdp", self.call.localDescription.sdp, content_type="application/sdp")
        session = {"type": "realtime", "model": "any", "instructions": "Be brief"}
        form.add_field("session", json.dumps(session), content_type="application/json")
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{gateway}/v1/realtime/calls", data=form) as reply,
        ):
            answer = await reply.text()
            assert reply.status == 201, answer
        await self.call.setRemoteDescription(RTCSessionDescription(sdp=answer, type="answer"))

    def listen(self, track: MediaStreamTrack) -> None:
        async def keep() -> None:
            while True:
                frame = await track.recv()
                self.ear.hear(frame.to_ndarray().reshape(-1)[:: len(frame.layout.channels)])

        self.listening = asyncio.create_task(keep())

    def follow(self) -> None:
        if self.call.connectionState in ("closed", "failed"):
            self.closed.set()

    async def hears(self, kind: str, **fields: Any) -> dict[str, Any]:
        event = await asyncio.wait_for(self.events.get(), WAIT_S)
        assert event["type"] == kind, event
        assert matches(event, fields), event
        return event

    async def hears_both(self, *kinds: str) -> None:
        """In any order: one comes when the server sends it, the other when a frame's time has come."""
        found = {(await asyncio.wait_for(self.events.get(), WAIT_S))["type"] for _ in kinds}
        assert found == set(kinds)

    async def close(self) -> None:
        if self.listening:
            self.listening.cancel()
        await self.call.close()


@asynccontextmanager
async def an_edge_with(server: Server, folder: Path) -> AsyncIterator[str]:
    """`up --agent ws://…`: gives the gateway's address."""
    app = web.Application()
    app.router.add_get("/realtime", server.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    key = folder / "key"
    key.write_text(f"{KEY}\n")
    flags = ("--agent", f"ws://127.0.0.1:{runner.addresses[0][1]}/realtime", "--agent-key-file", str(key))
    with ExitStack() as held:
        edge = await asyncio.to_thread(held.enter_context, running_edge(folder, *flags))
        try:
            yield edge.page
        finally:
            await asyncio.to_thread(held.close)
            await runner.cleanup()


async def test_an_external_server_holds_the_conversation(tmp_path: Path) -> None:
    server, caller = Server(), Caller()
    async with an_edge_with(server, tmp_path) as gateway:
        try:
            await caller.place(gateway)
            end = await tell_the_story(server, caller)
        finally:
            await caller.close()
    assert "closed the conversation" in end["error"]["message"]


async def tell_the_story(server: Server, caller: Caller) -> dict[str, Any]:
    """From the first tone to the server's death; gives how the caller heard of that."""
    await server.hears("session.update", session={"type": "realtime", "instructions": "Be brief"})
    await caller.hears("session.created", session={"id": "sess_theirs"})
    await server.ear.hears_tone(TONE_HZ)

    await server.answers()
    await caller.hears("response.created", response={"id": "resp_1"})
    await caller.hears_both("response.output_audio_transcript.done", "output_audio_buffer.started")
    await caller.ear.hears_tone(ANSWER_HZ)
    await asyncio.sleep(PLAYED_S)

    await server.says("input_audio_buffer.speech_started", audio_start_ms=3_000, item_id="item_2")
    await caller.hears("input_audio_buffer.speech_started", item_id="item_2")
    await caller.hears("output_audio_buffer.cleared", response_id="resp_1")
    truncate = await server.hears("conversation.item.truncate", item_id="item_1", content_index=0)
    assert PLAYED_S * 1000 <= truncate["audio_end_ms"] < ANSWER_S * 1000
    await server.says("response.done", response={"id": "resp_1", "status": "cancelled"})
    await caller.hears("response.done", response={"status": "cancelled"})
    await caller.ear.hears_no_more()  # cut off at the ear, too

    call = {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": "{}"}
    await server.says("response.output_item.done", item=call)
    await caller.hears("response.output_item.done", item=call)
    output = {"type": "function_call_output", "call_id": "call_1", "output": "rain"}
    caller.channel.send(json.dumps({"type": "conversation.item.create", "item": output}))
    await server.hears("conversation.item.create", item=output)

    server.dies()
    error = await caller.hears("error", error={"type": "server_error", "code": "agent_lost"})
    await asyncio.wait_for(caller.closed.wait(), WAIT_S)
    return error
