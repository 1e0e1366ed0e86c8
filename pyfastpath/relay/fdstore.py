"""What outlives even the keeper: its sockets and tables in the service manager's store of descriptors.

A keeper stores everything it opened, and a manifest: a sealed memfd that says what each descriptor is. The
next keeper knows them again by device and inode, whatever their numbers and their order, and goes on with
the same sockets and tables. Names only tell an operator what is kept (`systemd-analyze fdstore`).

Kept is what a keeper that dies leaves behind. One that ends as told lets go of everything, so that a
restart opens sockets anew, as the configuration says.
"""

from __future__ import annotations

import fcntl
import logging
import os
from typing import Any, Final

import msgspec
import numpy as np

from pyfastpath.config import RelayConfig
from pyfastpath.notify import ServiceManager
from pyfastpath.relay import sockets
from pyfastpath.relay.layout import LAYOUT_VERSION, SHARED_HEADER
from pyfastpath.relay.memory import MemoryFds
from pyfastpath.relay.opening import Opening, ShardSockets

log = logging.getLogger("pyfastpath.keeper")

# The names of all travel in one environment variable, of which execve(2) takes 128 KiB.
DESCRIPTORS_MAX: Final = 12_000
SHAPING: Final = (
    "listen",
    "shards",
    "receive_buffer_bytes",
    "flows_max",
    "routes_max",
    "targets_max",
    "plain_address",
    "plain_ports",
    "plain_address_ipv6",
    "plain_ports_ipv6",
    "trunk_address",
    "trunk_port",
    "admin_socket",
    "admin_tcp",
    "health_listen",
)
"""Keys that sockets and tables are made by. None of them is a secret."""
MANIFEST: Final = "manifest"
_SEALS: Final = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

Identity = tuple[int, int]  # device and inode: the same for every number of one open socket or memfd


class Stored(msgspec.Struct, frozen=True):
    """The manifest. shape: the keys of SHAPING. opening: in the numbers of the keeper that wrote it, and
    identities by those.
    """

    generation: int
    shape: dict[str, Any]
    opening: Opening
    identities: dict[int, Identity]


class MisfitError(Exception):
    """Kept descriptors that are no relay of ours; the text says why."""


