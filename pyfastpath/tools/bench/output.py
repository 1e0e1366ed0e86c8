"""A finished run on the terminal and in files, and the exit code it deserves."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from pyfastpath import __version__
from pyfastpath.config import RelayConfig
from pyfastpath.tools.bench import report
from pyfastpath.tools.bench.figures import Row, invalid
from pyfastpath.tools.bench.latency import hgrm
from pyfastpath.tools.bench.options import Options
from pyfastpath.tools.bench.run import Outcome
from pyfastpath.tools.flags import check_apart, check_folders, telling, write
from pyfastpath.tools.machine import card, commit

PASS: Final = 0
FAILED: Final = 1
INVALID: Final = 4


@dataclass(frozen=True, slots=True)
class Files:
    """Where to write what; None: nowhere."""

    json: Path | None = None
    csv: Path | None = None
    hdr: Path | None = None
    junit: Path | None = None
    markdown: Path | None = None

    def check(self) -> None:
        """ConfigError before the run, for a file that could not be written after it."""
        named = {f"--{field.name}": getattr(self, field.name) for field in fields(self)}
        check_folders(named)
        check_apart(named)


def finish(options: Options, outcome: Outcome, files: Files, *, seconds: float) -> int:
    """Print and write everything; the exit code."""
    rows = outcome.rows
    reasons = [reason for row in rows for reason in invalid(row)]
    judged = report.judgements(rows, options)
    code = INVALID if reasons else FAILED if any(said.failed for _, said in judged) else PASS
    machine = _machine(outcome)
    with telling():
        _show(options, rows, machine)
        for row, said in judged:
            print(f"{'FAIL' if said.failed else 'ok':8} {row.label}: {said}")
    if reasons:
        busy = f"load average {machine['load']:.1f} on {machine['cpus']} CPUs"
        print(f"pyfastpath: this run is not valid; is the machine busy ({busy})?", file=sys.stderr)
    for reason in reasons:
        print(f"  {reason}", file=sys.stderr)
    _write(options, rows, machine, reasons, files, code=code, seconds=seconds)
    return code


def _machine(outcome: Outcome) -> dict[str, Any]:
    return card() | {
        "version": __version__,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "coalesce_us": RelayConfig().coalesce_us,  # of a relay of our own: part of the latency it shows
        "relay_cpu": outcome.division.relay,
        "load_cpus": ", ".join(f"CPU {cpu}" for cpu in sorted(outcome.division.load)),
    }


def _show(options: Options, rows: Sequence[Row], machine: dict[str, Any]) -> None:
    print(report.heading(options, machine))
    print()
    for line in (*report.table(rows), ""):
        print(line)
    for line in (*report.legend(rows, options), "", *report.card_lines(options, machine)):
        print(line)
    found = report.remarks(rows)
    if found:
        print()
    for line in found:
        print(f"note     {line}")


def _write(
    options: Options,
    rows: Sequence[Row],
    machine: dict[str, Any],
    reasons: Sequence[str],
    files: Files,
    *,
    code: int,
    seconds: float,
) -> None:
    texts: dict[Path, str] = {}
    if files.json is not None:
        said = report.result_json(rows, options, machine, reasons, code)
        texts[files.json] = json.dumps(said, indent=1) + "\n"
    if files.csv is not None:
        texts[files.csv] = report.csv_text(rows)
    if files.markdown is not None:
        texts[files.markdown] = report.markdown(rows, options, machine, reasons)
    if files.junit is not None:
        texts[files.junit] = report.junit_text(rows, options, machine, seconds=seconds)
    if files.hdr is not None:
        texts |= _hdr(files.hdr, rows)
    for path, text in texts.items():
        write(path, text)


def _hdr(path: Path, rows: Sequence[Row]) -> dict[Path, str]:
    """One relay row: the file as it was named; several: `name.plain-echo.hgrm` each."""
    measured = [row for row in rows if row.own_pps is not None]
    if len(measured) == 1:
        return {path: hgrm(measured[0].latency)}
    return {
        path.with_name(f"{path.stem}.{row.label.replace(' ', '-')}{path.suffix or '.hgrm'}"): hgrm(
            row.latency
        )
        for row in measured
    }
