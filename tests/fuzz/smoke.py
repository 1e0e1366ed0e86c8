"""A fuzzer's run that is always the same: so many executions, one seed."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz import corpus

ROOT = Path(__file__).parent.parent.parent


def run(folder: Path, *command: str, runs: int) -> tuple[int, str]:
    """libFuzzer's exit code and what it said."""
    # A program inherits the peak of the memory it was started from (getrusage(2), ru_maxrss), and libFuzzer
    # would take the test run's for its own: a shell in between has little.
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", sys.executable, *command],
        check=False,
        cwd=folder,
        env=os.environ | {"FUZZ_RUNS": str(runs), "FUZZ_FOLDER": str(folder), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=110,
    )
    return done.returncode, done.stdout


def finds_nothing(name: str, folder: Path) -> None:
    """Fuzz one target as long as the suite allows."""
    runs = corpus.load(name).SMOKE_RUNS
    code, said = run(folder, "-m", "tests.fuzz.driver", name, runs=runs)
    assert code == 0, said[-3000:]
    executed = re.search(r"number_of_executed_units: (\d+)", said)
    assert executed, said[-3000:]
    assert int(executed[1]) >= runs
