"""The look-ups at a million entries, amortised over batches of 64 whose slots are prefetched, and how fast
Python installs routes. Hashing is part of what is measured, as it is part of every datagram's way."""

import pytest

from bench.micro.conftest import SEED
from fastpath._testing import bench

MILLION = 1 << 20
ROUTE_TTL_S = 3600


def ufrags(count):
    """22 characters each, as tokens have."""
    return [f"{serial:08d}abcdefghijklmn".encode() for serial in range(count)]


@pytest.fixture(scope="module")
def flows():
    return bench.Flows(MILLION, SEED)


def test_flow_lookup_at_a_million(per_operation, flows):
    per_operation(flows.lookup, MILLION)


def test_flow_lookup_at_a_thousand(per_operation):
    per_operation(bench.Flows(1024, SEED).lookup, MILLION)


def test_route_lookup_at_a_million(per_operation):
    shared, names = bench.make_shared(MILLION, SEED), ufrags(MILLION)
    assert shared.routes.install_many(names, 1, ROUTE_TTL_S) == bytes(MILLION)
    per_operation(bench.RouteLookups(shared, names).lookup, MILLION)


def test_routes_installed_from_python(benchmark):
    names = ufrags(200_000)
    benchmark.extra_info["operations"] = len(names)

    def fresh():
        return (bench.make_shared(MILLION, SEED).routes,), {}

    codes = benchmark.pedantic(
        lambda routes: routes.install_many(names, 1, ROUTE_TTL_S), setup=fresh, rounds=10
    )
    assert codes == bytes(len(names))
