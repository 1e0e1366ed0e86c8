"""Says that this transceiver lives: to relays (backend and state records) and to the registry.

Every relay is asked to know it until it does, and again every few seconds, because a relay that was started
anew has forgotten it. The registry gets the record every second and at each change.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable
from typing import Any, Final

import aiohttp

from pyfastpath.errors import FastpathError
from pyfastpath.registry.record import ANNOUNCE_EVERY_S, Registry, RegistryError
from pyfastpath.transceiver.endpoint import Endpoint
from pyfastpath.transceiver.member import Member
from pyfastpath.types import HttpAddress, Secret

log = logging.getLogger("pyfastpath.transceiver.announce")

RETRY_S: Final = 0.25  # until a relay knows us and has heard our trunk
CHECK_S: Final = 5.0  # afterwards
ASK_TIMEOUT_S: Final = 2.0
CHANGES_GAP_S: Final = 0.02  # many changes at once are announced together
GOODBYE_S: Final = 1.0  # what a relay or registry that does not answer may delay the end by


class RelayDesk:
    """Our entry at one relay's admin API."""

    def __init__(
        self, where: str, token: Secret, member: Member, endpoint: Endpoint, known: Callable[[], None]
    ) -> None:
        """where: a UNIX socket's path, or ip:port, which needs the token. known: called when it knows us."""
        self.where = where
        self.trouble = "not asked yet"  # why no call can come from this relay; empty: it can
        self.is_known = False  # it believes our trunk
        self._address = HttpAddress.parse(f"unix:{where}" if "/" in where else f"http://{where}")
        self._headers = {"Authorization": f"Bearer {token.value.decode()}"} if token else {}
        self._member = member
        self._endpoint = endpoint
        self._known = known

    async def keep(self) -> None:
        """Until cancelled: be known there."""
        async with self._client() as http:
            while True:
                try:
                    await self._register(http)
                except Exception:  # whatever a relay makes us stumble over: say so, and ask again
                    log.exception("relay %s could not be asked", self.where)
                    self.trouble = "a fault of ours: the log has it"
                await asyncio.sleep(RETRY_S if self.trouble else CHECK_S)

    async def leave(self) -> None:
        """No new flows from this relay; the flows it has end with us."""
        async with self._client() as http:
            await self._ask(http, "DELETE")

    async def _register(self, http: aiohttp.ClientSession) -> None:
        trunk = self._endpoint.trunk
        assert trunk is not None, "the configuration asks for relays, so there is a trunk"
        wanted = {
            "address": str(trunk.address),
            "mode": "trunk",
            "cluster": self._member.cluster,
            "transceiver": self._member.xcvr,
            "incarnation": self._member.incarnation,
        }
        try:
            shown = await self._ask(http, "PUT", wanted)
        except FastpathError as error:
            self.is_known = False
            self._note(str(error))
            return
        if not self.is_known:
            self.is_known = True
            self._known()
        self._note("it has not heard our trunk yet" if shown.get("state") == "down" else "")

    def _note(self, trouble: str) -> None:
        if trouble == self.trouble:
            return
        if trouble:
            log.info("relay %s: %s", self.where, trouble)
        else:
            log.info("relay %s sends calls to %s", self.where, self._member.id)
        self.trouble = trouble

    async def _ask(self, http: aiohttp.ClientSession, method: str, body: Any = None) -> dict[str, Any]:
        url = f"{self._address.base_url}/v1/backends/{self._member.id}"
        try:
            async with http.request(method, url, json=body) as reply:
                said = await reply.json() if reply.content_type == "application/json" else {}
                if not isinstance(said, dict):
                    raise FastpathError("its answer is no JSON object: is it a relay?")
                if reply.status >= 400:
                    message = said.get("error", {}).get("message", f"HTTP {reply.status}")
                    raise FastpathError(f"it refuses {method} /v1/backends: {message}")
                return dict(said)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise FastpathError(f"no answer: {error or type(error).__name__}") from None

    def _client(self) -> aiohttp.ClientSession:
        path = self._address.unix_path
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(path) if path else None,
            headers=self._headers,
            timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S),
        )


class Announcer:
    """Everything this transceiver says of itself to others. registry: None when it says nothing to any."""

    def __init__(
        self,
        endpoint: Endpoint,
        member: Member,
        *,
        registry: Registry | None,
        relays: Iterable[str] = (),
        relay_token: Secret = Secret(b""),
    ) -> None:
        self.desks = [RelayDesk(where, relay_token, member, endpoint, self.changed) for where in relays]
        self._endpoint = endpoint
        self._member = member
        self._registry = registry
        self._registry_trouble = "not asked yet" if registry else ""
        self._change = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, in the running event loop."""
        self._tasks = [asyncio.create_task(desk.keep()) for desk in self.desks]
        self._tasks.append(asyncio.create_task(self._announce_until_cancelled()))

    def changed(self) -> None:
        """The record is another one now: say it at once."""
        self._change.set()

    def troubles(self) -> list[str]:
        """Why no new call can reach this transceiver; empty when one can."""
        found = []
        if self.desks and all(desk.trouble for desk in self.desks):
            found += [f"relay {desk.where}: {desk.trouble}" for desk in self.desks]
        if self._registry_trouble:
            found.append(f"registry: {self._registry_trouble}")
        return found

    async def close(self) -> None:
        """Withdraw everywhere; whoever does not answer is left alone."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._member.is_stopping = True
        self._member.tell_relays(self._endpoint)
        goodbyes = [asyncio.create_task(desk.leave()) for desk in self.desks if desk.is_known]
        if self._registry is not None:
            goodbyes.append(asyncio.create_task(self._registry.withdraw(self._member.id)))
        if goodbyes:
            _, late = await asyncio.wait(goodbyes, timeout=GOODBYE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*goodbyes, return_exceptions=True)
        if self._registry is not None:
            await self._registry.close()

    async def _announce_until_cancelled(self) -> None:
        while True:
            self._change.clear()
            # A relay that does not know us yet would count each state record as one it cannot trust.
            if not self.desks or any(desk.is_known for desk in self.desks):
                self._member.tell_relays(self._endpoint)
            try:
                await self._announce()
            except Exception:  # as above: who falls silent here gets no call any more
                log.exception("the registry could not be told")
            with contextlib.suppress(TimeoutError):
                # wait_for, cancelled in the moment of a change, would swallow the cancellation (Python 3.11).
                async with asyncio.timeout(ANNOUNCE_EVERY_S):
                    await self._change.wait()
                await asyncio.sleep(CHANGES_GAP_S)

    async def _announce(self) -> None:
        if self._registry is None:
            return
        try:
            await self._registry.announce(self._member.record(self._endpoint), time.monotonic())
        except RegistryError as error:
            if str(error) != self._registry_trouble:
                log.warning("not announced: %s", error)
            self._registry_trouble = str(error)
        else:
            self._registry_trouble = ""
