"""The ring of provisional flows against a list; its indices made anew after a killed writer."""

from typing import Any

import pytest
from fastpath._testing.tables import ProvisionalRing
from hypothesis import given
from hypothesis import strategies as st

from tests.model.provisional import TTL_MS, Provisional
from tests.model.provisional import ProvisionalRing as Model
from tests.support.examples import examples
from tests.support.regions import client, client_v6, make_region

CAPACITY = 16
FREE = 0
CLIENTS = [client(number) for number in range(5)] + [client(0, ingress=1), client_v6(1)]
UFRAGS = [3, 3 + CAPACITY, 3 + (1 << 32), 8, 0xFFFFFFFFFFFFFFFF]  # three in one chain
MANY_UFRAGS = [*UFRAGS, *range(20, 25)]  # more than the cap of one client

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("open"), st.sampled_from(CLIENTS), st.sampled_from(UFRAGS)),
        st.tuples(st.just("open"), st.sampled_from(CLIENTS), st.just(UFRAGS[0])),
        st.tuples(st.just("open"), st.just(CLIENTS[0]), st.sampled_from(MANY_UFRAGS)),
        st.tuples(st.just("remove"), st.sampled_from(CLIENTS), st.sampled_from(UFRAGS)),
        st.tuples(st.just("touch"), st.sampled_from(CLIENTS), st.sampled_from(UFRAGS)),
        st.tuples(st.just("wait"), st.sampled_from([1, 400, TTL_MS]), st.none()),
        st.tuples(st.just("expire"), st.integers(1, CAPACITY), st.none()),
        st.tuples(st.just("attach"), st.none(), st.none()),
    ),
    max_size=80,
)


class Pair:
    """The ring and its model, driven together."""

    def __init__(self, born: int, start_ms: int) -> None:
        self.region = make_region(provisional_max=CAPACITY)
        self.region.header["provisional_born"] = born
        self.ring, self.model = ProvisionalRing(self.region.shard), Model(CAPACITY)
        self.model.born = born
        self.now_ms = start_ms

    def open(self, who: Any, ufrag: int) -> None:
        """As lifecycle does: the ufrag's oldest makes room for its ninth, so does the client's, then the
        ring's."""
        if self.model.find(who, ufrag):
            return
        crowded = self.ring.crowded_out(ufrag)
        assert crowded == self.model.crowded_out(ufrag)
        overfull = self.ring.overfull(who)
        assert overfull == self.model.overfull(who)
        for place in {crowded, overfull} - {None}:
            self._remove(place)
        place, occupied = self.ring.place()
        assert (place, occupied) == self.model.place()
        if occupied:
            self._remove(place)
        self.ring.insert(place, who, ufrag, self.now_ms & 0xFFFFFFFF)
        self.model.insert(Provisional(who, ufrag, self.now_ms, place))

    def _remove(self, place: int) -> None:
        self.ring.remove(place)
        self.model.remove(place)

    def remove(self, who: Any, ufrag: int) -> None:
        flow = self.model.find(who, ufrag)
        if flow:
            self._remove(flow.place)

    def touch(self, who: Any, ufrag: int) -> None:
        flow = self.model.find(who, ufrag)
        if flow:
            flow.last_seen_ms = self.now_ms
            self.region.provisional["last_seen_ms"][flow.place] = self.now_ms & 0xFFFFFFFF

    def wait(self, milliseconds: int, _: None) -> None:
        self.now_ms += milliseconds

    def expire(self, budget: int, _: None) -> None:
        found = set()
        looked_at = 0
        while looked_at < CAPACITY:
            place, left = self.ring.next_expired(self.now_ms & 0xFFFFFFFF, budget)
            looked_at += budget - left
            if place is not None:
                found.add(place)
                self.ring.remove(place)
        assert found == self.model.expired(self.now_ms)
        for place in found:
            self.model.remove(place)

    def attach(self, *_: None) -> None:
        """A writer died: nothing of the two indices may be needed."""
        self.region.provisional_heads[:] = 0
        self.region.provisional["next_by_client"] = 1
        self.region.provisional["next_by_ufrag"] = 2
        self.region.header["provisional_count"] = 77
        self.ring.attach()

    def check(self) -> None:
        for who in CLIENTS:
            assert self.ring.of_client(who) == self.model.of_client(who)
            for ufrag in MANY_UFRAGS:
                flow = self.model.find(who, ufrag)
                assert self.ring.lookup(who, ufrag) == (flow.place if flow else None)
        assert self.region.header["provisional_count"] == len(self.model.flows)


@examples(400)
@given(OPERATIONS, st.sampled_from([0, 2**32 - 20]), st.sampled_from([0, 2**32 - 3_000]))
def test_it_equals_a_list(operations: list, born: int, start_ms: int) -> None:
    pair = Pair(born, start_ms)
    for name, first, second in operations:
        getattr(pair, name)(first, second)
        pair.check()


def test_a_ufrag_holds_eight_and_its_ninth_costs_its_oldest() -> None:
    ring = ProvisionalRing(make_region(provisional_max=64).shard)
    for number in range(8):
        assert ring.crowded_out(7) is None
        ring.insert(ring.place()[0], client(number), 7, 0)
    for number in range(20):
        ring.insert(ring.place()[0], client(number), 1000 + number, 0)  # others do not count
    assert ring.crowded_out(7) == ring.lookup(client(0), 7)
    assert ring.crowded_out(1000) is None


def test_one_address_with_many_ufrags_makes_no_long_chain() -> None:
    """Its chain is walked for every answer and every removal: a stock of valid ufrags, all asked for from one
    address, made a ring of 16,384 cost 0.4 ms a datagram."""
    ring = ProvisionalRing(make_region(provisional_max=64).shard)
    for number in range(8):
        assert ring.overfull(client(0)) is None
        ring.insert(ring.place()[0], client(0), number, 0)
        ring.insert(ring.place()[0], client(1 + number), 7, 0)  # others do not count
    assert ring.overfull(client(0)) == ring.lookup(client(0), 0)
    assert ring.overfull(client(1)) is None


def test_a_full_ring_gives_up_the_place_at_the_hand() -> None:
    ring = ProvisionalRing(make_region(provisional_max=CAPACITY).shard)
    for number in range(CAPACITY):
        place, occupied = ring.place()
        assert (place, occupied) == (number, False)
        ring.insert(place, client(number), number, 0)
    assert ring.place() == (0, True)


@pytest.mark.parametrize("written", ["state", "chains", "entry"])
def test_a_writer_killed_inside_an_insert_leaves_a_free_place_or_a_whole_flow(written: str) -> None:
    """The state is written last: before that the place is free, whatever else stands in it."""
    region = make_region(provisional_max=CAPACITY)
    ring = ProvisionalRing(region.shard)
    ring.insert(0, client(0), 10, 0)
    ring.insert(1, client(1), 11, 0)
    rows = region.provisional
    if written != "state":
        rows["state"][1] = FREE
    if written == "entry":
        region.provisional_heads[:] = 0xFFFFFFFF
    ring.attach()
    assert ring.lookup(client(0), 10) == 0
    assert ring.lookup(client(1), 11) == (1 if written == "state" else None)
    assert region.header["provisional_count"] == (2 if written == "state" else 1)
