"""Effects as values: what the pure parts of the control plane want done to the tables.

The registry and the route book decide and give back commands; the control thread, the tables' one
writer, carries them out. So every decision can be tested without a table.
"""

from dataclasses import dataclass
from typing import Literal

from pyfastpath.types import Endpoint, Mode

BackendState = Literal["up", "draining", "down"]
NO_IDENTITY = (0xFFFF, 0xFFFF, 0xFF)
"""Cluster, transceiver and incarnation that no token can name: a token's cluster has 12 bits."""


@dataclass(frozen=True, slots=True)
class PublishBackend:
    """Enter a configured backend at a free index, or change everything about the one that is there."""

    index: int
    endpoint: Endpoint
    mode: Mode
    name_hash: int
    identity: tuple[int, int, int] | None  # cluster, transceiver, incarnation; None: no token names it
    keyed: bool
    state: BackendState


@dataclass(frozen=True, slots=True)
class SetBackendState:
    """Open or close a backend for new flows; established flows stay."""

    index: int
    state: BackendState


@dataclass(frozen=True, slots=True)
class SetBackendIdentity:
    """What a token must say to be routed to this backend."""

    index: int
    identity: tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class RemoveBackend:
    """Nothing may come from or go to it as a new flow any more; the index is free for another."""

    index: int


BackendCommand = PublishBackend | SetBackendState | SetBackendIdentity | RemoveBackend


@dataclass(frozen=True, slots=True)
class InstallRoutes:
    """Install these ufrags, all with one life, session and rule for conflicts.

    backends: one table index for all of them, or one for each. ttl_s counts from now. session: 32-bit
    hash of the session's name, 0 for none. replace: another backend of the same ufrag gives way.
    """

    ufrags: list[bytes]
    backends: int | list[int]
    ttl_s: int
    session: int
    replace: bool
