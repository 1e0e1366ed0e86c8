"""The registry of backends: names, states and indices. Pure: every change comes back as commands.

An index below 256 in the shared table belongs to one backend as long as any flow names it. A backend
that is taken away therefore retires: it takes no new flows, its live ones go on, and its index is free
only when the last of them has ended.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal

import msgspec

from pyfastpath.config.model import Backend
from pyfastpath.errors import RouteError
from pyfastpath.relay.commands import (
    NO_IDENTITY,
    BackendCommand,
    BackendState,
    PublishBackend,
    RemoveBackend,
    SetBackendIdentity,
    SetBackendState,
)
from pyfastpath.relay.layout import BACKENDS

Source = Literal["file", "api"]


def name_hash(backend_id: str) -> int:
    """Seed of a backend's rendezvous weight: 64 bits of BLAKE2b of its id, the same in every relay."""
    return int.from_bytes(hashlib.blake2b(backend_id.encode(), digest_size=8).digest(), "little")


@dataclass(slots=True)
class Entry:
    """One backend the relay knows."""

    spec: Backend
    index: int
    source: Source
    draining: bool = False  # an operator said so
    retiring: bool = False  # taken away, its flows live
    heard: BackendState | None = None  # what pings, state records or probes say; None: nothing yet
    reported: tuple[int, int, int] | None = None  # cluster, transceiver, incarnation of its state records

    @property
    def state(self) -> BackendState:
        """What the workers are to believe."""
        heard = self.heard
        if heard is None:
            heard = "down" if self.spec.mode == "trunk" and not self.spec.assume_up else "up"
        return "draining" if heard == "up" and (self.draining or self.retiring) else heard

    def identity(self, cluster: int) -> tuple[int, int, int] | None:
        """What tokens must name: the configuration's numbers, the incarnation the backend itself reports."""
        if self.spec.transceiver is None:
            return self.reported
        own = cluster if self.spec.cluster is None else self.spec.cluster
        incarnation = self.reported[2] if self.reported else self.spec.incarnation
        return own, self.spec.transceiver, incarnation


class StoredEntry(msgspec.Struct, frozen=True):
    """An entry as the next engine reads it from the note."""

    spec: Backend
    index: int
    source: Source
    draining: bool
    retiring: bool


def _same_server(one: Backend, other: Backend | None) -> bool:
    return other is not None and (one.endpoint, one.mode) == (other.endpoint, other.mode)


