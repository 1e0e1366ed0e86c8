"""The result of a run as it grows, on disk after every scenario, and the document that shows it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.record import compact
from pyfastpath.tools.machine import card, commit
from tests.chaos.outcome import Outcome
from tests.chaos.report import document

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
DOCUMENT = ROOT / "docs" / "reliability.md"


class Record:
    """kind: `chaos` or `soak`. The file is bench/results/KIND-DATE-COMMIT.json."""

    def __init__(self, kind: str, folder: Path = RESULTS, **settings: Any) -> None:
        began = datetime.now(UTC)
        version = commit()
        self.path = folder / f"{kind}-{began:%Y-%m-%d}-{version}.json"
        self.result: dict[str, Any] = {
            "kind": kind,
            "commit": version,
            "date": began.isoformat(timespec="seconds"),
            "finished": None,
            "machine": card(),
            **settings,
            "outcomes": [],
            "skipped": [],
            "failures": [],
        }

    def outcome(self, scenario: str, outcome: Outcome) -> None:
        """One row."""
        self.result["outcomes"].append({"scenario": scenario} | outcome.as_dict())

    def skip(self, scenario: str, reason: str) -> None:
        """A scenario that this machine cannot run."""
        self.result["skipped"].append({"scenario": scenario, "reason": reason})

    def failure(self, scenario: str, error: str) -> None:
        """A scenario that did not come to its end."""
        self.result["failures"].append({"scenario": scenario, "error": error})

    def save(self, *, finished: bool = False) -> None:
        """Write what there is; a reader never sees half a file."""
        if finished:
            self.result["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        new = self.path.with_suffix(".new")
        new.write_text(compact(self.result))
        new.replace(self.path)


def newest(kind: str, folder: Path = RESULTS) -> dict[str, Any] | None:
    """The latest result of a kind, by its own date; None when there is none."""
    found = [json.loads(path.read_text()) for path in folder.glob(f"{kind}-*.json")]
    return max(found, key=lambda result: result["date"], default=None)


def write_document(path: Path = DOCUMENT, folder: Path = RESULTS) -> None:
    """docs/reliability.md from what lies in the results folder."""
    path.write_text(document(newest("chaos", folder), newest("soak", folder)), encoding="utf-8")
