"""What the keeper tells the service manager, each time by an engine's word.

READY: an engine forwards. WATCHDOG: its workers turn, it said so just now. The keeper itself would be alive
while nothing is forwarded, so it never speaks for itself.
"""

from __future__ import annotations

import signal
import time

from pyfastpath import notify
from pyfastpath.notify import ServiceManager


class Herald:
    """Events of the keeper, as messages of sd_notify(3)."""

    def __init__(self, manager: ServiceManager) -> None:
        self._manager = manager

    def started(self) -> None:
        """An engine forwards; also what ends a reload that an engine did not live to see through."""
        self._manager.tell(notify.READY)

    def alive(self, text: str) -> None:
        """An engine says that its workers turn, and what they do."""
        self._manager.alive(time.monotonic(), text)

    def reloaded(self) -> None:
        """An engine has followed the file, or refused to."""
        self._manager.tell(notify.READY)

    def signalled(self, number: signal.Signals) -> None:
        """The keeper got a signal."""
        if number is signal.SIGHUP:
            self._manager.tell(notify.reloading(time.monotonic_ns() // 1000))
        elif number in (signal.SIGTERM, signal.SIGINT):
            self._manager.tell(notify.STOPPING)
