"""The panels as text: what stands where, and that nothing is wider than the screen."""

import pytest
from fastpath.counters import DROP_REASONS
from rich.console import Console

from pyfastpath.relay.layout import RESIDENCE_BUCKETS
from pyfastpath.tools.top import panels
from pyfastpath.tools.top.readings import between
from tests.tools.top.test_readings import reading, shard, way

STATUS = {
    "version": "0.1.0",
    "ready": True,
    "draining": False,
    "uptime_s": 3725.0,
    "engine_starts": 2,
    "flows": {"confirmed": 12345, "provisional": 7, "max": 262144},
}


def text(renderable, width=80):
    console = Console(width=width, record=True, file=None, color_system=None)
    with console.capture() as capture:
        console.print(renderable)
    lines = capture.get().splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    return "\n".join(line.rstrip() for line in lines)


@pytest.fixture
def changes():
    busy = way(120_000, 119_000, {"no_route": 900, "bad_token": 100}, 2000, residence=[40] * 99 + [80])
    return between(
        reading(0.0, shard(0, 0), shard(1, 0)), reading(1.0, shard(0, 0, up=busy), shard(1, 0, kernel=3))
    )


def test_the_headline_says_whether_it_is_ready():
    assert text(panels.headline(STATUS)) == (
        " pyfastpath 0.1.0  ready up 1h02m · engine 2 · flows 12.3k +7 of 262k"
    )
    assert "draining" in text(panels.headline(STATUS | {"draining": True, "ready": False}))
    assert "not ready" in text(panels.headline(STATUS | {"ready": False}))


def test_traffic_shows_both_ways(changes):
    shown = text(panels.traffic(changes)).splitlines()
    assert shown[1].split() == ["up", "120k", "119k", "1k", "95.20"]
    assert shown[2].split()[0] == "down"


def test_latency_has_quantiles_and_bars(changes):
    up = text(panels.latency(changes)).splitlines()[1]
    assert up.split()[:7] == ["up", "1", "µs", "1", "µs", "1.31", "ms"]
    assert up.rstrip().endswith("▁▁")
    assert "█" in up


def test_what_is_slower_than_every_bucket_is_said():
    slow = between(
        reading(0.0, shard(0, 0)), reading(1.0, shard(0, 0, up=way(1, 1, residence=[RESIDENCE_BUCKETS - 1])))
    )
    assert text(panels.latency(slow)).splitlines()[1].split()[1:4] == [">", "15", "ms"]


def test_the_longest_drop_reason_fits_beside_the_workers(changes):
    worst = max((name for name, _ in DROP_REASONS), key=len)
    busy = between(
        reading(0.0, shard(0, 0)), reading(1.0, shard(0, 0, down=way(dropped={worst: 123_456_789})))
    )
    assert f"{worst} down" in text(panels.drops(busy, 3), width=38)
    assert len(text(panels.workers(changes), width=41).splitlines()) == 2


def test_drops_name_the_kernel_first_and_are_bounded(changes):
    shown = text(panels.drops(changes, 1)).splitlines()
    assert shown[1].startswith("kernel: buffer full")
    assert shown[2].split() == ["no_route", "up", "900", "900"]
    assert len(shown) == 3
    nothing = between(reading(0.0, shard(0, 0)), reading(1.0, shard(0, 0)))
    assert "nothing" in text(panels.drops(nothing, 5))


def test_workers_and_backends_are_rows(changes):
    assert text(panels.workers(changes)).splitlines()[1].split() == ["0", "0,1", "0", "120k", "60.0", "0"]
    rows = [
        {"id": "t1", "state": "up", "mode": "trunk", "address": "10.0.0.1:40000",
         "trunk": {"reported": [1, 2, 3], "sessions": 5, "capacity": 9, "rtt_us": 120}},
        {"id": "w", "state": "down", "mode": "plain", "address": "10.0.0.2:5000", "trunk": None},
    ]  # fmt: skip
    shown = text(panels.backends(rows)).splitlines()
    assert shown[1].split() == ["t1", "up", "trunk", "10.0.0.1:40000", "5/9", "120", "µs"]
    assert shown[2].split() == ["w", "down", "plain", "10.0.0.2:5000", "-", "-"]
    assert "no backend" in text(panels.backends([]))


@pytest.mark.parametrize(
    ("number", "shown"),
    [(0, "0"), (12.34, "12.3"), (999.4, "999"), (999.9, "1k"), (1234, "1.23k"), (45_600_000, "45.6M"),
     (999_900, "1M"), (2.5e9, "2.5G")],
)  # fmt: skip
def test_short_numbers(number, shown):
    assert panels.short(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.4, "0s"), (42, "42s"), (185, "3m05s"), (25_920, "7h12m"), (1_051_200, "12d04h")]
)
def test_spans(seconds, shown):
    assert panels.span(seconds) == shown


@pytest.mark.parametrize(
    ("shards", "shown"), [([0], "0"), ([0, 1], "0,1"), ([0, 1, 2, 3], "0-3"), ([0, 2, 4], "0,2,4")]
)
def test_shard_lists(shards, shown):
    assert panels.shard_list(shards) == shown
