"""CPU time of a process and all it started, or of a whole core, in nanoseconds; and which CPU does what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RELAY_CPU = 0
LOAD_CPU = 1
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for task in _tasks(pid):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += tree(int(child))
    return found


def used_ns(pid: int) -> int:
    """Nanoseconds on a CPU of every living thread of the tree: field 1 of schedstat."""
    total = 0
    for process in tree(pid):
        for task in _tasks(process):
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except (OSError, IndexError):
                continue
    return total


def busy_ns(cpu: int) -> int:
    """Nanoseconds one CPU was not idle, whoever used it (steal left out)."""
    user, nice, system, _idle, _iowait, irq, softirq, *_ = _stat(cpu)
    return (user + nice + system + irq + softirq) * TICK_NS


def spare_ns(cpu: int) -> int:
    """Nanoseconds one CPU did nothing or was not ours to use: idle + iowait + steal, in ticks of 10 ms.

    Wall time minus this is what a whole core worked, softirq included. The kernel adds idle time up exactly
    and the time of short softirqs by sampling at ticks, so this is the better side to count from.
    """
    fields = _stat(cpu)
    return (fields[3] + fields[4] + fields[7]) * TICK_NS


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """What starts inside inherits this CPU and no other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _stat(cpu: int) -> list[int]:
    """user nice system idle iowait irq softirq steal … of one CPU since the start, in ticks."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{cpu}":
            return list(map(int, fields))
    raise ValueError(f"this machine has no CPU {cpu}: a benchmark needs two")


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []
