"""The engine: forwarding threads, and one control thread with everything an operator talks to.

As a process (python -m pyfastpath.relay.engine, or relay.warming where it is to wait) it is the keeper's
child: it inherits sockets and memory, imports everything, and waits for the word, which comes at once or when
another engine has ended. Signals reach it as messages from the keeper; its own stay blocked, because a
terminal or systemd signals all processes and two SIGTERMs mean "at once". The Python API runs the same class
in a thread.
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
from fastpath.shard import LAYOUT_VERSION

from pyfastpath import __version__
from pyfastpath import log as logs
from pyfastpath.config import RelayConfig, load
from pyfastpath.errors import ConfigError, FastpathError
from pyfastpath.guard import Gate
from pyfastpath.relay import orders
from pyfastpath.relay.admin import admin_app
from pyfastpath.relay.capture import Captures
from pyfastpath.relay.control import Control, Reloaded, read_remembered
from pyfastpath.relay.export import read_export, write_export
from pyfastpath.relay.health import health_app
from pyfastpath.relay.manifest import MANIFEST_VARIABLE, Manifest, config_of, decode_manifest
from pyfastpath.relay.memory import MemoryFds, become_writer, resign_writer
from pyfastpath.relay.opening import Opening
from pyfastpath.relay.probe import Probes
from pyfastpath.serving import serve as serve_http

log = logging.getLogger("pyfastpath.engine")

TICK_S: Final = 1.0
SWEEP_TICKS: Final = 5
PROGRESS_S: Final = 10.0  # of a drain, in the log
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
        self._told_to_end = False
        self._progress_s = 0.0  # when the next line about a drain is due
        self._loop: asyncio.AbstractEventLoop | None = None
        self.release: orders.Release | None = None  # another engine is to go on over the same memory
        self.say_alive: Callable[[str], object] = lambda _: None
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
        if self._told_to_end:
            self.stop()
            return
        self._told_to_end = True
        self.control.begin_ending()
        self._stop_if_drained()

    def reload(self) -> Reloaded:
        """Read the configuration again and follow it; ConfigError leaves everything as it was."""
        if self._load is None:
            raise ConfigError("this relay was configured by its program", "Change it there and start again.")
        return self.control.reload(self._load())

    def let_go(self, order: orders.Release) -> None:
        """End so that another engine can take over: nothing in hand, nothing touched afterwards."""
        self.release = order
        self.stop()

    async def _tick_until_ended(self, ended: asyncio.Future[int], probes: Probes) -> None:
        ticks = 0
        while not ended.done():
            await asyncio.wait({ended}, timeout=TICK_S)
            ticks += 1
            self.control.observe()
            if self.control.workers_turn():
                self.say_alive(self.control.doing())
            await probes.turn()
            if ticks % SWEEP_TICKS == 0:
                self.control.sweep()
            self._stop_if_drained()

    def _stop_if_drained(self) -> None:
        drain, now_s = self.control.drain, time.monotonic()
        if drain is None or not drain.ends:
            return
        live = self.control.live_flows()
        if drain.is_done(now_s, live):
            log.info("drained: no live flow is left")
            self.stop()
        elif drain.is_over(now_s, live):
            log.warning("drain deadline passed with %d live flows", live)
            self.stop()
        elif now_s >= self._progress_s:
            self._progress_s = now_s + PROGRESS_S
            log.info("draining: %d live flows, %.0f s until the deadline", live, drain.left_s(now_s))

    async def _serve_http(self, undo: contextlib.AsyncExitStack) -> None:
        opening, config, captures = self._opening, self.control.config, Captures(self.control)
        token = config.admin_token.value
        gates: dict[str, Gate] = {}
        for name, fd, app in (
            ("health_listen", opening.health, health_app(self.control, gates)),
            ("admin_socket", opening.admin_unix, admin_app(self.control, captures, reload=self.reload)),
            (
                "admin_tcp",
                opening.admin_tcp,
                admin_app(self.control, captures, reload=self.reload, token=token),
            ),
        ):
            if fd >= 0:
                gates[name] = Gate()
                # A duplicate: the server closes its socket, the keeper's stays.
                await serve_http(undo, app, socket.socket(fileno=os.dup(fd)), gates[name])

    def _worker_failed(self) -> None:
        """A worker thread ended by an error: let the keeper start a fresh engine over the same memory."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.stop, WORKER_FAILED)


