"""The latency histogram: every value in one bucket, quantiles right within 1/32."""

import pytest
from fastpath._testing.load import BUCKETS, histogram_bucket, histogram_floor, quantile
from hypothesis import given
from hypothesis import strategies as st

TOP_NS = 63 << 30  # where the last bucket begins


@given(st.integers(0, TOP_NS))
def test_a_value_lies_between_its_bucket_and_the_next(value_ns):
    bucket = histogram_bucket(value_ns)
    assert histogram_floor(bucket) <= value_ns
    if bucket + 1 < BUCKETS:
        assert value_ns < histogram_floor(bucket + 1)
    assert value_ns - histogram_floor(bucket) <= value_ns / 32


def test_every_bucket_begins_where_it_says():
    assert [histogram_bucket(histogram_floor(bucket)) for bucket in range(BUCKETS)] == list(range(BUCKETS))


@pytest.mark.parametrize("value_ns", [TOP_NS, TOP_NS * 2, 2**63, 2**64 - 1])
def test_what_is_too_large_lies_in_the_last_bucket(value_ns):
    assert histogram_bucket(value_ns) == BUCKETS - 1


@given(
    st.lists(st.integers(0, TOP_NS), min_size=1, max_size=50), st.sampled_from([0.01, 0.5, 0.9, 0.999, 1.0])
)
def test_a_quantile_is_a_value_within_a_bucket(values_ns, wanted):
    at = next(i for i in range(1, len(values_ns) + 1) if i >= wanted * len(values_ns))
    exact_ns = sorted(values_ns)[at - 1]
    assert quantile(values_ns, wanted) == histogram_floor(histogram_bucket(exact_ns))


def test_nothing_noted_is_zero():
    assert quantile([], 0.5) == 0
