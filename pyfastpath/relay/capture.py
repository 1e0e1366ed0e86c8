"""A capture of this live relay: taps on every shard, read out by turns, streamed as pcapng.

The control thread gives it a quarter of its time at most, and what it does not manage waits in the taps'
rings, then is counted as not captured: workers never wait for a capture, nor does another request for long.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from fastpath.tap import SNAP_MAX, Tap

from pyfastpath.errors import RouteError
from pyfastpath.relay.control import Control
from pyfastpath.relay.listing import endpoint_of
from pyfastpath.relay.recorder import Note, Recorder
from pyfastpath.relay.sessions import check_ufrag, session_hash
from pyfastpath.types import Endpoint

log = logging.getLogger("pyfastpath.capture")

DURATION_S: Final = 30
DURATION_MAX_S: Final = 3600
BYTES_MAX: Final = 64 << 20
BYTES_MAX_MIN: Final = 4096
BYTES_MAX_MAX: Final = 1 << 32
SNAP_BYTES: Final = SNAP_MAX

TURN_S: Final = 0.02
TURN_NOTES: Final = 1000  # some milliseconds of work: nobody else waits longer
REST: Final = 3  # times as long as a turn has worked
LATE_NS: Final = 10_000_000  # a turn leaves the newest: an older one of another shard may still come
STALLED_S: Final = 5.0  # a reader that takes nothing for so long after the end is given up
RINGS_BYTES: Final = 64 << 20  # of all shards, unless that is too little for one
RING_BYTES: Final = 4 << 20
RING_BYTES_MIN: Final = 256 << 10


Write = Callable[[bytes], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to capture; empty and None ask for everything. Everything that is given must hold.

    client: port 0 is any. whole: payloads too (of media they are encrypted), not the headers alone.
    """

    client: Endpoint | None = None
    ufrag: str = ""
    session: str = ""
    backend: str = ""
    whole: bool = False
    snap_bytes: int = SNAP_BYTES
    duration_s: int = DURATION_S
    bytes_max: int = BYTES_MAX

    def __str__(self) -> str:
        names = ("session", "ufrag", "client", "backend")
        chosen = [f"{name} {getattr(self, name)}" for name in names if getattr(self, name)]
        return f"{', '.join(chosen) or 'everything'}, {'whole' if self.whole else 'headers only'}"