class KeeperEnd:
    """The engine's end of the socket to its keeper."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def wait(self) -> int | None:
        """Say that everything is imported and wait for the word; None: not wanted any more.

        Gives the descriptor of the export to make tables from, or -1.
        """
        self._say(orders.Ready(layout=LAYOUT_VERSION, version=__version__))
        heard = orders.receive_order(self._socket)
        if heard is None or not isinstance(heard[0], orders.Go):
            return None
        return heard[1][0] if heard[1] else -1

    def attend(self, engine: Engine, log_handler: logs.ReopenableHandler) -> None:
        """Take orders from now on."""
        self._engine, self._log_handler = engine, log_handler
        self._signals: dict[int, Callable[[], None]] = {
            signal.SIGTERM: engine.drain_and_stop,
            signal.SIGINT: engine.stop,
            signal.SIGHUP: self._hang_up,
            signal.SIGUSR1: engine.control.begin_drain,
        }
        engine.control.request_upgrade = lambda: self._say(orders.Upgrade())
        engine.say_alive = lambda text: self._say(orders.Alive(text))
        asyncio.get_running_loop().add_reader(self._socket, self._hear)

    def say_started(self, made: MemoryFds | None) -> None:
        """It forwards. made: new tables in place of the relay's."""
        self._say(orders.Started(), (made.shared, *made.shards) if made else ())

    def say_released(self, export: int) -> None:
        """Another engine may go on. export: descriptor of what it is to make its tables from, or -1."""
        self._say(orders.Released(), (export,) if export >= 0 else ())

    def _hear(self) -> None:
        heard = orders.receive_order(self._socket)
        if heard is None:
            log.error("the keeper is gone: ending, so that another can have its sockets")
            asyncio.get_running_loop().remove_reader(self._socket)
            self._engine.stop()
            return
        match heard[0]:
            case orders.Signalled(number=number):
                self._signals[number]()
            case orders.Release() as order:
                self._engine.let_go(order)
            case orders.Upgraded(done=done, text=text):
                self._engine.control.upgrade = ("done" if done else "failed", text)

    def _say(self, message: orders.Message, descriptors: tuple[int, ...] = ()) -> bool:
        return orders.send(self._socket, message, descriptors)

    def _hang_up(self) -> None:
        self._log_handler.reopen()
        try:
            self._engine.reload()
        except ConfigError as error:
            for one in (error, *error.others):
                log.error("not reloaded: %s", one)  # noqa: TRY400 - its sentence says it all
        self._say(orders.Reloaded())


def serve(manifest: Manifest, keeper: KeeperEnd, export: int, log_handler: logs.ReopenableHandler) -> int:
    """The engine process from the word on to its exit code. export: as `KeeperEnd.wait` gave it."""
    log_handler.reopen()  # it may have been moved while we waited
    opening, made = manifest.opening, None
    if export >= 0:
        made = imported(export, opening.memory.note)
        # On trial the keeper has them; later nobody needs them, and what is open takes their memory.
        orders.close_all((opening.memory.shared, *opening.memory.shards))
        opening = opening.over(made)
    become_writer(opening.memory)
    config, file, flags = configured(manifest), manifest.file, manifest.flags
    engine = Engine(opening, config, load=lambda: load(file or None, flags=flags))

    async def live() -> int:
        keeper.attend(engine, log_handler)
        return await engine.run(lambda: keeper.say_started(made))

    code = uvloop.run(live())
    if engine.release is not None:
        written = exported(engine.control) if engine.release.export else -1
        resign_writer(opening.memory)
        keeper.say_released(written)
    return code


def exported(control: Control) -> int:
    """A descriptor of everything in the tables, for an engine of another layout; -1 when there is no room."""
    with contextlib.ExitStack() as undo:
        try:
            fd = os.memfd_create("fastpath-export")
            undo.callback(os.close, fd)
            with os.fdopen(fd, "w+b", closefd=False) as file:
                write_export(control.shared.memory, [shard.memory for shard in control.shards], file)
        except (OSError, MemoryError) as error:
            log.error("the tables cannot be exported: %s", error or "out of memory")  # noqa: TRY400
            return -1
        undo.pop_all()
    return fd


def imported(export: int, note: int) -> MemoryFds:
    """New tables from what an engine of another layout exported."""
    began_s = time.monotonic()
    with os.fdopen(export, "rb") as file:
        file.seek(0)
        made = read_export(file, note)
    log.info("made new tables from an export in %.0f ms", 1e3 * (time.monotonic() - began_s))
    return made


def configured(manifest: Manifest) -> RelayConfig:
    """The keeper's configuration for its first engine; for a later one what the last engine went by."""
    return config_of(manifest.config or read_remembered(manifest.opening.memory).config)


def main() -> int:
    """Exit code 0: ended as told."""
    with os.fdopen(int(os.environ.pop(MANIFEST_VARIABLE)), "rb") as file:
        manifest = decode_manifest(file.read())
    keeper = KeeperEnd(int(sys.argv[1]))
    config = configured(manifest)
    # The keeper has opened it before. No later engine fails for a log that cannot be opened any more.
    handler = logs.setup(config.log_level, config.log_format, config.log_file, required=False)
    try:
        export = keeper.wait()
        return 0 if export is None else serve(manifest, keeper, export, handler)
    except FastpathError as error:
        log.error("%s", error)  # noqa: TRY400 - its sentence says it all
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
