"""WebRTC clients of libwebrtc's stack in one node process: tests/e2e/wrtc/calls.mjs, installed by npm."""

import asyncio
import json
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.require import require

FOLDER = Path(__file__).parent.parent / "e2e" / "wrtc"
ANSWER_TIMEOUT_S = 40


@dataclass
class WrtcClients:
    """Clients that are in a call each, and speak."""

    process: Process

    async def restart_ice(self) -> None:
        """All of them, through PATCH."""
        await self._order("restart")

    async def report(self) -> list[dict[str, Any]]:
        """How each of them is."""
        found: list[dict[str, Any]] = await self._order("report")
        return found

    async def hang_up(self) -> None:
        """All of them; the process ends."""
        await self._order("end")

    async def _order(self, order: str) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n".encode())
        return await self.answer()

    async def answer(self) -> Any:
        """The next line it says. AssertionError with what it complained of when it has ended."""
        assert self.process.stdout is not None
        line = await asyncio.wait_for(self.process.stdout.readline(), ANSWER_TIMEOUT_S)
        if not line:
            assert self.process.stderr is not None
            raise AssertionError((await self.process.stderr.read()).decode())
        return json.loads(line)


@asynccontextmanager
async def wrtc_clients(gateway: str, count: int) -> AsyncIterator[WrtcClients]:
    """So many clients, connected; whoever does not hang up is killed at the end. FOLDER must be installed."""
    node = require("node")
    process = await asyncio.create_subprocess_exec(
        node, str(FOLDER / "calls.mjs"), gateway, str(count), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    clients = WrtcClients(process)
    try:
        assert await clients.answer() == "connected"
        yield clients
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()
