"""The shared tables as numpy sees them: for listings, metrics and the Python API. Reads, never writes.

Workers write while this reads. Flows and counters are consistent copies (their seqlocks are honoured);
rows of backends and routes are live views whose single words are each consistent.
"""

import mmap

import numpy as np
from fastpath.shard import Shard
from numpy.typing import NDArray

from pyfastpath.relay import layout

Rows = NDArray[np.void]


class Tables:
    """Views of one relay's memory. `memory`: the mapped shared region."""

    def __init__(self, memory: mmap.mmap, shards: list[Shard]) -> None:
        self._shards = shards
        header = np.frombuffer(memory, layout.SHARED_HEADER, 1)[0]
        self.header = header
        self.backends: Rows = np.frombuffer(
            memory, layout.BACKEND, int(header["backends_capacity"]), int(header["backends_offset"])
        )
        self.routes: Rows = np.frombuffer(
            memory, layout.ROUTE, int(header["routes_capacity"]), int(header["routes_offset"])
        )

    def flows(self) -> Rows:
        """fp_flow of every confirmed or taught flow; of copies in several shards only the newest."""
        rows = np.concatenate([np.frombuffer(shard.flows(), layout.FLOW) for shard in self._shards])
        if len(self._shards) == 1 or not len(rows):
            return rows
        keys = np.ascontiguousarray(rows["client"]).view("V20").reshape(-1)
        # Newest first (versions wrap: compare their distance to the clock), then the first of each key.
        age = int(self.header["flow_version"]) - rows["version"].astype(np.int64) & 0xFFFFFFFF
        order = np.argsort(age, kind="stable")
        _, first = np.unique(keys[order], return_index=True)
        return rows[np.sort(order[first])]

    def provisional(self) -> Rows:
        """fp_provisional of every flow that is not confirmed, all shards."""
        return np.concatenate(
            [np.frombuffer(shard.provisional(), layout.PROVISIONAL) for shard in self._shards]
        )

    def counters(self) -> Rows:
        """fp_counters, one row a shard; each row is of one moment."""
        return np.frombuffer(b"".join(shard.counters() for shard in self._shards), layout.COUNTERS)

    def headers(self) -> Rows:
        """fp_shard_header, one row a shard."""
        return np.frombuffer(b"".join(shard.header() for shard in self._shards), layout.SHARD_HEADER)

    def links(self) -> Rows:
        """fp_trunk_link[shards, backends]."""
        rows = np.frombuffer(b"".join(shard.links() for shard in self._shards), layout.TRUNK_LINK)
        return rows.reshape(len(self._shards), layout.BACKENDS)

    def upstream_ports(self) -> list[tuple[int, int]]:
        """(used, in quarantine) pairs of plain port and backend address, by shard."""
        found = []
        for shard, header in zip(self._shards, self.headers(), strict=True):
            capacity, offset = int(header["ports_capacity"]), int(header["ports_offset"])
            states = np.frombuffer(shard.memory, layout.PORT, capacity, offset)["state"]
            counts = np.bincount(states, minlength=layout.PORT_QUARANTINE + 1)
            used = counts[layout.PORT_FLOW] + counts[layout.PORT_PROVISIONAL]
            found.append((int(used), int(counts[layout.PORT_QUARANTINE])))
        return found

    def backends_in_use(self) -> set[int]:
        """Indices of configured backends that a flow or route names, directly or through a target."""
        routed = self.routes["backend"]  # stored as index + 2; 0 and 1 are no routes
        named = np.concatenate(
            [self.flows()["backend"], self.provisional()["backend"], routed[routed > 1] - 2]
        )
        named = named[named < len(self.backends)]
        return set(np.unique(self.backends["parent"][np.unique(named)]).tolist())


def conservation_error(counters: Rows) -> NDArray[np.int64]:
    """received - forwarded - punted - dropped, [shard, direction]: anything but 0 is a bug."""
    error: NDArray[np.int64] = (
        counters["received"].astype(np.int64)
        - counters["forwarded"].astype(np.int64)
        - counters["punted"].astype(np.int64)
        - counters["dropped"].astype(np.int64).sum(axis=2)
    )
    return error
