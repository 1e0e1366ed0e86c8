"""A relay under a service manager that keeps descriptors, for ChaosRig(start=...): keepers may be killed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.chaos import processes
from tests.support.manager import Manager, end_group
from tests.support.relay import Relay, running_relay

PR_SET_CHILD_SUBREAPER: Final = 36  # linux/prctl.h


class KeptProcess:
    """The keeper of now: what subprocess.Popen is to a relay that nobody keeps."""

    def __init__(self, manager: Manager, command: list[str], log: Any) -> None:
        self._manager, self._command = manager, command
        self._log = os.fdopen(os.dup(log.fileno()), "ab")
        self._cpus = os.sched_getaffinity(0)
        # Orphans become ours: what they have used of the CPUs is no other program's.
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self.now = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        """Where the first one ran, whoever asks for the next."""
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, self._cpus)
        try:
            return self._manager.start(
                self._command, stdout=self._log, stderr=self._log, start_new_session=True
            )
        finally:
            os.sched_setaffinity(0, ours)

    def crash(self) -> None:
        """The keeper is killed, its engines with it (KillMode=mixed), and the next one started at once."""
        engines = [pid for pid in processes.tree(self.now.pid) if pid != self.now.pid]
        self.now.kill()
        self.now.wait()
        end_group(self.now.pid)
        for pid in engines:
            with suppress(ChildProcessError):  # buried by their keeper
                os.waitpid(pid, 0)
        self.now = self._started()

    @property
    def pid(self) -> int:
        return self.now.pid

    @property
    def returncode(self) -> int | None:
        return self.now.returncode

    def poll(self) -> int | None:
        return self.now.poll()

    def wait(self, timeout: float | None = None) -> int:
        return self.now.wait(timeout)

    def kill(self) -> None:
        self.now.kill()

    def send_signal(self, number: signal.Signals) -> None:
        self.now.send_signal(number)


@contextmanager
def kept_relay(directory: Path, **config: Any) -> Iterator[Relay]:
    """As running_relay; its `process` has `crash` too."""
    with (
        Manager(directory) as manager,
        running_relay(
            directory,
            launch=lambda command, log: KeptProcess(manager, [sys.executable, *command[1:]], log),
            **config,
        ) as relay,
    ):
        yield relay
