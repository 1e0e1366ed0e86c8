"""The table and the plots of a run: what is shown, and what is struck out."""

import json
import re

import pytest

from bench.publish import BEGIN, END, newest, placed, publish, section
from bench.report import budget_of, report
from tests.support.bench_samples import own, result, rounds, sample

TRUNK, PLAIN = "fastpath trunk", "fastpath plain"


@pytest.fixture
def run():
    curve = [float(number) for number in range(1, 103)]
    topologies = ("loopback", "inline")
    return result(
        own("flood up"),
        own("latency up", 50_000, p50_us=10.0, curve_us=curve),
        rounds(TRUNK, "flood up", 1000, sent_pps=190_000),
        *(rounds(TRUNK, "paced up", 1000, 1000, topology=each) for each in topologies),
        rounds("Go relay", "paced up", 5000, 5000),
        rounds("Go relay", "paced up", 4000, 4000, topology="inline"),
        rounds("uvloop relay", "paced up", 6000, 6000, lost=5000),
        rounds(PLAIN, "paced up", 4000, 4000, others_share=0.4),
        rounds(TRUNK, "latency up", 1, 1, scenario="latency", p50_us=110.0, curve_us=curve),
        [sample(TRUNK, "scale up", 900, scenario="scale", flows=flows) for flows in (1000, 100_000)],
        [
            sample(f"fastpath trunk, {us} µs", "voice up", 2000 - us, scenario="coalescing")
            for us in (0, 500, 1000)
        ],
        topologies={name: {"clock": "process"} for name in topologies},
        micro=[{"name": "siphash", "median_ns": 20.0, "min_ns": 19.0}],
        left_out=["nobody"],
        failures=[
            {
                "scenario": "relays",
                "topology": "inline",
                "round": 1,
                "contestant": "coturn",
                "error": "no\nmore",
            }
        ],
    )


def rows(text, heading):
    part = text.split(heading)[1].split("\n## ")[0]
    return [re.split(r" \| ", line.strip("| ")) for line in part.splitlines() if line.startswith("| ")][2:]


def test_the_headline_is_the_range_over_the_topologies(run):
    assert rows(report(run), "## The headline")[0] == ["trunk, up", "–", "–", "–", "4.0–5.0 ×", "–"]


def test_a_flood_without_headroom_is_a_bound(run):
    (flood,) = [
        row for row in rows(report(run), "## Every relay: loopback") if row[:2] == ["flood up", TRUNK]
    ]
    assert flood[4] == "≥ 100"
    assert "generator-bound" in flood[7]


def test_what_is_not_valid_is_struck_out_with_its_reason(run):
    text = report(run)
    (faulty,) = [row for row in rows(text, "## Every relay: loopback") if row[1] == "~~uvloop relay~~"]
    assert faulty[7] == "lost 5.0%; 0 of 2 rounds valid"
    (disturbed,) = [row for row in rows(text, "## Every relay: loopback") if row[1] == PLAIN]
    assert disturbed[7] == "disturbed: others used 40% of the relay's CPU"


def test_a_whole_core_is_disturbed_by_what_it_did_before_the_load():
    quiet = [{"topology": "rps", "round": 0, "share": 0.3}]
    one = rounds(TRUNK, "paced up", 1000, topology="rps", others_share=None)
    text = report(result(one, topologies={"rps": {"clock": "core"}}, quiet=quiet))
    assert "disturbed: others used 30%" in text


def test_every_scenario_has_its_table(run):
    text = report(run)
    assert rows(text, "## Latency")[1] == [TRUNK, "100.0", "0.0", "0.0"]
    assert rows(text, "## Cost against the number of flows")[0] == [TRUNK, "900", "900"]
    assert [row[:2] for row in rows(text, "## Cost and latency")] == [
        [f"fastpath trunk, {us} µs", f"{2000 - us:,}"] for us in (0, 500, 1000)
    ]
    assert rows(text, "## Leaves")[0] == ["siphash", "20.0", "19.0", "50,000,000"]


def test_failures_and_who_was_left_out_are_said(run):
    text = report(run)
    assert "* left out: nobody\n" in text
    assert "* failed: coturn (relays, inline, round 2): no\n" in text


def test_a_part_of_a_run_says_that_it_is_one(run):
    assert "did not come to its end" not in report(run)
    assert "did not come to its end" in report(run | {"finished": None})


def test_a_budget_is_read_from_a_name():
    assert budget_of("C trunk, GSO alone, 500 µs") == ("C trunk, GSO alone", 500)
    assert budget_of("C trunk") == ("C trunk", 0)


def test_table_and_plots_lie_beside_the_result(run, tmp_path):
    path = tmp_path / "bench-2026-01-01-abc.json"
    text = publish(path, run)
    assert path.with_suffix(".md").read_text() == text
    for name in ("throughput", "latency", "flows", "coalescing"):
        plot = tmp_path / f"bench-2026-01-01-abc-{name}.svg"
        assert plot.read_text().lstrip().startswith("<?xml")
        assert f"![{name}]({plot.name})" in text


def test_the_same_result_gives_the_same_plots(run, tmp_path):
    path = tmp_path / "bench-a.json"
    publish(path, run)
    first = (tmp_path / "bench-a-coalescing.svg").read_bytes()
    publish(path, run)
    assert (tmp_path / "bench-a-coalescing.svg").read_bytes() == first


def test_the_readme_shows_the_newest_finished_run(run, tmp_path):
    for name, change in {
        "bench-1.json": {"date": "2026-01-01"},
        "bench-2.json": {"date": "2026-01-02"},
        "bench-3.partial.json": {"date": "2026-01-03"},
        "bench-4.json": {"date": "2026-01-04", "finished": None},
        "smoke-5.json": {"date": "2026-01-05"},
    }.items():
        (tmp_path / name).write_text(json.dumps(run | change))
    path = newest(tmp_path)
    assert path.name == "bench-2.json"
    (tmp_path / "bench-2-throughput.svg").touch()
    text = section(json.loads(path.read_text()), path, tmp_path)
    assert "4.0–5.0 ×" in text
    assert "[every figure](bench-2.md)" in text
    assert "![throughput](bench-2-throughput.svg)" in text
    readme = placed(f"a\n{BEGIN}\nold\n{END}\nb\n", text)
    assert readme == f"a\n{BEGIN}\n{text}{END}\nb\n"
    assert placed(readme, text) == readme


def test_without_a_run_or_markers_the_reason_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="make bench"):
        newest(tmp_path)
    with pytest.raises(ValueError, match="bench:begin"):
        placed("no markers", "text")
