"""The CI examples: well-formed, the same gate in both, and their scripts do what their README says."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FILES = ROOT / "examples" / "ci"
PCAPS = ROOT / "tests" / "pcaps"


def load(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((FILES / name).read_text())
    return document


def github_script() -> tuple[str, dict[str, str]]:
    document = load("github.yml")
    (step,) = [step for step in document["jobs"]["replay"]["steps"] if step.get("name") == "Replay"]
    assert step["env"] == {"UPSTREAM": "${{ matrix.upstream }}"}
    return step["run"], document["env"]


def gitlab_script() -> tuple[str, dict[str, str]]:
    document = load("gitlab.yml")
    return document["replay"]["script"][0], document["variables"]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository with a folder of captures, and `pyfastpath` on the path."""
    (tmp_path / "captures").mkdir()
    command = tmp_path / "bin" / "pyfastpath"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pyfastpath "$@"\n')
    command.chmod(0o755)
    return tmp_path


def play(project: Path, script: str, variables: dict[str, str], upstream: str) -> int:
    given = os.environ | variables | {"SESSIONS": "2", "UPSTREAM": upstream, "PYTHONPATH": str(ROOT)}
    given["PATH"] = f"{project / 'bin'}:{os.environ['PATH']}"
    # As runners do it: bash ends at the first command that fails.
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script], cwd=project, env=given, timeout=60, check=False
    ).returncode


def test_both_files_have_the_same_gate() -> None:
    assert github_script()[0] == gitlab_script()[0]
    shared = {"CAPTURES", "PYFASTPATH", "SESSIONS"}
    assert {name: github_script()[1][name] for name in shared} == {
        name: gitlab_script()[1][name] for name in shared
    }


def test_both_modes_are_played_and_reports_kept() -> None:
    github, gitlab = load("github.yml")["jobs"]["replay"], load("gitlab.yml")["replay"]
    assert github["strategy"]["matrix"]["upstream"] == gitlab["parallel"]["matrix"][0]["UPSTREAM"]
    assert gitlab["artifacts"]["reports"]["junit"] == "reports/*.xml"
    assert gitlab["artifacts"]["when"] == "always"
    assert github["steps"][-1]["if"] == "always()"


def test_good_captures_pass_and_leave_reports(project: Path) -> None:
    for suffix in (".pcap", ".jsonl"):
        shutil.copy(PCAPS / f"chromium-dtls12{suffix}", project / "captures" / f"a call{suffix}")
    script, variables = gitlab_script()
    assert play(project, script, variables, "trunk") == 0
    suite = ElementTree.parse(project / "reports" / "a call.pcap.trunk.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.get("failures"), suite.get("errors")) == ("0", "0")
    report = json.loads((project / "reports" / "a call.pcap.trunk.json").read_text())
    assert (report["sessions"], report["unsigned"]) == (2, 0)  # the passwords beside it were found


def test_a_capture_that_cannot_be_played_fails_the_job_but_not_the_others(project: Path) -> None:
    (project / "captures" / "a.pcap").write_bytes(b"nonsense")
    shutil.copy(PCAPS / "chromium-dtls12.pcap", project / "captures" / "b.pcapng")
    script, variables = github_script()
    assert play(project, script, variables, "plain") == 2
    assert (project / "reports" / "b.pcapng.plain.xml").exists()


@pytest.mark.parametrize("missing", [False, True], ids=["empty", "missing"])
def test_a_gate_without_captures_is_not_green(project: Path, missing: bool) -> None:
    if missing:
        (project / "captures").rmdir()
    script, variables = gitlab_script()
    assert play(project, script, variables, "plain") == 2
