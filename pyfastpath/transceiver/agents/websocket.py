"""An agent that lives elsewhere: a server that speaks the Realtime WebSocket events, such as a real model.

What the user says goes there as input_audio_buffer.append (base64 of 16-bit PCM, 24 kHz), frame by frame;
what comes back as audio deltas is said; every other event passes, through `realtime.bridge`, unchanged. There
is one WebSocket a call and no second try: a conversation that the server has lost cannot be taken up again.
The client gets an `error` event with the reason, and the call ends.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
import ssl
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, Final, Literal
from urllib.parse import urlsplit

import aiohttp
import msgspec
import numpy as np

from pyfastpath.config.source import read_text
from pyfastpath.errors import ConfigError
from pyfastpath.transceiver.agent import Agent, AudioFrame, Call, Event
from pyfastpath.transceiver.realtime.bridge import AUDIO_DELTAS, session_for_server
from pyfastpath.types import Secret

log = logging.getLogger("pyfastpath.agents")

RATE_HZ: Final = 24_000
CONNECT_S: Final = 10.0
CLOSE_S: Final = 2.0
HEARTBEAT_S: Final = 20.0  # a server that vanished without a word is noticed within one and a half of these
MESSAGE_BYTES_MAX: Final = 16 * 1024 * 1024
WAITING_MAX: Final = 500  # ten seconds of frames that the server does not take
WAITING_BYTES_MAX: Final = 4 * 1024 * 1024  # the client's events may be long, too
SILENCE_MS: Final = 200  # without frames for so long, the server hears silence: its turn detection needs it
GAP_MS_MAX: Final = 2_000
FAREWELL_S: Final = (
    1.0  # between the error event and the end of the call: a data channel may still be opening
)
LOCAL_HOSTS: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class AgentLostError(Exception):
    """The server cannot be reached, or is gone; str() is for the client and names no address."""


def read_key(path: Path) -> Secret:
    """The key in a file of its own, white space around it removed. Raises ConfigError."""
    try:
        key = read_text(path).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the agent's key cannot be read from {path}: {error}", key="agent_key_file"
        ) from error
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"{path} holds no key", "It must hold the server's key and nothing else.", key="agent_key_file"
        )
    return Secret(key.encode())


class WebSocketAgents:
    """The agents of one external server: `make` one a call, `close` when the process ends.

    `trust` replaces the system's certificate authorities, for a server with a certificate of its own.
    Raises ConfigError for an address that is no WebSocket, or a key that would travel in the clear."""

    def __init__(self, url: str, key: Secret | None = None, *, trust: ssl.SSLContext | None = None) -> None:
        address = urlsplit(url)
        if address.scheme not in ("ws", "wss") or not address.hostname:
            raise ConfigError(f"{url} is no WebSocket address", "Write wss://HOST/PATH.", key="agent")
        if key and address.scheme == "ws" and address.hostname not in LOCAL_HOSTS:
            raise ConfigError(f"the key would go to {url} unencrypted", "Use wss://.", key="agent")
        self.url = url
        self.name = f"{address.scheme}://{address.hostname}"  # for logs: an address may hold a secret
        self._headers = {"Authorization": f"Bearer {key.value.decode()}"} if key else {}
        self._trust = trust
        self._http: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def make(self) -> Agent:
        """An agent for one call."""
        return WebSocketAgent(self)

    async def close(self) -> None:
        """End every conversation and release the sockets."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._http:
            await self._http.close()
            self._http = None

    async def connect(self) -> aiohttp.ClientWebSocketResponse:
        """A WebSocket to the server. Raises AgentLostError."""
        self._http = self._http or aiohttp.ClientSession()
        try:
            async with asyncio.timeout(CONNECT_S):
                return await self._http.ws_connect(
                    self.url,
                    headers=self._headers,
                    ssl=self._trust or True,
                    heartbeat=HEARTBEAT_S,
                    max_msg_size=MESSAGE_BYTES_MAX,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_S),
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("the agent's server %s: %r", self.name, error)
            raise AgentLostError(_explained(error)) from error

    def run(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that `close` waits for."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _explained(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError):
        return f"The certificate of the agent's server is not trusted: {_certificate_reason(error)}"
    if isinstance(error, aiohttp.WSServerHandshakeError):
        if error.status in (401, 403):
            return f"The agent's server refuses the key (HTTP {error.status})"
        return f"The agent's server answered HTTP {error.status} instead of opening a WebSocket"
    if isinstance(error, TimeoutError):
        return f"The agent's server did not answer within {CONNECT_S:.0f} s"
    return "The agent's server cannot be reached"


def _certificate_reason(error: Exception) -> str:
    cause = getattr(error, "certificate_error", None) or error.__cause__ or error
    return str(getattr(cause, "verify_message", "") or "TLS failed")


class WebSocketAgent(Agent):
    """One call's conversation with the server."""

    name: ClassVar[str] = "websocket"
    hears: ClassVar[Literal["pcm", "opus"]] = "pcm"
    rate_hz: ClassVar[Literal[16_000, 24_000]] = RATE_HZ
    owns_conversation: ClassVar[bool] = True

    def __init__(self, server: WebSocketAgents) -> None:
        self._server = server
        self._task: asyncio.Task[None] | None = None
        self._to_send: asyncio.Queue[bytes] = asyncio.Queue(WAITING_MAX)
        self._waiting_bytes = 0
        self._is_lost = False
        self._heard_ms: int | None = None  # how far the audio has come that the server got
        self._has_heard = False  # since the last look at the clock
        self._response_id: object = None
        self._cut_response_id: object = None
        self._has_said = False  # audio of the response under way
        self._half_sample = b""

    def start(self, call: Call) -> None:
        """Connect, and say what session the client asked for."""
        super().start(call)
        wish = session_for_server(dict(call.session))
        if wish:
            self._send({"type": "session.update", "session": {"type": "realtime", **wish}})
        call.wake_in(SILENCE_MS / 1000)
        self._task = self._server.run(self._converse())

    def stop(self) -> None:
        """The WebSocket closes in its own time; `WebSocketAgents.close` waits for it."""
        self._is_lost = True
        if self._task:
            self._task.cancel()

    # ---- towards the server -----------------------------------------------------------------------

    def hear(self, frame: AudioFrame) -> None:
        """A frame goes at once; where the client sent nothing, silence goes first."""
        if frame.pcm is None:
            return
        gap_ms = frame.time_ms - self._heard_ms if self._heard_ms is not None else 0
        if gap_ms > 0:
            self._append_silence(min(gap_ms, GAP_MS_MAX))
        self._append(frame.pcm.astype("<i2", copy=False).tobytes())
        self._heard_ms = frame.time_ms + frame.samples // 48
        self._has_heard = True

    def woken(self) -> None:
        """A client that sends no packets at all must still be heard to be silent."""
        if self._is_lost:
            self.call.hang_up("agent_lost")
            return
        if self._heard_ms is not None and not self._has_heard:
            self._append_silence(SILENCE_MS)
            self._heard_ms += SILENCE_MS
        self._has_heard = False
        self.call.wake_in(SILENCE_MS / 1000)

    def receive_event(self, event: Event) -> None:
        """A client event, or the bridge's word about what was heard: for the server."""
        self._send(event)

    def cancel(self, played_ms: int) -> None:
        """What still comes of this response is not said."""
        self._cut_response_id = self._response_id
        self._has_said = False

    def _append_silence(self, length_ms: int) -> None:
        self._append(bytes(length_ms * RATE_HZ * 2 // 1000))

    def _append(self, pcm: bytes) -> None:
        self._send({"type": "input_audio_buffer.append", "audio": base64.b64encode(pcm).decode()})

    def _send(self, event: Event) -> None:
        if self._is_lost:
            return
        text = msgspec.json.encode(event)
        if self._to_send.full() or self._waiting_bytes + len(text) > WAITING_BYTES_MAX:
            self._lose(AgentLostError("The agent's server takes no more audio"))
            return
        self._waiting_bytes += len(text)
        self._to_send.put_nowait(text)

    # ---- from the server --------------------------------------------------------------------------

    async def _converse(self) -> None:
        try:
            async with await self._server.connect() as websocket:
                sender = self._server.run(self._write(websocket))
                try:
                    await self._read(websocket)
                finally:
                    sender.cancel()
                    await asyncio.wait([sender])
        except AgentLostError as error:
            self._lose(error)
        except Exception:
            log.exception("the conversation with the agent's server failed")
            self._lose(AgentLostError("The conversation with the agent's server failed"))

    async def _write(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        try:
            while True:
                text = await self._to_send.get()
                self._waiting_bytes -= len(text)
                await websocket.send_str(text.decode())
        except (aiohttp.ClientError, OSError):
            await websocket.close()  # the reader learns it and says so

    async def _read(self, websocket: aiohttp.ClientWebSocketResponse) -> None:
        async for message in websocket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._receive(message.data)
        raise AgentLostError(f"The agent's server has closed the conversation (code {websocket.close_code})")

    def _receive(self, text: str) -> None:
        try:
            event = msgspec.json.decode(text, type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError) as error:
            log.warning("the agent's server %s sent no event: %s", self._server.name, error)
            raise AgentLostError("The agent's server sent something that is no event") from error
        kind = event.get("type")
        if kind in AUDIO_DELTAS:
            if self._cut_response_id is None or event.get("response_id") != self._cut_response_id:
                self._say(event)
            return
        if kind == "response.created" and isinstance(event.get("response"), dict):
            self._response_id = event["response"].get("id")
        self.call.send_event(event)
        if kind == "response.done" and self._has_said:
            self._has_said = False
            self.call.finish()

    def _say(self, event: dict[str, Any]) -> None:
        try:
            audio = self._half_sample + base64.b64decode(event.get("delta") or "", validate=True)
        except (binascii.Error, TypeError, ValueError) as error:
            raise AgentLostError("The agent's server sent audio that is no base64") from error
        whole = len(audio) & ~1
        self._half_sample = audio[whole:]
        self._has_said = True
        self.call.send_event(event)
        self.call.say(np.frombuffer(audio[:whole], "<i2").astype(np.int16), RATE_HZ)

    def _lose(self, error: AgentLostError) -> None:
        """Tell the client why, and hang up soon."""
        if self._is_lost:
            return
        self._is_lost = True
        log.warning("call ends: %s", error)
        self.call.send_event(
            {
                "type": "error",
                "error": {
                    "type": "server_error",
                    "code": "agent_lost",
                    "message": str(error),
                    "param": None,
                    "event_id": None,
                },
            }
        )
        self.call.wake_in(FAREWELL_S)
