"""Generators and sinks in threads of their own: they run without the GIL, and stop whatever happens."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, Final

from pyfastpath.errors import SocketError
from pyfastpath.tools.bench.streams import Stream

NAP_US: Final = 100  # generator and sink share a CPU: short sleeps instead of a wake-up for each datagram
DRAIN_MS: Final = 500
MARGIN_MS: Final = 60_000  # a sink serves this much longer than anybody should send
TICK_S: Final = 0.1
PR_SET_TIMERSLACK: Final = 29  # linux/prctl.h
_libc = ctypes.CDLL(None)


@contextmanager
def serving(streams: Sequence[Stream], *, echo: bool, seconds: float, nap: bool) -> Iterator[None]:
    """All sinks serve meanwhile. nap: they sleep a little after a batch that was not full."""
    arguments = {
        "echo": echo,
        "nap_us": NAP_US if nap else 0,
        "duration_ms": int(seconds * 1000) + MARGIN_MS,
    }
    with _threads(len(streams)) as threads:
        running = [threads.submit(stream.sink.run, **arguments) for stream in streams]
        try:
            yield
        finally:
            for stream in streams:
                stream.sink.stop()
        for one in running:
            one.result()


def in_threads(
    streams: Sequence[Stream], task: Callable[[Stream], Any], tick: Callable[[], None] = lambda: None
) -> list[Any]:
    """What a task returned for each stream. tick: called now and then meanwhile. Ctrl-C stops the
    generators. SocketError when the kernel refuses a datagram."""
    with _threads(len(streams)) as threads:
        running = [threads.submit(task, stream) for stream in streams]
        try:
            while wait(running, timeout=TICK_S).not_done:
                tick()
            return [one.result() for one in running]
        except OSError as error:
            raise SocketError(str(error.strerror or error), "Look at the routes and at --source.") from None
        finally:
            for stream, one in zip(streams, running, strict=True):
                if not one.done():
                    stream.generator.stop()


def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=count, initializer=_sleep_exactly)


def _sleep_exactly() -> None:
    """This thread's naps last as long as they say: the kernel otherwise adds up to 50 us to each."""
    _libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
