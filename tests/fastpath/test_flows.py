"""The flow table against a dict; what readers of other threads see; what a killed writer leaves."""

import threading
from typing import Any

import pytest
from fastpath._testing.tables import FlowTable, expire
from fastpath.shard import shard_bytes
from hypothesis import given
from hypothesis import strategies as st

from tests.model.flows import CONFIRMED_TTL_MS, TAUGHT_TTL_MS, Flow
from tests.model.flows import FlowTable as Model
from tests.support.examples import examples
from tests.support.regions import client, client_v6, make_region

FLOWS_MAX = 8
SLOTS = 2 * FLOWS_MAX
EMPTY, TOMBSTONE, CONFIRMED = 0, 1, 2

CLIENTS = [client(number, ingress=number % 2) for number in range(8)] + [client_v6(n) for n in range(4)]
HOMES = [0, 3, 4, SLOTS - 2, SLOTS - 1]  # few, so that they collide, and at the end, so that they wrap
HOME_OF = {each: HOMES[number % len(HOMES)] for number, each in enumerate(CLIENTS)}

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("insert"), st.sampled_from(CLIENTS), st.booleans()),
        st.tuples(st.just("replace"), st.sampled_from(CLIENTS), st.booleans()),
        st.tuples(st.just("remove"), st.sampled_from(CLIENTS), st.none()),
        st.tuples(st.just("touch"), st.sampled_from(CLIENTS), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([1, 2_500, 5_000, 30_000]), st.none()),
        st.tuples(st.just("expire"), st.integers(1, SLOTS), st.none()),
    ),
    max_size=60,
)


class Pair:
    """The table and its model, driven together. `now_ms` of the table is cut to 32 bits."""

    def __init__(self, start_ms: int) -> None:
        self.region = make_region(flows_max=FLOWS_MAX)
        self.table, self.model = FlowTable(self.region.shard), Model(FLOWS_MAX)
        self.now_ms = start_ms
        self.number = 0

    def insert(self, who: Any, taught: bool) -> None:
        """Only a client that is not there is inserted: what is there is replaced."""
        if who not in self.model.flows:
            self._publish(who, taught)

    def replace(self, who: Any, taught: bool) -> None:
        """The new slot first, then the old one goes. It takes a place in the count for a moment."""
        if who in self.model.flows and len(self.model.flows) < FLOWS_MAX:
            old = self.table.lookup(who, HOME_OF[who])
            self._publish(who, taught)
            assert self.table.read(who, HOME_OF[who])["backend"] == self.number
            self.table.remove(old)

    def _publish(self, who: Any, taught: bool) -> None:
        self.number += 1
        flow = Flow(self.number, self.number, self.now_ms, taught)
        slot = self.table.insert(
            who, hash=HOME_OF[who], backend=self.number, taught=taught, now_ms=self.now_ms & 0xFFFFFFFF
        )
        assert (slot is not None) == self.model.insert(who, flow)

    def remove(self, who: Any, _: None) -> None:
        slot = self.table.lookup(who, HOME_OF[who])
        assert (slot is not None) == (self.model.flows.pop(who, None) is not None)
        if slot is not None:
            self.table.remove(slot)

    def touch(self, who: Any, _: None) -> None:
        slot = self.table.lookup(who, HOME_OF[who])
        if slot is not None:
            self.region.flows["last_seen_ms"][slot] = self.now_ms & 0xFFFFFFFF
            self.model.flows[who].last_seen_ms = self.now_ms

    def wait(self, milliseconds: int, _: None) -> None:
        self.now_ms += milliseconds

    def expire(self, budget: int, _: None) -> None:
        """A whole pass, in slices of `budget` slots."""
        found = set()
        looked_at = 0
        while looked_at < SLOTS:
            slot, left = self.table.next_expired(self.now_ms & 0xFFFFFFFF, budget)
            looked_at += budget - left
            if slot is not None:
                found.add(self.table.snapshot(slot)["client"])
                self.table.remove(slot)
        assert found == self.model.expired(self.now_ms)
        for who in found:
            del self.model.flows[who]

    def agree(self) -> set[Any]:
        """Table and model say the same of every client; gives those who have a flow in the table."""
        found = set()
        for who in CLIENTS:
            wanted = self.model.flows.get(who)
            slot = self.table.lookup(who, HOME_OF[who])
            read = self.table.read(who, HOME_OF[who])
            assert (slot is None) == (read is None) == (wanted is None), who
            if wanted is not None:
                found.add(who)
                assert self.table.snapshot(slot) == read
                assert (read["client"], read["backend"], read["version"]) == (
                    who,
                    wanted.backend,
                    wanted.version,
                )
                assert read["last_seen_ms"] == wanted.last_seen_ms & 0xFFFFFFFF
        assert self.region.header["flows_count"] == len(self.model.flows)
        states = self.region.flows["state"].tolist()
        behind = states[1:] + states[:1]
        assert (TOMBSTONE, EMPTY) not in zip(states, behind, strict=True), "a tombstone nobody needs"
        return found


