"""Counters: their names, buckets and snapshots of one moment."""

import threading
from typing import Any

import numpy as np
import pytest
from fastpath._testing.tables import Counting
from fastpath.counters import DECISIONS, DROP_REASONS
from hypothesis import given
from hypothesis import strategies as st

from pyfastpath.relay.layout import BATCH_BUCKETS, COUNTERS, DOWN, RESIDENCE_BUCKETS, UP
from tests.support.examples import examples
from tests.support.regions import make_region


def mine(counting: Counting) -> Any:
    return np.frombuffer(counting.mine(), COUNTERS)[0]


def test_names_are_labels_and_every_one_says_what_it_means() -> None:
    for names in (DROP_REASONS, DECISIONS):
        assert names[0][0] == "none"
        assert len({name for name, _ in names}) == len(names)
        for name, text in names:
            assert name.replace("_", "").isalpha()
            assert name == name.lower()
            assert len(text) > 8


@pytest.mark.parametrize(
    ("size", "bucket"),
    [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (33, 6), (64, 6), (65, 7), (4_000_000_000, 7)],
)
def test_a_batch_falls_into_the_bucket_of_its_power_of_two(size: int, bucket: int) -> None:
    counting = Counting(make_region().shard)
    counting.batch(DOWN, size)
    wanted = np.zeros((2, BATCH_BUCKETS))
    wanted[DOWN, bucket] = 1
    assert (mine(counting)["batches"] == wanted).all()


def bounds_ns(bucket: int) -> tuple[float, float]:
    """Four buckets for each power of two: bucket 4 e + m begins at 2^e (1 + m / 4)."""
    exponent, quarter = divmod(bucket, 4)
    return 2**exponent * (4 + quarter) / 4, 2**exponent * (5 + quarter) / 4


@examples(300)
@given(st.one_of(st.integers(0, 5000), st.integers(0, 2**63), st.integers(0, 40).map(lambda e: 2**e)))
def test_a_residence_time_lies_within_its_bucket(residence_ns: int) -> None:
    counting = Counting(make_region().shard)
    counting.residence(UP, residence_ns)
    row = mine(counting)
    assert row["residence_sum_ns"].tolist() == [residence_ns, 0]
    (bucket,) = np.flatnonzero(row["residence"][UP])
    low, high = bounds_ns(int(bucket))
    if residence_ns >= 4:  # the shortest go into the first bucket of whole nanoseconds
        assert low <= residence_ns
    if bucket < RESIDENCE_BUCKETS - 1:
        assert residence_ns < high


def test_what_is_counted_is_seen_when_it_is_published() -> None:
    region = make_region()
    counting = Counting(region.shard)
    counting.batch(UP, 1)
    assert np.frombuffer(region.shard.counters(), COUNTERS)[0]["batches"].sum() == 0
    counting.publish()
    assert np.frombuffer(region.shard.counters(), COUNTERS)[0]["batches"].sum() == 1


def test_the_next_engine_counts_on() -> None:
    region = make_region()
    counting = Counting(region.shard)
    counting.batch(UP, 1)
    counting.publish()
    region.attach_again()
    counting = Counting(region.shard)
    counting.batch(UP, 1)
    assert mine(counting)["batches"][UP][0] == 2


def test_readers_see_one_moment_while_the_writer_publishes() -> None:
    counting = Counting(make_region().shard)
    torn: list[int] = []
    reader = threading.Thread(target=lambda: torn.append(counting.watch(50_000, 200)))
    reader.start()
    counting.churn()
    reader.join()
    assert torn == [0]


def test_a_reader_waits_for_a_writer_that_was_interrupted_in_the_middle() -> None:
    region = make_region()
    counting = Counting(region.shard)
    counting.batch(UP, 1)
    region.header["counters_sequence"] += 1
    region.counters["batches"][0, DOWN, 3] = 77  # half of a block is written
    seen: list[bytes] = []
    reader = threading.Thread(target=lambda: seen.append(region.shard.counters()))
    reader.start()
    reader.join(0.02)
    counting.publish()
    reader.join()
    assert seen == [counting.mine()]


def test_what_a_writer_that_died_in_the_middle_left_is_read_all_the_same() -> None:
    region = make_region()
    region.header["counters_sequence"] += 1
    region.counters["loops"] = 5
    region.attach_again()
    assert mine(Counting(region.shard))["loops"] == 5
