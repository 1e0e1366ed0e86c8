"""A finished run on the terminal and in files, and its exit code."""

import json

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.tools.bench.cpu import Division
from pyfastpath.tools.bench.output import FAILED, INVALID, PASS, Files, finish
from pyfastpath.tools.bench.run import Outcome
from tests.tools.bench.test_report import single, survey

DIVISION = Division(0, frozenset({1}))


@pytest.mark.parametrize(
    ("changes", "code", "verdict"),
    [({}, PASS, "pass"), ({"lost": 500}, FAILED, "fail"), ({"lost": 500, "sent": 900}, INVALID, "invalid")],
    ids=["pass", "failed", "invalid"],
)
def test_the_exit_code_is_the_verdict(capsys, tmp_path, changes, code, verdict):
    options, rows = single(**changes)
    file = tmp_path / "run.json"
    assert finish(options, Outcome(rows, DIVISION), Files(json=file), seconds=2) == code
    said = capsys.readouterr()
    assert json.loads(file.read_text())["verdict"] == verdict
    assert ("FAIL     plain echo: loss is" in said.out) == ("lost" in changes)
    assert ("this run is not valid" in said.err) == (code == INVALID)
    assert "p99.9 µs" in said.out


def test_files_of_one_relay_and_of_several(capsys, tmp_path):
    for make, hdr in ((single, ["run.hgrm"]), (survey, ["run.trunk-up.hgrm"])):
        folder = tmp_path / make.__name__
        folder.mkdir()
        options, rows = make()
        rows = [*rows, rows[1]] if make is survey else rows
        files = Files(
            json=folder / "run.json",
            csv=folder / "run.csv",
            hdr=folder / "run.hgrm",
            junit=folder / "run.xml",
            markdown=folder / "run.md",
        )
        files.check()
        finish(options, Outcome(rows, DIVISION), files, seconds=2)
        made = sorted(path.name for path in folder.iterdir())
        assert made == sorted(["run.csv", "run.json", "run.md", "run.xml", *hdr])
        assert all(path.stat().st_size > 100 for path in folder.iterdir())
    capsys.readouterr()


def test_a_folder_that_is_not_there_is_told_before_the_run(tmp_path):
    with pytest.raises(ConfigError, match=r"--hdr: there is no folder .*missing\. Create it"):
        Files(hdr=tmp_path / "missing" / "run.hgrm").check()


def test_a_file_that_cannot_be_written_is_one_sentence(capsys, tmp_path):
    options, rows = single()
    with pytest.raises(ConfigError, match=r"cannot write .*: Is a directory"):
        finish(options, Outcome(rows, DIVISION), Files(csv=tmp_path), seconds=2)
    capsys.readouterr()
