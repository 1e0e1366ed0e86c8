"""Regions: refused when they are not of this layout, made whole when their writer was killed at any point."""

import os
from typing import Any

import numpy as np
import pytest
from fastpath._testing.forward import Bench
from fastpath._testing.tables import FlowTable
from fastpath.backends import PLAIN, TRUNK
from fastpath.shard import (
    LAYOUT_VERSION,
    LayoutError,
    Shard,
    Shared,
    format_shard,
    format_shared,
    link_shards,
    shard_bytes,
    shared_bytes,
)

from pyfastpath.relay.layout import (
    FLOW,
    FLOW_CONFIRMED,
    PORT,
    PROVISIONAL,
    PROVISIONAL_CONFIRMED,
    SHARD_HEADER,
    SHARED_HEADER,
)
from pyfastpath.wire import stun
from tests.support.regions import SEED, address16, client, make_region

# ---- refused ----------------------------------------------------------------------------------------------


def shared_memory() -> bytearray:
    memory = bytearray(shared_bytes(1, 64, 8))
    format_shared(memory, seed=SEED, shards=1, routes_max=64, targets_max=8, trunk_epoch=1)
    return memory


def shard_memory(**sizes: Any) -> bytearray:
    sizes = {"flows_max": 16, "provisional_max": 16, "transactions_max": 16, "targets_max": 8} | sizes
    memory = bytearray(shard_bytes(**sizes))
    format_shard(memory, index=0, **sizes)
    return memory


def test_memory_that_was_never_formatted_is_refused() -> None:
    shared = Shared(shared_memory())
    with pytest.raises(LayoutError, match="this memory is no fastpath region"):
        Shared(bytearray(shared_bytes(1, 64, 8)))
    with pytest.raises(LayoutError, match="this memory is no fastpath region"):
        Shard(shared, bytearray(len(shard_memory())))


def test_memory_of_another_layout_is_refused_and_the_error_says_what_to_do() -> None:
    told = f"has layout version {LAYOUT_VERSION + 1}, this engine needs {LAYOUT_VERSION}: start a new keeper"
    memory = shared_memory()
    np.frombuffer(memory, SHARED_HEADER, 1)["layout_version"] += 1
    with pytest.raises(LayoutError, match=told):
        Shared(memory)
    shard = shard_memory()
    np.frombuffer(shard, SHARD_HEADER, 1)["layout_version"] += 1
    with pytest.raises(LayoutError, match=told):
        Shard(Shared(shared_memory()), shard)


def test_memory_that_is_too_small_is_refused() -> None:
    with pytest.raises(LayoutError, match=r"the region has 10 bytes, \d+ are needed"):
        Shared(bytearray(10))
    memory = shared_memory()
    with pytest.raises(
        LayoutError, match=rf"the region has {len(memory) - 1} bytes, {len(memory)} are needed"
    ):
        Shared(memory[:-1])
    shard = shard_memory()
    with pytest.raises(LayoutError, match=rf"the region has {len(shard) - 1} bytes, {len(shard)} are needed"):
        Shard(Shared(memory), shard[:-1])
    with pytest.raises(LayoutError, match="are needed"):
        format_shared(bytearray(100), seed=SEED, shards=1, routes_max=64, targets_max=8, trunk_epoch=1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("shards", 0), ("shards", 65), ("routes_max", 1 << 31), ("routes_capacity", 256)),
        *(
            ("routes_offset", 1 << 40),
            ("backends_offset", 0),
            ("backends_capacity", 7),
            ("total_bytes", 4096),
        ),
    ],
)
def test_a_shared_region_whose_header_is_damaged_is_refused(field: str, value: int) -> None:
    """Fuzzing found it: its tables were read outside of the region."""
    memory = shared_memory()
    np.frombuffer(memory, SHARED_HEADER, 1)[field] = value
    told = "header is damaged: start a new keeper|shards must be 1..64, not|too large for a table"
    with pytest.raises(ValueError, match=told):
        Shared(memory)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("flows_max", 1 << 30), ("flows_capacity", 1 << 20), ("provisional_capacity", 3)),
        *(("ports_capacity", 4), ("transactions_capacity", 1 << 31), ("batch_offset", 1 << 40)),
        *(("total_bytes", 4096), ("port_first", 65535)),
    ],
)
def test_a_shards_region_whose_header_is_damaged_is_refused(field: str, value: int) -> None:
    memory = shard_memory(ports_ipv4=(0, 4))
    np.frombuffer(memory, SHARD_HEADER, 1)[field] = value
    told = "the header of this shard's region is damaged: start a new keeper|too large for a table"
    with pytest.raises(ValueError, match=told):
        Shard(Shared(shared_memory()), memory)


