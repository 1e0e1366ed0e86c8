"""Generators and sinks in threads of their own: they run without the GIL, and stop whatever happens."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from pyfastpath.errors import SocketError
from pyfastpath.tools.bench.streams import Stream

NAP_US: Final = 100  # generator and sink share a CPU: short sleeps instead of a wake-up for each datagram
DRAIN_MS: Final = 500
MARGIN_MS: Final = 60_000  # a sink serves this much longer than anybody should send
TICK_S: Final = 0.04
PR_SET_TIMERSLACK: Final = 29  # linux/prctl.h
Streams = Sequence[Stream]
Serving = AbstractContextManager[None]
_libc = ctypes.CDLL(None)


@contextmanager
def serving(
    streams: Streams, serve: Callable[[Stream], None], stop: Callable[[Stream], None]
) -> Iterator[None]:
    """One side of every stream does its work meanwhile: `serve` runs until `stop` tells it to end."""
    with _threads(len(streams)) as threads:
        running = [threads.submit(serve, stream) for stream in streams]
        try:
            yield
        finally:
            for stream in streams:
                stop(stream)
        for one in running:
            one.result()


def sinks_serve(streams: Streams, seconds: float, *, echo: bool, nap: bool) -> AbstractContextManager[None]:
    """All sinks take what comes, and send it back or not. nap: they sleep a little after a batch that was
    not full."""
    arguments = {"echo": echo, "nap_us": NAP_US if nap else 0, "duration_ms": int(seconds * 1000) + MARGIN_MS}
    return serving(streams, lambda stream: stream.sink.run(**arguments), stop_sink)


def generators_serve(streams: Streams, seconds: float, *, nap: bool) -> Serving:
    """All generators take what comes: the sinks send."""
    arguments = {"nap_us": NAP_US if nap else 0, "duration_ms": int(seconds * 1000) + MARGIN_MS}
    return serving(streams, lambda stream: stream.generator.receive(**arguments), stop_generator)


def in_threads(
    streams: Streams,
    task: Callable[[Stream], Any],
    stop: Callable[[Stream], None],
    tick: Callable[[], None] = lambda: None,
) -> list[Any]:
    """What a task returned for each stream. tick: called now and then meanwhile; stop: ends a task early,
    for Ctrl-C. SocketError when the kernel refuses a datagram."""
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
                    stop(stream)


def stop_generator(stream: Stream) -> None:
    """Ends what a generator does."""
    stream.generator.stop()


def stop_sink(stream: Stream) -> None:
    """Ends what a sink does."""
    stream.sink.stop()


def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=count, initializer=sleep_exactly)


def sleep_exactly() -> None:
    """This thread's naps last as long as they say: the kernel otherwise adds up to 50 us to each."""
    _libc.prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0)
