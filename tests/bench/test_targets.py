"""Targets are met, missed, reported or not measurable, and the last says why."""

from bench.targets import verdicts
from tests.support.bench_samples import own, result, rounds, sample

OURS, BASE = "fastpath trunk", "C mmsg, one socket"


def verdict(found, what, against, topology="loopback"):
    (each,) = [v for v in verdicts(found) if (v.what, v.against, v.topology) == (what, against, topology)]
    return each


def up(ours_ns, base_ns, flood_pps=100_000):
    return result(
        own("flood up"),
        rounds(OURS, "flood up", ours_ns * 2, sent_pps=flood_pps),
        rounds(BASE, "flood up", base_ns),
        rounds(OURS, "paced up", ours_ns, ours_ns, ours_ns * 3),
        rounds(BASE, "paced up", base_ns, base_ns, base_ns),
    )


def test_a_flood_counts_where_both_had_headroom():
    each = verdict(up(400, 4000), f"{OURS}, up", BASE)
    assert (each.state, each.values, each.remark) == ("met", (0.2,), "from flood up")


def test_else_the_schedule_counts_by_the_median_of_its_rounds():
    each = verdict(up(1000, 4000, flood_pps=190_000), f"{OURS}, up", BASE)
    assert (each.state, each.values, each.remark) == ("met", (0.25, 0.25, 0.75), "from paced up")
    assert verdict(up(1001, 4000, flood_pps=190_000), f"{OURS}, up", BASE).state == "missed"


def test_what_cannot_be_measured_says_why():
    each = verdict(up(1000, 4000), f"{OURS}, up", "nginx stream")
    assert each.state == "not measurable"
    assert each.remark == "flood up: nginx stream was not measured; paced up: nginx stream was not measured"


def test_a_line_without_a_limit_is_reported():
    found = result(
        *(rounds(who, "paced up", cost, topology="inline") for who, cost in ((OURS, 1000), (BASE, 2000)))
    )
    each = verdict(found, f"{OURS}, up", BASE, "inline")
    assert (each.state, each.limit, each.values) == ("reported", "– (0.61)", (0.5,))


def test_latency_is_judged_by_what_the_relay_adds_to_the_median():
    found = result(
        own("latency up", 50_000, p50_us=10.0),
        rounds("fastpath plain, spin", "latency up", 1, 1, scenario="latency", p50_us=16.5),
        rounds("fastpath trunk, 200 µs", "latency up", 1, 1, scenario="coalescing", p50_us=190.0),
    )
    assert verdict(found, "fastpath plain, spin: p50 added at 50,000/s, µs", "no relay").state == "missed"
    coalescing = verdict(found, "fastpath trunk, 200 µs: p50 added at 50,000/s, µs", "no relay")
    assert (coalescing.state, coalescing.values) == ("met", (180.0, 180.0))


def test_scale_compares_the_relay_with_itself():
    samples = [
        sample(OURS, "scale up", cost, number, scenario="scale", flows=flows)
        for flows, cost in ((1000, 1000), (100_000, 1200))
        for number in (0, 1)
    ]
    each = verdict(result(samples), f"{OURS} at 100,000 flows", "itself at 1,000")
    assert (each.state, each.values) == ("met", (1.2, 1.2))


def test_leaves_are_judged_by_nanoseconds():
    micro = [{"name": "route_lookup_at_a_million", "median_ns": 61.0, "min_ns": 50.0}]
    each = verdict(result(micro=micro), "route look-up at 1 M, batches of 64, ns", "–", "micro")
    assert (each.state, each.values) == ("missed", (61.0,))


def test_newcomers_are_judged_as_rates():
    found = result()
    found["newcomers"] = [
        {"name": "stranger", "ns": [900.0, 880.0]},
        {"name": "forged", "ns": [1000.0, 1000.0]},
        {"name": "new flow", "ns": [4000.0, 3000.0]},
    ]
    refused = verdict(found, "forged tokens refused, of the bare receive rate", "–")
    assert (refused.state, refused.values) == ("missed", (0.9, 0.88))
    opened = verdict(found, "new flows a second under valid tokens", "–")
    assert opened.state == "missed"
    found["newcomers"][2]["ns"] = [3000.0]
    assert verdict(found, "new flows a second under valid tokens", "–").state == "met"
    assert verdict(result(), "new flows a second under valid tokens", "–").remark == "not measured"