@examples(300)
@given(OPERATIONS, st.sampled_from([0, 1_000_000, 2**32 - 40_000]))
def test_it_equals_a_dict(operations: list, start_ms: int) -> None:
    pair = Pair(start_ms)
    for name, first, second in operations:
        getattr(pair, name)(first, second)
        assert pair.agree() == set(pair.model.flows)


def test_a_full_table_refuses_until_one_goes() -> None:
    table = FlowTable(make_region(flows_max=FLOWS_MAX).shard)
    slots = [table.insert(client(number)) for number in range(FLOWS_MAX)]
    assert None not in slots
    assert table.insert(client(99)) is None
    table.remove(slots[3])
    assert table.insert(client(99)) is not None


def test_a_walk_is_bounded_and_finds_all_it_let_in() -> None:
    """256 flows of one home: all are found; the next one is refused rather than lost."""
    table = FlowTable(make_region(flows_max=512).shard)
    home = 1000  # the walk wraps at slot 1023
    assert [table.insert(client(n), hash=home) for n in range(256)] == [(home + n) % 1024 for n in range(256)]
    assert table.insert(client(256), hash=home) is None
    assert all(table.lookup(client(n), home) == (home + n) % 1024 for n in range(256))
    assert table.lookup(client(256), home) is None
    table.remove((home + 100) % 1024)
    assert table.insert(client(256), hash=home) == (home + 100) % 1024
    assert table.read(client(256), home)["client"] == client(256)


def test_clients_differ_by_address_port_ingress_and_family() -> None:
    table = FlowTable(make_region().shard)
    address = bytes.fromhex("cb007109").ljust(16, b"\0")
    near = [
        (address, 5000, 4, 0),
        (address, 5001, 4, 0),
        (address, 5000, 4, 1),
        (address, 5000, 6, 0),
        (address[:15] + b"\1", 5000, 6, 0),
    ]
    for number, who in enumerate(near):
        table.insert(who, hash=7, backend=number)
    assert [table.read(who, 7)["backend"] for who in near] == [0, 1, 2, 3, 4]


def test_a_taught_flow_lives_five_seconds_until_its_client_speaks() -> None:
    table = FlowTable(make_region(flows_max=4).shard)
    slot = table.insert(client(1), taught=True, now_ms=1000)
    assert table.next_expired(1000 + TAUGHT_TTL_MS - 1, 8)[0] is None
    assert table.next_expired(1000 + TAUGHT_TTL_MS, 8)[0] == slot
    table.confirm_taught(slot)
    assert table.next_expired(1000 + CONFIRMED_TTL_MS - 1, 8)[0] is None
    assert table.next_expired(1000 + CONFIRMED_TTL_MS, 8)[0] == slot


def test_expiry_walks_in_slices_and_comes_round() -> None:
    region = make_region(flows_max=FLOWS_MAX)
    table = FlowTable(region.shard)
    for number in range(FLOWS_MAX):
        table.insert(client(number), hash=number)
    late = CONFIRMED_TTL_MS
    assert table.next_expired(late, 3) == (0, 2)
    assert table.next_expired(late, 2) == (1, 1)
    assert [table.next_expired(late, SLOTS)[0] for _ in range(6)] == [2, 3, 4, 5, 6, 7]
    assert table.next_expired(late, SLOTS) == (0, 7)  # round the end: 8 free slots, then the first again
    assert table.next_expired(0, 100) == (None, 0)


