"""Tables as another version exported them: refused in one sentence whatever they say, or the tables made from
them serve, and can be exported again."""

import io
import mmap
import os
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from fastpath._testing.forward import Bench
from fastpath.shard import Shard, Shared
from numpy.typing import NDArray

from pyfastpath.errors import LayoutError, SocketError
from pyfastpath.relay import layout, memory
from pyfastpath.relay.export import read_export, write_export
from pyfastpath.wire import stun
from tests.fuzz.tape import Tape
from tests.model.traffic import CLIENTS, TRANSACTIONS, UFRAGS, connect, crowd_request, world

BYTES_MAX = 256
SMOKE_RUNS = 100
ON_DATA_PLANE = True
CRASHERS = {
    "an array's type that does not end": bytes.fromhex("060001203901200103"),
}

FILE, ROWS = 0, 1
NO_NOTE = -1
NOW_MS = 1_010_000
LARGE_BYTES = 64 << 20  # tables beyond are made, and not walked through
Arrays = dict[str, NDArray[Any]]


def seeds() -> Iterator[bytes]:
    """Bytes of the file changed; of each array some bytes, its rows, its type; nothing."""
    yield bytes([ROWS])
    for at in range(0, len(exported()), len(exported()) // 8):
        yield bytes([FILE]) + at.to_bytes(3, "big") + b"\x02\xff\x80"
    for number, name in enumerate(sorted(arrays())):
        yield bytes([ROWS, number, 1]) + b"\0\2"
        yield bytes([ROWS, number, 2, 3])
        for at in range(0, min(64, arrays()[name].nbytes), 16):
            yield bytes([ROWS, number, 0]) + at.to_bytes(2, "big") + b"\x01\x03"


def one_input(data: bytes) -> None:
    tape = Tape(data)
    file = damaged_file(tape) if tape.number() & 1 == FILE else damaged_rows(tape)
    try:
        made = read_export(io.BytesIO(file), NO_NOTE)
    except (LayoutError, SocketError) as error:
        assert "\n" not in str(error)
        return
    try:
        regions = [memory.map_region(fd) for fd in (made.shared, *made.shards)]
    finally:
        for fd in (made.shared, *made.shards):
            os.close(fd)
    if sum(map(len, regions)) < LARGE_BYTES * len(regions):
        serve(*regions)


# ---- what arrives ----------------------------------------------------------------------------------


@cache
def exported() -> bytes:
    """What is written for a shard with confirmed and provisional flows, on trunks and plain ports."""
    pair = world(1, ports=8, flows_max=64, start_ms=1_000_000)
    for number in range(8):
        connect(pair, number % len(CLIENTS), number % len(UFRAGS), number % len(TRANSACTIONS))
        crowd_request(pair, number, number % 2, number % len(TRANSACTIONS))
    return again(pair.bench.shared.memory, *(shard.memory for shard in pair.bench.shards))


@cache
def arrays() -> Arrays:
    return dict(np.load(io.BytesIO(exported())))


def damaged_file(tape: Tape) -> bytes:
    changed = bytearray(exported())
    while tape.left:
        at, bytes_ = tape.number(3) % len(changed), tape.take(tape.number() & 15)
        changed[at : at + len(bytes_)] = bytes_
    return bytes(changed)


def damaged_rows(tape: Tape) -> bytes:
    """A whole archive of which some arrays are others."""
    changed = dict(arrays())
    while tape.left:
        name = tape.choose(sorted(arrays()))
        rows = changed.pop(name, arrays()[name])
        kind = tape.below(4)
        if kind == 0:
            changed[name] = with_bytes(rows, tape.number(2), tape.take(tape.number() & 15))
        elif kind == 1:
            changed[name] = np.resize(rows, tape.number(2) & 0xFFF)
        elif kind == 2:
            kinds = (np.uint8, np.int64, np.float64, "U4", rows.dtype, [("backend", "f8"), ("state", "i8")])
            changed[name] = np.zeros(tape.number() & 7, tape.choose(kinds))
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **changed)  # type: ignore[arg-type]
    return file.getvalue()


def with_bytes(rows: NDArray[Any], at: int, change: bytes) -> NDArray[Any]:
    content = bytearray(rows.tobytes())
    at %= max(1, len(content) - len(change))
    content[at : at + len(change)] = change
    return np.frombuffer(bytes(content[: rows.nbytes]), rows.dtype).reshape(rows.shape)


# ---- what becomes of it ----------------------------------------------------------------------------


def serve(common: mmap.mmap, *regions: mmap.mmap) -> None:
    """Every flow hears from its client and its backend; what is over ends."""
    shared = Shared(common)
    shards = [Shard(shared, region) for region in regions]
    bench = Bench(
        len(shards), flows_max=8, provisional_max=8, transactions_max=8, routes_max=8, targets_max=8
    )
    bench.take(shared, shards, NOW_MS)
    backends = np.frombuffer(common, layout.BACKEND, *place(common))
    for number, shard in enumerate(shards):
        flows = np.frombuffer(shard.flows(), layout.FLOW)
        provisional = np.frombuffer(shard.provisional(), layout.PROVISIONAL)
        for row in (*written(flows), *written(provisional)):
            index = int(row["backend"])
            client = *endpoint(row["client"]), int(row["client"]["ingress"])
            source, port = endpoint(backends[index]["address"]), int(row["upstream_port"])
            for datagram in (request(), b"\x80" + bytes(40)):
                check(bench.from_client(number, client, datagram, NOW_MS), len(backends))
                check(bench.from_trunk(number, index, client, datagram, NOW_MS), len(backends))
                check(bench.from_plain(number, port, source, datagram, NOW_MS), len(backends))
    bench.expire(NOW_MS + 61_000)
    again(common, *regions)


def written(rows: NDArray[Any]) -> NDArray[Any]:
    """All but the empty ones, which are alike; one that says it is free may hold something all the same."""
    return rows[rows.view(np.uint8).reshape(len(rows), rows.itemsize).any(axis=1)]


def check(verdict: dict[str, Any], backends: int) -> None:
    assert verdict["traffic_class"] < len(layout.TRAFFIC_CLASSES)
    assert verdict.get("backend", 0) < backends


def endpoint(row: Any) -> tuple[bytes, int, int]:
    return row["address"].tobytes(), int(row["port"]), int(row["family"])


@cache
def request() -> bytes:
    return stun.build_binding_request(TRANSACTIONS[0], f"{UFRAGS[0]}:client".encode())


def place(common: mmap.mmap) -> tuple[int, int]:
    """How many backends there are, and where."""
    header = np.frombuffer(common, layout.SHARED_HEADER, 1)[0]
    return int(header["backends_capacity"]), int(header["backends_offset"])


def again(common: mmap.mmap | bytearray, *regions: mmap.mmap | bytearray) -> bytes:
    """Exported, and read by the next version."""
    file = io.BytesIO()
    write_export(common, list(regions), file)  # type: ignore[arg-type]
    made = read_export(io.BytesIO(file.getvalue()), NO_NOTE)
    for fd in (made.shared, *made.shards):
        os.close(fd)
    return file.getvalue()
