"""The keeper: owns sockets and memory, starts the engine over them, starts another when it dies.

It never touches a datagram and knows nothing of routes or flows; it is small so that it need not change.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from pyfastpath import log as logs
from pyfastpath.config import RelayConfig, load
from pyfastpath.errors import ConfigError
from pyfastpath.relay.opening import (
    MANIFEST_VARIABLE,
    RELOADED,
    STARTED,
    Manifest,
    Opening,
    followed,
    open_relay,
)

log = logging.getLogger("pyfastpath.keeper")

SHORT_LIFE_S: Final = 1.0
PAUSE_FIRST_S: Final = 0.1
PAUSE_MAX_S: Final = 5.0
NOT_STARTED: Final = 71  # in place of an engine's exit code; EX_OSERR
AWAITED: Final = {
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCHLD,
}


def run(config: RelayConfig, *, file: str = "", flags: dict[str, str | list[str]] | None = None) -> int:
    """Run a relay until it is told to stop; the exit code. file, flags: where the configuration came from.

    SocketError or ConfigError when something cannot be opened.
    """
    handler = logs.setup(config.log_level, config.log_format, config.log_file)
    # Blocked for good and collected by sigwait; the engine inherits the mask and keeps it.
    signal.pthread_sigmask(signal.SIG_BLOCK, AWAITED)
    opening = open_relay(config)
    try:
        return Keeper(opening, config, file, flags or {}, handler).serve()
    finally:
        opening.close()
        if config.admin_socket:
            Path(config.admin_socket).unlink(missing_ok=True)


class Keeper:
    """Waits for signals and for the death of its child, nothing else."""

    def __init__(
        self,
        opening: Opening,
        config: RelayConfig,
        file: str,
        flags: dict[str, str | list[str]],
        log_handler: logs.ReopenableHandler,
    ) -> None:
        self._opening = opening
        self._config = config
        self._file = file
        self._flags = flags
        self._log_handler = log_handler
        self._has_started = False
        self._short_lives = 0
        self._stopping: signal.Signals | None = None

    def serve(self) -> int:
        """Until the engine ends as told, or cannot start at all."""
        while True:
            began_s = time.monotonic()
            code = self._live_one()
            lived_s = time.monotonic() - began_s
            if code == 0 or self._stopping is signal.SIGINT:
                return 0
            if not self._has_started and code > 0:
                return code  # its log says why; another would fail in the same way
            log.error("the engine ended (%s) after %.1f s: starting another", _fate(code), lived_s)
            self._short_lives = self._short_lives + 1 if lived_s < SHORT_LIFE_S else 0
            if self._short_lives > 1 and self._pause():
                return 0

    def _live_one(self) -> int:
        """One engine from its start to its end; its exit code, negative for the signal that killed it."""
        with contextlib.ExitStack() as undo:
            try:
                ours, theirs = socket.socketpair()
                undo.enter_context(ours)
                engine = undo.enter_context(self._spawn(theirs))
            except OSError as error:  # no process or descriptor left: flows wait for a better moment
                log.error("no engine can be started: %s", error)  # noqa: TRY400 - its sentence says it all
                return NOT_STARTED
            code = self._attend(engine, ours)
            self._hear(ours)
        return code

    def _spawn(self, theirs: socket.socket) -> "subprocess.Popen[bytes]":
        """Start an engine, which gets `theirs`, its end of the socket between us."""
        manifest = Manifest(
            config=self._config,
            opening=self._opening,
            keeper=theirs.fileno(),
            file=self._file,
            flags=self._flags,
        )
        with theirs, os.fdopen(os.memfd_create("fastpath-manifest"), "w+b") as told:
            told.write(manifest.encode())
            told.seek(0)
            return subprocess.Popen(
                [sys.executable, "-m", "pyfastpath.relay.engine"],
                pass_fds=(*self._opening.descriptors(), theirs.fileno(), told.fileno()),
                env={**os.environ, MANIFEST_VARIABLE: str(told.fileno())},
                stdin=subprocess.DEVNULL,
            )

    def _attend(self, engine: "subprocess.Popen[bytes]", ours: socket.socket) -> int:
        """Pass signals on until the engine ends; its exit code, negative for the signal that killed it."""
        if self._stopping is not None:
            ours.send(bytes([self._stopping]))  # the engine before died while it drained
        while (code := engine.poll()) is None:
            number = signal.Signals(signal.sigwait(AWAITED))
            if number is signal.SIGCHLD:
                continue
            if number in (signal.SIGTERM, signal.SIGINT):
                self._stopping = signal.SIGINT if self._stopping else number
            if number is signal.SIGHUP:
                self._log_handler.reopen()
            with contextlib.suppress(BrokenPipeError):  # it has just died: the next turn finds out
                ours.send(bytes([number]))
        return code

    def _pause(self) -> bool:
        """An engine that dies at once over and over is given time; True when told to stop meanwhile."""
        pause_s = min(PAUSE_MAX_S, PAUSE_FIRST_S * 2 ** (self._short_lives - 2))
        until_s = time.monotonic() + pause_s
        while (left_s := until_s - time.monotonic()) > 0:
            found = signal.sigtimedwait(AWAITED, left_s)
            if found is not None and found.si_signo in (signal.SIGTERM, signal.SIGINT):
                return True
        return False

    def _hear(self, ours: socket.socket) -> None:
        """What a dead engine had told: whether it started, and whether it had accepted a reload.

        Only then is the file read again: the next engine goes by what this one went by, not by a file
        somebody is just editing.
        """
        ours.setblocking(False)
        news = b""
        with contextlib.suppress(OSError):
            news = ours.recv(1 << 16)
        self._has_started |= STARTED in news
        if RELOADED not in news:
            return
        try:
            self._config, _ = followed(self._config, load(self._file or None, flags=self._flags))
        except ConfigError as error:
            log.warning("the file has become unusable since the last reload, going by the old one: %s", error)


def _fate(code: int) -> str:
    return f"exit code {code}" if code >= 0 else signal.Signals(-code).name
