"""docs/operations.md and SECURITY.md say what the code does: signals, exit codes, errors, drop reasons."""

import inspect
import re
from pathlib import Path

import pytest
from fastpath.counters import DROP_REASONS

from pyfastpath import cli, errors
from pyfastpath.config import RelayConfig, TransceiverConfig
from pyfastpath.relay import engine, fdstore, keeper, succession

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "operations.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()
SOURCES = "\n".join(path.read_text() for path in sorted((ROOT / "pyfastpath").rglob("*.py")))


def rows(heading: str, column: str) -> list[list[str]]:
    """Cells of the table under a heading whose first column is named so."""
    section = TEXT[TEXT.index(f"\n## {heading}\n") :].partition("\n## ")[2].partition("\n## ")[0]
    table = section[section.index(f"| {column} |") :].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in table]


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`]+)`", text))


@pytest.mark.parametrize(
    ("column", "file"),
    [(1, "relay/keeper.py"), (2, "transceiver/process.py"), (3, "signalling/gateway.py")],
)
def test_every_signal_is_told(column, file):
    obeyed = set(re.findall(r"signal\.(SIG[A-Z0-9]+)", (ROOT / "pyfastpath" / file).read_text()))
    told = {
        row[0].strip("`")
        for row in rows("Signals", "signal")
        if len(row) > column and row[column].strip("| ")
    }
    assert told == obeyed - {"SIGCHLD", "SIG_BLOCK"}


def test_every_exit_code_is_told():
    told = {int(row[0]) for row in rows("Exit codes", "code")}
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    raised = {kind.exit_code for kind in kinds if issubclass(kind, errors.FastpathError)}
    listed = {int(code) for code in re.findall(r"(?:: |· )(\d)", cli.EXIT_CODES)}
    assert told == raised | listed | {engine.WORKER_FAILED, keeper.NOT_STARTED, succession.MISFIT, 130}


def test_every_kind_of_error_is_told():
    kinds = {
        name
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, errors.FastpathError) and kind is not errors.FastpathError
    }
    assert {row[0].strip("`") for row in rows("What the log says", "kind")} == kinds


@pytest.mark.parametrize("row", rows("What the log says", "text"), ids=lambda row: row[0])
def test_what_the_log_is_said_to_say_is_in_the_code(row):
    assert any(fragment in SOURCES for fragment in names(row[0])), row[0]


def test_every_drop_reason_has_its_advice():
    told = [row[0].strip("`") for row in rows("Drop reasons", "reason")]
    exported = [name for name, _ in DROP_REASONS[1:]]
    assert sorted(told) == sorted(exported), "docs/operations.md: one row a reason, with what to do"


def test_numbers_are_the_codes_own():
    assert f"({RelayConfig().drain_deadline_s} by default" in TEXT
    assert RelayConfig().drain_deadline_s == TransceiverConfig().drain_deadline_s
    assert f"More than {fdstore.DESCRIPTORS_MAX:,} descriptors" in TEXT


@pytest.mark.parametrize("text", [TEXT, SECURITY], ids=["operations", "security"])
def test_commands_and_tests_it_names_are_there(text):
    for command in re.findall(r"`pyfastpath ctl (\w+)", text):
        assert command in {
            found.name or found.callback.__name__ for found in cli.ctl.app.registered_commands
        } | {group.name for group in cli.ctl.app.registered_groups}, command
    for path in re.findall(r"\btests/[\w/]+\.py\b", text):
        assert (ROOT / path).exists(), path
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    for name in re.findall(r"\btest_[a-z0-9_]+\b(?!\.py)", text):
        assert f"def {name}(" in tests, name


def test_every_threat_names_a_test():
    table = SECURITY[SECURITY.index("| threat |") :].partition("\n\n")[0].splitlines()[2:]
    scenarios = "\n".join(path.read_text() for path in (ROOT / "tests" / "chaos").rglob("*.py"))
    for line in table:
        shown = line.rstrip("| ").rpartition(" | ")[2]
        assert re.search(r"`attacks-\w+`|tests/[\w/]+\.py|\btest_\w+", shown), line
        for name in re.findall(r"`(attacks-\w+)`", shown):
            assert f'"{name}"' in scenarios, name