class Store:
    """The keeper's part of the store. Without a service manager it does nothing."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager
        self._generation = 0
        self._names: set[str] = set()

    @property
    def keeps(self) -> bool:
        """Is anything stored?"""
        return bool(self._names)

    def take_up(self, config: RelayConfig) -> tuple[Opening, RelayConfig] | None:
        """What a keeper that died has left, and the configuration that fits it; None: open everything anew.

        Sockets and tables stay as they are; the keys that shape them wait for a restart. What does not fit
        is closed, here and in the store, before anything is opened in its place.
        """
        found = self._manager.inherited
        if not found:
            return None
        self._names = {name for name, _ in found}
        try:
            stored, opening = _fitting(found)
            shape = _shape_of(stored)
        except MisfitError as why:
            log.error("%s; flows of the keeper before are lost, everything is opened anew", why)  # noqa: TRY400
            self.let_go()
            for _, fd in found:
                os.close(fd)
            self._manager.wait_until_heard()  # else two sets of sockets would share the clients
            return None
        self._generation = stored.generation
        self._drop_all_but(opening, found)
        sockets.reserve_descriptors(len(opening.descriptors()))
        log.warning("took up %d sockets and tables of a keeper that died", len(opening.descriptors()))
        if waiting := [key for key, value in shape.items() if getattr(config, key) != value]:
            log.warning("these keys take effect at the next start: %s", ", ".join(waiting))
        return opening, msgspec.structs.replace(config, **shape)

    def keep(self, opening: Opening, config: RelayConfig) -> None:
        """Store everything, and let go of tables that others have replaced."""
        if not self._manager.listens:
            return
        if len(opening.descriptors()) > DESCRIPTORS_MAX:
            log.warning(
                "%d sockets are more than the service manager can hand on: flows end with the keeper. "
                "Lower plain_ports until there are less than %d.",
                len(opening.descriptors()),
                DESCRIPTORS_MAX,
            )
            return
        self._generation += 1
        groups = _groups(opening, self._generation)
        before, self._names = self._names, set(groups) | {self._manifest_name()}
        for name, fds in groups.items():
            self._manager.store(name, fds)
        manifest = _manifest(opening, config, self._generation)
        self._manager.store(self._manifest_name(), [manifest])
        os.close(manifest)
        for name in sorted(before - self._names):
            self._manager.forget(name)

    def let_go(self) -> None:
        """Nothing is kept any more: a keeper that ends as told leaves nothing behind."""
        for name in sorted(self._names):
            self._manager.forget(name)
        self._names = set()

    def _manifest_name(self) -> str:
        return f"{MANIFEST}-{self._generation}"

    def _drop_all_but(self, opening: Opening, found: list[tuple[str, int]]) -> None:
        """Close what is no part of the opening: manifests, and tables that were just being replaced."""
        used = set(opening.descriptors())
        needed = {name for name, fd in found if fd in used} | {self._manifest_name()}
        for name in sorted(self._names - needed):
            self._manager.forget(name)
        self._names = needed
        for _, fd in found:
            if fd not in used:
                os.close(fd)


def identity_of(fd: int) -> Identity:
    """What stays the same when a descriptor travels to another process."""
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def _groups(opening: Opening, generation: int) -> dict[str, list[int]]:
    """Descriptors by the name they are kept under."""
    groups = {f"tables-{generation}": list(opening.memory.all())}
    for number, shard in enumerate(opening.shards):
        groups[f"clients-{number}"] = list(shard.clients)
        groups[f"trunk-{number}"] = [shard.trunk]
        groups[f"plain-{number}"] = list(shard.plain.values())
    groups |= {
        "admin-unix": [opening.admin_unix],
        "admin-tcp": [opening.admin_tcp],
        "health": [opening.health],
    }
    return {name: fds for name, fds in groups.items() if fds and fds != [-1]}


def _manifest(opening: Opening, config: RelayConfig, generation: int) -> int:
    """A memfd that nobody can change."""
    stored = Stored(
        generation=generation,
        shape=msgspec.to_builtins({key: getattr(config, key) for key in SHAPING}),
        opening=opening,
        identities={fd: identity_of(fd) for fd in opening.descriptors()},
    )
    fd = os.memfd_create("fastpath-stored", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, msgspec.json.encode(stored))
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def _fitting(found: list[tuple[str, int]]) -> tuple[Stored, Opening]:
    """The newest manifest whose descriptors are all there, and its opening in numbers of this process."""
    here = {identity_of(fd): fd for _, fd in found}
    manifests = sorted(
        (_read(fd) for name, fd in found if name.startswith(MANIFEST)), key=lambda one: one.generation
    )
    if not manifests:
        raise MisfitError(
            f"{len(found)} descriptors were handed over, and no manifest of ours says what they are"
        )
    whole = [one for one in manifests if here.keys() >= set(one.identities.values())]
    if not whole:
        known = manifests[-1].identities.values()
        lost = len(set(known) - here.keys())
        raise MisfitError(f"{lost} of {len(known)} descriptors were not kept (raise FileDescriptorStoreMax)")
    stored = whole[-1]
    opening = _renumbered(stored.opening, {fd: here[known] for fd, known in stored.identities.items()})
    header = np.frombuffer(os.pread(opening.memory.shared, SHARED_HEADER.itemsize, 0), SHARED_HEADER)
    version = int(header["layout_version"][0])
    if version != LAYOUT_VERSION:
        raise MisfitError(f"the kept tables have layout version {version}, this relay needs {LAYOUT_VERSION}")
    return stored, opening


def _read(fd: int) -> Stored:
    try:
        return msgspec.json.decode(os.pread(fd, os.fstat(fd).st_size, 0), type=Stored)
    except (OSError, msgspec.MsgspecError) as error:
        raise MisfitError(f"the manifest of the kept descriptors cannot be read: {error}") from error


def _shape_of(stored: Stored) -> dict[str, Any]:
    """The keys that shaped what is kept, with their values."""
    try:
        shape = msgspec.convert(stored.shape, RelayConfig)
    except msgspec.ValidationError as error:
        raise MisfitError(f"the kept descriptors were made by another configuration: {error}") from error
    return {key: getattr(shape, key) for key in SHAPING}


def _renumbered(opening: Opening, new: dict[int, int]) -> Opening:
    new = new | {-1: -1}
    kept = opening.memory
    return msgspec.structs.replace(
        opening,
        memory=MemoryFds(new[kept.shared], tuple(new[fd] for fd in kept.shards), new[kept.note]),
        shards=tuple(
            ShardSockets(
                tuple(new[fd] for fd in shard.clients),
                new[shard.trunk],
                {index: new[fd] for index, fd in shard.plain.items()},
            )
            for shard in opening.shards
        ),
        admin_unix=new[opening.admin_unix],
        admin_tcp=new[opening.admin_tcp],
        health=new[opening.health],
    )
