"""The transceivers' control API as the gateway uses it: /v1/sessions over a UNIX socket or HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import msgspec

from pyfastpath.signalling.callid import unknown_call
from pyfastpath.signalling.errors import CallError
from pyfastpath.types import HttpAddress

TIMEOUT_S: Final = 2.0  # an answer takes milliseconds: whoever needs longer is as good as dead
SILENCE_S: Final = 3.0  # an event stream carries at least a comment each second
REPLY_BYTES_MAX: Final = 512 << 10
_PASSED_ON: Final = {
    "no_capacity",
    "draining",
    "conflict",
    "too_large",
    "too_many_streams",
}  # codes of other statuses than 400


class Transceivers:
    """One HTTP client for all of them. Every method names the transceiver by its control address.

    Errors are CallErrors: what the transceiver said (bad_sdp with its line, no_capacity, draining, conflict),
    unknown_call, transceiver_unreachable, or transceiver_failed for anything it should not say.
    """

    def __init__(self, token: bytes = b"") -> None:
        """token: sent to transceivers on TCP."""
        self._headers = {"Authorization": f"Bearer {token.decode(errors='replace')}"} if token else {}
        self._clients: dict[str, aiohttp.ClientSession] = {}  # UNIX path, or "" for all of TCP

    async def create(
        self,
        control: str,
        *,
        sid: str,
        call: str,
        ufrag: str,
        offer: str,
        candidates: tuple[str, ...],
        session: dict[str, Any],
    ) -> str:
        """A new session; gives the SDP answer."""
        return await self._answer(
            control,
            "/v1/sessions",
            {
                "sid": sid,
                "call": call,
                "ufrag": ufrag,
                "offer": offer,
                "candidates": candidates,
                "session": session,
            },
        )

    async def restart(
        self, control: str, sid: str, *, new_sid: str, ufrag: str, offer: str, candidates: tuple[str, ...]
    ) -> str:
        """New ICE credentials for a session, by an offer or a fragment; the answer is of the same kind."""
        return await self._answer(
            control,
            f"/v1/sessions/{sid}/restart",
            {"sid": new_sid, "ufrag": ufrag, "offer": offer, "candidates": candidates},
        )

    async def hang_up(self, control: str, sid: str) -> None:
        """End a session."""
        await self._ask(control, "DELETE", f"/v1/sessions/{sid}")

    async def look(self, control: str, sid: str) -> None:
        """unknown_call unless the session is there."""
        await self._ask(control, "GET", f"/v1/sessions/{sid}")

    async def state(self, control: str) -> bytes:
        """The transceiver's own record, as JSON."""
        return await self._ask(control, "GET", "/v1/state")

    @asynccontextmanager
    async def events(self, control: str, sid: str) -> AsyncIterator[aiohttp.StreamReader]:
        """The session's text/event-stream. Reading it raises ClientError or TimeoutError when it breaks."""
        client, url = self._client(control), _url(control, f"/v1/sessions/{sid}/events")
        timeout = aiohttp.ClientTimeout(total=None, connect=TIMEOUT_S, sock_read=SILENCE_S)
        try:
            reply = await client.get(url, timeout=timeout)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(control, error) from error
        try:
            if reply.status != 200:
                raise _refusal(control, reply.status, await reply.content.read(REPLY_BYTES_MAX))
            yield reply.content
        finally:
            reply.close()

    async def close(self) -> None:
        """Close every connection."""
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            await client.close()

    async def _answer(self, control: str, path: str, body: dict[str, Any]) -> str:
        said = await self._ask(control, "POST", path, msgspec.json.encode(body))
        try:
            return msgspec.json.decode(said, type=_Answer).answer
        except ValueError as error:  # of msgspec, or of text that is not UTF-8
            raise _failed(control, f"it answered with something else: {error}") from None

    async def _ask(self, control: str, method: str, path: str, body: bytes = b"") -> bytes:
        try:
            client = self._client(control)
            async with client.request(method, _url(control, path), data=body or None) as reply:
                said = await reply.content.read(REPLY_BYTES_MAX)
                while chunk := await reply.content.read(REPLY_BYTES_MAX - len(said)):
                    said += chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(control, error) from error
        if reply.status >= 300:
            raise _refusal(control, reply.status, said)
        return said

    def _client(self, control: str) -> aiohttp.ClientSession:
        path = HttpAddress.parse(control).unix_path
        client = self._clients.get(path)
        if client is None:
            # limit 0: each event stream holds a connection for the length of a call
            connector = aiohttp.UnixConnector(path, limit=0) if path else aiohttp.TCPConnector(limit=0)
            client = self._clients[path] = aiohttp.ClientSession(
                connector=connector,
                headers={} if path else self._headers,
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
                auto_decompress=False,
            )
        return client


class _Answer(msgspec.Struct, frozen=True):
    answer: str


class _Said(msgspec.Struct, frozen=True):
    code: str
    message: str
    line: int | None = None


class _Error(msgspec.Struct, frozen=True):
    error: _Said


def _url(control: str, path: str) -> str:
    return HttpAddress.parse(control).base_url + path


def _refusal(control: str, status: int, said: bytes) -> CallError:
    """What the transceiver's error is for whoever asked the gateway."""
    try:
        error = msgspec.json.decode(said, type=_Error).error
    except ValueError:
        return _failed(control, f"it answered with status {status}")
    if error.code == "not_found":
        return unknown_call()
    if status == 400 or error.code in _PASSED_ON:
        param = "session" if "session" in error.code else "sdp"
        return CallError(
            error.message, code=error.code, param=param if status == 400 else None, line=error.line
        )
    return _failed(control, f"it answered {status}: {error.message}")


def _failed(control: str, why: str) -> CallError:
    """Nobody outside needs to know where and why."""
    return CallError(
        "the transceiver failed",
        "Try again.",
        code="transceiver_failed",
        retry_after_s=1,
        why=f"the transceiver at {control} failed: {why}",
    )


def _unreachable(control: str, error: BaseException) -> CallError:
    return CallError(
        "the transceiver does not answer",
        "Try again.",
        code="transceiver_unreachable",
        retry_after_s=1,
        why=f"the transceiver at {control} does not answer: {str(error) or type(error).__name__}",
    )
