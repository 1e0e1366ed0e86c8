"""A million flows in one shard, a million routes in one relay: they fit, and every one of them is found."""

import pytest

from fastpath._testing import bench

SEED = bytes(range(16))
MILLION = 1 << 20
EXPIRES_S = 3600

pytestmark = pytest.mark.slow


def test_a_million_flows() -> None:
    assert bench.Flows(MILLION, SEED).lookup(MILLION) == MILLION


def test_a_million_routes() -> None:
    shared = bench.make_shared(MILLION, SEED)
    ufrags = [f"{serial:08d}abcdefghijklmn".encode() for serial in range(MILLION)]
    assert shared.routes.install_many(ufrags, 1, EXPIRES_S) == bytes(MILLION)
    assert len(shared.routes) == MILLION
    assert bench.RouteLookups(shared, ufrags).lookup(MILLION) == MILLION
    assert shared.routes.install_many([b"onemore"], 1, EXPIRES_S) == b"\x03"  # full
