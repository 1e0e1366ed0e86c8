"""What nobody uses is released: routes after their last flow or their time, targets after both."""

from typing import Any

from fastpath._testing.tables import FlowTable, ProvisionalRing, hash_of_ufrag, route_slot
from fastpath.backends import BACKENDS, PLAIN
from fastpath.sweep import sweep
from hypothesis import given
from hypothesis import strategies as st

from tests.model.routes import RouteTable as Model
from tests.support.examples import examples
from tests.support.regions import Region, address16, client, make_region

ROUTES_MAX = 8
UFRAGS = [f"ufrag{number}".encode() for number in range(10)]
CLIENTS = [client(number) for number in range(4)]
TARGET_IDLE_S = 120

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("install"), st.sampled_from(UFRAGS), st.sampled_from([0, 3, 30])),
        st.tuples(st.just("remove"), st.sampled_from(UFRAGS), st.none()),
        st.tuples(st.just("flow"), st.sampled_from(CLIENTS), st.sampled_from(UFRAGS)),
        st.tuples(st.just("end"), st.sampled_from(CLIENTS), st.none()),
        st.tuples(st.just("sweep"), st.sampled_from([1, 5, 30]), st.none()),
    ),
    max_size=60,
)


class Pair:
    """Flows and routes, and the dict that says which routes are left."""

    def __init__(self) -> None:
        self.region, self.model = make_region(routes_max=ROUTES_MAX), Model(ROUTES_MAX)
        self.table = FlowTable(self.region.shard)
        self.flows: dict[Any, bytes] = {}
        self.now_s = 1000

    def install(self, ufrag: bytes, for_s: int) -> None:
        route = (ufrag, 1, self.now_s + for_s)
        self.region.shared.routes.install(*route)
        self.model.install(*route, 0, replace=False)

    def remove(self, ufrag: bytes, _: None) -> None:
        self.region.shared.routes.remove(ufrag)
        self.model.routes.pop(ufrag, None)

    def flow(self, who: Any, ufrag: bytes) -> None:
        """A flow begins on the route of its ufrag, if there is one."""
        slot = route_slot(self.region.shared, ufrag, self.now_s)
        if slot is None or who in self.flows:
            return
        self.flows[who] = ufrag
        self.table.insert(who, ufrag=hash_of_ufrag(self.region.shared, ufrag)[0], route=slot)

    def end(self, who: Any, _: None) -> None:
        if self.flows.pop(who, None):
            self.table.remove(self.table.lookup(who))

    def sweep(self, wait_s: int, _: None) -> None:
        self.now_s += wait_s
        released, _ = sweep(self.region.shared, [self.region.shard], self.now_s)
        # A flow marks the slot its route had: a route removed and installed again elsewhere is another one.
        marked = {
            ufrag
            for who, ufrag in self.flows.items()
            if route_at(self.region, self.table.read(who)["route"])
            == hash_of_ufrag(self.region.shared, ufrag)
        }
        assert released == self.model.sweep(self.now_s, marked)

    def check(self) -> None:
        for ufrag in UFRAGS:
            route = self.model.routes.get(ufrag)
            found = self.region.shared.routes.lookup(ufrag)
            assert found == ((route.backend, route.expires_s, 0) if route else None)


def route_at(region: Region, slot: int) -> tuple[int, int] | None:
    """Whose hash stands in a slot that is in use."""
    row = region.routes[slot]
    return tuple(row["hash"].tolist()) if row["backend"] > 1 else None


@examples(200)
@given(OPERATIONS)
def test_routes_left_equal_a_dict(operations: list) -> None:
    pair = Pair()
    for name, first, second in operations:
        getattr(pair, name)(first, second)
        pair.check()


def test_a_route_outlives_its_time_with_its_flow_and_ends_with_it() -> None:
    pair = Pair()
    pair.install(UFRAGS[0], 3)
    pair.flow(CLIENTS[0], UFRAGS[0])
    pair.flow(CLIENTS[1], UFRAGS[0])
    for _ in range(5):
        pair.sweep(5, None)
        assert pair.region.shared.routes.lookup(UFRAGS[0])
    pair.end(CLIENTS[0], None)
    pair.sweep(5, None)
    assert pair.region.shared.routes.lookup(UFRAGS[0])
    pair.end(CLIENTS[1], None)
    pair.sweep(5, None)
    assert not pair.region.shared.routes.lookup(UFRAGS[0])


def test_a_flow_on_a_slot_that_serves_another_ufrag_now_keeps_nothing() -> None:
    region = make_region()
    region.shared.routes.install(UFRAGS[0], 1, 1005)
    slot = route_slot(region.shared, UFRAGS[0], 1000)
    FlowTable(region.shard).insert(CLIENTS[0], ufrag=hash_of_ufrag(region.shared, UFRAGS[1])[0], route=slot)
    assert sweep(region.shared, [region.shard], 1010) == (1, 0)


# ---- targets --------------------------------------------------------------------------------------------


def with_target() -> tuple[Region, int]:
    region = make_region()
    region.shared.backends.publish(0, address16(192, 0, 2, 1), 0, 4, PLAIN, 0)
    return region, region.shared.backends.target(0, address16(192, 0, 2, 9), 6000, 4, 1000)


def targets(region: Region) -> set[int]:
    return {row["index"] for row in region.shared.backends.rows() if row["index"] >= BACKENDS}


def test_a_target_is_kept_by_a_route() -> None:
    region, index = with_target()
    region.shared.routes.install(UFRAGS[0], index, 1200)
    assert sweep(region.shared, [region.shard], 1199) == (0, 0)
    assert sweep(region.shared, [region.shard], 1200) == (1, 0)
    assert sweep(region.shared, [region.shard], 1199 + TARGET_IDLE_S - 1) == (0, 0)
    assert targets(region) == {index}
    assert sweep(region.shared, [region.shard], 1199 + TARGET_IDLE_S) == (0, 1)
    assert targets(region) == set()


def test_a_target_is_kept_by_a_flow_and_by_a_provisional_flow() -> None:
    for keep in ("flow", "provisional"):
        region, index = with_target()
        if keep == "flow":
            slot = FlowTable(region.shard).insert(CLIENTS[0], backend=index)
        else:
            ProvisionalRing(region.shard).insert(0, CLIENTS[0], 7, 0, backend=index)
        assert sweep(region.shared, [region.shard], 2000) == (0, 0)
        if keep == "flow":
            FlowTable(region.shard).remove(slot)
        else:
            ProvisionalRing(region.shard).remove(0)
        assert sweep(region.shared, [region.shard], 2000 + TARGET_IDLE_S - 1) == (0, 0)
        assert sweep(region.shared, [region.shard], 2000 + TARGET_IDLE_S) == (0, 1)


def test_configured_backends_are_never_released() -> None:
    region, _ = with_target()
    assert sweep(region.shared, [region.shard], 1_000_000) == (0, 1)
    assert [row["index"] for row in region.shared.backends.rows()] == [0]
