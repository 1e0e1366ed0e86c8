"""Slices of a measurement: they cover the schedule, and nothing of what drains behind it."""

import itertools

import pytest

from pyfastpath.tools.bench import meter as module
from pyfastpath.tools.bench.latency import Latency
from pyfastpath.tools.bench.meter import Glance, Meter, Reading, Work


@pytest.fixture
def clock(monkeypatch):
    """Every look at the clock is 1/8 s after the one before."""
    ticks = itertools.count()
    monkeypatch.setattr(module.time, "monotonic", lambda: next(ticks) / 8)


def test_slices_and_glances(clock):
    sent, cpu_ns = itertools.count(step=100), itertools.count(step=1000)
    seen: list[Glance] = []
    work = Work(way="up", rate_pps=1000, seconds=1.25, cpu_ns=lambda: next(cpu_ns), watch=seen.append)
    reading = Reading(lambda: (next(sent), 7), lambda: Latency.of([(5000, 1)]))
    meter = Meter(work, reading)
    for _ in range(15):
        meter.tick()
    assert len(meter.intervals) == 10
    assert [round(each.seconds, 3) for each in meter.intervals] == [0.125] * 10
    assert all(each.cpu_ns == 1000 for each in meter.intervals)
    assert {each.forwarded for each in meter.intervals} == {0}
    assert len(seen) == 7, "every quarter of a second"
    assert seen[-1].p99_us == 5
    assert seen[0].seconds == pytest.approx(0.25)
    assert meter.end() == 11_000


def test_a_relay_that_cannot_be_seen_has_no_time(clock):
    meter = Meter(Work(way="up", rate_pps=0, seconds=1.0), Reading(lambda: (0, 0), Latency))
    meter.tick()
    assert meter.intervals[0].cpu_ns is None
    assert meter.end() is None
