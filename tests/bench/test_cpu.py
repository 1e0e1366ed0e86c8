"""CPU time as the kernel tells it."""

import os
import time

import pytest

from bench.cpu import busy_ns, idle_ns, spare_ns
from pyfastpath.tools.bench.cpu import pinned

TIMER_LIST = """Timer List Version: v0.10
now at 24413014413630 nsecs

cpu: 0
 clock 0:
  .base:       (____ptrval____)
  .idle_sleeptime : 5000 nsecs
  .iowait_sleeptime: 70 nsecs

cpu: 1
  .idle_sleeptime : 6000 nsecs
  .iowait_sleeptime: 80 nsecs
"""


def test_idle_time_is_that_of_the_one_cpu():
    assert idle_ns(TIMER_LIST, 0) == 5070
    assert idle_ns(TIMER_LIST, 1) == 6080
    with pytest.raises(ValueError, match="CPU 2"):
        idle_ns(TIMER_LIST, 2)


def test_a_core_is_busy_spare_or_stolen_but_nothing_else():
    cpu = min(os.sched_getaffinity(0))
    first = time.monotonic_ns(), busy_ns(cpu), spare_ns(cpu)
    with pinned(cpu):
        while time.monotonic_ns() < first[0] + 200_000_000:
            pass
    wall, busy, spare = (
        after - before
        for after, before in zip((time.monotonic_ns(), busy_ns(cpu), spare_ns(cpu)), first, strict=True)
    )
    assert busy > 0
    assert spare < wall


def test_a_cpu_this_machine_has_not():
    with pytest.raises(ValueError, match="no CPU 4096"):
        busy_ns(4096)
