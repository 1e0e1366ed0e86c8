"""The regions an engine adopts: with a damaged header they are refused, or nothing is read outside of them;
torn as a killed writer leaves them, the tables are what the slow twin holds.

What a slot says is believed: only an engine of the same layout ever wrote there."""

from collections.abc import Iterator

import numpy as np
from fastpath.shard import Shard, Shared

from pyfastpath.relay import layout
from tests.fuzz.tape import Tape
from tests.model.traffic import CLIENTS, CROWD, TRANSACTIONS, UFRAGS, connect, crowd_request, keepalive, world
from tests.support.regions import make_region

BYTES_MAX = 2048
SMOKE_RUNS = 250
ON_DATA_PLANE = True
CRASHERS: dict[str, bytes] = {}

HEADER, TORN = 0, 1
PORTS = (3, 8)
# What a worker only ever changes within bounds, so that a dead one leaves it within them.
FIXED_BYTES = {
    "shared": layout.SHARED_HEADER.fields["flow_version"][1],
    "shard": layout.SHARD_HEADER.fields["flows_count"][1],
}


def seeds() -> Iterator[bytes]:
    """One byte of each header changed; a world, and what is torn in it."""
    for which, name in enumerate(FIXED_BYTES):
        for at in range(0, FIXED_BYTES[name], 4):
            yield bytes([HEADER, which]) + at.to_bytes(2, "big") + b"\x01\xff"
            yield bytes([HEADER, which]) + at.to_bytes(2, "big") + b"\x04\0\0\0\x20"
    yield bytes([TORN, 0, 2, 0, 0, 0, 1, 1, 1, 2, 2, 9]) + bytes(range(80))
    yield bytes([TORN, 1, 4, 0, 0, 0, 1, 2, 2, 2, 3, 3, 3, 3, 3]) + b"\xff" * 200


def one_input(data: bytes) -> None:
    tape = Tape(data)
    if tape.number() & 1 == HEADER:
        damaged_header(tape)
    else:
        torn_tables(tape)


# ---- damaged headers -----------------------------------------------------------------------------------


def damaged_header(tape: Tape) -> None:
    region = make_region(flows_max=8, provisional_max=8, transactions_max=8, routes_max=8, ports_ipv4=PORTS)
    memories = {"shared": region.shared_memory, "shard": region.memory}
    while tape.left:
        name = tape.choose(list(FIXED_BYTES))
        at = tape.below(FIXED_BYTES[name])
        change = tape.take(min(tape.number() & 7, FIXED_BYTES[name] - at))
        memories[name][at : at + len(change)] = change
    try:
        shared = Shared(region.shared_memory)
        shard = Shard(shared, region.memory)
    except ValueError as error:  # LayoutError, or a size that no region has
        assert "\n" not in str(error)
        return
    shard.adopt(0)
    assert shard.flows() == shard.provisional() == b""
    assert shared.routes.lookup(b"nobody") is None


# ---- torn tables ---------------------------------------------------------------------------------------


def torn_tables(tape: Tape) -> None:
    pair = world(2, ports=tape.choose((2, 8)), flows_max=64, start_ms=1_000_000)
    for _ in range(1 + tape.below(8)):
        connect(pair, tape.below(len(CLIENTS)), tape.below(len(UFRAGS)), tape.below(len(TRANSACTIONS)))
    for _ in range(tape.below(8)):
        crowd_request(pair, tape.below(len(CROWD)), 0, tape.below(len(TRANSACTIONS)))
    for shard in pair.bench.shards:
        tear(shard, tape)
    pair.restart()
    keepalive(pair, 2500, 1)
    pair.wait(61_000)


def tear(shard: Shard, tape: Tape) -> None:
    """Slots in the middle of being published, and everything that is derived from others at random."""
    header = np.frombuffer(shard.memory, layout.SHARD_HEADER, 1)[0]
    flows = rows(shard, layout.FLOW, "flows", header["flows_capacity"])
    for _ in range(tape.below(8)):
        slot = tape.below(len(flows))
        if flows[slot]["state"] < layout.FLOW_CONFIRMED:
            begun = tape.take(layout.FLOW.itemsize - 4)
            at = int(header["flows_offset"]) + slot * layout.FLOW.itemsize + 4
            shard.memory[at : at + len(begun)] = begun
            flows[slot]["sequence"] |= 1
    for name in ("flows_count", "provisional_count", "ports_count"):
        header[name] = tape.number()
    heads = rows(shard, np.uint32, "provisional_index", 2 * header["provisional_capacity"])
    for _ in range(tape.below(16)):
        heads[tape.below(len(heads))] = tape.number(4)
    waiting = rows(shard, layout.PROVISIONAL, "provisional", header["provisional_capacity"])
    for name in ("next_by_client", "next_by_ufrag"):
        waiting[tape.below(len(waiting))][name] = tape.number(4)


def rows(shard: Shard, kind: object, table: str, count: int) -> np.ndarray:
    """A view of one table."""
    header = np.frombuffer(shard.memory, layout.SHARD_HEADER, 1)[0]
    return np.frombuffer(shard.memory, kind, count, int(header[f"{table}_offset"]))  # type: ignore[call-overload]
