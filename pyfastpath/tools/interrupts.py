"""SIGTERM and SIGHUP end a load run as Ctrl-C does: with its relay, its folder, its backends in a relay that
stays. A CI job that is cancelled and a terminal that is closed send these."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[None]:
    """The first of SIGNALS raises SystemExit inside, with 128 + its number; a second one ends at once.

    A signal that is ignored stays so (nohup). Only the main thread can; in others nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def leave(number: int, frame: FrameType | None) -> None:
        restore()
        raise SystemExit(128 + number)

    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, leave)
    try:
        yield
    finally:
        restore()
