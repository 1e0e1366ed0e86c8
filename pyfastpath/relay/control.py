"""The control plane of one engine: the one writer of backends, routes and settings.

Everything here runs in the control thread. It decides nothing about datagrams; it changes tables that
the workers read, and looks at tables that the workers write.
"""

import logging
import mmap
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
from fastpath.backends import DOWN, DRAINING, PLAIN, TRUNK, UP
from fastpath.settings import Settings
from fastpath.shard import LayoutError as RegionError
from fastpath.shard import Shard, Shared, link_shards
from fastpath.sweep import sweep

from pyfastpath import log as logs
from pyfastpath.config import Backend, RelayConfig
from pyfastpath.config.rules import mistakes
from pyfastpath.errors import ConfigError, LayoutError, RouteError
from pyfastpath.relay import ingress, memory, sockets
from pyfastpath.relay.backends import Registry, StoredEntry
from pyfastpath.relay.commands import (
    BackendCommand,
    PublishBackend,
    RemoveBackend,
    SetBackendIdentity,
    SetBackendState,
)
from pyfastpath.relay.crew import Crew
from pyfastpath.relay.draining import Drain, begun, ending
from pyfastpath.relay.liveness import Finding, merge_links
from pyfastpath.relay.manifest import plain_config
from pyfastpath.relay.opening import Opening, followed
from pyfastpath.relay.placement import relay_candidates
from pyfastpath.relay.routing import Routing, monotonic_s
from pyfastpath.relay.tables import Tables
from pyfastpath.types import Endpoint

log = logging.getLogger("pyfastpath.engine")

_STATES = {"up": UP, "draining": DRAINING, "down": DOWN}
_MODES = {"trunk": TRUNK, "plain": PLAIN}


class Remembered(msgspec.Struct, frozen=True):
    """What the next engine must know and the tables do not say."""

    config: dict[str, Any] = {}  # reloads included
    backends: list[StoredEntry] = []
    drain: Drain | None = None
    workers: int = 0  # 0: as configured
    log_level: str = ""  # empty: as configured

    def __repr__(self) -> str:
        return f"Remembered({len(self.backends)} backends)"  # no secrets


