"""CPU time of a process and all it started, or of a whole core, in nanoseconds; and which CPU does what."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RELAY_CPU = 0
LOAD_CPU = 1
TIMER_LIST = Path("/proc/timer_list")
IDLE_FIELDS = ("idle_sleeptime", "iowait_sleeptime")
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
    """Nanoseconds a CPU under load did nothing or was not ours to use: idle + iowait + steal.

    Wall time minus this is what the core worked, softirq included: the kernel adds idle time up exactly,
    but charges short softirqs by sampling at ticks. Where root may read it, idle comes from /proc/timer_list,
    which lacks only the sleep that goes on now (below 1 ms under load); else from /proc/stat, in ticks of
    10 ms: a tenth of what a lightly loaded core works in a second.
    """
    idle, iowait, steal = (_stat(cpu)[field] * TICK_NS for field in (3, 4, 7))
    try:
        return idle_ns(TIMER_LIST.read_text(), cpu) + steal
    except (OSError, ValueError):
        return idle + iowait + steal


def idle_ns(timer_list: str, cpu: int) -> int:
    """Idle and iowait of one CPU in the text of the kernel's timer list. ValueError when it is not there."""
    section = timer_list.partition(f"\ncpu: {cpu}\n")[2].partition("\ncpu: ")[0]
    found = {
        name.strip(" ."): int(value.split()[0])
        for name, separator, value in (line.partition(":") for line in section.splitlines())
        if separator and name.strip(" .") in IDLE_FIELDS
    }
    if len(found) != len(IDLE_FIELDS):
        raise ValueError(f"no idle time of CPU {cpu} in {TIMER_LIST}")
    return sum(found.values())


@contextmanager
def pinned(*cpus: int) -> Iterator[None]:
    """What starts inside inherits these CPUs and no other."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
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
