"""The relay as a Python object: the same engine in a thread of this process, without a keeper.

    with Relay(load("relay.toml")) as relay:
        relay.backends.add("sfu1", "10.0.0.5:5000")
        relay.routes.install("fR4g", "sfu1", ttl_s=60, session="call-17")
        relay.flows()["datagrams_up"].sum()

Methods may be called from any thread; each runs in the control thread, the tables' one writer.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec
import numpy as np
import uvloop
from fastpath.routes import CONFLICT, FULL, INSTALLED, REFRESHED
from numpy.typing import NDArray

from pyfastpath.config import Backend, RelayConfig
from pyfastpath.errors import ConfigError, RouteError
from pyfastpath.relay import report, sessions
from pyfastpath.relay.commands import InstallRoutes
from pyfastpath.relay.control import Control
from pyfastpath.relay.engine import Engine
from pyfastpath.relay.opening import open_relay
from pyfastpath.types import Mode

__all__ = ["CONFLICT", "FULL", "INSTALLED", "REFRESHED", "Relay"]

T = TypeVar("T")


class Relay:
    """One relay of this process. Admin and health listeners are served too, where configured."""

    def __init__(self, config: RelayConfig) -> None:
        """config: from pyfastpath.config.load, which fills in what depends on the machine."""
        if not config.shards or not config.workers:
            raise ConfigError("the configuration is not complete", "Make it with pyfastpath.config.load().")
        self._config = config
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._engine: Engine | None = None
        self.routes = Routes(self)
        self.backends = Backends(self)

    def start(self) -> Self:
        """Open everything and forward. SocketError when the machine refuses something."""
        opening = open_relay(self._config)
        started: Future[None] = Future()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._engine = Engine(opening, self._config)
            await self._engine.run(lambda: started.set_result(None))

        def control_thread() -> None:
            try:
                uvloop.run(serve())
            except BaseException as error:
                if started.done():
                    raise
                started.set_exception(error)
            finally:
                opening.close()
                if self._config.admin_socket:
                    Path(self._config.admin_socket).unlink(missing_ok=True)

        self._thread = threading.Thread(target=control_thread, name="control", daemon=True)
        self._thread.start()
        try:
            started.result()
        except BaseException:
            self._thread.join()  # by then everything is closed again
            raise
        return self

    def stop(self) -> None:
        """End now; flows end with it. Does nothing when it does not run."""
        if self._thread is not None and self._loop is not None and self._engine is not None:
            if self._thread.is_alive():
                self._loop.call_soon_threadsafe(self._engine.stop)
            self._thread.join()
        self._thread = self._loop = self._engine = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def flows(self) -> NDArray[np.void]:
        """Every confirmed flow as rows of relay.layout.FLOW; of copies in several shards only the newest."""
        return self.call(lambda control: control.tables.flows())

    def provisional(self) -> NDArray[np.void]:
        """Every flow that is not confirmed, as rows of relay.layout.PROVISIONAL."""
        return self.call(lambda control: control.tables.provisional())

    def counters(self) -> NDArray[np.void]:
        """One row of relay.layout.COUNTERS a shard, each of one moment."""
        return self.call(lambda control: control.tables.counters())

    def status(self) -> dict[str, Any]:
        """What /v1/status shows."""
        return self.call(report.status)

    def listeners(self) -> list[str]:
        """Where clients send: the bound addresses, in the order of `listen`."""
        return self.call(lambda control: list(control.opening.listeners))

    def drain(self, draining: bool = True, *, notice_s: float = 0.0) -> None:
        """Be not ready and refuse new flows after notice_s, or with False take them again."""
        self.call(lambda control: control.begin_drain(notice_s=notice_s) if draining else control.end_drain())

    def call(self, work: Callable[[Control], T]) -> T:
        """Run `work` in the control thread and give its result; RouteError when the relay does not run."""
        loop, engine = self._loop, self._engine
        if loop is None or engine is None or self._thread is None or not self._thread.is_alive():
            raise RouteError("the relay does not run.", "Call start() first.", code="stopped")
        done: Future[T] = Future()

        def in_control_thread() -> None:
            try:
                done.set_result(work(engine.control))
            except Exception as error:
                done.set_exception(error)

        loop.call_soon_threadsafe(in_control_thread)
        return done.result()


class Routes:
    """Session routes: ufrag -> backend."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def install(
        self,
        ufrag: str,
        backend: str,
        ttl_s: int = 0,
        *,
        session: str = "",
        target: str = "",
        replace: bool = False,
    ) -> dict[str, Any]:
        """Install one route; what PUT /v1/routes gives. RouteError on conflict or a full table."""
        request = sessions.checked(
            sessions.RouteRequest(
                ufrag=ufrag, backend=backend, ttl_s=ttl_s, session=session, target=target, replace=replace
            )
        )
        return self._relay.call(lambda control: control.routing.put(request))

    def install_many(
        self, ufrags: Sequence[str], backend: str, ttl_s: int = 0, *, session: str = "", replace: bool = False
    ) -> NDArray[np.uint8]:
        """Install many routes to one backend; gives INSTALLED, REFRESHED, CONFLICT or FULL for each."""
        sessions.check_ufrags(ufrags)
        raw = [ufrag.encode() for ufrag in ufrags]

        def work(control: Control) -> bytes:
            index = control.registry.get(backend).index
            return control.routing.install(
                InstallRoutes(
                    ufrags=raw,
                    backends=index,
                    ttl_s=ttl_s or control.routing.ttl_s,
                    session=sessions.session_hash(session, control.shared.seed),
                    replace=replace,
                )
            )

        return np.frombuffer(self._relay.call(work), np.uint8)

    def lookup(self, ufrag: str) -> dict[str, Any]:
        """What GET /v1/routes/{ufrag} gives. RouteError (not_found) when there is none."""
        return self._relay.call(lambda control: control.routing.get(ufrag))

    def remove(self, ufrag: str) -> None:
        """Withdraw one route; live flows go on. RouteError (not_found) when there is none."""
        self._relay.call(lambda control: control.routing.remove(ufrag))

    def __len__(self) -> int:
        return self._relay.call(lambda control: len(control.shared.routes))


class Backends:
    """Where sessions go."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def add(self, backend_id: str, address: str, *, mode: Mode = "plain", **keys: Any) -> dict[str, Any]:
        """Add or change a backend. keys: the other keys of a [[backends]] table, such as allow."""
        try:
            spec = msgspec.convert({"id": backend_id, "address": address, "mode": mode, **keys}, Backend)
        except msgspec.ValidationError as error:
            raise RouteError(f"not a backend: {error}.", code="bad_request") from None

        def work(control: Control) -> dict[str, Any]:
            control.add_backend(spec)
            return report.backend(control, control.registry.get(backend_id))

        return self._relay.call(work)

    def drain(self, backend_id: str, draining: bool = True) -> None:
        """Send no new flows there, or with False send them again."""
        self._relay.call(lambda control: control.drain_backend(backend_id, draining))

    def remove(self, backend_id: str) -> None:
        """Take it away; its live flows go on until they end."""
        self._relay.call(lambda control: control.remove_backend(backend_id))

    def list(self) -> "list[dict[str, Any]]":
        """Every backend and its state."""
        return self._relay.call(
            lambda control: [report.backend(control, entry) for entry in control.registry.entries.values()]
        )
