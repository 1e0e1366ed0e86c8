"""Gateway and transceiver together: a real process behind the real gateway, and a client on a UDP socket."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from pyfastpath.types import Endpoint
from pyfastpath.wire import token
from pyfastpath.wire.sdp import media_ice
from tests.signalling.rig import TOKEN_KEY, Rig, running
from tests.signalling.test_stream import read_event
from tests.support.rtc_client import RtcClient

FRAGMENT = "application/trickle-ice-sdpfrag"
STARTED_S = 20.0


@asynccontextmanager
async def edge(folder: Path, **changed: object) -> AsyncIterator[tuple[Rig, subprocess.Popen[bytes]]]:
    """A gateway, and a transceiver process that has registered with it and takes clients directly."""
    with socket.socket(type=socket.SOCK_DGRAM) as free:
        free.bind(("127.0.0.1", 0))
        plain = f"127.0.0.1:{free.getsockname()[1]}"
    async with running(folder, candidates=(plain,), **changed) as rig:
        flags = {
            "transceiver": "7",
            "plain-listen": plain,
            "control-socket": str(folder / "t7.sock"),
            "registry": f"unix:{folder}/admin.sock",
            "agent": "echo",
            "health-listen": "",
            "state-dir": str(folder / "state"),
            "log-file": str(folder / "t7.log"),
        }
        child = await asyncio.to_thread(
            subprocess.Popen,
            [sys.executable, "-m", "pyfastpath", "transceiver", *(f"--{k}={v}" for k, v in flags.items())],
            env=os.environ,
        )
        try:
            deadline_s = time.monotonic() + STARTED_S
            while not await rig.admin.records(time.monotonic()):
                assert child.poll() is None, (folder / "t7.log").read_text()
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.05)
            yield rig, child
        finally:
            child.kill()
            await asyncio.to_thread(child.wait)


class Caller(asyncio.DatagramProtocol):
    """A client and its socket: what it makes is sent, what comes is handed to it."""

    def __init__(self, server: Endpoint) -> None:
        self.client = RtcClient()
        self.server = (str(server.address), server.port)
        self.transport: asyncio.DatagramTransport | None = None

    async def open(self) -> Caller:
        loop = asyncio.get_running_loop()
        self.transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=("127.0.0.1", 0))
        return self

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        assert self.transport is not None
        host, port = self.transport.get_extra_info("sockname")
        mapped = Endpoint.parse(f"{host}:{port}")
        self.send(self.client.receive(data, asyncio.get_running_loop().time(), mapped))

    def send(self, datagrams: list[bytes]) -> None:
        assert self.transport is not None
        for datagram in datagrams:
            self.transport.sendto(datagram, self.server)

    async def check(self) -> None:
        """One connectivity check, answered."""
        before = len(self.client.successes)
        self.send([self.client.check()])
        async with asyncio.timeout(5):
            while len(self.client.successes) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def connect(self) -> None:
        """ICE, then DTLS."""
        await self.check()
        self.send(self.client.start_dtls(asyncio.get_running_loop().time()))
        async with asyncio.timeout(5):
            while self.client.srtp is None:  # noqa: ASYNC110
                await asyncio.sleep(0.005)

    async def echo(self) -> None:
        """Speak until something comes back."""
        before = len(self.client.received)
        async with asyncio.timeout(5):
            while len(self.client.received) == before:
                self.send([self.client.audio(b"\xf8\xff\xfe")])
                await asyncio.sleep(0.02)

    def close(self) -> None:
        if self.transport is not None:
            self.transport.close()


async def caller_of(rig: Rig) -> Caller:
    return await Caller(Endpoint.parse(rig.gateway._config.candidates[0])).open()


async def state(reply: aiohttp.ClientResponse, wanted: str) -> dict[str, object]:
    """Read the stream until a state."""
    while True:
        name, event = await asyncio.wait_for(read_event(reply), 10)
        assert name == "state", event
        if event["state"] == wanted:
            return event


async def test_a_whole_call_with_ice_restarts(tmp_path: Path) -> None:
    async with edge(tmp_path) as (rig, _):
        caller = await caller_of(rig)
        reply = await rig.call(caller.client.offer())
        assert reply.status == 201, await reply.text()
        location, answer = reply.headers["Location"], await reply.text()
        (ice,) = media_ice(answer)
        assert [(one.address, one.port) for one in ice.candidates] == [caller.server]
        assert "a=ice-lite" in answer
        assert token.verify({1: TOKEN_KEY}, ice.ufrag, int(time.time())).xcvr == 7

        async with rig.http.get(location + "/events") as events:
            assert (await asyncio.wait_for(read_event(events), 5))[0] == "state"
            caller.client.accept(answer)
            await caller.connect()
            live = await state(events, "live")
            assert isinstance(live["steps_ms"], dict)
            await caller.echo()

            ufrags = {ice.ufrag}
            credentials = "m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:{}\r\na=ice-pwd:{}\r\n"
            for kind in (FRAGMENT, "application/sdp"):
                caller.client.ufrag, caller.client.pwd = f"new{len(ufrags)}x", "p" * 23 + str(len(ufrags))
                body = caller.client.offer()
                if kind == FRAGMENT:
                    body = credentials.format(caller.client.ufrag, caller.client.pwd)
                restarted = await rig.http.patch(
                    location, data=body, headers={"Content-Type": kind, "If-Match": "*"}
                )
                text = await restarted.text()
                assert (restarted.status, restarted.content_type) == (200, kind), text
                caller.client.accept(text, dtls=False)
                ufrags.add(caller.client.remote["a=ice-ufrag"])
                await caller.check()
                await caller.echo()
            assert len(ufrags) == 3

            assert (await rig.http.post(location + "/hangup")).status == 200
            closed = await state(events, "closed")
            assert closed["reason"] == "hangup"
            assert await events.content.read() == b""
        assert (await rig.http.post(location + "/hangup")).status == 404
        caller.close()


@pytest.mark.parametrize(
    ("spoil", "status", "code"),
    [
        (("a=rtcp-mux\r\n", ""), 400, "no_rtcp_mux"),
        (("a=fingerprint:sha-256", "a=fingerprint:sha-1"), 400, "bad_fingerprint"),
        (("opus/48000/2", "G722/8000"), 400, "no_opus"),
        (("m=audio", "m=video"), 400, "no_audio"),
        (("m=audio 9", "m=audio nine"), 400, "bad_sdp"),
        (("v=0", "hello"), 400, "bad_sdp"),
        (("s=-", "s=" + "x" * 70_000), 413, "too_large"),
    ],
)
async def test_bad_offers_are_refused_with_line_and_reason(
    shared: Rig, spoil: tuple[str, str], status: int, code: str
) -> None:
    reply = await shared.call(RtcClient().offer().replace(*spoil))
    error = await shared.error(reply)
    assert (reply.status, error["code"]) == (status, code)
    if "line" in error:
        assert f"line {error['line']}: " in error["message"]
    else:
        assert code in ("too_large", "no_audio", "no_opus", "bad_sdp"), error


@pytest.fixture
async def shared(tmp_path: Path) -> AsyncIterator[Rig]:
    async with edge(tmp_path) as (rig, _):
        yield rig


async def test_a_drained_one_keeps_its_call_and_gets_no_other(tmp_path: Path) -> None:
    async with edge(tmp_path) as (rig, child):
        caller = await caller_of(rig)
        reply = await rig.call(caller.client.offer())
        location = reply.headers["Location"]
        caller.client.accept(await reply.text())
        await caller.connect()
        child.send_signal(signal.SIGUSR1)
        deadline_s = time.monotonic() + 5
        while (again := await rig.call(RtcClient().offer())).status != 503:
            assert time.monotonic() < deadline_s
            await rig.http.post(again.headers["Location"] + "/hangup")
        await caller.echo()
        assert (await rig.http.post(location + "/hangup")).status == 200
        caller.close()


async def test_when_it_is_killed_its_call_is_lost_within_five_seconds(tmp_path: Path) -> None:
    async with edge(tmp_path) as (rig, child):
        location = (await rig.call(RtcClient().offer())).headers["Location"]
        async with rig.http.get(location + "/events") as events:
            await read_event(events)
            killed_s = time.monotonic()
            child.send_signal(signal.SIGKILL)
            name, _ = await asyncio.wait_for(read_event(events), 10)
            assert name == "lost"
            assert time.monotonic() - killed_s < 5
        reply = await rig.call(RtcClient().offer())
        assert (reply.status, (await rig.error(reply))["code"]) == (503, "no_capacity")


async def test_when_it_is_stopped_its_call_is_lost_within_five_seconds(tmp_path: Path) -> None:
    """SIGSTOP: its sockets accept still, nothing answers."""
    async with edge(tmp_path) as (rig, child):
        location = (await rig.call(RtcClient().offer())).headers["Location"]
        async with rig.http.get(location + "/events") as events:
            await read_event(events)
            stopped_s = time.monotonic()
            child.send_signal(signal.SIGSTOP)
            name, _ = await asyncio.wait_for(read_event(events), 10)
            assert name == "lost"
            assert time.monotonic() - stopped_s < 5
