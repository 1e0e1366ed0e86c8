"""The websocket agent against real servers that follow a script; the dialogue beside it is real too."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from aiohttp import WSMsgType, web

from pyfastpath.errors import ConfigError
from pyfastpath.transceiver.agent import AudioFrame, Event, Pcm
from pyfastpath.transceiver.agents import websocket
from pyfastpath.transceiver.agents.websocket import FAREWELL_S, WAITING_MAX, WebSocketAgents, read_key
from pyfastpath.transceiver.dialogue import CancelResponse, ClearOutput, PassToAgent
from pyfastpath.transceiver.realtime.bridge import BridgeDialogue
from pyfastpath.types import Secret
from tests.support.story import counted_ids, matches

Script = Callable[["Server"], Awaitable[None]]


class Server:
    """One conversation from the server's side."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        self.request = request
        self.socket = socket

    async def hears(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next event from us."""
        message = await self.socket.receive(timeout=5)
        assert message.type is WSMsgType.TEXT, message
        event: dict[str, Any] = json.loads(message.data)
        assert event["type"] == kind, event
        assert matches(event, fields), event
        return event

    async def says(self, kind: str, **fields: Any) -> None:
        """An event for us."""
        await self.socket.send_json({"type": kind, **fields})

    async def sounds(
        self, pcm: bytes, *, response: str = "resp_a", kind: str = "response.output_audio.delta"
    ) -> None:
        """Audio for us."""
        delta = base64.b64encode(pcm).decode()
        await self.says(kind, response_id=response, item_id="item_a", content_index=0, delta=delta)


class Hands:
    """An agent's hands: a real dialogue, a playout that only counts."""

    def __init__(self, agents: WebSocketAgents, **session: Any) -> None:
        self.dialogue = BridgeDialogue(session=session, ids=counted_ids())
        self.agent = agents.make()
        self.said: list[Pcm] = []
        self.finishes = 0
        self.cancels: list[int] = []
        self.played_ms = 0
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.wakes: list[float] = []
        self._new = asyncio.Event()
        self.dialogue.open(0.0)
        self.agent.start(self)

    @property
    def session(self) -> Event:
        return self.dialogue.session

    def say(self, pcm: Pcm, rate_hz: int) -> None:
        assert rate_hz == 24_000
        assert pcm.dtype == np.int16
        self.said.append(pcm)
        self._carry_out()

    def say_opus(self, payload: bytes, samples: int) -> None:
        raise AssertionError("the agent speaks PCM")

    def say_text(self, text: str) -> None:
        raise AssertionError("the server sends transcripts")

    def finish(self) -> None:
        self.finishes += 1
        self._carry_out()

    def send_event(self, event: Event) -> None:
        self.dialogue.agent_event(event)
        self._carry_out()

    def wake_in(self, seconds: float) -> None:
        self.wakes.append(seconds)  # the tests say when the time has come

    def hang_up(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_result(reason)
        self.close()

    def close(self) -> None:
        self.agent.stop()

    def client_says(self, kind: str, **fields: Any) -> None:
        self.dialogue.receive(json.dumps({"type": kind, **fields}), 0.0)
        self._carry_out()

    def plays(self, played_ms: int) -> None:
        """The first frame leaves, and so much has been played by the time somebody interrupts."""
        self.played_ms = played_ms
        self.dialogue.playout_started(0.0)

    def hear(self, time_ms: int, pcm: Pcm) -> None:
        self.agent.hear(AudioFrame(b"opus", 960, time_ms, -20, pcm))

    async def client_hears(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The next event on the data channel."""
        while (text := self.dialogue.next_event()) is None:
            self._new.clear()
            await asyncio.wait_for(self._new.wait(), 5)
        event: dict[str, Any] = json.loads(text)
        assert event["type"] == kind, event
        assert matches(event, fields), event
        return event

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self._new.clear()
            await asyncio.wait_for(self._new.wait(), 5)

    def _carry_out(self) -> None:
        self._new.set()
        while (command := self.dialogue.next_command()) is not None:
            if isinstance(command, PassToAgent):
                self.agent.receive_event(command.event)
            else:
                assert isinstance(command, CancelResponse | ClearOutput)
                if isinstance(command, CancelResponse):
                    self.cancels.append(self.played_ms)
                    self.agent.cancel(self.played_ms)
                self.dialogue.playout_cleared(self.played_ms, 0.0)


@contextlib.asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that runs the script for each conversation: its address. Raises what the script raised."""
    failures: list[BaseException] = []

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        try:
            await script(Server(request, socket))
        except Exception as error:
            failures.append(error)
        return socket

    app = web.Application()
    app.router.add_get("/realtime", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/realtime?model=m"
    finally:
        await runner.cleanup()
    if failures:
        raise failures[0]


@contextlib.asynccontextmanager
async def calling(url: str, key: str = "", **session: Any) -> AsyncIterator[Hands]:
    agents = WebSocketAgents(url, Secret(key.encode()) if key else None)
    hands = Hands(agents, **session)
    try:
        yield hands
    finally:
        hands.close()
        await agents.close()
        assert not agents._tasks


def pcm_of(*samples: int) -> Pcm:
    return np.array(samples, np.int16)


# ---- a conversation ---------------------------------------------------------------------------------


async def test_a_conversation():
    async def script(server: Server) -> None:
        assert server.request.headers["Authorization"] == "Bearer sesame"
        assert server.request.query["model"] == "m"
        await server.says("session.created", session={"id": "theirs"})
        await server.hears("session.update", session={"type": "realtime", "instructions": "Be kind"})
        audio = await server.hears("input_audio_buffer.append")
        assert np.frombuffer(base64.b64decode(audio["audio"]), "<i2").tolist() == [1, -2] * 240
        await server.says("response.created", response={"id": "resp_a"})
        await server.sounds(bytes([1, 0, 2]))  # a sample and a half: base64 runs need not end between samples
        await server.sounds(bytes([0, 3, 0]))
        await server.says("response.output_audio_transcript.delta", delta="Hi")
        await server.says("response.output_audio.done")
        await server.says("response.done", response={"id": "resp_a", "status": "completed"})
        await server.hears("conversation.item.create", item={"type": "function_call_output", "output": "5"})

    async with serving(script) as url, calling(url, "sesame", model="x", instructions="Be kind") as call:
        await call.client_hears("session.created", session={"id": "theirs"})
        call.hear(0, pcm_of(*[1, -2] * 240))
        await call.client_hears("response.created", response={"id": "resp_a"})
        await call.client_hears("response.output_audio_transcript.delta", delta="Hi")
        await call.client_hears("response.output_audio.done")
        await call.client_hears("response.done")
        await call.until(lambda: call.finishes == 1)
        assert np.concatenate(call.said).tolist() == [1, 2, 3]
        call.client_says("conversation.item.create", item={"type": "function_call_output", "output": "5"})
        await call.client_hears("error", error={"code": "agent_lost"})  # the script is over


async def test_an_interruption():
    stop = asyncio.Event()

    async def script(server: Server) -> None:
        await server.says("response.created", response={"id": "resp_a"})
        for _ in range(10):
            await server.sounds(bytes(4800))
        await stop.wait()
        await server.says("input_audio_buffer.speech_started", audio_start_ms=900)
        await server.hears("conversation.item.truncate", item_id="item_a", content_index=0, audio_end_ms=640)
        await server.sounds(bytes(4800))  # was on its way already
        await server.says("response.done", response={"id": "resp_a", "status": "cancelled"})
        await server.says("response.created", response={"id": "resp_b"})
        await server.sounds(b"\7\0", response="resp_b", kind="response.audio.delta")
        await server.says("response.done", response={"id": "resp_b"})
        await server.socket.receive()

    async with serving(script) as url, calling(url) as call:
        await call.client_hears("response.created")
        await call.until(lambda: len(call.said) == 10)
        call.plays(640)
        await call.client_hears("output_audio_buffer.started", response_id="resp_a")
        stop.set()
        await call.client_hears("input_audio_buffer.speech_started")
        await call.client_hears("output_audio_buffer.cleared", response_id="resp_a")
        await call.client_hears("response.done", response={"status": "cancelled"})
        await call.client_hears("response.created", response={"id": "resp_b"})
        await call.client_hears("response.done", response={"id": "resp_b"})
        await call.until(lambda: call.finishes == 1)
        assert call.cancels == [640]
        assert [pcm.tolist() for pcm in call.said[10:]] == [[7]]


async def test_silence_is_heard_where_nothing_came():
    heard: list[int] = []  # ms of each append, silence negative

    async def script(server: Server) -> None:
        for _ in range(7):
            audio = await server.hears("input_audio_buffer.append")
            pcm = np.frombuffer(base64.b64decode(audio["audio"]), "<i2")
            heard.append(len(pcm) // 24 * (1 if pcm.any() else -1))
        await server.says("session.created", session={})
        await server.socket.receive()

    async with serving(script) as url, calling(url) as call:
        voice = np.full(480, 99, np.int16)
        call.agent.woken()  # before the first packet there is no audio to go on with
        call.hear(0, voice)
        call.hear(20, voice)
        call.agent.woken()
        call.hear(440, voice)  # the client sent nothing for 400 ms
        call.agent.woken()
        call.agent.woken()  # and now it sends nothing at all
        call.agent.woken()
        call.hear(870, voice)  # 10 ms more than the silence that was made up for it
        await call.client_hears("session.created")
        assert heard == [20, 20, -400, 20, -200, -200, -10]
        assert call.wakes == [0.2] * 6


# ---- servers that are not there, or go --------------------------------------------------------------


async def ends_with(call: Hands, message: str) -> None:
    event = await call.client_hears("error", error={"type": "server_error", "code": "agent_lost"})
    assert message in event["error"]["message"]
    assert "127.0.0.1" not in event["error"]["message"]
    assert not call.ended.done()
    assert call.wakes[-1] == FAREWELL_S
    call.agent.woken()
    assert await asyncio.wait_for(call.ended, 5) == "agent_lost"


async def test_a_server_that_dies_in_the_middle():
    async def script(server: Server) -> None:
        await server.says("session.created", session={})
        assert server.request.transport
        server.request.transport.abort()

    async with serving(script) as url, calling(url) as call:
        await call.client_hears("session.created")
        await ends_with(call, "closed the conversation")


async def test_a_server_that_closes():
    async def script(server: Server) -> None:
        await server.socket.close(code=4000)

    async with serving(script) as url, calling(url) as call:
        await ends_with(call, "code 4000")


async def test_a_server_that_is_not_there(unused_tcp_port):
    async with calling(f"ws://127.0.0.1:{unused_tcp_port}/") as call:
        await ends_with(call, "cannot be reached")


@pytest.mark.parametrize(
    ("status", "message"), [(401, "refuses the key"), (404, "HTTP 404"), (503, "HTTP 503")]
)
async def test_a_server_that_refuses(status, message):
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=status)

    app = web.Application()
    app.router.add_get("/realtime", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with calling(f"ws://127.0.0.1:{runner.addresses[0][1]}/realtime", "wrong") as call:
        await ends_with(call, message)
    await runner.cleanup()


async def test_a_server_that_says_nothing(monkeypatch):
    monkeypatch.setattr(websocket, "CONNECT_S", 0.1)

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server, calling(f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/") as call:
        await ends_with(call, "did not answer")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no event"),
        ("[" * 5000, "no event"),
        ('{"type": "response.audio.delta", "delta": "*"}', "no base64"),
        ('{"type": "response.audio.delta", "delta": {"a": 1}}', "no base64"),
    ],
)
async def test_a_server_that_talks_nonsense(text, message):
    async def script(server: Server) -> None:
        await server.socket.send_str(text)
        await server.socket.receive()

    async with serving(script) as url, calling(url) as call:
        await ends_with(call, message)


async def test_a_server_that_does_not_listen():
    async with calling("ws://127.0.0.1:9/") as call:
        for number in range(WAITING_MAX + 1):  # before the loop runs: nothing is taken
            call.hear(20 * number, np.zeros(480, np.int16))
        await ends_with(call, "takes no more audio")


async def test_a_certificate_nobody_vouches_for(tmp_path):
    server_tls, trust = self_signed(tmp_path)

    async def script(server: Server) -> None:
        await server.says("session.created", session={})
        await server.socket.receive()

    async with serving(script, server_tls) as url:
        async with calling(url) as call:
            await ends_with(call, "not trusted: self-signed certificate")
        agents = WebSocketAgents(url, Secret(b"key"), trust=trust)
        call = Hands(agents)
        await call.client_hears("session.created")
        call.close()
        await agents.close()


def self_signed(folder: Any) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context with a certificate of its own, and a client's that trusts it."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "agent")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    file = folder / "both.pem"
    pem = serialization.Encoding.PEM
    file.write_bytes(
        certificate.public_bytes(pem)
        + key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cafile=str(file))


# ---- ends -------------------------------------------------------------------------------------------


async def test_a_hang_up_closes_the_websocket():
    codes: list[int | None] = []

    async def script(server: Server) -> None:
        await server.says("session.created", session={})
        await server.socket.receive()
        codes.append(server.socket.close_code)

    async with serving(script) as url:
        async with calling(url) as call:
            await call.client_hears("session.created")
        for _ in range(100):
            if codes:
                break
            await asyncio.sleep(0.01)
    assert codes == [1000]


async def test_a_call_that_ends_before_the_server_answers():
    async def script(server: Server) -> None:
        await server.socket.receive()

    async with serving(script) as url, calling(url) as call:
        call.close()
        call.hear(0, np.zeros(480, np.int16))
    assert not call.ended.done()


# ---- configuration ----------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["https://host/", "wss:///path", "host", "ws:"])
def test_an_address_that_is_none(url):
    with pytest.raises(ConfigError, match="no WebSocket address"):
        WebSocketAgents(url)


def test_a_key_does_not_travel_in_the_clear():
    with pytest.raises(ConfigError, match="unencrypted"):
        WebSocketAgents("ws://model.example/", Secret(b"k"))
    WebSocketAgents("ws://model.example/")
    WebSocketAgents("wss://model.example/", Secret(b"k"))
    WebSocketAgents("ws://localhost:1/", Secret(b"k"))


def test_a_key_file(tmp_path):
    file = tmp_path / "key"
    file.write_text("  sesame\n")
    assert read_key(file).value == b"sesame"
    for content in (b"", b"\n", b"two words", b"line\nline", b"\xff\xfe", "schlüssel".encode()):
        file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            read_key(file)
        assert caught.value.key == "agent_key_file"
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key(tmp_path / "nothing")
    with pytest.raises(ConfigError, match="longer than"):
        read_key(type(tmp_path)("/dev/zero"))
