"""What the shards' trunk links say about a backend, merged. Pure: rows and now in, findings out."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from pyfastpath.relay.commands import BackendState
from pyfastpath.relay.layout import age_ms

SILENCE_MS: Final = 3000  # three pings unanswered: down
RECORD_LIFE_MS: Final = 10_000  # sent every second: an older one is of whoever had this index before
Links = NDArray[np.void]
_REPORTED: Final[dict[int, BackendState]] = {1: "up", 2: "draining", 3: "down"}  # wire/trunk.py: state


@dataclass(frozen=True, slots=True)
class Finding:
    """One trunk backend as all shards together see it. rtt_us: of the newest pong, 0 before the first."""

    heard: BackendState | None  # None: never heard since the keeper started
    reported: tuple[int, int, int] | None  # cluster, transceiver, incarnation
    sessions: int = 0
    capacity: int = 0
    rtt_us: int = 0
    pings: int = 0
    pongs: int = 0


def merge_links(links: Links, now_ms: int) -> dict[int, Finding]:
    """Findings by backend index. links: fp_trunk_link[shards, backends]; now_ms: CLOCK_MONOTONIC."""
    touched = np.flatnonzero(((links["heard_ms"] != 0) | (links["pings"] != 0)).any(axis=0))
    return {int(index): _merge(links[:, index], now_ms) for index in touched}


def _merge(rows: Links, now_ms: int) -> Finding:
    counts = {"pings": int(rows["pings"].sum()), "pongs": int(rows["pongs"].sum())}
    newest = _newest(rows[rows["heard_ms"] != 0], "heard_ms", now_ms)
    if newest is None:
        return Finding(None, None, **counts)
    state: BackendState = "up" if age_ms(int(newest["heard_ms"]), now_ms) < SILENCE_MS else "down"
    answered = _newest(rows[rows["rtt_us"] != 0], "heard_ms", now_ms)
    rtt_us = 0 if answered is None else int(answered["rtt_us"])
    record = _newest(rows[rows["state_ms"] != 0], "state_ms", now_ms)
    if record is None or age_ms(int(record["state_ms"]), now_ms) > RECORD_LIFE_MS:
        return Finding(state, None, rtt_us=rtt_us, **counts)
    return Finding(
        heard=_REPORTED.get(int(record["state"]), "down") if state == "up" else "down",
        reported=(int(record["cluster"]), int(record["xcvr"]), int(record["incarnation"])),
        sessions=int(record["sessions"]),
        capacity=int(record["capacity"]),
        rtt_us=rtt_us,
        **counts,
    )


def _newest(rows: Links, name: str, now_ms: int) -> Any:
    """The row whose time `name` is the latest; None of no rows."""
    if not len(rows):
        return None
    return rows[min(range(len(rows)), key=lambda row: age_ms(int(rows[name][row]), now_ms))]
