"""A quota of CPU time for the processes of a relay: a control group of its own, of version 2 or 1.

with CpuQuota(rig.keeper_pid) as quota:
    quota.limit(0.05)                   # a twentieth of one CPU, from now on
    ...
    quota.lift()
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

from tests.chaos.outcome import CannotRunError
from tests.chaos.processes import tree
from tests.support.rig import until

LEAST_US: Final = 1_000  # the kernel grants no smaller quota in a period
PERIOD_US: Final = 20_000
LONGEST_US: Final = 1_000_000
EMPTY_S: Final = 20.0


def period_for(share: float) -> int:
    """Microseconds in which the smallest quota is this share at most; as short as may be, since a group
    without quota stands still until the period ends."""
    return min(LONGEST_US, max(PERIOD_US, round(LEAST_US / share)))


def cpu_hierarchy() -> tuple[Path, bool]:
    """Where our group for CPU time lies, and whether that is version 2. CannotRunError: nowhere."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    own = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, where, kind, options, *_ in mounts:
        if kind == "cgroup" and "cpu" in options.split(","):
            path = next(path for _, names, path in own if "cpu" in names.split(","))
            return Path(where) / path.strip("/"), False
    for _, where, kind, *_ in mounts:
        root = Path(where)
        if kind == "cgroup2" and "cpu" in (root / "cgroup.subtree_control").read_text().split():
            return root, True
    raise CannotRunError("no control groups for CPU time are mounted here")


class CpuQuota:
    """Of a process, its children and its threads."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._parent, self._is_v2 = cpu_hierarchy()
        self._group = self._parent / f"fastpath-test-{os.getpid()}-{pid}"

    def __enter__(self) -> Self:
        try:
            self._group.mkdir()
        except OSError as error:
            raise CannotRunError(f"cannot make a control group: {error}") from error
        self._take_in()
        return self

    def __exit__(self, *_: object) -> None:
        self.lift()
        until(self._let_go, "nobody is in the control group", seconds=EMPTY_S)
        self._group.rmdir()

    def limit(self, share: float) -> None:
        """So much of one CPU and no more."""
        period_us = period_for(share)
        self._write(max(LEAST_US, round(share * period_us)), period_us)

    def lift(self) -> None:
        """As much as there is."""
        self._write(None, PERIOD_US)

    def _write(self, quota_us: int | None, period_us: int) -> None:
        if self._is_v2:
            (self._group / "cpu.max").write_text(f"{'max' if quota_us is None else quota_us} {period_us}")
            return
        (self._group / "cpu.cfs_quota_us").write_text("-1")
        (self._group / "cpu.cfs_period_us").write_text(str(period_us))
        (self._group / "cpu.cfs_quota_us").write_text(str(-1 if quota_us is None else quota_us))

    def _take_in(self) -> None:
        """Everybody. Who is born of a parent that is not in yet is outside: look until nobody is new."""
        known: set[int] = set()
        while new := set(tree(self._pid)) - known:
            _move(new, self._group)
            known |= new

    def _let_go(self) -> bool:
        """Whoever is in it, born there too; whether nobody was."""
        inside = (self._group / "cgroup.procs").read_text().split()
        _move(map(int, inside), self._parent)
        return not inside


def _move(pids: Iterable[int], group: Path) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            (group / "cgroup.procs").write_text(str(pid))


def cpu_seconds(pid: int) -> float:
    """CPU time that a process and its descendants have used, but for threads that have ended."""
    used_ns = 0
    for each in tree(pid):
        for thread in Path(f"/proc/{each}/task").glob("*/schedstat"):
            with suppress(FileNotFoundError, ProcessLookupError):
                used_ns += int(thread.read_text().split()[0])
    return used_ns / 1e9
