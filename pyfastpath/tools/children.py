"""Child processes of one command: logs in files, restarted when they die, gone when the command is gone.

Each child is `python -m …` in a session of its own, so that Ctrl-C reaches it through its parent alone, and
the kernel kills it when the parent dies in whatever way (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aiohttp

from pyfastpath.errors import FastpathError

PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
START_TIMEOUT_S: Final = 20.0
STOP_TIMEOUT_S: Final = 5.0
POLL_S: Final = 0.05
ASK_TIMEOUT_S: Final = 2.0
SHORT_LIFE_S: Final = 3.0
SHORT_LIVES_MAX: Final = 3  # one after the other; then its log says why better than a fourth would
LOG_LINES: Final = 15


class ChildError(FastpathError):
    """A child that does not start, or dies over and over; with the end of its log."""


@dataclass(slots=True, eq=False)
class Child:
    """One program. command: what follows `python -m`. ready: the URL that answers 200 when it serves."""

    name: str
    command: tuple[str, ...]
    log: Path
    ready: str
    process: Process | None = None
    began_s: float = 0.0
    short_lives: int = 0

    def fate(self) -> str:
        """`with code 1` or `by SIGKILL`; for a child that has ended."""
        code = self.process.returncode if self.process is not None else None
        if code is None:
            return "not at all"
        return f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}"

    def last_lines(self) -> str:
        """The end of its log."""
        with suppress(OSError):
            lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            return "\n".join("  " + line for line in lines)
        return ""


class Children:
    """All children of this process. say: prints one line."""

    def __init__(self, environ: Mapping[str, str], say: Callable[[str], None]) -> None:
        self._environ = dict(environ)
        self._say = say
        self._children: list[Child] = []

    async def start(self, child: Child) -> None:
        """Start it; it belongs to this object from now on."""
        self._children.append(child)
        await self._spawn(child)

    async def wait_until_ready(self) -> None:
        """Until every child serves. ChildError when one ends or stays silent."""
        async with _http() as http:
            await asyncio.gather(*(self._wait_for(child, http) for child in self._children))

    async def keep(self) -> None:
        """Until cancelled: start another for each that dies. ChildError when one dies over and over."""
        ends = {asyncio.ensure_future(_end_of(child)): child for child in self._children}
        try:
            while True:
                ended, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
                for end in ended:
                    child = ends.pop(end)
                    await self._replace(child)
                    ends[asyncio.ensure_future(_end_of(child))] = child
        finally:
            for end in ends:
                end.cancel()

    async def close(self) -> None:
        """End all of them: SIGINT, and SIGKILL for whoever does not obey. In any case none is left."""
        children = [child for child in self._children if child.process is not None]
        for child in children:
            _send(child, signal.SIGINT)
        await asyncio.gather(*(self._see_off(child) for child in children))
        self._children.clear()

    async def _see_off(self, child: Child) -> None:
        assert child.process is not None
        try:
            await asyncio.wait_for(child.process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            self._say(f"{child.name} did not stop within {STOP_TIMEOUT_S:.0f} s and was killed")
            _send(child, signal.SIGKILL)
            await child.process.wait()

    async def _spawn(self, child: Child) -> None:
        child.began_s = time.monotonic()
        parent = os.getpid()
        with child.log.open("ab") as out:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *child.command,
                stdin=DEVNULL,
                stdout=out,
                stderr=out,
                env=self._environ,
                start_new_session=True,
                preexec_fn=lambda: _die_with(parent),
            )

    async def _wait_for(self, child: Child, http: aiohttp.ClientSession) -> None:
        deadline_s = time.monotonic() + START_TIMEOUT_S
        assert child.process is not None
        while child.process.returncode is None and time.monotonic() < deadline_s:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with http.get(child.ready) as reply:
                    if reply.ok:
                        return
            await asyncio.sleep(POLL_S)
        silent = child.process.returncode is None
        what = "did not become ready" if silent else f"ended {child.fate()}"
        raise ChildError(f"{child.name} {what}. The end of its log:\n{child.last_lines()}")

    async def _replace(self, child: Child) -> None:
        lived_s = time.monotonic() - child.began_s
        child.short_lives = child.short_lives + 1 if lived_s < SHORT_LIFE_S else 0
        if child.short_lives >= SHORT_LIVES_MAX:
            raise ChildError(
                f"{child.name} ended {child.fate()}, {SHORT_LIVES_MAX} times at once. "
                f"The end of its log:\n{child.last_lines()}"
            )
        self._say(f"{child.name} ended {child.fate()}: starting another")
        await self._spawn(child)


async def _end_of(child: Child) -> None:
    assert child.process is not None
    await child.process.wait()


def _send(child: Child, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        assert child.process is not None
        child.process.send_signal(number)


def _http() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ASK_TIMEOUT_S))


_libc = ctypes.CDLL(None, use_errno=True)


def _die_with(parent: int) -> None:
    """In the child, before it becomes another program: no orphan, not even of a parent that was killed."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel knew
        os._exit(1)
