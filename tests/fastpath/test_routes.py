"""Session routes against a dict; looked up by another thread while they are written."""

import threading

import pytest
from fastpath._testing.tables import hash_of_ufrag, route_lookup, watch_route
from fastpath.routes import CONFLICT, FULL, INSTALLED, REFRESHED
from fastpath.sweep import sweep
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.wire.siphash import siphash128
from tests.model.routes import RouteTable as Model
from tests.support.examples import examples
from tests.support.regions import SEED, Region, make_region

ROUTES_MAX = 8
SLOTS = 2 * ROUTES_MAX
EMPTY, TOMBSTONE = 0, 1
UFRAGS = [f"ufrag{number}".encode() for number in range(14)]

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.just("install"),
            st.sampled_from(UFRAGS),
            st.tuples(st.integers(0, 2), st.integers(-1, 20), st.integers(0, 2), st.booleans()),
        ),
        st.tuples(st.just("install_many"), st.lists(st.sampled_from(UFRAGS), max_size=6), st.booleans()),
        st.tuples(st.just("remove"), st.sampled_from(UFRAGS), st.none()),
        st.tuples(st.just("wait"), st.sampled_from([1, 5, 20]), st.none()),
        st.tuples(st.just("sweep"), st.none(), st.none()),
        st.tuples(st.just("attach"), st.none(), st.none()),
    ),
    max_size=60,
)


class Pair:
    """The table and its model, driven together."""

    def __init__(self) -> None:
        self.region, self.model = make_region(routes_max=ROUTES_MAX), Model(ROUTES_MAX)
        self.now_s = 1000

    def install(self, ufrag: bytes, wanted: tuple[int, int, int, bool]) -> None:
        backend, for_s, session, replace = wanted
        route = (ufrag, backend, self.now_s + for_s)
        code = self.region.shared.routes.install(*route, session=session, replace=replace)
        assert code == self.model.install(*route, session, replace=replace)

    def install_many(self, ufrags: list[bytes], replace: bool) -> None:
        backends = [number % 3 for number in range(len(ufrags))]
        codes = self.region.shared.routes.install_many(ufrags, backends, self.now_s + 9, 7, replace)
        assert list(codes) == [
            self.model.install(ufrag, backend, self.now_s + 9, 7, replace=replace)
            for ufrag, backend in zip(ufrags, backends, strict=True)
        ]

    def remove(self, ufrag: bytes, _: None) -> None:
        assert self.region.shared.routes.remove(ufrag) == (self.model.routes.pop(ufrag, None) is not None)

    def wait(self, seconds: int, _: None) -> None:
        self.now_s += seconds

    def sweep(self, *_: None) -> None:
        assert sweep(self.region.shared, [], self.now_s)[0] == self.model.sweep(self.now_s, set())

    def attach(self, *_: None) -> None:
        self.region.attach_again()

    def check(self) -> None:
        shared = self.region.shared
        for ufrag in UFRAGS:
            route = self.model.routes.get(ufrag)
            assert shared.routes.lookup(ufrag) == (
                (route.backend, route.expires_s, route.session) if route else None
            )
            assert route_lookup(shared, ufrag, self.now_s) == self.model.lookup(ufrag, self.now_s)
        assert len(shared.routes) == len(self.model.routes)
        words = self.region.routes["backend"].tolist()
        behind = words[1:] + words[:1]
        assert (TOMBSTONE, EMPTY) not in zip(words, behind, strict=True), "a tombstone nobody needs"


@examples(300)
@given(OPERATIONS)
def test_it_equals_a_dict(operations: list) -> None:
    pair = Pair()
    for name, first, second in operations:
        getattr(pair, name)(first, second)
        pair.check()


def test_a_full_table_refuses_new_routes_but_replaces_old_ones() -> None:
    routes = make_region(routes_max=4).shared.routes
    assert routes.install_many(UFRAGS[:4], 0, 100) == bytes([INSTALLED] * 4)
    assert routes.install(UFRAGS[5], 0, 100) == FULL
    assert routes.install(UFRAGS[0], 0, 200) == REFRESHED
    assert routes.install(UFRAGS[0], 1, 100) == CONFLICT
    assert routes.install(UFRAGS[0], 1, 100, replace=True) == INSTALLED
    assert routes.lookup(UFRAGS[0]) == (1, 100, 0)
    assert len(routes) == 4


def test_lists_of_different_lengths_are_refused() -> None:
    routes = make_region().shared.routes
    with pytest.raises(ValueError, match="2 ufrags but 1 backends"):
        routes.install_many(UFRAGS[:2], [0], 100)
    assert len(routes) == 0


def test_no_ufrag_is_stored_only_its_keyed_hash() -> None:
    region = make_region()
    region.shared.routes.install(UFRAGS[0], 3, 100)
    assert UFRAGS[0] not in region.shared_memory
    wanted = siphash128(SEED, UFRAGS[0])
    assert hash_of_ufrag(region.shared, UFRAGS[0]) == (
        int.from_bytes(wanted[:8], "little"),
        int.from_bytes(wanted[8:], "little"),
    )


def same_home(region: Region, count: int) -> list[bytes]:
    """Ufrags whose routes have the last slot of the table as their home: their walks wrap."""
    last = int(region.shared_header["routes_capacity"]) - 1
    found = []
    number = 0
    while len(found) < count:
        ufrag = f"home{number}".encode()
        number += 1
        if hash_of_ufrag(region.shared, ufrag)[0] & last == last:
            found.append(ufrag)
    return found


def test_walks_wrap_and_a_walk_is_bounded() -> None:
    region = make_region(routes_max=512)
    ufrags = same_home(region, 257)
    codes = region.shared.routes.install_many(ufrags, 0, 100)
    assert list(codes) == [INSTALLED] * 256 + [FULL]
    assert all(route_lookup(region.shared, ufrag, 0) == 0 for ufrag in ufrags[:256])
    assert route_lookup(region.shared, ufrags[256], 0) is None
    region.shared.routes.remove(ufrags[100])
    assert region.shared.routes.install(ufrags[256], 1, 100) == INSTALLED
    assert route_lookup(region.shared, ufrags[256], 0) == 1
    assert route_lookup(region.shared, ufrags[255], 0) == 0


def test_readers_find_a_route_at_one_target_or_the_other_while_it_is_replaced() -> None:
    """Never at a third, and others come and go in the same run of slots."""
    region = make_region(routes_max=16)
    ufrags = same_home(region, 6)
    routes = region.shared.routes
    routes.install_many(ufrags, [0, 1, 2, 3, 4, 5], 100)
    seen: list[dict] = []
    reader = threading.Thread(target=lambda: seen.append(watch_route(region.shared, ufrags[3], 10_000_000)))
    reader.start()
    turn = 0
    while reader.is_alive():
        turn += 1
        routes.install(ufrags[3], 3 + 10 * (turn % 2), 100, replace=True)
        routes.remove(ufrags[turn % 3])
        routes.install(ufrags[turn % 3], turn % 3, 100)
    reader.join()
    assert turn > 0
    assert seen[0].keys() <= {3, 13, None}
    assert seen[0].get(None, 0) <= turn, "a walk that meets a replacement may miss it; the next one finds it"


def test_the_sweep_mends_the_count_of_a_writer_that_died_inside() -> None:
    region = make_region()
    region.shared.routes.install_many(UFRAGS[:5], 0, 5_000)
    region.shared_header["routes_count"] = 4
    sweep(region.shared, [], 1000)
    assert len(region.shared.routes) == 5
