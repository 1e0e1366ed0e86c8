"""CPU time of a process and all it started, in nanoseconds, and which CPUs a run divides among whom."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCHEDULED: Final = 2  # CPUCLOCK_SCHED, linux/posix-timers.h: the exact one of a process's CPU clocks


@dataclass(frozen=True, slots=True)
class Division:
    """relay: the CPU of a relay of our own, None where it has to share. load: those of generator and sink."""

    relay: int | None
    load: frozenset[int]


def divide(cpus: frozenset[int]) -> Division:
    """The first CPU for the relay, the others for the load; with a single one nobody has its own."""
    if len(cpus) < 2:
        return Division(None, cpus)
    return Division(min(cpus), cpus - {min(cpus)})


@contextmanager
def pinned(*cpus: int) -> Iterator[None]:
    """The calling thread, and every thread and process it starts meanwhile, runs on these CPUs alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def used_ns(pid: int) -> int:
    """Nanoseconds on a CPU of a process and its living descendants, threads that have ended included: their
    process clocks, clock_getcpuclockid(3)."""
    total = 0
    for process in _tree(pid):
        with suppress(OSError):
            total += time.clock_gettime_ns(~process << 3 | _SCHEDULED)
    return total


def is_visible(pid: int) -> bool:
    """Can this process read how long that one ran? Not across containers."""
    return used_ns(pid) > 0


def _tree(pid: int) -> list[int]:
    found = [pid]
    for task in _tasks(pid):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += _tree(int(child))
    return found


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
