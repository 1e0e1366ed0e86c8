"""The tables of a relay under test, read and aged from outside: its keeper's memory files, mapped here too.

Nobody waits a minute in a test: a row becomes older when the time in it is turned back.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from pyfastpath.relay.layout import COUNTERS, FLOW, PORT, PORT_QUARANTINE, PROVISIONAL, SHARD_HEADER

_REGION: Final = re.compile(r"/memfd:fastpath-shard\d+")
Rows = Any  # numpy structured array


class Tables:
    """Of the relay whose keeper has this pid."""

    def __init__(self, pid: int) -> None:
        files = Path(f"/proc/{pid}/fd").iterdir()
        self._shards = [_mapped(path) for path in sorted(files) if _is_shard(path)]
        assert self._shards, f"process {pid} holds no tables"

    def flows(self) -> Rows:
        """Rows of every confirmed flow, as copies."""
        return np.concatenate([rows[rows["state"] > 1] for rows in self._rows(FLOW, "flows")])

    def provisional(self) -> Rows:
        """Rows of every provisional flow, as copies."""
        return np.concatenate([rows[rows["state"] > 0] for rows in self._rows(PROVISIONAL, "provisional")])

    def counters(self) -> Rows:
        """What each shard has published, as copies. Each number is right; of one moment they may not be."""
        regions = [(memory, np.frombuffer(memory, SHARD_HEADER, 1)[0]) for memory in self._shards]
        return np.concatenate(
            [np.frombuffer(memory, COUNTERS, 1, int(header["counters_offset"])) for memory, header in regions]
        )

    def most_of_one_ufrag(self) -> int:
        """The most provisional flows that one ufrag holds in one shard."""
        counts = [
            np.unique(rows["ufrag_hash"][rows["state"] > 0], return_counts=True)[1]
            for rows in self._rows(PROVISIONAL, "provisional")
        ]
        return max((int(each.max()) for each in counts if len(each)), default=0)

    def age_flows(self, ms: int, network: str) -> None:
        """Confirmed flows of clients whose address begins like this, "127.9", were last heard earlier."""
        self._age(ms, network, "last_seen_ms")

    def age_checks(self, ms: int, network: str) -> None:
        """The same of their last Binding Request."""
        self._age(ms, network, "ufrag_seen_ms")

    def _age(self, ms: int, network: str, field: str) -> None:
        prefix = [int(part) for part in network.split(".")]
        for rows in self._rows(FLOW, "flows"):
            theirs = (rows["state"] > 1) & (rows["client"]["address"][:, : len(prefix)] == prefix).all(axis=1)
            rows[field][theirs] -= np.uint32(ms)

    def age_provisional(self, ms: int) -> None:
        """All of them are `ms` older."""
        for rows in self._rows(PROVISIONAL, "provisional"):
            rows["last_seen_ms"][rows["state"] > 0] -= np.uint32(ms)

    def resting(self) -> int:
        """Upstream ports in quarantine."""
        return sum(int((rows["state"] == PORT_QUARANTINE).sum()) for rows in self._rows(PORT, "ports"))

    def age_quarantine(self, ms: int) -> None:
        """Ports have rested `ms` longer."""
        for rows in self._rows(PORT, "ports"):
            rows["since_ms"][rows["state"] == PORT_QUARANTINE] -= np.uint32(ms)

    def _rows(self, dtype: Any, name: str) -> Iterator[Rows]:
        for memory in self._shards:
            header = np.frombuffer(memory, SHARD_HEADER, 1)[0]
            yield np.frombuffer(memory, dtype, int(header[f"{name}_capacity"]), int(header[f"{name}_offset"]))


def _mapped(path: Path) -> mmap.mmap:
    fd = os.open(path, os.O_RDWR)
    try:
        return mmap.mmap(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def _is_shard(path: Path) -> bool:
    try:
        return bool(_REGION.match(os.readlink(path)))  # noqa: PTH115  a name, not a path
    except OSError:
        return False