@dataclass(slots=True)
class Registry:
    """Every backend by id, and those that retire. `cluster`: the relay's own; `keyed`: trunks carry tags."""

    cluster: int = 0
    keyed: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)
    retired: list[Entry] = field(default_factory=list)

    def get(self, backend_id: str) -> Entry:
        """The backend of this id; RouteError (unknown_backend) names those there are."""
        try:
            return self.entries[backend_id]
        except KeyError:
            known = ", ".join(sorted(self.entries)[:10]) or "none"
            raise RouteError(
                f"no backend has the id {backend_id!r}.",
                f"Known backends: {known}. PUT /v1/backends/{backend_id} adds one.",
                code="unknown_backend",
            ) from None

    def by_index(self) -> dict[int, Entry]:
        """Index -> entry, retiring ones included."""
        return {entry.index: entry for entry in (*self.retired, *self.entries.values())}

    def configure(self, specs: Iterable[Backend], *, cluster: int, keyed: bool) -> list[BackendCommand]:
        """Follow the configuration: add, change and retire what came from the file; leave the API's alone."""
        wanted = {spec.id: spec for spec in specs}
        for spec in wanted.values():
            self._refuse_same_trunk(spec, [e for e in self.entries.values() if e.source == "api"])
        republish = (self.cluster, self.keyed) != (cluster, keyed)
        self.cluster, self.keyed = cluster, keyed
        gone = [
            entry.spec.id
            for entry in self.entries.values()
            if entry.source == "file" and not _same_server(entry.spec, wanted.get(entry.spec.id))
        ]
        commands = [command for backend_id in gone for command in self.remove(backend_id)]
        for spec in wanted.values():
            commands += self.add(spec, "file")
        if republish:
            commands += [self._publication(entry) for entry in self.by_index().values()]
        return commands

    def add(self, spec: Backend, source: Source = "api") -> list[BackendCommand]:
        """Add a backend, or change the one of this id; at another address it is another, the old retires."""
        self._refuse_same_trunk(spec, self.entries.values())
        old = self.entries.get(spec.id)
        if old is not None and _same_server(spec, old.spec):
            changed = old.spec != spec
            old.spec, old.source = spec, source
            return [self._publication(old)] if changed else []
        entry = self._returning(spec) or Entry(spec, self._free_index(), source)
        commands = self.remove(spec.id) if old is not None else []
        entry.spec, entry.source, entry.draining, entry.retiring = spec, source, False, False
        self.entries[spec.id] = entry
        return [*commands, self._publication(entry)]

    def remove(self, backend_id: str) -> list[BackendCommand]:
        """Take a backend away: no new flows, tokens no longer name it, live flows go on."""
        entry = self.get(backend_id)
        del self.entries[backend_id]
        entry.retiring = True
        self.retired.append(entry)
        return [
            SetBackendState(entry.index, entry.state),
            *([SetBackendIdentity(entry.index, NO_IDENTITY)] if entry.identity(self.cluster) else []),
        ]

    def drain(self, backend_id: str, draining: bool = True) -> list[BackendCommand]:
        """Send no new flows there (or, with False, send them again)."""
        entry = self.get(backend_id)
        entry.draining = draining
        return [SetBackendState(entry.index, entry.state)]

    def observe(
        self, index: int, heard: BackendState, reported: tuple[int, int, int] | None = None
    ) -> list[BackendCommand]:
        """What pings, state records or probes say now; commands only for what changed."""
        entry = self.by_index().get(index)
        if entry is None:
            return []
        before = entry.state, entry.identity(self.cluster)
        entry.heard = heard
        entry.reported = reported or entry.reported
        after = entry.state, entry.identity(self.cluster)
        commands: list[BackendCommand] = []
        if after[1] != before[1] and after[1] is not None and not entry.retiring:
            commands.append(SetBackendIdentity(index, after[1]))
        if after[0] != before[0]:
            commands.append(SetBackendState(index, after[0]))
        return commands

    def release(self, in_use: set[int]) -> list[BackendCommand]:
        """Forget retired backends that no flow names any more."""
        over = [entry for entry in self.retired if entry.index not in in_use]
        self.retired = [entry for entry in self.retired if entry.index in in_use]
        return [RemoveBackend(entry.index) for entry in over]

    def store(self) -> list[StoredEntry]:
        """What the next engine must know to go on with the same indices."""
        return [
            StoredEntry(e.spec, e.index, e.source, e.draining, e.retiring) for e in self.by_index().values()
        ]

    def restore(self, stored: Iterable[StoredEntry]) -> None:
        """Take over from the engine before; its table entries are still published."""
        for one in stored:
            entry = Entry(one.spec, one.index, one.source, one.draining, one.retiring)
            if one.retiring:
                self.retired.append(entry)
            else:
                self.entries[one.spec.id] = entry

    def _publication(self, entry: Entry) -> PublishBackend:
        return PublishBackend(
            index=entry.index,
            endpoint=entry.spec.endpoint,
            mode=entry.spec.mode,
            name_hash=name_hash(entry.spec.id),
            identity=None if entry.retiring else entry.identity(self.cluster),
            keyed=self.keyed and entry.spec.mode == "trunk",
            state=entry.state,
        )

    def _refuse_same_trunk(self, spec: Backend, others: Iterable[Entry]) -> None:
        """A trunk datagram names its backend by address:port alone."""
        for other in others:
            if other.spec.id != spec.id and _same_server(other.spec, spec) and spec.mode == "trunk":
                raise RouteError(
                    f"backend {other.spec.id} already has the trunk address {spec.endpoint}.",
                    "Remove that backend first, or give this one its own address.",
                    code="conflict",
                )

    def _returning(self, spec: Backend) -> Entry | None:
        """A retired entry of the same address and mode comes back at its own index: its flows never left."""
        for entry in self.retired:
            if _same_server(entry.spec, spec):
                self.retired.remove(entry)
                return entry
        return None

    def _free_index(self) -> int:
        """An index nobody has; fresh ones first, so that one is used again as late as can be."""
        taken = self.by_index()
        fresh = max(taken, default=-1) + 1
        for index in chain(range(fresh, BACKENDS), range(fresh)):
            if index not in taken:
                return index
        raise RouteError(
            f"all {BACKENDS} backends are taken.",
            "Remove one; a removed backend counts until its last flow has ended.",
            code="table_full",
        )
