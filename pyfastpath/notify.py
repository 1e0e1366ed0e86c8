"""The word with the service manager: sd_notify(3), its watchdog and its store of descriptors.

A message is lines of NAME=value in one datagram to the socket that NOTIFY_SOCKET names; descriptors travel
beside it. Without that variable nobody listens, and every call does nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import socket
from collections.abc import MutableMapping, Sequence
from typing import Final

log = logging.getLogger("pyfastpath.notify")

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"
FIRST_FD: Final = 3  # SD_LISTEN_FDS_START
FDS_MAX: Final = 253  # SCM_MAX_FD: what one datagram can carry
NAME_MAX: Final = 255
BEATS: Final = 3  # signs of life in the time after which the watchdog bites
BARRIER_TIMEOUT_S: Final = 5.0
VARIABLES: Final = (
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
)


def status(text: str) -> str:
    """One line for `systemctl status`."""
    return f"STATUS={' '.join(text.split())}"


def reloading(now_us: int) -> str:
    """A reload begins; READY ends it. now_us: CLOCK_MONOTONIC, which tells two reloads apart."""
    return f"RELOADING=1\nMONOTONIC_USEC={now_us}"


def main_pid(pid: int) -> str:
    """Another process is the one to watch and to signal."""
    return f"MAINPID={pid}"


class ServiceManager:
    """Whoever started this process, if it asked to be told."""

    def __init__(self, environ: MutableMapping[str, str], *, patience_s: float = 0.0) -> None:
        """Takes its variables out of `environ`: children have no word with the manager.

        patience_s: how long to wait for a manager that is slow to read; an event loop waits for nobody.
        """
        self._patience_s = patience_s
        self._beaten_s = float("-inf")
        self._shown = ""
        said = {name: environ.pop(name, "") for name in VARIABLES}
        where = said["NOTIFY_SOCKET"]
        self._address = "\0" + where[1:] if where.startswith("@") else where
        ours = said["WATCHDOG_PID"] in ("", str(os.getpid()))
        self.watchdog_s = _number(said["WATCHDOG_USEC"]) / 1e6 if ours else 0.0
        """A process that is silent for so long is killed; 0: nobody watches."""
        self.inherited: list[tuple[str, int]] = []
        """Descriptors that the manager kept or opened for us, each with its name (sd_listen_fds(3))."""
        if said["LISTEN_PID"] == str(os.getpid()):
            self.inherited = _inherited(_number(said["LISTEN_FDS"]), said["LISTEN_FDNAMES"])

    @property
    def listens(self) -> bool:
        """Is anybody there?"""
        return bool(self._address)

    def tell(self, *assignments: str, fds: Sequence[int] = ()) -> bool:
        """Send one message; False when nobody heard it. Never raises: nothing ends for a status line."""
        if not self.listens:
            return False
        message = "\n".join(assignments).encode()
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.settimeout(self._patience_s)
                sock.connect(self._address)
                socket.send_fds(sock, [message], list(fds))
        except OSError as error:
            log.warning("the service manager was not told %r: %s", assignments[0], error)
            return False
        return True

    def alive(self, now_s: float, text: str) -> None:
        """For a loop to call at each turn: a sign of life when one is due, a status line when it is news."""
        if self.watchdog_s and now_s - self._beaten_s >= self.watchdog_s / BEATS:
            self._beaten_s = now_s
            self.tell(WATCHDOG)
        if text != self._shown:
            self._shown = text
            self.tell(status(text))

    def store(self, name: str, fds: Sequence[int]) -> bool:
        """Keep these beyond our death; the next process inherits them under this name.

        FDPOLL=0: an error that waits on a UDP socket (a backend's ICMP) is no reason to let go of it.
        """
        if not _is_name(name):
            raise ValueError(f"{name!r} is no name of a descriptor: printable ASCII without a colon")
        return all(
            self.tell("FDSTORE=1", f"FDNAME={name}", "FDPOLL=0", fds=fds[first : first + FDS_MAX])
            for first in range(0, len(fds), FDS_MAX)
        )

    def forget(self, name: str) -> bool:
        """Let go of everything that is kept under this name."""
        return self.tell("FDSTOREREMOVE=1", f"FDNAME={name}")

    def wait_until_heard(self) -> bool:
        """Wait until everything said before is carried out (BARRIER=1): the manager closes a pipe then."""
        ours, theirs = os.pipe()
        with contextlib.closing(os.fdopen(ours, "rb")):
            try:
                told = self.tell("BARRIER=1", fds=[theirs])
            finally:
                os.close(theirs)
            end = select.poll()
            end.register(ours, 0)  # a hang-up is always reported
            return told and bool(end.poll(BARRIER_TIMEOUT_S * 1000))


def _inherited(count: int, names: str) -> list[tuple[str, int]]:
    """Names and numbers; from here on no child inherits them by accident."""
    named = names.split(":") if names else []
    found = []
    for index in range(count):
        fd = FIRST_FD + index
        flags = fcntl.fcntl(fd, fcntl.F_GETFD)
        fcntl.fcntl(fd, fcntl.F_SETFD, flags | fcntl.FD_CLOEXEC)
        found.append((named[index] if index < len(named) else "unknown", fd))
    return found


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _is_name(name: str) -> bool:
    return 0 < len(name) <= NAME_MAX and name.isascii() and name.isprintable() and ":" not in name
