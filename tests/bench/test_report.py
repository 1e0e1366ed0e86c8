"""What a smoke report may claim: medians per round, nothing from a relay that was not the narrow place."""

import copy
import re

import pytest

from bench.load import Sample
from bench.report import ratios, report

WORKLOADS = [
    {"name": "flood up", "echo": False, "rate_pps": 0},
    {"name": "flood echo", "echo": True, "rate_pps": 0},
    {"name": "paced up", "echo": False, "rate_pps": 120_000},
    {"name": "paced echo", "echo": True, "rate_pps": 60_000},
]


def sample(cost_ns, sent_pps, **change):
    fields = {
        "forwarded": 100_000,
        "seconds": 1.0,
        "sent_pps": sent_pps,
        "relay_cpu_ns": cost_ns * 100_000,
        "others_share": 0.01,
        **dict.fromkeys(("lost", "duplicates", "misrouted", "reordered"), 0),
        "p50_us": 100.0,
        "p99_us": 900.0,
    }
    return Sample(**(fields | change)).as_dict()


def relay(*costs, flood_pps=100_000):
    rates = {"flood up": flood_pps, "flood echo": flood_pps, "paced up": 120_000, "paced echo": 60_000}
    return {name: [sample(cost, pps) for cost in costs] for name, pps in rates.items()}


@pytest.fixture
def result():
    return {
        "commit": "abc",
        "date": "2026-01-01",
        "machine": {"cpu": "one", "mitigations": {"spectre": "on"}},
        "settings": {"flows": 10, "size_bytes": 172, "window": 512, "rounds": 3},
        "left_out": ["nobody"],
        "workloads": WORKLOADS,
        "micro": [{"name": "siphash", "median_ns": 20.0, "min_ns": 19.0}],
        "own": {name: [sample(0, 200_000)] * 3 for name in ("own up", "own echo")},
        "relays": {
            "fastpath trunk": relay(1000, 1000, 2000, flood_pps=190_000),
            "fastpath plain": relay(4000, 4000, 4000),
            "uvloop relay": relay(5000, 4000, 9000),
        },
    }


def rows(text, heading):
    section = text.split(heading)[1].split("\n## ")[0]
    return [re.split(r" \| ", line.strip("| ")) for line in section.splitlines() if line.startswith("| ")][2:]


def test_a_ratio_is_taken_round_by_round(result):
    assert ratios(result, "paced up", "fastpath trunk", "uvloop relay") == [5.0, 4.0, 4.5]


def test_ratios_show_median_and_spread(result):
    found = rows(report(result), "## Ratios")
    assert found[0][:5] == ["up", "fastpath trunk", "uvloop relay", "**4.50**", "4.00-5.00"]


def test_a_flood_without_headroom_enters_no_ratio_and_is_a_bound(result):
    text = report(result)
    trunk = [row for row in rows(text, "## Ratios") if row[1] == "fastpath trunk"]
    plain = [row for row in rows(text, "## Ratios") if row[1] == "fastpath plain"]
    assert not any("flood" in row[5] for row in trunk)
    assert any("flood" in row[5] for row in plain)
    flood = next(row for row in rows(text, "## Every relay") if row[:2] == ["flood up", "fastpath trunk"])
    assert flood[4] == "≥ 100"
    assert "generator-bound" in flood[7]


@pytest.mark.parametrize("fault", ["lost", "duplicates", "misrouted"])
def test_a_faulty_run_gives_no_ratio(result, fault):
    broken = copy.deepcopy(result)
    broken["relays"]["uvloop relay"]["paced up"][1][fault] = 3
    text = report(broken)
    first = rows(text, "## Ratios")[0]
    assert first[:4] == ["up", "fastpath trunk", "uvloop relay", "invalid"]
    assert f"{fault} 3" in text


def test_a_schedule_that_was_not_held_is_no_measurement(result):
    for each in result["relays"]["uvloop relay"]["paced up"]:
        each["sent_pps"] = 110_000
    text = report(result)
    assert rows(text, "## Ratios")[0][3] == "invalid"
    assert "the generator could not hold its rate" in text


def test_a_disturbed_measurement_says_so(result):
    assert "disturbed" not in report(result)
    for each in result["relays"]["uvloop relay"]["paced up"]:
        each["others_share"] = 0.4
    assert "disturbed: others used 40% of the relay's CPU" in report(result)
