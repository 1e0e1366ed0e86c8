"""A service manager of our own: hears sd_notify messages, keeps descriptors, starts processes with them.

with Manager(tmp_path) as manager:
    process = manager.start([sys.executable, "-m", "pyfastpath", "relay", ...])
    manager.wait_for("READY=1")
"""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MESSAGE_BYTES = 64 << 10
FDS_MAX = 253
ENOUGH_S = 30.0

# Puts the descriptors it was given at 3, 4, … and becomes the command, whose pid is then its own.
SHIM = """
import fcntl, os, sys
given = [int(text) for text in sys.argv[1].split(",") if text]
above = 3 + len(given) + max(given, default=0)
for index, fd in enumerate([fcntl.fcntl(fd, fcntl.F_DUPFD, above) for fd in given]):
    os.dup2(fd, 3 + index)
os.closerange(3 + len(given), above + len(given) + 1)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Manager:
    """Does with a message what systemd does. What it heard is in `heard`, what it keeps in `kept`."""

    def __init__(self, folder: Path, *, keeps_at_most: int = 8192) -> None:
        self.path = folder / "notify.sock"
        self.heard: list[str] = []
        self.kept: list[tuple[str, int]] = []
        self._keeps_at_most = keeps_at_most  # FileDescriptorStoreMax
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.path.chmod(0o777)  # as systemd's: whoever it starts may speak
        self._stop_read, self._stop_write = os.pipe()
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._listen, name="service-manager", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._stop_write)
        self._thread.join()
        os.close(self._stop_read)
        self._socket.close()
        for _, fd in self.kept:
            os.close(fd)

    def start(
        self, command: Sequence[str], env: dict[str, str] | None = None, **options: Any
    ) -> "subprocess.Popen[bytes]":
        """Start a process with all that is kept, numbered from 3 on. command[0] is a path."""
        with self._changed:
            names = ":".join(name for name, _ in self.kept)
            fds = [os.dup(fd) for _, fd in self.kept]
        environ = os.environ | {"NOTIFY_SOCKET": str(self.path)} | (env or {})
        if fds:
            environ |= {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": names}
        try:
            return subprocess.Popen(
                [sys.executable, "-c", SHIM, ",".join(map(str, fds)), *command],
                env=environ,
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                **options,
            )
        finally:
            for fd in fds:
                os.close(fd)

    def wait_for(self, line: str, *, times: int = 1) -> None:
        """Until this assignment was heard so often."""
        self.wait_until(lambda: self.count(line) >= times, f"{line} {times} times")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        """Until something heard or kept makes this true."""
        deadline_s = time.monotonic() + ENOUGH_S
        with self._changed:
            while not condition():
                left_s = deadline_s - time.monotonic()
                assert left_s > 0, f"not in {ENOUGH_S} s: {what}; heard {self.heard[-20:]}"
                self._changed.wait(left_s)

    def count(self, line: str) -> int:
        """How often an assignment was heard."""
        return self.heard.count(line)

    def forget(self, name: str) -> None:
        """As if this had never been kept."""
        with self._changed:
            self._obey(["FDSTOREREMOVE=1", f"FDNAME={name}"], [])

    def names(self) -> dict[str, int]:
        """How many descriptors are kept under each name."""
        with self._changed:
            kept = [name for name, _ in self.kept]
        return {name: kept.count(name) for name in kept}

    def _listen(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._stop_read], [], [])
            if self._stop_read in ready:
                return
            message, fds, _, _ = socket.recv_fds(self._socket, MESSAGE_BYTES, FDS_MAX)
            with self._changed:
                self._obey(message.decode().splitlines(), list(fds))
                self._changed.notify_all()

    def _obey(self, lines: list[str], fds: list[int]) -> None:
        said = dict(line.split("=", 1) for line in lines)
        self.heard += lines
        if said.get("FDSTORE") == "1":
            assert said.get("FDPOLL") == "0", "an error on a socket would make systemd forget it"
            fds = [fd for fd in fds if not self._keep(said.get("FDNAME", "stored"), fd)]
        if said.get("FDSTOREREMOVE") == "1":
            gone = [one for one in self.kept if one[0] == said["FDNAME"]]
            self.kept = [one for one in self.kept if one not in gone]
            fds += [fd for _, fd in gone]
        for fd in fds:  # what is not kept is closed: a barrier's pipe, what is known already or too much
            os.close(fd)

    def _keep(self, name: str, fd: int) -> bool:
        known = {_identity(kept) for _, kept in self.kept}
        if _identity(fd) in known or len(self.kept) >= self._keeps_at_most:
            return False
        self.kept.insert(0, (name, fd))  # systemd gives the newest first
        return True


def end_group(group: int) -> None:
    """Kill what is left of a process group whose leader has died, as systemd does; over when it is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    deadline_s = time.monotonic() + ENOUGH_S
    while not _is_empty(group):
        assert time.monotonic() < deadline_s, f"process group {group} does not end"
        time.sleep(0.002)


def _is_empty(group: int) -> bool:
    """Is no process of this group left, but those that only wait to be buried?"""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, found, *_ = stat.read_text().rpartition(")")[2].split()
            if int(found) == group and state != "Z":
                return False
    return True


def _identity(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino
