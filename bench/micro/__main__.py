"""`make bench-micro`: every leaf and table alone, compared with the newest earlier run in bench/results.

    python -m bench.micro [--against FILE] [--results FOLDER]

It never fails for being slow: a shared machine is not the same twice. What is marked deserves a look.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench.leaves import micro
from bench.micro.compare import compare
from pyfastpath.tools.machine import card, commit

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "bench" / "results"


def newest(results: Path) -> Path | None:
    """The last run written, by the date inside it."""
    found = sorted(results.glob("micro-*.json"), key=lambda path: json.loads(path.read_text())["date"])
    return found[-1] if found else None


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.micro", description=__doc__)
    parser.add_argument("--against", type=Path, help="an earlier run; default: the newest in --results")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder for the JSON and the table")
    arguments = parser.parse_args()
    earlier = arguments.against or newest(arguments.results)
    before = json.loads(earlier.read_text()) if earlier else {"median_ns": {}}
    machine, version, began = card(), commit(), datetime.now(UTC)
    left_out: list[str] = []
    found = {row["name"]: row["median_ns"] for row in micro(left_out)}
    if left_out:
        raise SystemExit(left_out[0])
    title = f"# Leaves and tables, {began:%Y-%m-%d}, commit {version}\n\n"
    against = f" Before: {earlier.stem}, on {before['machine']['cpu']}." if earlier else ""
    text = f"{title}{machine['cpu']}, {machine['kernel']}.{against}\n\n{compare(found, before['median_ns'])}"
    result = {"date": began.isoformat(), "commit": version, "machine": machine, "median_ns": found}
    path = arguments.results / f"micro-{began:%Y-%m-%d}-{version}.json"
    arguments.results.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    path.with_suffix(".md").write_text(text)
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
