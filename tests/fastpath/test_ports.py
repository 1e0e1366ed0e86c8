"""Upstream ports against a dict: one flow a port and backend address, and sixty seconds of rest."""

import pytest
from fastpath._testing.tables import PortTable
from fastpath.backends import PLAIN
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.relay.layout import NONE, PORT_FLOW, PORT_PROVISIONAL, PORT_QUARANTINE
from tests.model.ports import QUARANTINE_MS, Pair
from tests.model.ports import PortTable as Model
from tests.support.examples import examples
from tests.support.regions import Region, address16, make_region

POOLS = {4: range(100, 104), 6: range(500, 503)}
ADDRESSES = [
    (address16(198, 51, 100, 1), 4000, 4),
    (address16(198, 51, 100, 1), 4001, 4),  # same machine, another port
    (bytes.fromhex("20010db8") + bytes(12), 4000, 6),
    (address16(198, 51, 100, 1), 4000, 4),  # another name for the first one's address
]
SLOTS = 128

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("acquire"), st.integers(0, len(ADDRESSES) - 1)),
        st.tuples(st.just("acquire"), st.just(0)),
        st.tuples(st.just("release"), st.integers(0, 30)),
        st.tuples(st.just("hand_over"), st.integers(0, 30)),
        st.tuples(st.just("wait"), st.sampled_from([1, 30_000, QUARANTINE_MS])),
        st.tuples(st.just("expire"), st.integers(1, SLOTS)),
        st.tuples(st.just("attach"), st.none()),
    ),
    max_size=80,
)


def make_ports(**sizes: int) -> tuple[Region, PortTable]:
    region = make_region(
        **({"flows_max": 16, "provisional_max": 16} | sizes), ports_ipv4=(100, 4), ports_ipv6=(500, 3)
    )
    for index, (address, port, family) in enumerate(ADDRESSES):
        region.shared.backends.publish(index, address, port, family, PLAIN, index)
    return region, PortTable(region.shard)


class Both:
    """The table and its model, driven together."""

    def __init__(self, start_ms: int) -> None:
        self.region, self.table = make_ports()
        self.model = Model(POOLS, ADDRESSES)
        self.now_ms = start_ms
        self.holder = 0

    def acquire(self, backend: int) -> None:
        free = self.model.free(backend)
        self.holder += 1
        port = self.table.acquire(backend, PORT_PROVISIONAL, self.holder)
        assert (port is None) == (not free), f"free: {free}"
        if port is not None:
            assert port in free
            self.model.pairs[port, ADDRESSES[backend]] = Pair(backend, PORT_PROVISIONAL, self.holder)

    def _chosen(self, number: int) -> tuple[int, Pair] | None:
        held = [(key[0], pair) for key, pair in self.model.pairs.items() if pair.holder is not None]
        return held[number % len(held)] if held else None

    def release(self, number: int) -> None:
        if chosen := self._chosen(number):
            port, pair = chosen
            self.table.release(port, pair.backend, self.now_ms & 0xFFFFFFFF)
            pair.holder, pair.since_ms = None, self.now_ms

    def hand_over(self, number: int) -> None:
        if chosen := self._chosen(number):
            port, pair = chosen
            self.holder += 1
            self.table.hand_over(port, pair.backend, PORT_FLOW, self.holder)
            pair.state, pair.holder = PORT_FLOW, self.holder

    def wait(self, milliseconds: int) -> None:
        self.now_ms += milliseconds

    def expire(self, budget: int) -> None:
        """A whole pass, in slices."""
        for _ in range(0, SLOTS, budget):
            self.table.expire(self.now_ms & 0xFFFFFFFF, budget)
        self.model.expire(self.now_ms)

    def attach(self, _: None) -> None:
        self.region.header["ports_count"] = 99
        self.table.attach(self.now_ms & 0xFFFFFFFF)
        self.model.rest_all(self.now_ms)

    def check(self) -> None:
        for port in [*POOLS[4], *POOLS[6], 99, 104]:
            for address in ADDRESSES[:3]:
                pair = self.model.pairs.get((port, address))
                found = self.table.lookup(port, address)
                if pair is None:
                    assert found is None, (port, address)
                elif pair.holder is None:
                    assert found == (PORT_QUARANTINE, NONE, pair.backend) or found[0] == PORT_QUARANTINE
                else:
                    assert found == (pair.state, pair.holder, pair.backend)
            assert self.table.pairs(port) == sum(held == port for held, _ in self.model.pairs)
        assert self.region.header["ports_count"] == len(self.model.pairs)
        for backend in range(len(ADDRESSES)):
            held = sum(pair.backend == backend for pair in self.model.pairs.values())
            assert self.table.in_use(backend) == held