def test_a_shard_of_another_shared_region_is_refused() -> None:
    with pytest.raises(LayoutError, match="was not made with this shared region"):
        Shard(Shared(shared_memory()), shard_memory(targets_max=9))


def test_sizes_that_make_no_sense_are_refused() -> None:
    for shards in (0, 65):
        with pytest.raises(ValueError, match=rf"shards must be 1\.\.64, not {shards}"):
            shared_bytes(shards, 64, 8)
    with pytest.raises(ValueError, match="seed is 16 bytes"):
        format_shared(shared_memory(), seed=b"x", shards=1, routes_max=64, targets_max=8, trunk_epoch=1)
    with pytest.raises(ValueError, match="too large for a table"):
        shard_bytes(flows_max=1 << 31)
    with pytest.raises(ValueError, match="16 bytes"):
        Shared(shared_memory()).set_ingress(0, b"abc", 1, 4, 0, False)
    with pytest.raises(BufferError):
        Shared(bytes(shared_memory()))


def test_a_route_costs_64_bytes_at_most() -> None:
    assert shared_bytes(1, 1 << 20, 8) - shared_bytes(1, 1, 8) <= 64 << 20


def test_the_epoch_of_a_new_engine_is_above_the_last_ones_whatever_the_clock_says() -> None:
    shared = Shared(shared_memory())
    shared.raise_epoch(1_800_000_000)
    assert shared.trunk_epoch == 1_800_000_000
    shared.raise_epoch(1_700_000_000)
    assert shared.trunk_epoch == 1_800_000_001


def test_every_attach_is_counted() -> None:
    region = make_region()
    region.attach_again()
    assert region.header["attached"] == 2


# ---- killed at any point -------------------------------------------------------------------------------

WHO = client(1)
BACKEND = {TRUNK: 0, PLAIN: 1}
ADDRESS = {index: (address16(192, 0, 2, index + 1), 7000, 4) for index in range(2)}


class Call:
    """A client's session over a bench whose memory can be cut at any point."""

    def __init__(self, mode: int) -> None:
        self.bench = Bench(1, seed=SEED, flows_max=16, provisional_max=16, transactions_max=64, ports=8)
        for name, index in BACKEND.items():
            self.bench.shared.backends.publish(index, *ADDRESS[index], name, index)
        self.backend = BACKEND[mode]
        for ufrag in (b"first", b"second"):
            self.bench.shared.routes.install(ufrag, self.backend, 1 << 30, session=7)
        self.now_ms = 1_000_000
        self.numbers = 0

    @property
    def memory(self) -> bytearray:
        memory: bytearray = self.bench.shards[0].memory
        return memory

    def kill(self, memory: bytes) -> None:
        """The engine left this memory; another one takes over."""
        self.memory[:] = memory
        self.bench.adopt(self.now_ms)

    def ask(self, ufrag: str) -> tuple[bytes, Any]:
        """A Binding Request: (transaction, where it came out)."""
        self.numbers += 1
        transaction = self.numbers.to_bytes(12, "big")
        verdict = self.bench.from_client(
            0, WHO, stun.build_binding_request(transaction, f"{ufrag}:peer".encode()), self.now_ms
        )
        assert verdict["action"] == "forward", verdict
        return transaction, verdict["port"]

    def down(self, port: int | None, datagram: bytes) -> str:
        """From the backend: "forward" or why not."""
        if port is None:
            verdict = self.bench.from_trunk(0, self.backend, WHO, datagram, self.now_ms)
        else:
            verdict = self.bench.from_plain(0, port, ADDRESS[self.backend], datagram, self.now_ms)
        assert verdict.get("client", WHO) == WHO
        reason: str = verdict["reason"]
        return "forward" if verdict["action"] == "forward" else reason

    def answer(self, transaction: bytes, port: int | None) -> None:
        assert self.down(port, stun.build_message(stun.BINDING_SUCCESS, transaction)) == "forward"

    def media_passes(self) -> bool:
        """Both ways, the way back by the port of the way there."""
        up = self.bench.from_client(0, WHO, b"\x80media", self.now_ms)
        return up["action"] == "forward" and self.down(up["port"], b"\x80media") == "forward"

    def whole(self) -> None:
        """Counts and the port table tell of the flows there are, and of nothing else."""
        memory = self.memory
        header = np.frombuffer(memory, SHARD_HEADER, 1)[0]
        flows = rows_of(memory, FLOW, "flows")
        waiting = rows_of(memory, PROVISIONAL, "provisional")
        ports = rows_of(memory, PORT, "ports")
        live = np.flatnonzero(flows["state"] >= FLOW_CONFIRMED)
        assert header["flows_count"] == len(live)
        assert header["provisional_count"] == (waiting["state"] > 0).sum()
        assert header["ports_count"] == (ports["state"] > 1).sum()
        held = {(2, int(slot), int(flows["upstream_port"][slot])) for slot in live}
        held |= {
            (3, int(index), int(waiting["upstream_port"][index]))
            for index in np.flatnonzero(waiting["state"])
        }
        told = ports[(ports["state"] == 2) | (ports["state"] == 3)]
        if self.backend == BACKEND[PLAIN]:
            assert {(int(row["state"]), int(row["holder"]), int(row["port"])) for row in told} == held

    def goes_on(self) -> None:
        """Whatever was lost, the next check brings all of it back, and a minute later nothing has gone."""
        for _ in range(30):
            self.answer(*self.ask("second"))
            assert self.media_passes()
            self.now_ms += 2_500
            self.bench.expire(self.now_ms)
            self.whole()


