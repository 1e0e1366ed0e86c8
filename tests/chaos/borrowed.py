"""The sockets at which a relay listens, borrowed from its keeper: what the kernel dropped there, for one
system call. /proc/net/udp knows it too, after a walk through every socket of the machine.

with Borrowed(rig.keeper_pid, rig.relay.listen) as listening:
    listening.drops()
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from tests.chaos.outcome import CannotRunError

SYS_PIDFD_GETFD: Final = 438  # Linux 5.6, the same number on every architecture
SO_MEMINFO: Final = 55  # asm-generic/socket.h
_MEMINFO: Final = struct.Struct("9I")  # linux/sock_diag.h: the last one counts drops
_libc: Final = ctypes.CDLL(None, use_errno=True)


class Borrowed:
    """Those of process `pid` that are bound to this address. While they are held here they count as this
    process's own, too. CannotRunError: the kernel lends none."""

    def __init__(self, pid: int, listen: tuple[str, int]) -> None:
        with ExitStack() as undo:
            pidfd = os.pidfd_open(pid)
            undo.callback(os.close, pidfd)
            found = [_borrowed(pidfd, int(entry.name)) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        self._sockets = []
        for one in filter(None, found):
            if one.getsockname()[:2] == listen and one.type == socket.SOCK_DGRAM:
                self._sockets.append(one)
            else:
                one.close()
        assert self._sockets, f"process {pid} does not listen on {listen}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for one in self._sockets:
            one.close()

    def drops(self) -> int:
        """Datagrams that found a buffer full, since the sockets were made."""
        return sum(
            _MEMINFO.unpack(one.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size))[-1]
            for one in self._sockets
        )


def _borrowed(pidfd: int, number: int) -> socket.socket | None:
    """Our own descriptor of the same socket; None when it is none, or closed by now."""
    fd = _libc.syscall(SYS_PIDFD_GETFD, pidfd, number, 0)
    if fd < 0:
        if (error := ctypes.get_errno()) != errno.EBADF:
            raise CannotRunError(f"sockets cannot be borrowed here: pidfd_getfd: {os.strerror(error)}")
        return None
    with suppress(OSError):
        return socket.socket(fileno=fd)
    os.close(fd)
    return None
