"""The life of a call as the gateway has it: placed, restarted, followed, ended. It remembers none of it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import StreamReader

from pyfastpath.registry.record import ALIVE_S, Registry, RegistryError, TransceiverRecord
from pyfastpath.signalling.callid import CallIds, CallName, Minter, unknown_call
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.numbers import Numbers
from pyfastpath.signalling.placement import RETRY_AFTER_S, Placement, holder
from pyfastpath.signalling.transceivers import Transceivers
from pyfastpath.signalling.whip import EntityTags, Patch
from pyfastpath.wire.token import SESSION_BITS

log = logging.getLogger("pyfastpath.signalling")

ATTEMPTS_MAX: Final = 3  # an offer that kills what reads it must not go round the whole fleet
LOOK_EVERY_S: Final = 0.1
_FAILURES: Final = {
    "transceiver_unreachable": "unreachable",
    "transceiver_failed": "failed",
    "no_capacity": "no_capacity",
    "draining": "draining",
    "conflict": "failed",
}
"""A transceiver's refusals after which the next one is asked, as the metric names them."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What goes back: the answer or fragment, its call, and the entity tag of this ICE generation."""

    call_id: str
    text: str
    etag: str


class Switchboard:
    """Connects requests with transceivers."""

    def __init__(
        self,
        *,
        registry: Registry,
        transceivers: Transceivers,
        placement: Placement,
        ids: CallIds,
        tags: EntityTags,
        minter: Minter,
        candidates: tuple[str, ...],
        numbers: Numbers,
    ) -> None:
        """candidates: ip:port of the ingress addresses, the best one first."""
        self._registry = registry
        self._transceivers = transceivers
        self._placement = placement
        self._ids = ids
        self._tags = tags
        self._minter = minter
        self._candidates = candidates
        self._numbers = numbers
        self._began_s = time.monotonic()

    async def place(self, offer: str, session: dict[str, Any]) -> Answered:
        """A new call on the best transceiver, on the next one if that fails. CallError when none takes it."""
        began_s = time.monotonic()
        try:
            answered = await self._place(offer, session)
        except CallError as error:
            self._numbers.calls[_outcome(error)] += 1
            raise
        self._numbers.calls["placed"] += 1
        self._numbers.placement_s.observe(time.monotonic() - began_s)
        return answered

    async def _place(self, offer: str, session: dict[str, Any]) -> Answered:
        records = await self.records()
        for record in self._placement.order(records, time.monotonic())[:ATTEMPTS_MAX]:
            self._placement.placed(record)  # before it answers: others choose meanwhile
            try:
                return await self._create(record, offer, session)
            except CallError as error:
                self._placement.gave_back(record)
                if error.code not in _FAILURES:
                    raise
                log.warning(
                    "a call goes on to the next: %s", error.why or error, extra={"transceiver": record.id}
                )
                self._numbers.placement_failures[_FAILURES[error.code]] += 1
                self._placement.failed(record)
        raise CallError(
            "no transceiver took the call",
            "Try again in a moment.",
            code="no_capacity",
            retry_after_s=RETRY_AFTER_S,
        )

    async def _create(self, record: TransceiverRecord, offer: str, session: dict[str, Any]) -> Answered:
        sid = secrets.randbits(SESSION_BITS)
        name = CallName(record.cluster, record.xcvr, record.incarnation, sid)
        call_id = self._ids.build(name)
        answer = await self._transceivers.create(
            record.control,
            sid=name.sid_text,
            call=call_id,
            ufrag=self._minter.mint(name, sid, int(time.time()), has_data=_has_data(offer)),
            offer=offer,
            candidates=self._candidates,
            session=session,
        )
        log.info("call placed", extra={"sid": name.sid_text, "transceiver": record.id})
        return Answered(call_id, answer, self._tags.build(name, sid))

    async def restart(self, call_id: str, patch: Patch) -> Answered:
        """ICE restart: a new token for the same session, which keeps its id."""
        name, record = await self._find(call_id)
        sid = secrets.randbits(SESSION_BITS)
        text = await self._transceivers.restart(
            record.control,
            name.sid_text,
            new_sid=CallName(name.cluster, name.xcvr, name.incarnation, sid).sid_text,
            ufrag=self._minter.mint(name, sid, int(time.time()), has_data=_has_data(patch.text)),
            offer=patch.text,
            candidates=self._candidates,
        )
        return Answered(call_id, text, self._tags.build(name, sid))

    async def check(self, call_id: str, if_match: str | None = None) -> None:
        """CallError unless the call lives and, when given, If-Match holds an entity tag of it."""
        name, record = await self._find(call_id)
        if if_match is not None and not self._tags.matches(if_match, name):
            raise CallError(
                "If-Match holds no entity tag of this call",
                "Send the ETag of its last answer.",
                code="precondition_failed",
            )
        await self._transceivers.look(record.control, name.sid_text)

    async def hang_up(self, call_id: str) -> None:
        """End the call."""
        name, record = await self._find(call_id)
        await self._transceivers.hang_up(record.control, name.sid_text)
        log.info("call hung up", extra={"sid": name.sid_text, "transceiver": record.id})

    @asynccontextmanager
    async def events(self, call_id: str) -> AsyncIterator[StreamReader]:
        """The transceiver's event stream of the call."""
        name, record = await self._find(call_id)
        async with self._transceivers.events(record.control, name.sid_text) as stream:
            yield stream

    async def records(self) -> list[TransceiverRecord]:
        """Who is alive. CallError no_capacity when the registry itself is not."""
        try:
            return await self._registry.records(time.monotonic())
        except RegistryError as error:
            log.error("the registry failed: %s", error)  # noqa: TRY400 - its sentence says it all
            raise CallError(
                "who is alive is not known at this moment",
                "Try again.",
                code="no_capacity",
                retry_after_s=RETRY_AFTER_S,
            ) from error

    def has_room(self, records: list[TransceiverRecord]) -> None:
        """CallError no_capacity, which says why, when none of them would get a call."""
        self._placement.order(records, time.monotonic())

    async def _find(self, call_id: str) -> tuple[CallName, TransceiverRecord]:
        """Who holds the call. Just after its start a gateway waits for the living to announce themselves."""
        name = self._ids.parse(call_id)
        while True:
            found = holder(await self.records(), name.cluster, name.xcvr, name.incarnation)
            if found is not None:
                return name, found
            if time.monotonic() - self._began_s > ALIVE_S:
                raise unknown_call()
            await asyncio.sleep(LOOK_EVERY_S)


def _outcome(error: CallError) -> str:
    if error.code == "no_capacity":
        return "no_capacity"
    return "refused" if error.status < 500 else "failed"


def _has_data(description: str) -> bool:
    """Does it offer a data channel? Only for the token's class; the transceiver reads the offer properly."""
    return "\nm=application " in description
