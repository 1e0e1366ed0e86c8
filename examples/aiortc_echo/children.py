"""The demo's children: started with a log file, waited for until they answer, ended in any case."""

import asyncio
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp

START_TIMEOUT_S = 15
STOP_TIMEOUT_S = 5
LOG_LINES = 15


class DemoError(Exception):
    """Why the demo cannot go on, and what to do."""


@asynccontextmanager
async def child(name: str, log: Path, *command: str) -> AsyncIterator[Process]:
    """`python -m command`, printing into `log`; ended with SIGINT, at the latest killed.

    In a session of its own, so that Ctrl-C reaches it through the demo alone.
    """
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", *command, stdin=DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        try:
            await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
        except TimeoutError:
            print(f"{name} did not stop within {STOP_TIMEOUT_S} s and was killed", file=sys.stderr)
            process.kill()
            await process.wait()


async def wait_for(name: str, url: str, process: Process, log: Path) -> None:
    """Until `url` answers 200. Raises DemoError with the end of its log when `name` ends or stays silent."""
    deadline = time.monotonic() + START_TIMEOUT_S
    async with aiohttp.ClientSession() as session:
        while process.returncode is None and time.monotonic() < deadline:
            with suppress(aiohttp.ClientError):
                async with session.get(url) as reply:
                    if reply.ok:
                        return
            await asyncio.sleep(0.05)
    fate = "did not become ready" if process.returncode is None else f"ended with code {process.returncode}"
    raise DemoError(f"{name} {fate}. The end of its log:\n{_last_lines(log)}")


def _last_lines(log: Path) -> str:
    return "\n".join("  " + line for line in log.read_text(errors="replace").splitlines()[-LOG_LINES:])
