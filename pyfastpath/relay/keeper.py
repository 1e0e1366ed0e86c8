"""The keeper: owns sockets and memory, starts engines over them, lets one go on where another ended.

It never touches a datagram and knows nothing of routes or flows; it is small so that it need not change.
What it does next is decided in `succession`; here are the processes, the sockets to them, and the signals.
"""

import contextlib
import logging
import os
import selectors
import signal
import time
from pathlib import Path
from typing import Final

from fastpath.shard import LAYOUT_VERSION

from pyfastpath import log as logs
from pyfastpath.config import RelayConfig, load
from pyfastpath.notify import ServiceManager
from pyfastpath.relay import memory, orders, privileges
from pyfastpath.relay.child import Child
from pyfastpath.relay.fdstore import Store
from pyfastpath.relay.herald import Herald
from pyfastpath.relay.manifest import Manifest, plain_config
from pyfastpath.relay.opening import Opening, open_relay
from pyfastpath.relay.signals import Signals
from pyfastpath.relay.succession import (
    Adopt,
    Command,
    Dismiss,
    End,
    Kill,
    Let,
    Report,
    Spawn,
    Succession,
    Tell,
    Warn,
    Word,
)

log = logging.getLogger("pyfastpath.keeper")

NOT_STARTED: Final = 71  # in place of an engine's exit code; EX_OSERR
MANAGER_PATIENCE_S: Final = 5.0  # for a service manager that is slow to read: descriptors must not be lost
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
    manager = ServiceManager(os.environ, patience_s=MANAGER_PATIENCE_S)
    store = Store(manager)
    # A log file is opened by the user whose it has to be.
    handler = logs.setup(config.log_level, config.log_format, "" if config.user else config.log_file)
    signals = Signals(AWAITED)
    taken = store.take_up(config)
    opening, config = taken or (open_relay(config), config)
    try:
        handler = _become(config, file, flags or {}, handler)
        if taken is None:
            store.keep(opening, config)
        keeper = Keeper(opening, config, file, flags or {}, handler, signals, Herald(manager), store)
        with contextlib.closing(keeper):
            code = keeper.serve()
        if code == 0:
            store.let_go()
        return code
    finally:
        signals.close()
        if config.admin_socket and not store.keeps:
            with contextlib.suppress(PermissionError):  # the error under way says so already
                Path(config.admin_socket).unlink(missing_ok=True)


def _become(
    config: RelayConfig, file: str, flags: dict[str, str | list[str]], handler: logs.ReopenableHandler
) -> logs.ReopenableHandler:
    """The configured user from here on, with a log of that user's. ConfigError names what it may not read or
    write: a reload must not find that out."""
    privileges.gain_none()
    if not config.user:
        return handler
    privileges.drop_to(config.user, admin_socket=config.admin_socket)
    load(file or None, flags=flags)
    return logs.setup(config.log_level, config.log_format, config.log_file)


