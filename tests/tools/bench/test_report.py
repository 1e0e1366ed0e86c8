"""The table and the files: what they show, and how they say that a figure is none."""

import csv
import io
import json
from xml.etree import ElementTree

from pyfastpath.tools.bench import report
from pyfastpath.tools.bench.figures import Row, invalid
from pyfastpath.tools.bench.options import Flags, Options, read_options
from tests.tools.bench.test_figures import sample

MACHINE = {
    "version": "0.1.0",
    "commit": "abcdef0123",
    "date": "2026-01-02T03:04:05Z",
    "cpu": "A CPU",
    "cpus": 2,
    "hypervisor": True,
    "kernel": "6.1",
    "python": "3.11",
    "load": 0.5,
    "coalesce_us": 200,
    "relay_cpu": 0,
    "load_cpus": "CPU 1",
}


def survey() -> tuple[Options, list[Row]]:
    own = sample(rate_pps=0, sent=20_000, forwarded=20_000, cpu_ns=None)
    fast = sample(rate_pps=0, sent=18_000, forwarded=18_000)
    rows = [
        Row(path="no relay", mode="up", floods=(own,), paced=(sample(cpu_ns=None),), timed=(sample(),)),
        Row(path="trunk", mode="up", floods=(fast,), paced=(sample(),), timed=(sample(),), own_pps=10_000.0),
    ]
    return read_options(Flags(fail_if=["loss>0.1", "p99_us>5"])), rows


def single(**changes) -> tuple[Options, list[Row]]:
    own = sample(rate_pps=0, sent=20_000, forwarded=20_000, cpu_ns=None)
    relay = Row(path="plain", mode="echo", paced=(sample(**changes),), own_pps=10_000.0)
    options = read_options(Flags(pps="1k", fail_if=["loss>0.1"]))
    return options, [Row(path="no relay", mode="echo", floods=(own,)), relay]


def test_the_table_has_one_head_and_lines_of_one_width():
    lines = report.table(survey()[1])
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split("  ")[0] == "path"
    assert lines[0].endswith("p50 µs  p99 µs  p99.9 µs")
    assert "≥ 9.0" in lines[3], "generator-bound"
    assert "≥" not in lines[2]
    assert lines[2].split()[4:6] == ["1%", "–"], "no relay has no CPU figure"


def test_cells_of_a_relay():
    assert report.cells(survey()[1][1]) == (
        *("trunk", "up", "≥ 9.0", "1%", "2,000", "0%", "0", "10", "10", "80"),
    )


def test_loss_is_told_as_a_share():
    for lost, said in ((0, "0"), (1, "0.05%"), (100, "5.00%")):
        assert report.cells(single(lost=lost)[1][1])[6] == said
    assert report.cells(single(sent=1_000_000, lost=1)[1][1])[6] == "1e-06"


def test_the_legend_says_at_which_rates():
    text = "\n".join(report.legend(survey()[1], survey()[0]))
    assert "thousand datagrams forwarded a second, in a flood\n" in text
    assert "≥        within 20% of the generator's own rate" in text
    assert "for one forwarded datagram, at 1 k/s up" in text
    options, rows = single()
    text = "\n".join(report.legend(rows, options))
    assert "a second (no relay: in a flood); an echo counts twice\n" in text
    assert "≥" not in text
    flood = [rows[0], Row(path="plain", mode="echo", floods=(sample(rate_pps=0),), own_pps=9e9)]
    assert "that is the queue: give it --pps" in "\n".join(report.legend(flood, options))
    setup = read_options(Flags(mode="setup"))
    assert "thousand sessions opened a second" in "\n".join(report.legend(rows, setup))


def test_a_rate_is_told_in_full():
    for pps, said in ((5_000_000, "5,000"), (101_234, "101.2"), (20_000, "20"), (10, "0.01")):
        row = Row(path="plain", mode="up", paced=(sample(rate_pps=pps),), own_pps=9e9)
        assert f", at {said} k/s up\n" in "\n".join(report.legend([row], single()[0]))


