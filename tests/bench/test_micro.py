"""The comparison of micro benchmarks, and that every one of them does what it counts."""

import subprocess
import sys
from pathlib import Path

from bench.micro.compare import compare

ROOT = Path(__file__).parents[2]


def test_a_comparison_names_what_changed_came_and_went():
    table = compare(
        {"same": 10.0, "slow": 20.0, "fast": 5.0, "new": 1.0},
        {"same": 10.5, "slow": 10.0, "fast": 10.0, "old": 3.0},
    )
    rows = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()[2:]}
    assert rows["same"].endswith("| 0.95 |  |")
    assert rows["slow"].endswith("| 2.00 | slower |")
    assert rows["fast"].endswith("| 0.50 | faster |")
    assert rows["new"].endswith("| new |")
    assert rows["old"].endswith("| gone |")


def test_every_micro_benchmark_runs_once():
    """Their own asserts hold: so many operations asked for, so many succeeded."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "bench/micro"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout[-3000:]
