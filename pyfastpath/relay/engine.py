"""The engine: forwarding threads, and one control thread with everything an operator talks to.

As a process (python -m pyfastpath.relay.engine) it is the keeper's child: it inherits sockets and memory,
and the next engine goes on where this one ends. Signals reach it as bytes from the keeper; its own stay
blocked, because a terminal or systemd signals both processes and two SIGTERMs mean "at once". The Python
API runs the same class in a thread.
"""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

import uvloop

from pyfastpath import log as logs
from pyfastpath.config import RelayConfig, load
from pyfastpath.errors import ConfigError, FastpathError
from pyfastpath.relay.control import Control, Reloaded
from pyfastpath.relay.opening import (
    MANIFEST_VARIABLE,
    RELOADED,
    STARTED,
    Manifest,
    Opening,
    decode_manifest,
)
from pyfastpath.relay.probe import Probes

log = logging.getLogger("pyfastpath.engine")

TICK_S: Final = 1.0
SWEEP_TICKS: Final = 5
WORKER_FAILED: Final = 70  # exit code, EX_SOFTWARE


class Engine:
    """One relay at work. All methods belong to the thread that runs `run`, the control thread."""

    def __init__(
        self, opening: Opening, config: RelayConfig, *, load: Callable[[], RelayConfig] | None = None
    ) -> None:
        """load: reads the configuration again, for a reload; None when it came from no file."""
        self._load = load
        self._opening = opening
        self._ended: asyncio.Future[int] | None = None
        self._drain_deadline_s: float | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.on_reload: Callable[[], None] = lambda: None
        self.control = Control(opening, config, failed=self._worker_failed)

    async def run(self, started: Callable[[], None] = lambda: None) -> int:
        """Serve until `stop`; gives its code. `started` is called when everything is open."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self.control.start()
        probes = Probes(self.control)
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(self.control.stop)
            undo.callback(probes.close)
            await self._serve_http(undo)
            started()
            log.info(
                "%d workers serve %d shards on %s",
                len(self.control.crew.members),
                len(self.control.shards),
                ", ".join(self._opening.listeners),
            )
            await self._tick_until_ended(self._ended, probes)
        return self._ended.result()

    def stop(self, code: int = 0) -> None:
        """End now."""
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(code)

    def drain_and_stop(self) -> None:
        """Refuse new flows, end when the last live one has ended or the deadline passes; again: end now."""
        if self._drain_deadline_s is not None:
            self.stop()
            return
        self._drain_deadline_s = time.monotonic() + self.control.config.drain_deadline_s
        self.control.set_draining(True)
        self._stop_if_drained()

    def reload(self) -> Reloaded:
        """Read the configuration again and follow it; ConfigError leaves everything as it was."""
        if self._load is None:
            raise ConfigError("this relay was configured by its program", "Change it there and start again.")
        done = self.control.reload(self._load())
        self.on_reload()
        return done

    async def _tick_until_ended(self, ended: asyncio.Future[int], probes: Probes) -> None:
        ticks = 0
        while not ended.done():
            await asyncio.wait({ended}, timeout=TICK_S)
            ticks += 1
            self.control.observe()
            await probes.turn()
            if ticks % SWEEP_TICKS == 0:
                self.control.sweep()
            self._stop_if_drained()

    def _stop_if_drained(self) -> None:
        if self._drain_deadline_s is None:
            return
        live = self.control.live_flows()
        if live == 0:
            log.info("drained: no live flow is left")
            self.stop()
        elif time.monotonic() >= self._drain_deadline_s:
            log.warning("drain deadline passed with %d live flows", live)
            self.stop()

    async def _serve_http(self, undo: contextlib.AsyncExitStack) -> None:
        # Here and not above: the workers forward already while these are imported (0.1 s), and after an
        # engine's death every datagram of that time waits in the kernel.
        from aiohttp import web

        from pyfastpath.relay.admin import admin_app
        from pyfastpath.relay.capture import Captures
        from pyfastpath.relay.health import health_app

        opening, config, captures = self._opening, self.control.config, Captures(self.control)
        token = config.admin_token.value
        logging.getLogger("aiohttp.server").addFilter(_is_our_fault)
        for fd, app in (
            (opening.health, health_app(self.control)),
            (opening.admin_unix, admin_app(self.control, captures, reload=self.reload)),
            (opening.admin_tcp, admin_app(self.control, captures, reload=self.reload, token=token)),
        ):
            if fd >= 0:
                runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
                await runner.setup()
                undo.push_async_callback(runner.cleanup)
                # A duplicate: the server closes its socket, the keeper's stays.
                await web.SockSite(runner, socket.socket(fileno=os.dup(fd))).start()

    def _worker_failed(self) -> None:
        """A worker thread ended by an error: let the keeper start a fresh engine over the same memory."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.stop, WORKER_FAILED)


def _is_our_fault(record: logging.LogRecord) -> bool:
    """Whoever sends what is no HTTP gets a 400; a traceback for each would let strangers fill the log."""
    from aiohttp.http_exceptions import HttpProcessingError

    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


class KeeperEnd:
    """The engine's end of the socket to its keeper: a signal's number comes in as a byte, news go out."""

    def __init__(self, fd: int, engine: Engine, log_handler: logs.ReopenableHandler) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._engine = engine
        self._log_handler = log_handler
        self._orders: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: engine.drain_and_stop,
            signal.SIGINT: engine.stop,
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: lambda: engine.control.set_draining(True),
            signal.SIGUSR2: lambda: log.warning("upgrade is not in this version"),
        }

    def attend(self) -> None:
        """Say that the engine has started, and take orders from now on."""
        self._tell(STARTED)
        self._engine.on_reload = lambda: self._tell(RELOADED)
        asyncio.get_running_loop().add_reader(self._socket, self._spoken)

    def _spoken(self) -> None:
        try:
            numbers = self._socket.recv(64)
        except ConnectionResetError:  # the keeper died with news of ours unread
            numbers = b""
        if not numbers:
            log.error("the keeper is gone: ending, so that another can have its sockets")
            asyncio.get_running_loop().remove_reader(self._socket)
            self._engine.stop()
        for number in numbers:
            self._orders[signal.Signals(number)]()

    def _hang_up(self) -> None:
        self._log_handler.reopen()
        try:
            self._engine.reload()
        except ConfigError as error:
            for one in (error, *error.others):
                log.error("not reloaded: %s", one)  # noqa: TRY400 - its sentence says it all

    def _tell(self, news: bytes) -> None:
        with contextlib.suppress(OSError):  # the keeper is gone, or has more unread news than fit
            self._socket.send(news)


async def serve(manifest: Manifest, log_handler: logs.ReopenableHandler) -> int:
    """The engine process from attached memory to its exit code."""
    engine = Engine(
        manifest.opening,
        manifest.config,
        load=lambda: load(manifest.file or None, flags=manifest.flags),
    )
    return await engine.run(KeeperEnd(manifest.keeper, engine, log_handler).attend)


def main() -> int:
    """Exit code 0: ended as told."""
    with os.fdopen(int(os.environ.pop(MANIFEST_VARIABLE)), "rb") as file:
        manifest = decode_manifest(file.read())
    config = manifest.config
    handler = logs.setup(config.log_level, config.log_format, config.log_file)
    try:
        return uvloop.run(serve(manifest, handler))
    except FastpathError as error:
        log.error("%s", error)  # noqa: TRY400 - its sentence says it all
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
