"""A bound on how long a piece of work may take."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class GivenUpError(Exception):
    """It took too long. Not a TimeoutError: whoever tries again after an OSError would swallow that."""


@contextmanager
def given_up_after(seconds: float) -> Iterator[None]:
    """GivenUpError in this (the main) thread when the block takes longer."""

    def give_up(_number: int, _frame: FrameType | None) -> None:
        raise GivenUpError(f"given up after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
