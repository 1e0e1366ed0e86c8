"""CPU time of a whole core in nanoseconds, and which CPU does what in a benchmark."""

from __future__ import annotations

import os
from pathlib import Path

RELAY_CPU = 0
LOAD_CPU = 1
TIMER_LIST = Path("/proc/timer_list")
IDLE_FIELDS = ("idle_sleeptime", "iowait_sleeptime")
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


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


def _stat(cpu: int) -> list[int]:
    """user nice system idle iowait irq softirq steal … of one CPU since the start, in ticks."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *fields = line.split()
        if name == f"cpu{cpu}":
            return list(map(int, fields))
    raise ValueError(f"this machine has no CPU {cpu}: a benchmark needs two")
