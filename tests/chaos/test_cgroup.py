"""Quotas of CPU time: how the kernel is asked for them, and that it grants them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.chaos.cgroup import LEAST_US, PERIOD_US, CpuQuota, cpu_seconds, period_for
from tests.chaos.outcome import CannotRunError
from tests.chaos.processes import tree
from tests.support.rig import until

CHILDREN = 300


@pytest.mark.parametrize("share", [1e-3, 0.01, 0.049, 0.05, 0.5, 2.0])
def test_the_least_quota_fits_into_the_period(share: float) -> None:
    assert period_for(share) * share >= LEAST_US - 1
    assert period_for(share) >= PERIOD_US


def test_who_is_born_meanwhile_is_inside_and_leaves_with_the_others() -> None:
    """Of a process that has one child after the other, taken in and let go at any moment of that."""
    births = f"for n in $(seq {CHILDREN}); do sleep 60 & done; wait"
    fertile = subprocess.Popen(["sh", "-c", births], start_new_session=True)
    try:
        until(lambda: len(tree(fertile.pid)) > 10, "children")
        while len(tree(fertile.pid)) <= CHILDREN:
            with CpuQuota(fertile.pid):
                where = [Path(f"/proc/{pid}/cgroup").read_text() for pid in tree(fertile.pid)]
                assert all("fastpath-test" in each for each in where)
    except CannotRunError as reason:
        pytest.skip(str(reason))
    finally:
        os.killpg(fertile.pid, signal.SIGKILL)
        fertile.wait()


def test_a_process_gets_its_share_and_no_more() -> None:
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        until(lambda: cpu_seconds(busy.pid) > 0.1, "the process runs", seconds=20)
        with CpuQuota(busy.pid) as quota:
            quota.limit(0.02)
            before_s, began_s = cpu_seconds(busy.pid), time.monotonic()
            until(lambda: time.monotonic() - began_s > 1, "a second", seconds=20)
            share = (cpu_seconds(busy.pid) - before_s) / (time.monotonic() - began_s)
            assert 0 < share < 0.1
    except CannotRunError as reason:
        pytest.skip(str(reason))
    finally:
        busy.kill()
        busy.wait()
