"""One engine as its keeper sees it: a process, and the socket to it."""

import os
import signal
import socket
import subprocess
import sys
from typing import Self

from pyfastpath.relay import orders
from pyfastpath.relay.manifest import MANIFEST_VARIABLE, Manifest


class Child:
    """A started engine."""

    def __init__(self, process: "subprocess.Popen[bytes]", end: socket.socket) -> None:
        self.process = process
        self.end = end

    @classmethod
    def spawn(cls, manifest: Manifest, descriptors: tuple[int, ...], *, waits: bool = False) -> Self:
        """Start an engine over these descriptors. waits: for another to end, and gives way to it meanwhile.
        OSError when there is no process or descriptor left."""
        module = "pyfastpath.relay.warming" if waits else "pyfastpath.relay.engine"
        ours, theirs = orders.pair()
        try:
            with theirs, os.fdopen(os.memfd_create("fastpath-manifest"), "w+b") as told:
                told.write(manifest.encode())
                told.seek(0)
                process = subprocess.Popen(
                    [sys.executable, "-m", module, str(theirs.fileno())],
                    pass_fds=(*descriptors, theirs.fileno(), told.fileno()),
                    env={**os.environ, MANIFEST_VARIABLE: str(told.fileno())},
                    stdin=subprocess.DEVNULL,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    @property
    def is_dismissed(self) -> bool:
        """Has its keeper let go of it?"""
        return self.end.fileno() < 0

    def close(self) -> None:
        """Let go of it: one that waits ends by itself, for nobody is at the other end any more."""
        self.end.close()

    def fate(self, code: int) -> str:
        """How it ended, in words."""
        if code >= 0:
            return f"exit code {code}"
        known = {one.value: one.name for one in signal.Signals}  # most real-time signals have no name
        return known.get(-code, f"signal {-code}")
