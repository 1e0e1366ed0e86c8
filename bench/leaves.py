"""The micro benchmarks of bench/micro, as rows of a run's result."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 300


def micro(left_out: list[str]) -> list[dict[str, Any]]:
    """Nanoseconds an operation, median and least of its rounds; empty, with a reason in `left_out`, when they
    fail."""
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "micro.json"
        command = [sys.executable, "-m", "pytest", "-q", "bench/micro", "--benchmark-enable"]
        try:
            subprocess.run(
                [*command, f"--benchmark-json={out}"],
                cwd=ROOT,
                check=True,
                stdout=subprocess.DEVNULL,
                timeout=TIMEOUT_S,
            )
            return rows(json.loads(out.read_text()))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            left_out.append(f"micro benchmarks: {error}")
            return []


def rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """pytest-benchmark's JSON; the operations of a round stand in extra_info."""
    return [
        {
            "name": each["name"].removeprefix("test_"),
            "median_ns": each["stats"]["median"] / each["extra_info"]["operations"] * 1e9,
            "min_ns": each["stats"]["min"] / each["extra_info"]["operations"] * 1e9,
        }
        for each in document["benchmarks"]
    ]
