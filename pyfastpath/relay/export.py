"""The tables of one engine in a form that engines of another layout can read, and back (up- and downgrade).

A ZIP of .npy arrays (numpy.savez), each of which says itself which fields it has and of which type. Fields
that one layout knows and the other does not are left out or zero; drop reasons and decisions, whose order is
a version's own, go by name. Nobody works on the tables meanwhile: the engine before has stopped its workers,
the next one has not started any.
"""

import mmap
import os
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Final

import numpy as np
from fastpath.counters import DECISIONS, DROP_REASONS
from fastpath.restore import restore_flows, restore_resting_ports, restore_routes, restore_transactions
from fastpath.shard import Shard, Shared
from numpy.typing import NDArray

from pyfastpath.errors import FastpathError, LayoutError
from pyfastpath.relay import layout, memory

Rows = NDArray[np.void]
Arrays = Mapping[str, NDArray[Any]]

FORMAT: Final = 1
FIRST: Final = 2  # a route says index + 2: layout.h, FP_ROUTE_EMPTY
ROUTE_SLOTS: Final = 1 << 27  # twice the most that routes_max may be
NAMES: Final = {"dropped": [name for name, _ in DROP_REASONS], "decisions": [name for name, _ in DECISIONS]}


# ---- out -------------------------------------------------------------------------------------------


def write_export(shared: mmap.mmap, shards: list[mmap.mmap], file: BinaryIO) -> None:
    """Write everything that flows, routes and books need to live on."""
    header = np.frombuffer(shared, layout.SHARED_HEADER, 1)
    arrays: dict[str, NDArray[Any]] = {
        "format": np.array(FORMAT),
        "shared.header": header,
        **_rows("shared.backends", _backends(shared), lambda rows: rows["state"]),  # a free one has 0
        **_rows("shared.routes", _routes(shared), lambda rows: rows["backend"] >= FIRST),
    }
    for kind, names in NAMES.items():
        arrays[f"names.{kind}"] = np.array(names)
    for number, region in enumerate(shards):
        arrays |= _shard_arrays(f"{number}.", region)
    np.savez(file, allow_pickle=False, **arrays)


def _shard_arrays(prefix: str, region: mmap.mmap) -> dict[str, NDArray[Any]]:
    flows = _table(region, layout.FLOW, "flows")
    provisional = _table(region, layout.PROVISIONAL, "provisional")
    transactions = _table(region, layout.TRANSACTION, "transactions")
    ports = _table(region, layout.PORT, "ports")
    return {
        prefix + "header": np.frombuffer(region, layout.SHARD_HEADER, 1),
        prefix + "counters": _one(region, layout.COUNTERS, "counters"),
        prefix + "links": _one(region, layout.TRUNK_LINK, "links", layout.BACKENDS),
        prefix + "flows": flows[flows["state"] >= layout.FLOW_CONFIRMED],
        prefix + "provisional": provisional[provisional["state"].nonzero()],
        prefix + "transactions": transactions[transactions["id"].nonzero()],
        prefix + "ports": ports[ports["state"] == layout.PORT_QUARANTINE],
    }


