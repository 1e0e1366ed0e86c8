"""The gateway process: its listeners, its signals, its end.

SIGTERM drains: no new connection and no new call, what is under way is finished. A second one, or SIGINT,
ends at once. SIGHUP reopens the log and reads the certificate's files again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import secrets
import signal
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from pyfastpath import log as logs
from pyfastpath.config import GatewayConfig
from pyfastpath.errors import ConfigError
from pyfastpath.guard import Gate, Limits
from pyfastpath.listeners import local_address, open_tcp, open_unix
from pyfastpath.notify import READY, STOPPING, ServiceManager
from pyfastpath.registry.opening import open_registry
from pyfastpath.registry.record import Registry
from pyfastpath.serving import serve, start
from pyfastpath.signalling import tls
from pyfastpath.signalling.admin import Admin
from pyfastpath.signalling.app import Api
from pyfastpath.signalling.callid import CallIds, Minter
from pyfastpath.signalling.health import Health
from pyfastpath.signalling.limits import RateLimit
from pyfastpath.signalling.numbers import Numbers
from pyfastpath.signalling.page import read_page
from pyfastpath.signalling.placement import Placement
from pyfastpath.signalling.polling import Polling
from pyfastpath.signalling.proxies import Proxies
from pyfastpath.signalling.secrets import Keys
from pyfastpath.signalling.stream import STREAMS_MAX, Streams
from pyfastpath.signalling.switchboard import Switchboard
from pyfastpath.signalling.transceivers import Transceivers
from pyfastpath.signalling.whip import EntityTags
from pyfastpath.types import Endpoint

log = logging.getLogger("pyfastpath.gateway")

DRAIN_S: Final = 10.0  # longer than any request takes
AT_ONCE_S: Final = 0.01  # to aiohttp 0 is for ever
TURN_S: Final = 1.0
# An ephemeral key carries its session: a head may be large.
CLIENTS: Final = Limits(connections=4096, client_connections=1024, head_bytes=48 << 10)
TRANSCEIVERS: Final = Limits(connections=4096)  # each holds one
SPARE_FILES: Final = 5120  # transceivers, operators, and clients in a TLS handshake
FILES: Final = CLIENTS.connections + 2 * STREAMS_MAX + SPARE_FILES  # a stream goes on to the transceiver


class Gateway:
    """One gateway in the running event loop, from `run` to `drain` or `stop`."""

    def __init__(self, config: GatewayConfig) -> None:
        self._config = config
        self._numbers = Numbers()
        self._streams = Streams(self._numbers)
        self._proxies = Proxies(config.trusted_proxies)
        self._clients = self._gate("listen", CLIENTS, is_exempt=self._proxies.trusts)
        self._context: ssl.SSLContext | None = None
        self._ending: asyncio.Event = asyncio.Event()
        self._at_once: asyncio.Event = asyncio.Event()
        self.address: Endpoint | None = None  # of the public listener, when it is open
        self.health_address: Endpoint | None = None

    @property
    def url(self) -> str:
        """Where the page and the API are, as this machine sees them."""
        return f"{'http' if self._context is None else 'https'}://{self.address}"

    def doing(self) -> str:
        """For `systemctl status`."""
        is_draining = self._numbers.is_draining
        return f"{self._clients.connections} connections{', draining' if is_draining else ''}"

    def drain(self) -> None:
        """Take nothing new and end when what is under way is done; the second time: end now."""
        if self._ending.is_set():
            self.stop()
        self._numbers.is_draining = True
        self._ending.set()

    def stop(self) -> None:
        """End now."""
        self._at_once.set()
        self._ending.set()

    def reload_certificate(self) -> None:
        """Read the operator's certificate again. ConfigError leaves the one in use."""
        config = self._config
        if self._context is not None and config.tls_cert:
            tls.load_files(self._context, Path(config.tls_cert), Path(config.tls_key))

    async def run(self, started: Callable[[], object] = lambda: None) -> None:
        """Serve until told to end. `started` is called when every listener is open.

        ConfigError, SocketError or RegistryError when something cannot be opened.
        """
        config = self._config
        self._context = _tls_context(config)
        async with contextlib.AsyncExitStack() as undo:
            registry = open_registry(config.registry)
            undo.push_async_callback(registry.close)
            transceivers = Transceivers(config.control_token.value)
            undo.push_async_callback(transceivers.close)
            polling = Polling(registry, transceivers, {item.id: item.control for item in config.transceivers})
            undo.push_async_callback(polling.close)
            call_key = config.call_key.value or _drawn_call_key()
            switchboard = self._switchboard(registry, transceivers, call_key)
            health = Health(switchboard, self._numbers)
            await self._serve_own(undo, Admin(registry), health)
            api = Api(
                switchboard,
                Keys(tuple(key.value for key in config.api_keys), call_key),
                RateLimit(config.calls_per_minute),
                self._streams,
                proxies=self._proxies,
                public_url=config.public_url,
            )
            polling.start()
            await self._serve_clients(undo, api)
            log.info("the gateway serves %s", config.public_url or self.url)
            started()
            await self._ending.wait()
            log.info("the gateway ends", extra={"connections": self._clients.connections})

    def _switchboard(self, registry: Registry, transceivers: Transceivers, call_key: bytes) -> Switchboard:
        return Switchboard(
            registry=registry,
            transceivers=transceivers,
            placement=Placement(self._config.cluster),
            ids=CallIds(call_key),
            tags=EntityTags(call_key),
            minter=_minter(self._config),
            candidates=self._config.candidates,
            numbers=self._numbers,
        )

    async def _serve_own(self, undo: contextlib.AsyncExitStack, admin: Admin, health: Health) -> None:
        """The listeners of operators: admin and health."""
        config = self._config
        if config.admin_socket:
            path = Path(config.admin_socket)
            listening = open_unix(path, key="admin_socket", owner="gateway")
            undo.callback(path.unlink, missing_ok=True)
            await serve(undo, admin.app(), listening, self._gate("admin_socket", TRANSCEIVERS))
        if config.admin_listen:
            listening = open_tcp(Endpoint.parse(config.admin_listen), key="admin_listen")
            await serve(
                undo, admin.app(config.admin_token.value), listening, self._gate("admin_listen", TRANSCEIVERS)
            )
        if config.health_listen:
            listening = open_tcp(Endpoint.parse(config.health_listen), key="health_listen")
            self.health_address = local_address(listening)
            await serve(undo, health.app(), listening, self._gate("health_listen"))

    def _gate(self, name: str, limits: Limits | None = None, **more: Callable[[str], bool]) -> Gate:
        """The gate of the listener that the setting `name` names; the metrics show it."""
        gate = self._numbers.gates[name] = Gate(limits, **more)
        return gate

    async def _serve_clients(self, undo: contextlib.AsyncExitStack, api: Api) -> None:
        """The public listener. What is under way when it closes is finished, unless told to end at once."""
        config = self._config
        app = api.app(allow_origins=config.allow_origins, page=read_page() if config.page else None)
        listening = open_tcp(Endpoint.parse(config.listen), key="listen")
        self.address = local_address(listening)
        runner, server = await start(app, listening, self._clients, tls=self._context, shutdown_s=DRAIN_S)
        undo.push_async_callback(self._finish, runner)
        undo.callback(server.close)

    async def _finish(self, runner: web.AppRunner) -> None:
        self._streams.end()
        finishing = asyncio.create_task(runner.cleanup())
        at_once = asyncio.create_task(self._at_once.wait())
        await asyncio.wait({finishing, at_once}, return_when=asyncio.FIRST_COMPLETED)
        at_once.cancel()
        if finishing.done():
            await finishing
            return
        finishing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await finishing
        if runner.server is not None:
            await runner.server.shutdown(AT_ONCE_S)
        await runner.cleanup()


