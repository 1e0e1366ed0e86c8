"""The transceiver as a process: its sockets, its servers and its signals around one Endpoint.

SIGTERM drains, then ends; a second one, or SIGINT, ends at once. SIGHUP reopens the log. SIGUSR1 drains.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop

from pyfastpath import listeners
from pyfastpath import log as logs
from pyfastpath.config import TransceiverConfig
from pyfastpath.exposition import registry_of
from pyfastpath.guard import Gate, Limits
from pyfastpath.notify import READY, STOPPING, ServiceManager
from pyfastpath.registry.opening import open_registry
from pyfastpath.serving import serve as serve_http
from pyfastpath.transceiver.announce import Announcer
from pyfastpath.transceiver.answering import Answering
from pyfastpath.transceiver.casting import Casting
from pyfastpath.transceiver.certificate import Certificate
from pyfastpath.transceiver.collector import TransceiverCollector
from pyfastpath.transceiver.counters import Counters
from pyfastpath.transceiver.endpoint import Endpoint
from pyfastpath.transceiver.health import health_app
from pyfastpath.transceiver.member import Member
from pyfastpath.transceiver.opus import CLOCK_HZ, Decoder
from pyfastpath.transceiver.service import Service
from pyfastpath.transceiver.sockets import PlainSocket, TrunkSocket
from pyfastpath.transceiver.starts import Start, note_start
from pyfastpath.types import Endpoint as Address

log = logging.getLogger("pyfastpath.transceiver.process")

CONTROL: Final = Limits(connections=4096)  # of gateways: calls come in bursts
SPARE_FILES: Final = CONTROL.connections + 1024
TURN_S: Final = 0.25


def run(config: TransceiverConfig) -> int:
    """Serve until told to stop; the exit code. SocketError or ConfigError when something cannot be opened."""
    handler = logs.setup(config.log_level, config.log_format, config.log_file)
    start = note_start(config.state_dir, time.time())
    _raise_file_limit(config.sessions_max)
    return uvloop.run(serve(config, start, handler, ServiceManager(os.environ)))


async def serve(
    config: TransceiverConfig, start: Start, handler: logs.ReopenableHandler, manager: ServiceManager
) -> int:
    """The process from opened sockets to its exit code."""
    async with contextlib.AsyncExitStack() as undo:
        process = Process(config, start, manager)
        process.obey_signals(handler)
        await process.open(undo)
        manager.tell(READY)
        return await process.run()


class Process:
    """One transceiver and everything that others see of it."""

    def __init__(self, config: TransceiverConfig, start: Start, manager: ServiceManager) -> None:
        self._config = config
        self._start = start
        self._manager = manager
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._stop_asked_s: float | None = None
        self._is_closed = False
        self._announcer: Announcer | None = None
        self._gates: dict[str, Gate] = {}
        self._casting = Casting(config.agent, config.agent_key_file)
        self.endpoint = open_endpoint(config, start, self._casting)

    async def open(self, undo: contextlib.AsyncExitStack) -> None:
        """Open every listener, then tell the others; `undo` closes it all again."""
        config = self._config
        undo.push_async_callback(self._casting.close)
        self.endpoint.open()
        undo.push_async_callback(self._close_endpoint)
        control = self._control_listeners(undo)
        member = Member(
            id=config.id,
            cluster=config.cluster,
            xcvr=config.transceiver,
            incarnation=self._start.incarnation,
            control=_announced(control),
        )
        announcer = Announcer(
            self.endpoint,
            member,
            registry=open_registry(config.registry, config.registry_token.value) if config.registry else None,
            relays=config.relay_admin,
            relay_token=config.relay_admin_token,
        )
        service = Service(self.endpoint, member, announcer.changed)
        for listening in control:
            is_unix = listening.family == socket.AF_UNIX
            app = service.app(b"" if is_unix else config.control_token.value)
            gate = self._gate("control_socket" if is_unix else "control_listen", CONTROL)
            await serve_http(undo, app, listening, gate)
        await self._serve_health(undo)
        # Before the control API ends: whoever follows a session learns how it ended.
        undo.push_async_callback(self._close_endpoint)
        self._announcer = announcer
        announcer.start()
        undo.push_async_callback(announcer.close)

    async def _close_endpoint(self) -> None:
        if not self._is_closed:
            self._is_closed = True
            await self.endpoint.close()

    def _control_listeners(self, undo: contextlib.AsyncExitStack) -> list[socket.socket]:
        """TCP first: it is the one that gateways elsewhere can use."""
        config = self._config
        opened = []
        if config.control_listen:
            opened.append(listeners.open_tcp(Address.parse(config.control_listen), key="control_listen"))
        if config.control_socket:
            path = Path(config.control_socket)
            opened.append(listeners.open_unix(path, key="control_socket", owner="transceiver"))
            undo.callback(path.unlink, missing_ok=True)
        return opened

    async def _serve_health(self, undo: contextlib.AsyncExitStack) -> None:
        if not self._config.health_listen:
            return
        listening = listeners.open_tcp(Address.parse(self._config.health_listen), key="health_listen")
        metrics = registry_of(
            TransceiverCollector(self.endpoint, self.unready, self._config.digest(), self._gates)
        )
        await serve_http(undo, health_app(self.unready, metrics), listening, self._gate("health_listen"))

    def _gate(self, name: str, limits: Limits | None = None) -> Gate:
        """The gate of the listener that the setting `name` names; the metrics show it."""
        gate = self._gates[name] = Gate(limits)
        return gate

    def unready(self) -> list[str]:
        """Why no new call may come; empty when one may."""
        if self._announcer is None:
            return ["it starts"]
        reasons = self._announcer.troubles()
        if self.endpoint.is_draining:
            reasons.append("it drains")
        elif len(self.endpoint) >= self.endpoint.capacity:
            reasons.append(f"all {self.endpoint.capacity} sessions are taken")
        return reasons

    def obey_signals(self, handler: logs.ReopenableHandler) -> None:
        """From now on signals mean what the module says."""
        loop = asyncio.get_running_loop()
        orders: dict[signal.Signals, Callable[[], None]] = {
            signal.SIGTERM: self.drain_and_stop,
            signal.SIGINT: self.stop,
            signal.SIGHUP: handler.reopen,
            signal.SIGUSR1: self.drain,
        }
        for number, order in orders.items():
            loop.add_signal_handler(number, order)

    async def run(self) -> int:
        """Until `stop`; the exit code."""
        log.info("%s serves with agent %s", self._config.id, self._config.agent)
        lag = self.endpoint.counters.event_loop_lag_s
        while not self._ended.done():
            due_s = time.monotonic() + TURN_S
            await asyncio.wait({self._ended}, timeout=TURN_S)
            # How much later than asked a timer is served: the first sign of too many sessions.
            lag.observe(max(0.0, time.monotonic() - due_s))
            self._manager.alive(time.monotonic(), self._doing())
            self._stop_if_drained()
        return self._ended.result()

    def stop(self) -> None:
        """End now; live calls end with it, and their clients are told."""
        if not self._ended.done():
            self._manager.tell(STOPPING)
            self._ended.set_result(0)

    def drain(self) -> None:
        """No new call; those that live go on."""
        self.endpoint.is_draining = True
        if self._announcer is not None:
            self._announcer.changed()

    def drain_and_stop(self) -> None:
        """End when the last live call has ended or the deadline passes; again: end now."""
        if self._stop_asked_s is not None:
            self.stop()
            return
        self._stop_asked_s = time.monotonic()
        self._manager.tell(STOPPING)
        self.drain()
        self._stop_if_drained()

    def _doing(self) -> str:
        """For `systemctl status`."""
        return f"{len(self.endpoint)} calls{', draining' if self.endpoint.is_draining else ''}"

    def _stop_if_drained(self) -> None:
        if self._stop_asked_s is None or self._ended.done():
            return
        if not len(self.endpoint):
            log.info("drained: no live call is left")
            self.stop()
        elif time.monotonic() - self._stop_asked_s >= self._config.drain_deadline_s:
            log.warning("drain deadline passed with %d live calls", len(self.endpoint))
            self.stop()


def open_endpoint(config: TransceiverConfig, start: Start, casting: Casting) -> Endpoint:
    """The sockets and the endpoint over them. SocketError when the machine refuses one, OpusError."""
    Decoder(CLOCK_HZ)  # a missing libopus is said now, not in the first call
    counters = Counters()
    answering = Answering(
        certificate=Certificate.generate(time.time()),
        counters=counters,
        entropy=os.urandom,
        agents=casting.make,
        ntp_offset_s=time.time() - time.monotonic(),
        longest_s=config.call_max_s,
    )
    trunk = None
    if config.relays:
        trunk = TrunkSocket(
            Address.parse(config.trunk_listen),
            config.relay_sockets,
            keys={item.id: item.key.value for item in config.trunk_keys},
            key_id=config.trunk_key_id,
            epoch=start.epoch,
            mtu_bytes=config.trunk_mtu,
        )
    plain = PlainSocket(Address.parse(config.plain_listen)) if config.plain_listen else None
    return Endpoint(answering, counters, trunk=trunk, plain=plain, capacity=config.sessions_max)


def _raise_file_limit(sessions_max: int) -> None:
    """Each session may have an event stream open; many systems begin with 1,024 files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = sessions_max + SPARE_FILES
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _announced(control: list[socket.socket]) -> str:
    """The control address that gateways are told."""
    first = control[0]
    if first.family == socket.AF_UNIX:
        return f"unix:{Path(first.getsockname()).absolute()}"
    return f"http://{listeners.local_address(first)}"
