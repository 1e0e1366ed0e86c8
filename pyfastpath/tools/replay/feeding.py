"""Feeds a player what it is to play.

What fits into the player's ring is read before it starts; the rest is read by a second thread while it plays,
so that it neither misses a due time nor lets its sockets run full.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

RETRY_S: Final = 0.001
SLICE_MS: Final = 1000  # how often somebody looks how it goes
STALLED_SLICES: Final = 3
STALLED_LOST: Final = 3

Show = Callable[[Mapping[str, Any]], None]


class Cue(NamedTuple):
    """One datagram for all who play a part. patches: each session's own bytes; None: the same for all."""

    part: int
    upstream: bool
    time_ns: int
    payload: bytes
    patches: list[bytes] | None
    frame: int


class StalledError(Exception):
    """Nothing comes out any more: what is left would be lost one by one, each after its time."""


class _Watch:
    """Looks at the player's counters once a slice."""

    def __init__(self, player: Any, show: Show | None) -> None:
        self._player, self._show = player, show
        self._heard = self._lost = 0
        self._slices = 0  # without any delivery
        self._looked_s = time.monotonic()

    def look(self) -> None:
        """StalledError when datagrams are lost and none is delivered, slice after slice. May be called more
        often than once a slice."""
        if time.monotonic() - self._looked_s < SLICE_MS / 1000:
            return
        self._looked_s = time.monotonic()
        counters = self._player.counters()
        if self._show:
            self._show(counters)
        ways = counters["up"], counters["down"]
        heard = sum(way["delivered"] + way["corrupted"] + way["misrouted"] for way in ways)
        lost = sum(way["lost"] for way in ways)
        if heard != self._heard:
            self._heard, self._lost, self._slices = heard, lost, 0
            return
        self._slices += 1
        if self._slices >= STALLED_SLICES and lost - self._lost >= STALLED_LOST:
            raise StalledError


def play(player: Any, cues: Iterator[Cue], *, show: Show | None = None) -> bool:
    """Play everything. player: a fastpath.load.player.Player. show: gets its counters once a second.

    What reading `cues` raises ends the play, too. False: it was left because nothing came out any more.
    """
    watch = _Watch(player, show)
    waiting = _fill(player, cues)
    try:
        if waiting is None:
            player.finish()
            _play(player, watch)
        else:
            _play_beside(player, waiting, cues, watch)
    except StalledError:
        return False
    return True


def _play(player: Any, watch: _Watch) -> None:
    while player.run(until_fed=False, duration_ms=SLICE_MS) != "done":
        watch.look()


def _feed(player: Any, cue: Cue) -> bool:
    fed: bool = player.feed(
        cue.part,
        cue.upstream,
        cue.time_ns,
        cue.payload,
        cue.patches,
        mark=cue.patches is None,
        index=cue.frame,
    )
    return fed


def _fill(player: Any, cues: Iterator[Cue]) -> Cue | None:
    """Feed until the ring is full; gives what did not fit, None at the end of the cues."""
    return next((cue for cue in cues if not _feed(player, cue)), None)


def _play_beside(player: Any, waiting: Cue, cues: Iterator[Cue], watch: _Watch) -> None:
    """Play in this thread while another one reads. A reader that fails stops the player."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        try:
            cue: Cue | None = waiting
            while cue is not None and not ended.is_set():
                if _feed(player, cue):
                    cue = next(cues, None)
                else:
                    time.sleep(RETRY_S)
            if cue is None:
                player.finish()
        except BaseException as failure:  # raised again below, in the thread that waits
            failures.append(failure)
            player.stop()

    reader = threading.Thread(target=read, name="replay-reader")
    reader.start()
    try:
        while not failures and player.run(until_fed=False, duration_ms=SLICE_MS) != "done":
            watch.look()
    finally:
        ended.set()
        reader.join()
    if failures:
        raise failures[0]
