"""The data plane decides as its slow twin does: the same random datagrams, equal verdicts and tables."""

import pytest
from fastpath.counters import DECISIONS, DROP_REASONS
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.model.traffic import Happening, happenings, random_happenings, world
from tests.support.examples import examples

WRAP_MS = 2**32 - 100_000  # the data plane's 32-bit clock wraps on the way

# Decided before or after the decision: by arrival, by the trunk's link, by sending.
ELSEWHERE = {
    *("oversize", "unknown_ingress", "untrusted_trunk", "bad_trunk", "bad_tag", "old_epoch", "replayed"),
    *("bad_record", "send_blocked", "send_failed"),
}


@examples(150, may_be=[HealthCheck.too_slow])
@given(
    shards=st.sampled_from([1, 1, 2, 4]),
    ports=st.sampled_from([2, 8]),
    flows_max=st.sampled_from([3, 1024]),
    start_ms=st.sampled_from([1_000_000, WRAP_MS]),
    happened=st.lists(happenings(), max_size=80),
)
def test_random_interleavings(
    shards: int, ports: int, flows_max: int, start_ms: int, happened: list[Happening]
) -> None:
    pair = world(shards, ports=ports, flows_max=flows_max, start_ms=start_ms)
    for happening in happened:
        happening(pair)
    pair.expire()


@pytest.mark.parametrize("seed", range(8))
def test_long_runs(seed: int) -> None:
    pair = world(
        1 + seed % 3,
        ports=(4, 40)[seed % 2],
        flows_max=(5, 1024)[seed % 2],
        start_ms=(1_000_000, WRAP_MS)[seed % 2],
    )
    for happening in random_happenings(seed, 5000):
        happening(pair)
    pair.wait(61_000)
    pair.wait(61_000)
    assert not any(shard.flows or shard.provisional or shard.ports for shard in pair.model.shards)


def test_the_world_reaches_every_reason_and_decision() -> None:
    """A comparison proves nothing about what never happens."""
    seen: set[str] = set()
    for seed in range(30):
        pair = world(2, ports=(3, 40)[seed % 2], flows_max=(2, 1024)[seed % 2], start_ms=1_000_000)
        for happening in random_happenings(seed, 400):
            happening(pair)
        seen |= pair.seen
    assert {name for name, _ in DROP_REASONS} - ELSEWHERE <= seen
    assert {f"decision {name}" for name, _ in DECISIONS} <= seen
    assert {"overrode", "confirmed"} <= seen
