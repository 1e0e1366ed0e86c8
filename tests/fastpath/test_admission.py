"""Admission buckets against their twins: one of sets that forget, and one that forgets nobody."""

from ipaddress import ip_address

import pytest
from fastpath._testing.tables import AdmissionTable
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.relay.admission import Admission, network_of
from pyfastpath.types import IPAddress
from tests.model.admission import AdmissionTable as Model

SEED = bytes(range(16))
NETWORKS = [ip_address(f"198.51.{number}.7") for number in range(24)] + [
    ip_address(f"2001:db8:0:{number:x}00::7") for number in range(24)
]


def client(address: IPAddress) -> tuple[bytes, int, int, int]:
    return address.packed.ljust(16, b"\0"), 5000, address.version, 0


@given(
    sets=st.sampled_from([1, 2, 16]),
    start_ms=st.sampled_from([0, 2**32 - 3000]),
    limit=st.sampled_from([(1, 1), (3, 2), (1000, 5)]),
    asked=st.lists(st.tuples(st.sampled_from(NETWORKS), st.sampled_from([0, 0, 0, 1, 333, 1000, 60_000]))),
)
def test_twins(sets: int, start_ms: int, limit: tuple[int, int], asked: list[tuple[IPAddress, int]]) -> None:
    table = AdmissionTable(sets, SEED)
    model = Model(lambda address: table.place(client(address)))
    forgetful, now_ms = Admission(*limit), start_ms
    for address, after_ms in asked:
        now_ms += after_ms
        admitted = table.take(client(address), *limit, now_ms & 0xFFFFFFFF)
        assert admitted == model.take(address, *limit, now_ms)
        if sets == 16 and len({network_of(one) for one, _ in asked}) <= 4:
            assert admitted == forgetful.take(address, now_ms)


def test_a_burst_then_the_rate() -> None:
    table, who = AdmissionTable(16, SEED), client(ip_address("203.0.113.1"))
    assert [table.take(who, 10, 3, 0) for _ in range(4)] == [True, True, True, False]
    assert [table.take(who, 10, 3, ms) for ms in (99, 100, 150, 199, 200)] == [
        False, True, False, False, True,
    ]  # fmt: skip
    assert [table.take(who, 10, 3, 60_000) for _ in range(4)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("203.0.113.1", "203.0.113.254", "203.0.114.1"),
        ("2001:db8:0:ab00::1", "2001:db8:0:abff:ffff::9", "2001:db8:0:ac00::1"),
    ],
)
def test_a_network_is_a_24_or_a_56(one: str, same: str, other: str) -> None:
    table = AdmissionTable(16, SEED)
    assert table.take(client(ip_address(one)), 1, 1, 0)
    assert not table.take(client(ip_address(same)), 1, 1, 0)
    assert table.take(client(ip_address(other)), 1, 1, 0)


def test_the_same_octets_of_the_other_family_are_another_network() -> None:
    table = AdmissionTable(1, SEED)
    low = ip_address("32.1.13.1")
    assert table.take(client(low), 1, 1, 0)
    assert table.take(client(ip_address("2001:d01::")), 1, 1, 0)
    assert not table.take(client(low), 1, 1, 0)


def test_no_limit_and_a_limit_that_changes() -> None:
    table, who = AdmissionTable(16, SEED), client(ip_address("203.0.113.1"))
    assert all(table.take(who, 0, 1, 0) for _ in range(100))
    assert [table.take(who, 1, 5, 0) for _ in range(6)] == [True] * 5 + [False]
    assert [table.take(who, 1000, 2, 5000) for _ in range(3)] == [True, True, False]


def test_a_million_networks_do_not_make_the_one_that_floods_forgotten() -> None:
    """Each of them is let in once; the spent bucket among them stays spent, for theirs are fuller."""
    table, flood = AdmissionTable(1024, SEED), client(ip_address("203.0.113.1"))
    while table.take(flood, 1, 100, 0):
        pass
    assert table.take_numbered(1_000_000, 1, 100, 0) == 1_000_000
    assert not table.take(flood, 1, 100, 0)
