"""Transceivers that do not register: each is asked for its record every second, and announced for it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping

import msgspec

from pyfastpath.registry.record import ANNOUNCE_EVERY_S, Registry, RegistryError, parse_record
from pyfastpath.signalling.errors import CallError
from pyfastpath.signalling.transceivers import Transceivers

log = logging.getLogger("pyfastpath.signalling")


class Polling:
    """One task a transceiver, from `start` to `close`."""

    def __init__(self, registry: Registry, transceivers: Transceivers, controls: Mapping[str, str]) -> None:
        """controls: id -> control address, as configured."""
        self._registry = registry
        self._transceivers = transceivers
        self._controls = dict(controls)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin asking."""
        self._tasks = [asyncio.create_task(self._poll(*one)) for one in self._controls.items()]

    async def close(self) -> None:
        """Ask no more."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    async def _poll(self, id: str, control: str) -> None:
        said = ""
        while True:
            why = await self._ask(id, control)
            if why and why != said:  # once, not every second; meanwhile the record grows old and is left out
                log.error("transceiver %s takes no calls: %s", id, why)
            elif said and not why:
                log.info("transceiver %s is back", id)
            said = why
            await asyncio.sleep(ANNOUNCE_EVERY_S)

    async def _ask(self, id: str, control: str) -> str:
        """Ask and announce; what went wrong, or nothing."""
        try:
            said = await self._transceivers.state(control)
            record = msgspec.structs.replace(parse_record(said), id=id, control=control)
            await self._registry.announce(record, time.monotonic())
        except CallError as error:
            return error.why or str(error)
        except RegistryError as error:
            return str(error)
        except Exception as error:  # whatever it makes us stumble over: the next second asks again
            log.exception("transceiver %s could not be asked", id)
            return str(error) or type(error).__name__
        return ""