class Captures:
    """The capture of one engine: one at a time."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._running: Capture | None = None

    def begin(self, wanted: Wanted) -> "Capture":
        """Tap every shard. RouteError: one runs already, or there is no such backend or ufrag."""
        if self._running is not None:
            raise RouteError(
                "a capture runs already.",
                "Wait for its end, or end it: pyfastpath capture --end (DELETE /v1/capture).",
                code="conflict",
            )
        self._running = Capture(self._control, wanted, ended=self._forget)
        log.info("capture begins: %s, %d s at most", wanted, wanted.duration_s)
        return self._running

    def end(self) -> bool:
        """Let the one that runs come to a good end; False when none does."""
        if self._running is None:
            return False
        self._running.stop()
        return True

    def _forget(self) -> None:
        self._running = None


class Capture:
    """One capture: `run` streams it, `close` takes the taps away, whatever happened."""

    def __init__(self, control: Control, wanted: Wanted, *, ended: Callable[[], None]) -> None:
        self._wanted, self._ended = wanted, ended
        self._stopped = asyncio.Event()
        self._recorder = Recorder(
            ingress_of=lambda index: endpoint_of(control.tables.header["ingress"][index]["address"]),
            backend_of=lambda index: _backend_name(control, index),
            label=_label(wanted),
            snap_bytes=wanted.snap_bytes,
            bytes_max=wanted.bytes_max,
        )
        filters = _filters(control, wanted)
        ring_bytes = max(RING_BYTES_MIN, min(RING_BYTES, RINGS_BYTES // len(control.shards)))
        self._taps = [Tap(shard, ring_bytes=ring_bytes, **filters) for shard in control.shards]
        self._first = 0  # the tap that is read first

    def stop(self) -> None:
        """End well: what was noted is still written."""
        self._stopped.set()

    def close(self) -> None:
        """Take the taps away and let another capture begin."""
        for tap in self._taps:
            tap.close()
        matched, missed = self.counts()
        self._taps = []
        log.info(
            "capture ends: %d datagrams written, of %d; %d found a ring full",
            self._recorder.written,
            matched,
            missed,
        )
        self._ended()

    def counts(self) -> tuple[int, int]:
        """(datagrams that were asked for, those of them that found a ring full)."""
        counts = [tap.counts() for tap in self._taps]
        return sum(matched for matched, _ in counts), sum(missed for _, missed in counts)

    async def run(self, write: Write, gone: Callable[[], bool]) -> None:
        """Stream until the time is over, the bytes are used up, `stop` was called or the reader is `gone`.

        TimeoutError: the reader took nothing for too long.
        """
        deadline_s = time.monotonic() + self._wanted.duration_s
        await self._send(write, self._recorder.begin(), deadline_s)
        while not self._is_over(deadline_s):
            rest_s, _ = await self._turn(write, time.time_ns() - LATE_NS, deadline_s)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), rest_s)
            if gone():
                return
        for tap in self._taps:
            tap.close()
        left = 1
        while left and not self._recorder.is_full:
            rest_s, left = await self._turn(write, time.time_ns(), deadline_s)
            await asyncio.sleep(rest_s if left else 0)
        await self._send(write, self._recorder.end(self.counts()[0]), deadline_s)

    def _is_over(self, deadline_s: float) -> bool:
        return self._stopped.is_set() or self._recorder.is_full or time.monotonic() >= deadline_s

    async def _turn(self, write: Write, until_ns: int, deadline_s: float) -> tuple[float, int]:
        """Read and write; gives how long to rest now, and how many notes were read."""
        began_s = time.perf_counter()
        notes = self._read()
        self._recorder.add(notes)
        blocks = self._recorder.take(until_ns)
        rest_s = REST * (time.perf_counter() - began_s)
        if blocks:
            await self._send(write, blocks, deadline_s)
        return (rest_s if len(notes) == TURN_NOTES else max(TURN_S, rest_s)), len(notes)

    @staticmethod
    async def _send(write: Write, blocks: bytes, deadline_s: float) -> None:
        """A reader may stall as long as the capture goes on, and a moment longer."""
        async with asyncio.timeout(max(0.0, deadline_s - time.monotonic()) + STALLED_S):
            await write(blocks)

    def _read(self) -> list[Note]:
        """At most TURN_NOTES from all taps; where the last turn stopped the next one begins."""
        notes: list[Note] = []
        for _ in self._taps:
            notes += map(Note._make, self._taps[self._first].read(TURN_NOTES - len(notes)))
            if len(notes) == TURN_NOTES:
                break
            self._first = (self._first + 1) % len(self._taps)
        return notes


def _filters(control: Control, wanted: Wanted) -> dict[str, Any]:
    """`wanted` in the numbers of the data plane. RouteError: it names what is not there or cannot be."""
    filters: dict[str, Any] = {"whole": wanted.whole, "snap_bytes": wanted.snap_bytes}
    if wanted.client is not None:
        client = wanted.client
        filters["client"] = (client.address16, client.family, client.port)
    if wanted.ufrag:
        filters["ufrag"] = check_ufrag(wanted.ufrag)
    if wanted.session:
        filters["session"] = session_hash(wanted.session, control.shared.seed)
    if wanted.backend:
        filters["backend"] = control.registry.get(wanted.backend).index
    return filters


def _label(wanted: Wanted) -> str:
    if wanted.session:
        return f"session {wanted.session}"
    return f"ufrag {wanted.ufrag}" if wanted.ufrag else ""


def _backend_name(control: Control, index: int) -> str:
    """Id of the configured backend; of one that is no longer configured its index."""
    parent = int(control.tables.backends["parent"][index])
    entry = control.registry.by_index().get(parent)
    return entry.spec.id if entry else f"at index {parent}"