@pytest.mark.parametrize("elapsed_ms", [1, 7, 50])
def test_every_table_is_looked_at_within_a_pass_however_small_it_is(elapsed_ms: int) -> None:
    """A busy worker looks every millisecond; a share of a small table must not round to nothing."""
    region = make_region(flows_max=FLOWS_MAX, provisional_max=16)
    table = FlowTable(region.shard)
    for number in range(FLOWS_MAX):
        table.insert(client(number))
    for now_ms in range(CONFIRMED_TTL_MS, CONFIRMED_TTL_MS + 4_000 + elapsed_ms, elapsed_ms):
        expire(region.shard, now_ms, elapsed_ms)
    assert region.header["flows_count"] == 0


# ---- copies, and what a killed writer leaves ----------------------------------------------------------


def test_of_two_copies_readers_take_the_newer() -> None:
    table = FlowTable(make_region().shard)
    table.insert(client(1), backend=10)
    table.insert(client(1), backend=11)
    assert table.read(client(1))["backend"] == 11


def test_a_copy_keeps_the_version_it_came_with() -> None:
    """So a sibling's copy never looks newer than what replaced its original."""
    table = FlowTable(make_region().shard)
    table.insert(client(1), backend=10)
    table.insert(client(2), backend=20, version=0xFFFFFFFE)
    table.insert(client(2), backend=21)
    assert table.read(client(2)) | {"backend": 21, "version": 2} == table.read(client(2))


@pytest.mark.parametrize("wrapped", [False, True], ids=["", "version-wraps"])
def test_attach_keeps_the_newest_complete_copy(wrapped: bool) -> None:
    region = make_region()
    if wrapped:
        region.shared_header["flow_version"] = 0xFFFFFFFE
    table = FlowTable(region.shard)
    for number in range(3):
        table.insert(client(number), backend=number)
        table.insert(client(number), backend=100 + number)  # killed before the old slot went
    table.attach()
    assert region.header["flows_count"] == 3
    assert [table.read(client(number))["backend"] for number in range(3)] == [100, 101, 102]
    assert sorted(region.flows["state"].tolist())[-3:] == [CONFIRMED] * 3
    assert (region.flows["state"] >= CONFIRMED).sum() == 3


def test_attach_drops_a_half_written_slot_and_keeps_what_it_was_to_replace() -> None:
    region = make_region()
    table = FlowTable(region.shard)
    old = table.insert(client(1), backend=10)
    new = table.insert(client(1), backend=11)
    torn = region.flows
    torn["sequence"][new] |= 1
    torn["backend"][new] = 0xBAD
    assert table.read(client(1))["backend"] == 10, "a reader passes over a slot being written"
    table.attach()
    assert (torn["sequence"] & 1).sum() == 0
    assert table.lookup(client(1)) == old
    assert region.header["flows_count"] == 1
    assert table.insert(client(1), backend=12) == new, "its place is free again"


def test_attach_of_a_slot_torn_over_a_tombstone_keeps_the_chain_behind_it() -> None:
    region = make_region()
    table = FlowTable(region.shard)
    first, second = (table.insert(client(number), hash=5) for number in (1, 2))
    table.remove(first)
    region.flows["sequence"][first] |= 1  # killed while the tombstone was filled again
    region.flows["state"][first] = CONFIRMED
    table.attach()
    assert table.lookup(client(2), 5) == second
    assert table.lookup(client(1), 5) is None


# ---- readers of other threads -------------------------------------------------------------------------


def test_readers_see_no_torn_flow_while_the_writer_replaces() -> None:
    table = FlowTable(make_region(flows_max=16).shard)
    torn: list[int] = []
    reader = threading.Thread(target=lambda: torn.append(table.watch(2, 10_000_000, 200)))
    reader.start()
    table.churn(2)
    reader.join()
    assert torn == [0]


# ---- memory -------------------------------------------------------------------------------------------


def flow_bytes(flows_max: int) -> int:
    """What the table of `flows_max` flows takes, everything else of the region held equal."""
    other = {"provisional_max": 64, "transactions_max": 64, "targets_max": 0}
    return shard_bytes(flows_max=flows_max, **other) - shard_bytes(flows_max=1, **other) + 4096


@pytest.mark.parametrize("flows_max", [1024, 131_072, 1 << 20])
def test_a_flow_costs_at_most_128_bytes_of_table(flows_max: int) -> None:
    assert flow_bytes(flows_max) <= 128 * flows_max


def test_a_million_flows_take_128_mib() -> None:
    assert flow_bytes(1 << 20) == 128 << 20
