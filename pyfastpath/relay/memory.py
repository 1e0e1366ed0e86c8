"""Memory that outlives an engine: memfds the keeper owns and every engine maps.

The tables' layout belongs to `fastpath.shard`; here are only file descriptors, mappings, and the small
register in which the control plane leaves what the next engine must know (names of backends, drain).
"""

import contextlib
import fcntl
import mmap
import os
import secrets
import struct
import time
import zlib
from dataclasses import dataclass
from typing import Final

from fastpath.shard import format_shard, format_shared, shard_bytes, shared_bytes

from pyfastpath.errors import SocketError

NOTE_BYTES: Final = 1 << 20
_NOTE_HEADER: Final = struct.Struct("=QII")  # generation, length, CRC-32 of generation and content


@dataclass(frozen=True, slots=True)
class TableSizes:
    """How large the tables of one relay are; fixed for the keeper's life.

    ports_*: (first pool index, count) of every shard's share of the plain ports.
    """

    shards: int
    flows_max: int
    routes_max: int
    targets_max: int
    ports_ipv4: tuple[tuple[int, int], ...]
    ports_ipv6: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class MemoryFds:
    """The descriptors of one relay's regions; what an engine inherits."""

    shared: int
    shards: tuple[int, ...]
    note: int

    def all(self) -> tuple[int, ...]:
        """Every descriptor."""
        return (self.shared, *self.shards, self.note)

    def close(self) -> None:
        """Give the memory back (mappings keep it alive until they are gone too)."""
        for fd in self.all():
            os.close(fd)


def create(
    sizes: TableSizes, *, seed: bytes | None = None, trunk_epoch: int = 0, note: int | None = None
) -> MemoryFds:
    """Make and format every region. SocketError when the machine does not have the memory.

    seed, trunk_epoch, note: of the tables that these are to follow; a relay that begins draws its own.
    """
    with contextlib.ExitStack() as undo:
        fds = []

        def region(name: str, size_bytes: int) -> int:
            fds.append(_memfd(name, size_bytes))
            undo.callback(os.close, fds[-1])
            return fds[-1]

        common = {"routes_max": sizes.routes_max, "targets_max": sizes.targets_max}
        shared = region("shared", shared_bytes(sizes.shards, **common))
        format_shared(
            map_region(shared),
            seed=secrets.token_bytes(16) if seed is None else seed,
            shards=sizes.shards,
            trunk_epoch=max(trunk_epoch, int(time.time()) & 0xFFFFFFFF),
            **common,
        )
        shards = []
        for index in range(sizes.shards):
            tables = {
                "flows_max": sizes.flows_max,
                "targets_max": sizes.targets_max,
                "ports_ipv4": sizes.ports_ipv4[index],
                "ports_ipv6": sizes.ports_ipv6[index],
            }
            shards.append(region(f"shard{index}", shard_bytes(**tables)))
            format_shard(map_region(shards[-1]), index=index, **tables)
        made = MemoryFds(shared, tuple(shards), region("note", 2 * NOTE_BYTES) if note is None else note)
        undo.pop_all()
    return made


def _memfd(name: str, size_bytes: int) -> int:
    """A sealed memfd: nobody can shrink it under a mapping, which would kill the engine with SIGBUS."""
    fd = -1
    try:
        fd = os.memfd_create(f"fastpath-{name}", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(fd, size_bytes)
    except OSError as error:
        if fd >= 0:
            os.close(fd)
        raise SocketError(
            f"no memory for the {name} region of {size_bytes >> 20} MiB: {error.strerror}.",
            "Lower flows_max, routes_max or shards, or raise the memory limit.",
        ) from error
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return fd


def map_region(fd: int) -> mmap.mmap:
    """Map a whole region, shared and writable. SocketError when the address space has no room for it."""
    size_bytes = os.fstat(fd).st_size
    try:
        return mmap.mmap(fd, size_bytes, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
    except OSError as error:
        raise SocketError(
            f"cannot map a region of {size_bytes >> 20} MiB: {error.strerror}.",
            "Lower flows_max, routes_max or shards, or raise the memory limit.",
        ) from error


def become_writer(regions: MemoryFds) -> None:
    """Wait until no other process works on these tables, and be the one that does.

    The kernel lets go of a process's record locks (fcntl(2)) when its last thread is gone: an engine that is
    being killed, or that outlives its keeper for a moment, is waited for.
    """
    fcntl.lockf(regions.shared, fcntl.LOCK_EX)


def resign_writer(regions: MemoryFds) -> None:
    """Let another process work on these tables."""
    fcntl.lockf(regions.shared, fcntl.LOCK_UN)


class Note:
    """A small record in keeper-owned memory that is replaced as a whole.

    Two halves are written in turn, each with a generation and a CRC, so an engine that dies while it
    writes leaves the note before it readable.
    """

    def __init__(self, fd: int) -> None:
        self._memory = map_region(fd)

    def read(self) -> bytes:
        """The newest complete note; empty when none was ever written."""
        return max(self._half(0), self._half(1))[1]

    def write(self, content: bytes) -> None:
        """Replace the note. ValueError when it is longer than a half (1 MiB)."""
        if len(content) > NOTE_BYTES - _NOTE_HEADER.size:
            raise ValueError(f"a note holds {NOTE_BYTES - _NOTE_HEADER.size} bytes, not {len(content)}")
        generation = max(self._half(0), self._half(1))[0] + 1
        start = (generation & 1) * NOTE_BYTES
        header = _NOTE_HEADER.pack(generation, len(content), _check(generation, content))
        self._memory[start : start + len(header) + len(content)] = header + content

    def _half(self, half: int) -> tuple[int, bytes]:
        """(generation, content) of one half; (0, b"") when it is empty or torn."""
        start = half * NOTE_BYTES
        generation, length, crc = _NOTE_HEADER.unpack_from(self._memory, start)
        if length > NOTE_BYTES - _NOTE_HEADER.size:
            return 0, b""
        begin = start + _NOTE_HEADER.size
        content = bytes(self._memory[begin : begin + length])
        return (generation, content) if _check(generation, content) == crc else (0, b"")


def _check(generation: int, content: bytes) -> int:
    """The generation is part of it: a new one over old content must not make that the newest."""
    return zlib.crc32(content, generation & 0xFFFFFFFF)
