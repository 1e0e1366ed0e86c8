"""A run's result as it grows: one flat list of samples, written to disk after every turn.

{"kind": "bench", "commit", "date", "machine", "settings", "topologies", "own_pps": {topology: {workload: n}},
 "left_out": [text], "failures": [{scenario, topology, round, contestant, error}],
 "samples": [{scenario, topology, round, contestant, workload, flows, rate_pps, echo, …Sample}],
 "quiet": [{topology, round, share}], "micro": [{name, median_ns, min_ns}], "newcomers": [{name, ns}],
 "finished": date or null}
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.load import Sample, Shape, Traffic


@dataclass(frozen=True)
class Turn:
    """One contestant's turn in one scenario, topology and round."""

    scenario: str
    topology: str
    round: int
    contestant: str

    def as_dict(self) -> dict[str, Any]:
        return vars(self).copy()


class Record:
    """The result and its file. While the run goes on the file is NAME.partial.json."""

    def __init__(
        self, folder: Path, kind: str, commit: str, machine: dict[str, Any], settings: dict[str, Any]
    ):
        began = datetime.now(UTC)
        self.path = folder / f"{kind}-{began:%Y-%m-%d}-{commit}.json"
        self._partial = self.path.with_suffix(".partial.json")
        self.result: dict[str, Any] = {
            "kind": kind,
            "commit": commit,
            "date": began.isoformat(timespec="seconds"),
            "finished": None,
            "machine": machine,
            "settings": settings,
            "topologies": {},
            "own_pps": {},
            "left_out": [],
            "failures": [],
            "samples": [],
            "quiet": [],
            "micro": [],
            "newcomers": [],
        }
        folder.mkdir(parents=True, exist_ok=True)

    def sample(self, turn: Turn, shape: Shape, traffic: Traffic, sample: Sample) -> None:
        """One workload of a turn."""
        about = {
            "workload": shape.name,
            "echo": shape.echo,
            "rate_pps": shape.rate_pps,
            "flows": traffic.flows,
        }
        self.result["samples"].append(turn.as_dict() | about | sample.as_dict())

    def failure(self, turn: Turn, error: str) -> None:
        """A turn that did not come to its end."""
        self.result["failures"].append(turn.as_dict() | {"error": error})

    def save(self) -> None:
        """What there is so far; a reader never sees half a file."""
        self._write(self._partial)

    def finish(self) -> Path:
        """The final file instead of the partial one; its path."""
        self.result["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        self._write(self.path)
        self._partial.unlink(missing_ok=True)
        return self.path

    def _write(self, path: Path) -> None:
        new = path.with_suffix(".new")
        new.write_text(compact(self.result))
        new.replace(path)


def compact(result: dict[str, Any]) -> str:
    """JSON with one line a sample: a file people can read and `git diff`."""
    parts = []
    for key, value in result.items():
        if isinstance(value, list) and value:
            rows = ",\n  ".join(json.dumps(_short(item), ensure_ascii=False) for item in value)
            text = f"[\n  {rows}\n ]"
        else:
            text = json.dumps(value, ensure_ascii=False)
        parts.append(f" {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _short(value: Any) -> Any:
    """Floats with the digits that mean something."""
    if isinstance(value, float):
        return round(value, 4) if abs(value) < 10 else round(value, 1)
    if isinstance(value, dict):
        return {key: _short(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_short(item) for item in value]
    return value