def _rows(name: str, rows: Rows, used: Callable[[Rows], NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The rows that are in use, and at which index each stood."""
    (index,) = np.nonzero(used(rows))
    return {name: rows[index], f"{name}.index": index}


# ---- back ------------------------------------------------------------------------------------------


def read_export(file: BinaryIO, note: int) -> memory.MemoryFds:
    """Make regions of this version's layout from an export. note: the relay's own, which has no layout.

    LayoutError when the export is none, of a format of tomorrow, or does not fit.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            _demand_format(int(arrays["format"]))
            return _restored(arrays, note)
    except FastpathError:
        raise
    except (
        Exception
    ) as error:  # zipfile, zlib, tokenize and ast, by which numpy reads: no list would be whole
        why = str(error).partition("\n")[0]
        raise LayoutError(f"the export cannot be read: {why}.", "The old version goes on.") from error


def _demand_format(found: int) -> None:
    if found != FORMAT:
        raise LayoutError(f"the export has format {found}, this version reads {FORMAT}.", "Upgrade further.")


def _restored(arrays: Arrays, note: int) -> memory.MemoryFds:
    header = arrays["shared.header"][0]
    seed = bytes(header["seed"].tolist())
    made = memory.create(_sizes(arrays), seed=seed, trunk_epoch=int(header["trunk_epoch"]), note=note)
    try:
        region = memory.map_region(made.shared)
        new = np.frombuffer(region, layout.SHARED_HEADER, 1)
        for name in ("flow_version", "ingress"):
            new[name] = _converted(arrays["shared.header"], layout.SHARED_HEADER)[name]
        _demand("listener", new["ingress"]["listener"], below=layout.LISTENERS)
        backends = _converted(arrays["shared.backends"], layout.BACKEND)
        _demand("parent", backends["parent"], below=layout.BACKENDS)
        _demand("backend's state", backends["state"], layout.BACKEND_UP, below=layout.BACKEND_GONE + 1)
        _demand("backend's mode", backends["mode"], layout.MODE_TRUNK, below=layout.MODE_PLAIN + 1)
        _backends(region)[arrays["shared.backends.index"]] = backends
        shared = Shared(region)
        slots = _restore_routes(shared, arrays)
        for number, fd in enumerate(made.shards):
            _restore_shard(f"{number}.", Shard(shared, memory.map_region(fd)), arrays, slots)
    except BaseException:
        for fd in (made.shared, *made.shards):
            os.close(fd)
        raise
    return made


def _sizes(arrays: Arrays) -> memory.TableSizes:
    """As large as the tables were."""
    shared = arrays["shared.header"][0]
    headers = [arrays[f"{number}.header"][0] for number in range(int(shared["shards"]))]

    def shares(family: int) -> tuple[tuple[int, int], ...]:
        return tuple((int(one["port_first"][family]), int(one["port_count"][family])) for one in headers)

    return memory.TableSizes(
        shards=len(headers),
        flows_max=int(headers[0]["flows_max"]),
        routes_max=int(shared["routes_max"]),
        targets_max=int(shared["backends_capacity"]) - layout.BACKENDS,
        ports_ipv4=shares(0),
        ports_ipv6=shares(1),
    )


def _restore_routes(shared: Shared, arrays: Arrays) -> NDArray[np.uint32]:
    """Gives the new slot of each old one; NONE for all others, the last one too."""
    old = arrays["shared.routes.index"]
    _demand("route's slot", old, below=ROUTE_SLOTS)
    slots = np.full(int(old.max(initial=0)) + 2, layout.NONE, np.uint32)
    rows = _converted(arrays["shared.routes"], layout.ROUTE)
    _demand("route's backend", rows["backend"], FIRST, below=FIRST + len(_backends(shared.memory)))
    slots[old] = np.frombuffer(restore_routes(shared, _bytes(rows)), np.uint32)
    return slots


def _restore_shard(prefix: str, shard: Shard, arrays: Arrays, slots: NDArray[np.uint32]) -> None:
    backends = len(_backends(shard.shared.memory))
    flows = _converted(arrays[prefix + "flows"], layout.FLOW)
    _demand_flows(flows, layout.FLOW_STATES, backends)
    flows["sequence"] = 0
    flows["route"] = _moved(flows["route"], slots)
    restore_flows(shard, _bytes(flows))
    provisional = _converted(arrays[prefix + "provisional"], layout.PROVISIONAL)
    _demand_flows(provisional, layout.PROVISIONAL_STATES, backends)
    provisional["route"] = _moved(provisional["route"], slots)
    provisional = np.sort(provisional, order="born")  # at most as many as fit: the ring is as large as it was
    _table(shard.memory, layout.PROVISIONAL, "provisional")[: len(provisional)] = provisional
    transactions = _converted(arrays[prefix + "transactions"], layout.TRANSACTION)
    restore_transactions(shard, _bytes(transactions))
    ports = _converted(arrays[prefix + "ports"], layout.PORT)
    _demand("backend", ports["backend"], below=backends)
    _demand("port", ports["port"], below=layout.NO_PORT)
    restore_resting_ports(shard, _bytes(ports))
    _one(shard.memory, layout.TRUNK_LINK, "links", layout.BACKENDS)[:] = _converted(
        arrays[prefix + "links"], layout.TRUNK_LINK
    )
    _one(shard.memory, layout.COUNTERS, "counters")[:] = _counters(arrays[prefix + "counters"], arrays)
    header, old = np.frombuffer(shard.memory, layout.SHARD_HEADER, 1), arrays[prefix + "header"]
    for name in ("attached", "provisional_born", "port_next"):
        header[name] = old[name]


def _counters(old: Rows, arrays: Arrays) -> Rows:
    """Counts by reason find their place by name; those of one that is no more stay in the sum, unnamed."""
    new = _converted(old, layout.COUNTERS)
    for kind, names in NAMES.items():
        new[kind] = 0
        for place, name in enumerate(arrays[f"names.{kind}"].tolist()):
            new[kind][..., names.index(name) if name in names else 0] += old[kind][..., place]
    return new


def _demand_flows(rows: Rows, states: Mapping[int, str], backends: int) -> None:
    """As `_demand`, of every field by which the data plane finds something else."""
    _demand("backend", rows["backend"], below=backends)
    _demand("flow's state", rows["state"], min(states), below=max(states) + 1)
    _demand("traffic class", rows["traffic_class"], below=len(layout.TRAFFIC_CLASSES))


def _demand(field: str, values: NDArray[Any], least: int = 0, *, below: int) -> None:
    """ValueError when an index leads out of its table: the data plane believes what a slot says."""
    if values.size and not least <= int(values.min()) <= int(values.max()) < below:
        found = int(values.min()) if values.min() < least else int(values.max())
        raise ValueError(f"{field} {found} where {least}..{below - 1} is possible")


def _moved(routes: NDArray[np.uint32], slots: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return slots[np.minimum(routes, len(slots) - 1)]


def _converted(old: Rows, dtype: "np.dtype[np.void]") -> Rows:
    """The same rows in another layout."""
    new = np.zeros(old.shape, dtype)
    _copy(old, new)
    return new


def _copy(old: Rows, new: Rows) -> None:
    for name in new.dtype.names or ():
        if name not in (old.dtype.names or ()):
            continue
        ours, theirs = new[name], old[name]
        if ours.dtype.names:
            _copy(theirs, ours)
            continue
        common = tuple(slice(0, min(ends)) for ends in zip(ours.shape[1:], theirs.shape[1:], strict=True))
        ours[(slice(None), *common)] = theirs[(slice(None), *common)]


# ---- regions as arrays -----------------------------------------------------------------------------


def _backends(region: mmap.mmap) -> Rows:
    header = np.frombuffer(region, layout.SHARED_HEADER, 1)[0]
    return np.frombuffer(
        region, layout.BACKEND, int(header["backends_capacity"]), int(header["backends_offset"])
    )


def _routes(region: mmap.mmap) -> Rows:
    header = np.frombuffer(region, layout.SHARED_HEADER, 1)[0]
    return np.frombuffer(region, layout.ROUTE, int(header["routes_capacity"]), int(header["routes_offset"]))


def _table(region: mmap.mmap, dtype: "np.dtype[np.void]", name: str) -> Rows:
    """A table of a shard, every slot; its header knows how many there are."""
    header = np.frombuffer(region, layout.SHARD_HEADER, 1)[0]
    return _one(region, dtype, name, int(header[f"{name}_capacity"]))


def _one(region: mmap.mmap, dtype: "np.dtype[np.void]", name: str, count: int = 1) -> Rows:
    header = np.frombuffer(region, layout.SHARD_HEADER, 1)[0]
    return np.frombuffer(region, dtype, count, int(header[f"{name}_offset"]))


def _bytes(rows: Rows) -> bytes:
    return np.ascontiguousarray(rows).tobytes()