def rows_of(memory: bytearray | bytes, dtype: Any, table: str) -> Any:
    header = np.frombuffer(memory, SHARD_HEADER, 1)[0]
    return np.frombuffer(memory, dtype, int(header[f"{table}_capacity"]), int(header[f"{table}_offset"]))


AREAS = ["flows", "ports", "provisional", "provisional_index", "transactions", "port_use"]


def splice(before: bytes, after: bytes, *areas: str) -> bytearray:
    """Memory of before with these areas as they were after."""
    header = np.frombuffer(after, SHARD_HEADER, 1)[0]
    starts = sorted(int(header[name]) for name in header.dtype.names if name.endswith("_offset"))
    out = bytearray(before)
    for area in areas:
        start = int(header[f"{area}_offset"])
        end = min([other for other in starts if other > start], default=len(after))
        out[start:end] = after[start:end]
    return out


def without_tombstones(memory: bytearray, before: bytes) -> bytearray:
    """The new flow stands beside the old one, which has not gone yet."""
    old, new = rows_of(before, FLOW, "flows"), rows_of(memory, FLOW, "flows")
    new["state"][old["state"] >= FLOW_CONFIRMED] = FLOW_CONFIRMED
    return memory


def half_written(memory: bytearray, before: bytes) -> bytearray:
    """The new flow's slot is still being written."""
    old, new = rows_of(before, FLOW, "flows"), rows_of(memory, FLOW, "flows")
    fresh = (old["state"] < FLOW_CONFIRMED) & (new["state"] >= FLOW_CONFIRMED)
    assert fresh.sum() == 1
    new["sequence"][fresh] -= 1
    new["backend"][fresh] = 0xBAD
    return memory


MODES = pytest.mark.parametrize("mode", [TRUNK, PLAIN], ids=["trunk", "plain"])


@MODES
@pytest.mark.parametrize("point", ["nothing", "ports", "ports provisional", "all but the header", "all"])
def test_killed_while_a_provisional_flow_is_opened(mode: int, point: str) -> None:
    call = Call(mode)
    before = bytes(call.memory)
    transaction, port = call.ask("second")
    after = bytes(call.memory)
    areas = {"nothing": [], "all but the header": AREAS}.get(point, point.split())
    call.kill(after if point == "all" else splice(before, after, *areas))
    call.whole()
    if "all" in point:
        call.answer(transaction, port)
        assert call.media_passes()
    call.goes_on()


@MODES
@pytest.mark.parametrize("torn", [False, True], ids=["", "torn"])
@pytest.mark.parametrize(
    "point",
    ["nothing", "flows", "flows ports", "flows ports provisional", "flows provisional", "all but the header"],
)
def test_killed_while_a_flow_is_confirmed(mode: int, point: str, torn: bool) -> None:
    """As soon as the flow is in its table, media passes both ways for as long as the call lasts."""
    call = Call(mode)
    asked = call.ask("second")
    before = bytes(call.memory)
    call.answer(*asked)
    after = bytes(call.memory)
    areas = {"nothing": [], "all but the header": AREAS}.get(point, point.split())
    memory = splice(before, after, *areas)
    if "provisional" not in point and "all" not in point:
        waiting = rows_of(memory, PROVISIONAL, "provisional")
        waiting["state"][waiting["state"] > 0] = PROVISIONAL_CONFIRMED
    if torn and point == "flows":
        memory = half_written(memory, before)
    call.kill(memory)
    call.whole()
    if point != "nothing" and not (torn and point == "flows"):
        assert call.media_passes()
    call.goes_on()


