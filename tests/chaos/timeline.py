"""When datagrams arrived around a fault: counters read every millisecond, and what can be told from them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

LOOK_S: Final = 0.001
KEPT: Final = 180_000  # looks: three minutes
HORIZON_MS: Final = 10_000  # a silence that begins later has another cause


@dataclass(frozen=True, slots=True)
class Look:
    """Totals at one moment of the monotonic clock."""

    at_ns: int
    sent: int
    arrived: int


def recovery_ms(looks: Sequence[Look], fault_ns: int, until_ns: int | None = None) -> float | None:
    """How long nothing at all arrived: the longest silence after the fault. None when nothing arrived.

    A silence is the time between two looks that each saw something new. It counts from the fault on, and only
    when it begins before until_ns (by default ten seconds later).
    """
    end_ns = fault_ns + HORIZON_MS * 1_000_000 if until_ns is None else until_ns
    longest_ns: int | None = None
    last = looks[0] if looks else None
    for look in looks:
        assert last is not None
        if look.arrived == last.arrived:
            continue
        if look.at_ns >= fault_ns and last.at_ns <= end_ns:
            longest_ns = max(longest_ns or 0, look.at_ns - max(last.at_ns, fault_ns))
        last = look
    return None if longest_ns is None else longest_ns / 1e6


class Watcher:
    """A thread that looks every millisecond, until it is closed. look: gives (sent, arrived)."""

    def __init__(self, look: Callable[[], tuple[int, int]]) -> None:
        self.looks: deque[Look] = deque(maxlen=KEPT)
        self._look = look
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-watcher", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            sent, arrived = self._look()
            self.looks.append(Look(time.monotonic_ns(), sent, arrived))
            time.sleep(LOOK_S)
