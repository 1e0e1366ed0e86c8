"""The fuzzer itself: a few seconds of it find nothing, and it would find what is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Fails where nobody has put an input yet: no seed holds a fragment.
BROKEN = """
from tests.fuzz import pcap_reader as fuzzer
whole = fuzzer.frames.dissect
def broken(frame):
    found = whole(frame)
    if found is fuzzer.frames.Skip.FRAGMENT:
        raise IndexError("planted")
    return found
fuzzer.frames.dissect = broken
fuzzer.main()
"""


def fuzz(folder, *command, seconds):
    """libFuzzer's exit code and what it printed."""
    settings = {"FUZZ_SECONDS": str(seconds), "FUZZ_FOLDER": str(folder), "PYTHONPATH": str(ROOT)}
    # A program inherits the peak of the memory it was started from (getrusage(2), ru_maxrss), and libFuzzer
    # would take the test run's for its own: a shell in between has little.
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, *command],
        check=False,
        cwd=folder,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=100,
    )
    return done.returncode, done.stdout


@pytest.fixture(autouse=True)
def _needs_atheris():
    pytest.importorskip("atheris", reason="no atheris: there are wheels for Linux on x86-64")


def test_five_seconds_find_nothing(tmp_path):
    code, said = fuzz(tmp_path, "-m", "tests.fuzz.pcap_reader", seconds=5)
    assert code == 0, said[-3000:]
    executed = re.search(r"number_of_executed_units: (\d+)", said)
    assert executed
    assert int(executed[1]) > 200
    assert len(list((tmp_path / "corpus").iterdir())) > 60  # the seeds, and inputs that reach further


def test_a_planted_error_is_found_and_its_input_kept(tmp_path):
    code, said = fuzz(tmp_path, "-c", BROKEN, seconds=60)
    assert code != 0
    assert "IndexError: planted" in said
    (crash,) = tmp_path.glob("crash-*")
    code, said = fuzz(tmp_path, "-m", "tests.fuzz.pcap_reader", str(crash), seconds=5)
    assert code == 0, said[-3000:]  # the sound reader takes it
