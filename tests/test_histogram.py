"""Values counted by upper bound."""

import pytest

from pyfastpath.histogram import Histogram


def test_a_value_counts_up_to_its_bound_and_beyond():
    one = Histogram((0.1, 1.0))
    for value in (0.0, 0.1, 0.11, 0.5, 3.0):
        one.observe(value)
    assert one.counts == [2, 2, 1]
    assert one.cumulative() == [("0.1", 2), ("1.0", 4), ("+Inf", 5)]
    assert one.count == 5
    assert one.sum == pytest.approx(3.71)


def test_an_empty_one_has_all_its_buckets():
    assert Histogram((0.5,)).cumulative() == [("0.5", 0), ("+Inf", 0)]
