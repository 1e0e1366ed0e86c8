"""Signals as something to wait for beside sockets.

Python's own way (signal.set_wakeup_fd), because a library may have threads, and a signal that is blocked in
one thread only is taken by another.
"""

import contextlib
import os
import signal
from collections.abc import Collection, Iterator

WAKEUP_BYTES = 64


class Signals:
    """These signals do nothing any more but make a descriptor readable. One a process, in its main thread."""

    def __init__(self, numbers: Collection[signal.Signals]) -> None:
        """OSError when no descriptor is left."""
        self._numbers = numbers
        self._read_fd, self._write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(self._write_fd, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)

    def fileno(self) -> int:
        """For a selector."""
        return self._read_fd

    def take(self) -> Iterator[signal.Signals]:
        """Those that came, in their order."""
        with contextlib.suppress(BlockingIOError):
            while numbers := os.read(self._read_fd, WAKEUP_BYTES):
                yield from map(signal.Signals, numbers)

    @contextlib.contextmanager
    def kept_from_children(self) -> Iterator[None]:
        """A process started in here is born with these signals blocked, and keeps them so."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, self._numbers)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def close(self) -> None:
        """Give the descriptors back; the signals go on doing nothing."""
        signal.set_wakeup_fd(-1)
        os.close(self._read_fd)
        os.close(self._write_fd)
