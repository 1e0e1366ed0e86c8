"""Rates between two readings, on numbers small enough to check by hand."""

import pytest

from pyfastpath.relay.layout import RESIDENCE_BUCKETS, residence_ends_s
from pyfastpath.tools.top.readings import between, octaves, parse_reading, quantile_s

ENDS_S = residence_ends_s()


def way(received=0, forwarded=0, dropped=None, batches=0, residence=()):
    counts = [0] * RESIDENCE_BUCKETS
    for bucket in residence:
        counts[bucket] += 1
    return {
        "received": received,
        "received_bytes": received * 100,
        "forwarded": forwarded,
        "forwarded_bytes": forwarded * 100,
        "punted": 0,
        "dropped": dropped or {},
        "batches": [batches, 0, 0, 0, 0, 0, 0, 0],
        "residence": counts,
    }


def shard(number, worker, up=None, down=None, loops=10, naps=0, kernel=0, flows=0):
    return {
        "shard": number,
        "worker": worker,
        "flows": flows,
        "kernel_dropped": kernel,
        "loops": loops,
        "naps": naps,
        "blocks": 0,
        "up": up or way(),
        "down": down or way(),
    }


def reading(time_s, *shards):
    return parse_reading({"time_s": time_s, "residence_ends_s": ENDS_S, "shards": list(shards)})


def test_rates_are_differences_over_the_relays_own_time():
    before = reading(10.0, shard(0, 0, up=way(100, 90, {"no_route": 10})))
    after = reading(12.0, shard(0, 0, up=way(300, 270, {"no_route": 26, "bad_stun": 4})))
    changes = between(before, after)
    up = changes.ways["up"]
    assert (up.received_pps, up.forwarded_pps, up.dropped_pps) == (100, 90, 10)
    assert up.megabits_s == pytest.approx(180 * 100 * 8 / 2 / 1e6)
    assert (up.forwarded, up.dropped) == (270, 30)
    assert changes.ways["down"].received_pps == 0


def test_drops_have_names_and_the_busiest_comes_first():
    before = reading(0.0, shard(0, 0, up=way(dropped={"no_route": 100}), down=way(dropped={"bad_stun": 1})))
    after = reading(1.0, shard(0, 0, up=way(dropped={"no_route": 101}), down=way(dropped={"bad_stun": 8})))
    rows = [(row.reason, row.direction, row.pps, row.total) for row in between(before, after).drops]
    assert rows == [("bad_stun", "down", 7, 8), ("no_route", "up", 1, 101)]


def test_workers_gather_their_shards():
    before = reading(0.0, shard(0, 0), shard(1, 1), shard(2, 0))
    after = reading(
        2.0,
        shard(0, 0, up=way(received=100, batches=10), naps=4, flows=3),
        shard(1, 1, down=way(received=30, batches=30)),
        shard(2, 0, down=way(received=60, batches=10), flows=2),
    )
    first, second = between(before, after).workers
    assert (first.worker, first.shards, first.flows) == (0, [0, 2], 5)
    assert (first.received_pps, first.batch, first.naps_s) == (80, 8, 2)
    assert (second.shards, second.batch) == ([1], 1)


def test_kernel_drops_are_apart():
    changes = between(reading(0.0, shard(0, 0, kernel=5)), reading(1.0, shard(0, 0, kernel=9)))
    assert (changes.kernel_dropped, changes.kernel_dropped_pps) == (9, 4)


@pytest.mark.parametrize(
    "after",
    [reading(20.0, shard(0, 0, loops=3)), reading(20.0, shard(0, 0), shard(1, 0)), reading(9.0, shard(0, 0))],
    ids=["counters began anew", "other shards", "the clock of another life"],
)
def test_across_a_restart_there_are_no_rates(after):
    changes = between(reading(10.0, shard(0, 0, up=way(1000, 1000))), after)
    assert changes.ways["up"].received_pps == 0
    assert all(row.pps == 0 for row in changes.drops)


def test_the_first_look_has_no_rates():
    only = reading(10.0, shard(0, 0, up=way(1000, 1000)))
    assert between(only, only).ways["up"].received_pps == 0
    assert between(only, only).ways["up"].forwarded == 1000


def test_quantiles_are_bucket_ends():
    counts = [0] * RESIDENCE_BUCKETS
    assert quantile_s(counts, ENDS_S, 0.5) is None
    counts[40], counts[60] = 98, 2
    assert quantile_s(counts, ENDS_S, 0.5) == ENDS_S[40]
    assert quantile_s(counts, ENDS_S, 0.99) == ENDS_S[60]
    counts[-1] = 1000
    assert quantile_s(counts, ENDS_S, 0.99) == float("inf")


def test_octaves_keep_every_datagram():
    counts = list(range(RESIDENCE_BUCKETS))
    found = octaves(counts, ENDS_S, 4096e-9, 12)
    assert sum(found) == sum(counts)
    assert found[0] == sum(count for count, end in zip(counts, ENDS_S, strict=False) if end <= 4.1e-6)
    assert found[-1] == sum(counts) - sum(found[:-1])