def test_remarks_name_only_what_happened():
    _, rows = single()
    assert report.remarks(rows) == []
    _, rows = single(lost=3, duplicates=1, retried=2)
    rows = [rows[0], Row(path="plain", mode="up", paced=rows[1].paced, drops=(("oversize", 3),))]
    assert report.remarks(rows) == ["plain up: 3 lost, 1 duplicates, 2 retried, the relay dropped 3 oversize"]


def test_the_heading_and_the_card_fit_the_run():
    options, _ = survey()
    assert report.heading(options, MACHINE) == (
        "pyfastpath bench 0.1.0 · survey · 1,000 sessions · 172 bytes · 30 s"
    )
    mix = read_options(Flags(mode="up", pps="flood", size_dist="172:0.9,1200:0.1", sessions="20"))
    assert "up, flood · 20 sessions · 172 bytes (90%), 1200 bytes (10%) · 10 s" in report.heading(
        mix, MACHINE
    )
    spread = read_options(Flags(mode="setup", pps="2k", size_dist="spread", sessions="20"))
    assert "setup, 2,000 sessions a second · 20 sessions · 172 ± 24 bytes" in report.heading(spread, MACHINE)
    assert (
        "relays of our own (coalesce_us 200) on CPU 0, generator and sink on CPU 1"
        in report.card_lines(options, MACHINE)[1]
    )
    alone = MACHINE | {"relay_cpu": None}
    assert "share one CPU" in report.card_lines(options, alone)[1]
    assert "share" not in report.card_lines(read_options(Flags(socket="/run/x")), alone)[1]


def test_gates_judge_what_has_a_relay_in_it():
    options, rows = survey()
    judged = report.judgements(rows, options)
    assert [(row.path, said.failed) for row, said in judged] == [("trunk", False), ("trunk", True)]


def test_json_holds_everything():
    options, rows = survey()
    said = json.loads(json.dumps(report.result_json(rows, options, MACHINE, ["why"], 1)))
    assert said["verdict"] == "fail"
    assert said["reasons"] == ["why"]
    assert said["machine"]["commit"] == "abcdef0123"
    assert [row["path"] for row in said["rows"]] == ["no relay", "trunk"]
    assert said["rows"][1]["generator_bound"] is True
    assert [sample["kind"] for sample in said["rows"][1]["samples"]] == ["flood", "paced", "timed"]
    assert said["gates"][1] == {"row": "trunk up", "gate": "p99_us>5", "value": 10.0, "failed": True}
    assert said["settings"]["sizes"] == [[172, 0, 1.0]]


def test_csv_has_a_line_a_row_and_base_units():
    _, rows = survey()
    first, second = csv.DictReader(io.StringIO(report.csv_text(rows)))
    assert first["path"] == "no relay"
    assert first["cpu_ns"] == ""
    assert float(second["cpu_ns"]) == 2000
    assert float(second["pps"]) == 9000
    assert second["generator_bound"] == "True"


def test_markdown_is_one_table_with_its_meaning():
    options, rows = single(sent=100)
    text = report.markdown(rows, options, MACHINE, [reason for row in rows for reason in invalid(row)])
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 4
    assert {line.count("|") for line in table} == {11}
    assert "* plain echo: the generator held 0.1 k/s" in text
    assert "machine  A CPU" in text


def test_junit_has_a_case_for_the_run_and_one_a_gate():
    options, rows = survey()
    suite = ElementTree.fromstring(report.junit_text(rows, options, MACHINE, seconds=3)).find("testsuite")
    assert suite is not None
    names = [case.attrib["name"] for case in suite.findall("testcase")]
    assert names == ["trunk up: the run is valid", "trunk up: loss>0.1", "trunk up: p99_us>5"]
    assert suite.attrib["failures"] == "1"
    assert suite.attrib["errors"] == "0"
    options, rows = single(sent=100)
    suite = ElementTree.fromstring(report.junit_text(rows, options, MACHINE, seconds=3)).find("testsuite")
    assert suite is not None
    assert suite.attrib["errors"] == "1", "a run that was none is no failure of the relay"
