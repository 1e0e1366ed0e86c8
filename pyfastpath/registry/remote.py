"""The registry behind a gateway's admin API, for a transceiver in another process or on another machine."""

from typing import Any, Final

import aiohttp
import msgspec

from pyfastpath.registry.record import RegistryError, TransceiverRecord, build_record
from pyfastpath.types import HttpAddress

TIMEOUT_S: Final = 2.0  # an announcement that takes longer is not worth waiting for: the next one is due


class RemoteRegistry:
    """See registry.record.Registry. Speaks HTTP to `address`: unix:/path or http://host:port (ValueError)."""

    def __init__(self, address: str, token: bytes = b"") -> None:
        self._address = HttpAddress.parse(address)
        self._token = token
        self._http: aiohttp.ClientSession | None = None  # needs a running loop: made at the first request

    async def announce(self, record: TransceiverRecord, now: float) -> None:
        """PUT /v1/transceivers/{id}; the gateway stamps it with its own clock."""
        await self._ask("PUT", f"/v1/transceivers/{record.id}", build_record(record))

    async def withdraw(self, id: str) -> None:
        """DELETE /v1/transceivers/{id}."""
        await self._ask("DELETE", f"/v1/transceivers/{id}")

    async def records(self, now: float) -> list[TransceiverRecord]:
        """GET /v1/transceivers; `heard_s` is put on the caller's clock by the ages the gateway gives."""
        said = await self._ask("GET", "/v1/transceivers")
        try:
            rows = msgspec.json.decode(said, type=_Listing).transceivers
        except ValueError as error:  # of msgspec, or of text that is not UTF-8
            raise RegistryError(f"{self._address} answered with something else: {error}") from error
        return [msgspec.structs.replace(row.record, heard_s=now - row.heard_ago_s) for row in rows]

    async def close(self) -> None:
        """Close its HTTP connections."""
        if self._http is not None:
            await self._http.close()
            self._http = None

    async def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        if self._http is None:
            self._http = _client(self._address, self._token)
        try:
            async with self._http.request(method, self._address.base_url + path, data=body or None) as reply:
                said = await reply.read()
                if reply.status >= 400:
                    raise RegistryError(f"{self._address} refused {method} {path}: {_message(said)}")
                return said
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise RegistryError(
                f"the registry at {self._address} does not answer: {error or type(error).__name__}",
                "Is the gateway running, and its admin socket there?",
            ) from error


class _Row(msgspec.Struct, frozen=True):
    record: TransceiverRecord
    heard_ago_s: float


class _Listing(msgspec.Struct, frozen=True):
    transceivers: list[_Row]


def _client(address: HttpAddress, token: bytes) -> aiohttp.ClientSession:
    headers = {"Authorization": f"Bearer {token.decode(errors='replace')}"} if token else {}
    connector = aiohttp.UnixConnector(address.unix_path) if address.unix_path else None
    return aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)
    )


def _message(said: bytes) -> str:
    try:
        found: Any = msgspec.json.decode(said)
        return str(found["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return said[:200].decode(errors="replace")
