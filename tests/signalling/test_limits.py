"""The rate of one client: a bucket that fills by time, in bounded memory."""

import random

import pytest

from pyfastpath.signalling.limits import RateLimit


def test_a_minutes_worth_at_once_and_then_one_by_one() -> None:
    limit = RateLimit(6)
    assert [limit.take("10.0.0.1", 0.0) for _ in range(8)] == [0] * 6 + [10, 10]
    assert limit.take("10.0.0.1", 4.0) == 6
    assert limit.take("10.0.0.1", 10.0) == 0
    assert limit.take("10.0.0.1", 10.0) == 10


def test_clients_do_not_share() -> None:
    limit = RateLimit(1)
    assert limit.take("10.0.0.1", 0.0) == 0
    assert limit.take("10.0.0.2", 0.0) == 0
    assert limit.take("10.0.0.1", 0.0) == 60


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "unknown", False),
    ],
)
def test_who_is_one_client(one: str, other: str, same: bool) -> None:
    limit = RateLimit(1)
    assert limit.take(one, 0.0) == 0
    assert (limit.take(other, 0.0) > 0) == same


def test_zero_is_no_limit() -> None:
    limit = RateLimit(0)
    assert not any(limit.take("10.0.0.1", 0.0) for _ in range(1000))
    assert len(limit) == 0


def test_memory_is_bounded_and_the_idle_are_forgotten() -> None:
    limit = RateLimit(60, clients_max=100)
    for number in range(1000):
        limit.take(f"10.0.{number >> 8}.{number & 255}", 0.0)
    assert len(limit) == 100
    for number in range(10):
        limit.take(f"10.1.0.{number}", 61.0)
    assert len(limit) == 10


def test_a_clock_that_stands_still_or_a_random_load_never_grants_more_than_the_rate() -> None:
    draw = random.Random(5)
    limit, now, granted = RateLimit(30), 0.0, 0
    for _ in range(5000):
        now += draw.expovariate(2.0)
        granted += limit.take("10.0.0.1", now) == 0
    assert now * 30 / 60 * 0.95 <= granted <= 30 + now * 30 / 60