@MODES
@pytest.mark.parametrize(
    "point", ["half a flow", "both flows", "both flows ports", "flows ports", "flows", "all"]
)
def test_killed_while_an_ice_restart_replaces_a_flow(mode: int, point: str) -> None:
    """Media passes at every point, by the old flow or by the new one."""
    call = Call(mode)
    call.answer(*call.ask("first"))
    asked = call.ask("second")
    before = bytes(call.memory)
    call.answer(*asked)
    after = bytes(call.memory)
    memory = splice(before, after, *[area for area in AREAS if point == "all" or area in point.split()])
    if "flow" in point and "flows" not in point.split():
        memory = splice(bytes(memory), after, "flows")
    if point.startswith("half"):
        memory = half_written(without_tombstones(memory, before), before)
    elif point.startswith("both"):
        memory = without_tombstones(memory, before)
    call.kill(memory)
    call.whole()
    assert call.media_passes()
    call.goes_on()


@MODES
def test_killed_while_a_flow_ends(mode: int) -> None:
    """Its port rests already, its slot is still there: it lives until it expires again."""
    call = Call(mode)
    call.answer(*call.ask("second"))
    before = bytes(call.memory)
    call.now_ms += 60_000
    call.bench.expire(call.now_ms)
    call.kill(splice(before, bytes(call.memory), "ports"))
    call.whole()
    call.bench.expire(call.now_ms)
    call.whole()
    assert not call.media_passes()
    call.goes_on()


def test_cut_chains_are_made_anew() -> None:
    call = Call(TRUNK)
    asked = [call.ask(ufrag) for ufrag in ("first", "second")]
    memory = bytearray(call.memory)
    header = np.frombuffer(memory, SHARD_HEADER, 1)[0]
    start = int(header["provisional_index_offset"])
    memory[start : start + 8 * int(header["provisional_capacity"])] = bytes(
        8 * int(header["provisional_capacity"])
    )
    call.kill(memory)
    call.whole()
    for transaction, port in asked:
        call.answer(transaction, port)
    call.goes_on()


# ---- a million -----------------------------------------------------------------------------------------


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def test_a_million_flows_and_a_million_routes_in_one_process() -> None:
    """128 MiB of flows and 64 MiB of routes; found again by the engine after this one."""
    million = 1 << 20
    began = resident_bytes()
    shared_buffer = bytearray(shared_bytes(1, million, 64))
    format_shared(shared_buffer, seed=SEED, shards=1, routes_max=million, targets_max=64, trunk_epoch=1)
    sizes = {"flows_max": million, "provisional_max": 64, "transactions_max": 64, "targets_max": 64}
    buffer = bytearray(shard_bytes(**sizes))
    format_shard(buffer, index=0, **sizes)
    shared = Shared(shared_buffer)
    shard = Shard(shared, buffer)
    shard.adopt(0)
    link_shards([shard])
    assert FlowTable(shard).insert_many(million) == million
    assert FlowTable(shard).insert(client(million)) is None
    step = 1 << 17
    for first in range(0, million, step):
        ufrags = [b"ufrag%d" % number for number in range(first, first + step)]
        codes = shared.routes.install_many(ufrags, 5, 1 << 30)
        assert codes == bytes(step)
    shared = Shared(shared_buffer)
    shard = Shard(shared, buffer)
    shard.adopt(0)
    assert FlowTable(shard).lookup_many(million) == million
    assert len(shared.routes) == million
    assert all(shared.routes.lookup(b"ufrag%d" % number) is not None for number in range(0, million, 97))
    assert shared.routes.lookup(b"ufrag%d" % million) is None
    assert len(shared_buffer) + len(buffer) < (128 + 64 + 2) << 20
    if os.environ.get("FASTPATH_PROFILE") != "asan":  # which keeps what was freed, to see who still uses it
        assert resident_bytes() - began < (128 + 64 + 64) << 20
