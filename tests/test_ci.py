"""What a build server relies on: a skip is a failure there, and only there."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.require import require

ROOT = Path(__file__).parent.parent

SKIPS = """
import pytest
from tests.support.require import require

def test_passes():
    pass

def test_needs_what_nobody_has():
    require("no-such-command")

@pytest.mark.xfail(reason="known")
def test_known():
    raise AssertionError
"""
MODULE_SKIP = "import pytest\npytest.importorskip('no_such_module')\n"


def outcome(tmp_path, source, **environment):
    file = tmp_path / "test_planted.py"
    file.write_text(source)
    clean = {
        name: value for name, value in os.environ.items() if name not in {"FASTPATH_CI", "FASTPATH_PROFILE"}
    }
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-c", os.devnull, "-p", "tests.conftest", str(file)],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_on_a_users_machine_a_missing_program_skips_with_its_reason(tmp_path):
    said = outcome(tmp_path, SKIPS)
    assert said.returncode == 0
    assert "1 passed, 1 skipped, 1 xfailed" in said.stdout
    assert "no no-such-command: apt-get install no-such-command" in said.stdout


def test_in_ci_the_same_is_a_failure_with_the_same_reason(tmp_path):
    said = outcome(tmp_path, SKIPS, FASTPATH_CI="1")
    assert said.returncode == 1
    assert "1 failed, 1 passed, 1 xfailed" in said.stdout
    assert "no no-such-command: apt-get install no-such-command" in said.stdout


def test_a_module_that_skips_itself_fails_in_ci_too(tmp_path):
    assert outcome(tmp_path, MODULE_SKIP).returncode in {0, 5}
    assert outcome(tmp_path, MODULE_SKIP, FASTPATH_CI="1").returncode not in {0, 5}


def test_a_profile_that_is_not_the_one_imported_stops_the_run(tmp_path):
    said = outcome(tmp_path, SKIPS, FASTPATH_PROFILE="asan")
    assert said.returncode != 0
    assert "fastpath was imported from" in said.stdout + said.stderr


def test_require_gives_the_path():
    assert Path(require("gcc")).is_file()


@pytest.mark.parametrize(
    ("extra", "inside", "outside"),
    [
        ("transceiver", {"aiohttp", "pylibsrtp"}, {"ruff", "pytest"}),
        ("dev", {"aiohttp", "ruff", "aiortc"}, set()),
    ],
)
def test_requirements_follow_the_extras(extra, inside, outside):
    said = subprocess.run([ROOT / ".ci" / "dependencies", extra], capture_output=True, text=True, check=True)
    names = {line.split(">")[0].split("~")[0] for line in said.stdout.splitlines()}
    assert inside <= names
    assert not outside & names
    assert not [name for name in names if "pyfastpath" in name]


def test_the_scripts_can_be_run():
    for name in ("run", "packages", "dependencies"):
        assert os.access(ROOT / ".ci" / name, os.X_OK)
    assert "FASTPATH_CI=1" in (ROOT / ".ci" / "run").read_text()