@examples(300)
@given(OPERATIONS, st.sampled_from([0, 2**32 - 100_000]))
def test_it_equals_a_dict(operations: list, start_ms: int) -> None:
    both = Both(start_ms)
    for name, argument in operations:
        getattr(both, name)(argument)
        both.check()


def test_capacity_is_ports_times_distinct_backend_addresses() -> None:
    _, table = make_ports()
    assert sorted(table.acquire(0, PORT_FLOW, n) for n in range(4)) == list(POOLS[4])
    assert table.acquire(0, PORT_FLOW, 9) is None
    assert table.acquire(3, PORT_FLOW, 9) is None, "the same address under another name"
    assert sorted(table.acquire(1, PORT_FLOW, n) for n in range(4)) == list(POOLS[4])
    assert sorted(table.acquire(2, PORT_FLOW, n) for n in range(3)) == list(POOLS[6])
    assert table.acquire(2, PORT_FLOW, 9) is None


def test_a_pair_rests_sixty_seconds() -> None:
    _, table = make_ports()
    for holder in range(4):
        table.acquire(0, PORT_FLOW, holder)
    table.release(101, 0, 1_000)
    table.expire(1_000 + QUARANTINE_MS - 1, SLOTS)
    assert table.acquire(0, PORT_FLOW, 9) is None
    table.expire(1_000 + QUARANTINE_MS, SLOTS)
    assert table.acquire(0, PORT_FLOW, 9) == 101


def test_a_shard_touches_no_port_of_a_sibling() -> None:
    """A flow copied from a sibling carries the sibling's port: here it is neither released nor taken."""
    _, table = make_ports()
    assert [table.owns(port) for port in (99, 100, 103, 104, 499, 500, 502, 503)] == [
        *(False, True, True, False),
        *(False, True, True, False),
    ]
    table.release(104, 0, 0)
    table.hand_over(104, 0, PORT_FLOW, 1)
    assert table.lookup(104, ADDRESSES[0]) is None


def test_a_shard_without_plain_ports_has_none_to_give() -> None:
    region = make_region()
    region.shared.backends.publish(0, *ADDRESSES[0], PLAIN, 0)
    table = PortTable(region.shard)
    assert table.acquire(0, PORT_FLOW, 0) is None
    assert not table.owns(0)
    table.expire(0, 10)
    table.attach(0)


def test_a_table_that_is_half_full_gives_no_more() -> None:
    """Quarantine fills it too: past one half, walks would grow long."""
    region = make_region(flows_max=4, provisional_max=4, ports_ipv4=(0, 1000))
    region.shared.backends.publish(0, *ADDRESSES[0], PLAIN, 0)
    table = PortTable(region.shard)
    got = [table.acquire(0, PORT_FLOW, number) for number in range(32)]
    assert [port is None for port in got] == [False] * 16 + [True] * 16


@pytest.mark.parametrize("written", ["everything", "but the state"])
def test_a_writer_killed_inside_an_entry(written: str) -> None:
    """The state is written last: an entry without it is free."""
    region, table = make_ports()
    port = table.acquire(0, PORT_PROVISIONAL, 7)
    if written == "but the state":
        region.ports["state"][region.ports["holder"] == 7] = 1
    table.attach(5_000)
    expected = (PORT_QUARANTINE, 7, 0) if written == "everything" else None
    assert table.lookup(port, ADDRESSES[0]) == expected
    assert region.header["ports_count"] == (written == "everything")