class Keeper:
    """Waits for signals and for what engines say, and carries out what the succession decides."""

    def __init__(
        self,
        opening: Opening,
        config: RelayConfig,
        file: str,
        flags: dict[str, str | list[str]],
        log_handler: logs.ReopenableHandler,
        signals: Signals,
        herald: Herald,
        store: Store,
    ) -> None:
        self._opening = opening
        self._config = config
        self._file = file
        self._flags = flags
        self._log_handler = log_handler
        self._signals = signals
        self._herald = herald
        self._store = store
        self._succession = Succession(LAYOUT_VERSION)
        self._children: dict[int, Child] = {}
        self._export = -1
        self._made: memory.MemoryFds | None = None  # what a candidate on trial made from an export
        self._code: int | None = None
        self._selector = selectors.DefaultSelector()
        self._selector.register(signals, selectors.EVENT_READ)

    def serve(self) -> int:
        """Until the engine ends as told, or cannot start at all."""
        self._execute(self._succession.start(time.monotonic()))
        while self._code is None:
            deadline_s = self._succession.deadline_s
            timeout_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            for key, _ in self._selector.select(timeout_s):
                if key.fileobj is self._signals:
                    self._take_signals()
                else:
                    self._hear(key.data)
            now_s = time.monotonic()
            if self._succession.deadline_s is not None and now_s >= self._succession.deadline_s:
                self._execute(self._succession.timer(now_s))
        return self._code

    def close(self) -> None:
        """End what still waits, and close everything."""
        for child in self._children.values():
            child.close()
            child.process.kill()  # one may still be importing; what another was doing its tables know
        for child in self._children.values():
            child.process.wait()
        self._selector.close()
        self._opening.close()

    # ---- what happens --------------------------------------------------------------------------

    def _take_signals(self) -> None:
        for number in self._signals.take():
            if number is signal.SIGCHLD:
                self._bury()
                continue
            self._herald.signalled(number)
            if number is signal.SIGHUP:
                self._log_handler.reopen()
            if number is signal.SIGUSR2:
                self._execute(self._succession.upgrade(time.monotonic()))
            else:
                self._execute(self._succession.signalled(number))

    def _bury(self) -> None:
        """Whoever has ended: hear its last words, then see who goes on."""
        for number, child in list(self._children.items()):
            code = child.process.poll()
            if code is None:
                continue
            self._unwatch(child)
            while self._hear(number):
                pass
            child.close()
            del self._children[number]
            self._execute(self._succession.died(number, code, child.fate(code), time.monotonic()))

    def _hear(self, number: int) -> bool:
        """One message of an engine; False when there is none any more."""
        child = self._children.get(number)
        if child is None or child.is_dismissed:
            return False
        heard = orders.receive_news(child.end)
        if heard is None:  # it has ended, or is about to: SIGCHLD says so
            self._unwatch(child)
            return False
        news, descriptors = heard
        now_s = time.monotonic()
        match news:
            case orders.Ready():
                self._execute(self._succession.ready(number, news.layout, news.version, now_s))
                if number == self._succession.standby:
                    log.info("version %s stands by", news.version)
            case orders.Started():
                self._made, descriptors = self._regions(descriptors), []
                made = self._made is not None
                self._execute(self._succession.started(number, now_s, made=made))
                self._forget_made()
                self._herald.started()
            case orders.Released():
                self._close_export()
                self._export, *descriptors = descriptors or [-1]
                self._execute(self._succession.released(number, self._export >= 0, now_s))
            case orders.Alive(text=text):
                self._herald.alive(text)
            case orders.Reloaded():
                self._herald.reloaded()
            case orders.Upgrade():
                self._execute(self._succession.upgrade(now_s))
        orders.close_all(descriptors)
        return True

    def _regions(self, descriptors: list[int]) -> memory.MemoryFds | None:
        """The tables an engine made, in place of the relay's own; None unless every one has arrived."""
        if len(descriptors) != 1 + len(self._opening.shards):
            orders.close_all(descriptors)
            return None
        return memory.MemoryFds(descriptors[0], tuple(descriptors[1:]), self._opening.memory.note)

    def _forget_made(self) -> None:
        """Tables that were not adopted."""
        if self._made is not None:
            orders.close_all((self._made.shared, *self._made.shards))
            self._made = None

    # ---- what is to be done --------------------------------------------------------------------

    def _execute(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Spawn():
                    self._spawn(command)
                case Word():
                    self._give_word(command)
                case Let():
                    self._say(command.number, orders.Release(export=command.export))
                case Dismiss():
                    self._dismiss(command.number)
                case Kill():
                    if command.number in self._children:
                        self._children[command.number].process.kill()
                case Tell():
                    self._say(command.number, orders.Signalled(command.signal))
                case Adopt():
                    self._adopt()
                case Report():
                    (log.info if command.done else log.error)("upgrade: %s", command.text)
                    self._say(command.number, orders.Upgraded(command.done, command.text))
                case Warn():
                    log.error("%s", command.text)
                case End():
                    self._code = command.code

    def _spawn(self, command: Spawn) -> None:
        manifest = Manifest(
            opening=self._opening,
            config=plain_config(self._config) if command.first else None,
            file=self._file,
            flags=self._flags,
        )
        try:
            with self._signals.kept_from_children():
                waits = command.number != self._succession.serving
                child = Child.spawn(manifest, self._opening.descriptors(), waits=waits)
        except OSError as error:  # no process or descriptor left: flows wait for a better moment
            fate = f"no engine can be started: {error}"
            self._execute(self._succession.died(command.number, NOT_STARTED, fate, time.monotonic()))
            return
        self._children[command.number] = child
        self._selector.register(child.end, selectors.EVENT_READ, command.number)

    def _give_word(self, command: Word) -> None:
        descriptors = (self._export,) if command.imports else ()
        self._say(command.number, orders.Go(), descriptors)
        self._close_export()

    def _close_export(self) -> None:
        if self._export >= 0:
            os.close(self._export)
            self._export = -1

    def _adopt(self) -> None:
        """Later engines work on the tables that the one of another layout has made."""
        if self._made is not None:
            old = self._opening.memory
            self._opening, self._made = self._opening.over(self._made), None
            orders.close_all((old.shared, *old.shards))  # first: the store needs a descriptor
            self._store.keep(self._opening, self._config)

    def _dismiss(self, number: int) -> None:
        child = self._children.get(number)
        if child is not None:
            self._unwatch(child)
            child.close()

    def _unwatch(self, child: Child) -> None:
        with contextlib.suppress(KeyError, ValueError):  # once is enough
            self._selector.unregister(child.end)

    def _say(self, number: int, message: orders.Message, descriptors: tuple[int, ...] = ()) -> None:
        child = self._children.get(number)
        if child is not None and not child.is_dismissed:
            orders.send(child.end, message, descriptors)
