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
    """From the fault to the end of the longest silence that followed it; None when nothing arrived.

    A silence is the time between two looks that each saw something new, and counts when it ends after the
    fault and begins before until_ns (by default ten seconds later).
    """
    end_ns = fault_ns + HORIZON_MS * 1_000_000 if until_ns is None else until_ns
    longest_ns, over_ns = -1, None
    last = looks[0] if looks else None
    for look in looks:
        assert last is not None
        if look.arrived == last.arrived:
            continue
        if look.at_ns >= fault_ns and last.at_ns <= end_ns:
            silence_ns = look.at_ns - max(last.at_ns, fault_ns)
            if silence_ns > longest_ns:
                longest_ns, over_ns = silence_ns, look.at_ns
        last = look
    return None if over_ns is None else (over_ns - fault_ns) / 1e6


def backlog_gone_ms(looks: Sequence[Look], fault_ns: int, flying: int) -> float | None:
    """From the fault to the first moment after its silence when no more than `flying` datagrams were on their
    way; None when that moment did not come."""
    silent_ms = recovery_ms(looks, fault_ns)
    if silent_ms is None:
        return None
    awake_ns = fault_ns + silent_ms * 1e6
    for look in looks:
        if look.at_ns >= awake_ns and look.sent - look.arrived <= flying:
            return (look.at_ns - fault_ns) / 1e6
    return None


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