def run(config: GatewayConfig) -> int:
    """Run a gateway until it is told to stop; the exit code. Errors of its settings are raised."""
    handler = logs.setup(config.log_level, config.log_format, config.log_file)
    _raise_file_limit()
    uvloop.run(_serve_until_signalled(config, handler, ServiceManager(os.environ)))
    return 0


async def _serve_until_signalled(
    config: GatewayConfig, handler: logs.ReopenableHandler, manager: ServiceManager
) -> None:
    gateway, loop = Gateway(config), asyncio.get_running_loop()

    def hang_up() -> None:
        handler.reopen()
        try:
            gateway.reload_certificate()
        except ConfigError as error:
            log.error("the certificate stays: %s", error)  # noqa: TRY400 - its sentence says it all

    def end(how: Callable[[], None]) -> None:
        manager.tell(STOPPING)
        how()

    loop.add_signal_handler(signal.SIGTERM, end, gateway.drain)
    loop.add_signal_handler(signal.SIGINT, end, gateway.stop)
    loop.add_signal_handler(signal.SIGHUP, hang_up)
    signs = asyncio.create_task(_show_life(gateway, manager))
    try:
        await gateway.run(lambda: manager.tell(READY))
    finally:
        signs.cancel()


async def _show_life(gateway: Gateway, manager: ServiceManager) -> None:
    """Signs of life, as long as the event loop turns."""
    while manager.listens:
        manager.alive(time.monotonic(), gateway.doing())
        await asyncio.sleep(TURN_S)


def _tls_context(config: GatewayConfig) -> ssl.SSLContext | None:
    if config.tls_cert:
        return tls.server_context(Path(config.tls_cert), Path(config.tls_key))
    if config.tls == "self-signed":
        names = tls.names_of(config.public_url, config.listen, config.candidates)
        return tls.self_signed_context(
            names, Path(config.state_dir) if config.state_dir else None, tls.utc_now()
        )
    return None


def _minter(config: GatewayConfig) -> Minter:
    keys = {item.kid: item.key.value for item in config.token_keys}
    if config.token_kid not in keys:
        raise ConfigError("no key to mint tokens with", "Make the settings by load().", key="token_keys")
    return Minter(keys, config.token_kid, config.call_max_s)


def _drawn_call_key() -> bytes:
    log.warning("no call_key is set: calls of this gateway cannot be ended by another, nor by its successor")
    return secrets.token_bytes(32)


def _raise_file_limit() -> None:
    """The soft limit is 1024 on many systems, a quarter of the connections we accept."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