def read_remembered(regions: memory.MemoryFds) -> Remembered:
    """What the last engine left; a fresh note says nothing."""
    return msgspec.json.decode(memory.Note(regions.note).read() or b"{}", type=Remembered)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What a reload changed, and which changed keys wait for a restart."""

    changed: list[str]
    needs_restart: list[str]


class Control:
    """Attaches the tables, runs the workers, and carries out what operators and backends ask."""

    def __init__(self, opening: Opening, config: RelayConfig, *, failed: Callable[[], None]) -> None:
        """`failed` is called, from a worker's thread, when a worker ends by an error."""
        self.config = config
        self.started_s = time.monotonic()
        self._note = memory.Note(opening.memory.note)
        remembered = read_remembered(opening.memory)
        self.drain = remembered.drain
        self._refusing = False  # what the workers were told
        self.log_level = remembered.log_level or config.log_level

        self._memory = memory.map_region(opening.memory.shared)
        self.shared, self.shards = _attached(self._memory, opening.memory.shards)
        self.tables = Tables(self._memory, self.shards)
        self.settings = Settings()
        self.crew = Crew(self.settings, self.shards, opening.shards, pin=config.pin, failed=failed)
        self.workers = remembered.workers or config.workers

        self.opening = opening
        self.registry = Registry(config.cluster, bool(config.trunk_keys))
        self.registry.restore(remembered.backends)
        self.routing = Routing(self.shared, self.tables, self.registry)
        self.findings: dict[int, Finding] = {}
        self.ports: dict[int, Endpoint] = {}  # plain pool index -> our address
        self._loops = self.tables.counters()["loops"].copy()  # turns of the workers when they last did turn
        self.upgrade = ("none", "")  # how the last one went: none, running, done or failed, and why
        self.request_upgrade: Callable[[], bool] | None = None  # None: there is no keeper to do it

    def start(self) -> None:
        """Publish everything, then let the workers run: what waits in the kernel finds complete tables."""
        logs.set_level(self.log_level)
        self._publish_ingresses()
        self.observe()
        self.execute(
            self.registry.configure(
                self.config.backends, cluster=self.config.cluster, keyed=bool(self.config.trunk_keys)
            )
        )
        self._publish_settings()
        self.crew.resize(self.workers)
        self._remember()
        self.ports = {
            index: self._upstream_address(fd)
            for shard in self.opening.shards
            for index, fd in shard.plain.items()
        }

    def stop(self) -> None:
        """Stop the workers; flows and routes stay in memory."""
        self.crew.stop()

    # ---- backends ------------------------------------------------------------------------------

    def add_backend(self, spec: Backend) -> None:
        """Add or change a backend; RouteError (bad_request) when the configuration could not hold it."""
        alone = msgspec.structs.replace(self.config, backends=(spec,))
        for wrong in mistakes(alone, cpus=_cpus()):
            if wrong.path[0] == "backends":
                key = ".".join(map(str, wrong.path[2:]))
                raise RouteError(f"{key}: {wrong.message}.", wrong.hint, code="bad_request")
        self.execute(self.registry.add(spec))
        self._remember()
        log.info("backend %s is at %s (%s)", spec.id, spec.address, spec.mode)

    def remove_backend(self, backend_id: str) -> None:
        """Take a backend away; its live flows go on until they end."""
        self.execute(self.registry.remove(backend_id))
        self._remember()
        log.info("backend %s is removed", backend_id)

    def drain_backend(self, backend_id: str, draining: bool) -> None:
        """Send no new flows to a backend, or send them again."""
        self.execute(self.registry.drain(backend_id, draining))
        self._remember()
        log.info("backend %s %s", backend_id, "drains" if draining else "takes new flows again")

    def probed(self, backend_id: str, alive: bool) -> None:
        """A STUN probe of a plain backend was answered, or has not been for too long."""
        entry = self.registry.entries.get(backend_id)
        if entry is not None:
            self.execute(self.registry.observe(entry.index, "up" if alive else "down"))

    def execute(self, commands: Iterable[BackendCommand]) -> None:
        """Carry out what the registry decided."""
        table = self.shared.backends
        for command in commands:
            match command:
                case PublishBackend():
                    self._publish_backend(command)
                case SetBackendState():
                    table.set_state(command.index, _STATES[command.state])
                    log.info("backend %s is %s", self._name(command.index), command.state)
                case SetBackendIdentity():
                    table.set_identity(command.index, *command.identity)
                case RemoveBackend():
                    table.remove(command.index)

    def _publish_backend(self, command: PublishBackend) -> None:
        where = command.endpoint
        cluster, xcvr, incarnation = command.identity or (0, 0, 0)
        self.shared.backends.publish(
            command.index,
            where.address16,
            where.port,
            where.family,
            _MODES[command.mode],
            command.name_hash,
            cluster=cluster,
            xcvr=xcvr,
            incarnation=incarnation,
            has_xcvr=command.identity is not None,
            keyed=command.keyed,
            state=_STATES[command.state],
        )

    def _upstream_address(self, fd: int) -> Endpoint:
        """The address as configured: a socket says another while it is connected to its one backend."""
        now = sockets.local_endpoint(fd)
        configured = self.config.plain_address if now.family == 4 else self.config.plain_address_ipv6
        return Endpoint(ip_address(configured), now.port)

    def _name(self, index: int) -> str:
        entry = self.registry.by_index().get(index)
        return entry.spec.id if entry else f"at index {index}"

    # ---- policy --------------------------------------------------------------------------------

    @property
    def draining(self) -> bool:
        """Is a drain announced? Then this relay is not ready."""
        return self.drain is not None

    def begin_drain(self, *, notice_s: float = 0.0, wait_s: float | None = None) -> None:
        """Be not ready from now on, refuse new flows after notice_s; live ones go on. wait_s: how long the
        operator waits for them, for everybody to see in /v1/drain."""
        self.drain = begun(self.drain, time.monotonic(), notice_s=notice_s, wait_s=wait_s)
        log.info("draining: not ready any more")
        self._tell_refusal()
        self._remember()

    def begin_ending(self) -> None:
        """Drain because this process was told to end: the engine ends it when the drain is over."""
        self.drain = ending(self.drain, time.monotonic(), self.config.drain_deadline_s)
        log.info("draining: not ready any more; told to end")
        self._tell_refusal()
        self._remember()

    def end_drain(self) -> None:
        """Take new flows again, and only then be ready. RouteError (conflict) when the process is to end."""
        if self.drain is None:
            return
        if self.drain.ends:
            raise RouteError(
                "this relay was told to end (SIGTERM), and does.", "Start it again.", code="conflict"
            )
        self._publish_settings(refusing=False)
        self.drain = None
        self._remember()
        log.info("new flows are taken again")

    def _tell_refusal(self) -> None:
        """When the notice of a drain is over the workers hear of it."""
        if self.drain is not None and not self._refusing and self.drain.refuses(time.monotonic()):
            self._publish_settings(refusing=True)
            log.info("draining: new flows are refused")

    def set_log_level(self, level: str) -> None:
        """Change the least level that is logged. RouteError (bad_request) for an unknown one."""
        if level not in logs.LEVELS:
            raise RouteError(
                f"no log level {level!r}.", f"Choose {', '.join(logs.LEVELS)}.", code="bad_request"
            )
        self.log_level = level
        logs.set_level(level)
        self._remember()

    def set_workers(self, count: int) -> None:
        """Serve the shards with another number of workers; no flow moves."""
        if self.config.spin and count >= _cpus():
            raise RouteError(
                f"{count} spinning workers leave none of {_cpus()} CPUs to the control plane.",
                "Give fewer, or switch spin off.",
                code="bad_request",
            )
        self.crew.resize(count)
        self.workers = count
        self._remember()
        log.info("%d workers serve %d shards", count, len(self.shards))

    def reload(self, new: RelayConfig) -> Reloaded:
        """Follow a new configuration without losing a flow. ConfigError leaves everything as it was."""
        old = self.config
        effective, fixed = followed(old, new)
        for wrong in mistakes(effective, cpus=_cpus()):
            raise ConfigError(
                f"{wrong.message}, as long as {', '.join(fixed)} keep their values until a restart",
                wrong.hint,
                key=".".join(map(str, wrong.path)),
            )
        try:
            commands = self.registry.configure(
                effective.backends, cluster=effective.cluster, keyed=bool(effective.trunk_keys)
            )
        except RouteError as error:
            raise ConfigError(error.message, error.hint, key="backends") from None
        self.config = effective
        self.execute(commands)
        self._publish_settings()
        self._publish_ingresses()
        if effective.log_level != old.log_level:
            self.set_log_level(effective.log_level)
        self._remember()
        changed = [
            key for key in RelayConfig.__struct_fields__ if getattr(old, key) != getattr(effective, key)
        ]
        log.info("reloaded; changed: %s", ", ".join(changed) or "nothing")
        if fixed:
            log.warning("these keys take effect at the next start: %s", ", ".join(fixed))
        return Reloaded(changed, fixed)

    def _publish_settings(self, *, refusing: bool | None = None) -> None:
        config = self.config
        self._refusing = self._refusing if refusing is None else refusing
        self.settings.set_wall(int(time.time()))
        self.settings.publish(
            token_keys={item.kid: item.key.value for item in config.token_keys},
            trunk_keys={item.id: item.key.value for item in config.trunk_keys},
            trunk_key_id=config.trunk_key_id,
            trunk_insecure=config.trunk_insecure,
            hash_policy=config.hash_policy,
            draining=self._refusing,
            allow_clients=[_network(text) for text in config.allow_clients],
            coalesce_us=config.coalesce_us,
            spin=config.spin,
            dscp=config.dscp,
            trunk_mtu=config.trunk_mtu,
            admission_flows_per_s=self._share(config.admission_flows_per_s),
            admission_burst=self._share(config.admission_burst),
        )
        self.routing.ttl_s = config.route_ttl_s

    def _share(self, of_relay: int) -> int:
        """One shard's part of a number of the relay's: the kernel spreads a network over all of them."""
        return -(-of_relay // len(self.shards))

    def _publish_ingresses(self) -> None:
        known = ingress.published(self._memory)
        found = ingress.find(self.config, self.opening.listeners, known)
        ingress.publish(self.shared, found)
        self.routing.candidates = relay_candidates(found)

    def _remember(self) -> None:
        self._note.write(
            msgspec.json.encode(
                Remembered(
                    config=plain_config(self.config),
                    backends=self.registry.store(),
                    drain=self.drain,
                    workers=self.workers if self.workers != self.config.workers else 0,
                    log_level=self.log_level if self.log_level != self.config.log_level else "",
                )
            )
        )

    def begin_upgrade(self) -> None:
        """Ask the keeper to let the installed version take over; how it ends, it says itself.

        RouteError (bad_request, conflict): there is no keeper, it does not listen, an upgrade is under way.
        """
        if self.request_upgrade is None:
            hint = "Start it again with the new version."
            raise RouteError("this relay is part of a program.", hint, code="bad_request")
        if self.upgrade[0] == "running":
            raise RouteError("an upgrade is under way.", "Wait for its end.", code="conflict")
        if not self.request_upgrade():
            raise RouteError("the keeper does not listen.", "See whether it is stopped.", code="conflict")
        self.upgrade = ("running", "")

    # ---- by the clock --------------------------------------------------------------------------

    def observe(self) -> None:
        """Every second: the wall clock for tokens, and what the trunks say about their backends."""
        self.settings.set_wall(int(time.time()))
        self._tell_refusal()
        self.findings = merge_links(self.tables.links(), monotonic_ms())
        for index, entry in self.registry.by_index().items():
            finding = self.findings.get(index)
            if entry.spec.mode == "trunk" and finding is not None and finding.heard is not None:
                self.execute(self.registry.observe(index, finding.heard, finding.reported))

    def sweep(self) -> None:
        """Every few seconds: release what no flow uses any more."""
        sweep(self.shared, self.shards, monotonic_s())
        if self.registry.retired:
            self.execute(self.registry.release(self.tables.backends_in_use()))
            self._remember()

    # ---- state ---------------------------------------------------------------------------------

    def live_flows(self) -> int:
        """Flows a drain waits for: confirmed and provisional, copies in several shards counted each."""
        headers = self.tables.headers()
        return int(headers["flows_count"].sum() + headers["provisional_count"].sum())

    def workers_turn(self) -> bool:
        """Has every worker gone round since the last time this said yes? A thread may live and yet hang."""
        loops = self.tables.counters()["loops"]
        turn = self.crew.is_whole() and bool((loops != self._loops).all())
        if turn:
            self._loops = loops.copy()
        return turn

    def doing(self) -> str:
        """What this relay does, for `systemctl status`."""
        return f"{self.live_flows()} flows{', draining' if self.draining else ''}"

    def unready(self) -> list[str]:
        """Why this relay should get no new clients; empty when it should."""
        reasons = []
        if self.draining:
            reasons.append("draining")
        if not any(entry.state == "up" for entry in self.registry.entries.values()):
            reasons.append("no_backend_up")
        if not self.crew.is_whole():
            reasons.append("worker_ended")
        return reasons


def _attached(region: mmap.mmap, shard_fds: tuple[int, ...]) -> tuple[Shared, list[Shard]]:
    """The tables, mended after whoever wrote them last. region: the shared one.

    LayoutError when they are another version's, or damaged.
    """
    try:
        shared = Shared(region)
        shards = [Shard(shared, memory.map_region(fd)) for fd in shard_fds]
    except RegionError as error:
        raise LayoutError(str(error)) from error
    shared.raise_epoch(int(time.time()))
    link_shards(shards)
    with ThreadPoolExecutor(len(shards)) as each:  # at once: datagrams wait for this
        list(each.map(lambda one: one.adopt(monotonic_ms()), shards))  # what fails in a thread fails here
    return shared, shards


def monotonic_ms() -> int:
    """The tables' fine clock: CLOCK_MONOTONIC in milliseconds, 32 bits."""
    return time.monotonic_ns() // 1_000_000 & 0xFFFFFFFF


def _cpus() -> int:
    """CPUs this process may use; workers pin their own threads, not this one."""
    return len(os.sched_getaffinity(0))


def _network(text: str) -> tuple[bytes, int, int]:
    """A network as the data plane wants it: (16 bytes, family, prefix length)."""
    network = ip_network(text)
    first = Endpoint(network.network_address, 0)
    return first.address16, first.family, network.prefixlen
