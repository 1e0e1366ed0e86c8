"""Runs the targets, two at a time: `make fuzz`.

FUZZ_SECONDS (600) each, FUZZ_TARGETS="stun sdp" (all). FUZZ_RECORD=1 writes what a run without a finding
did into the table of README.md, and the inputs worth keeping into corpus/. Ends with 1 when something was
found.

Targets on the data plane run on its build `fuzz` under the AddressSanitizer that atheris brings (libFuzzer
is in it: hence LD_PRELOAD).
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import atheris

from tests.fuzz import corpus

ROOT: Final = Path(__file__).parent.parent.parent
FOLDER: Final = ROOT / "build" / "fuzz" / "targets"
README: Final = Path(__file__).parent / "README.md"
AT_ONCE: Final = 2
KEPT_BYTES_MAX: Final = 16 << 10  # of one target's corpus in the tree


@dataclass(frozen=True)
class Result:
    """What became of one target."""

    name: str
    executions: int
    seconds: int
    reached: int  # blocks and branches, as libFuzzer counts them
    crashers: tuple[Path, ...]
    said: str

    @property
    def failed(self) -> bool:
        return bool(self.crashers) or not self.executions

    def row(self) -> str:
        found = "nothing" if not self.failed else f"{len(self.crashers)} inputs"
        cells = self.name, f"{self.executions:,}", self.seconds, f"{self.reached:,}", found
        return f"| {' | '.join(map(str, (*cells, datetime.now(UTC).date(), commit())))} |"


def environment(name: str) -> dict[str, str]:
    """Of the process that fuzzes a target."""
    if not on_data_plane(name):
        return {**os.environ, "PYTHONPATH": str(ROOT)}
    return os.environ | {
        "FASTPATH_PROFILE": "fuzz",
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": f"{ROOT / 'build' / 'fuzz' / 'lib'}:{ROOT}",
        "PYTHONMALLOC": "malloc",
        "LD_PRELOAD": f"{atheris.path()}/asan_with_fuzzer.so",
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=16",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
    }


def on_data_plane(name: str) -> bool:
    """Without importing it here, where the release build would be loaded."""
    return "ON_DATA_PLANE = True" in (corpus.HERE / "targets" / f"{name}.py").read_text()


def driver(name: str, *arguments: str) -> str:
    """One run of the driver; what it said."""
    command = [sys.executable, "-m", "tests.fuzz.driver", name, *arguments]
    # A program inherits the peak of the memory it was started from (getrusage(2), ru_maxrss), and libFuzzer
    # would take it for its own: a shell in between has little.
    done = subprocess.run(
        ["sh", "-c", '"$@"; exit $?', "sh", *command],
        check=False,
        cwd=ROOT,
        env=environment(name),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    return done.stdout


def fuzz(name: str) -> Result:
    for old in crashers(name):
        old.unlink()
    began = datetime.now(UTC)
    said = driver(name)
    seconds = round((datetime.now(UTC) - began).total_seconds())
    executed = re.search(r"number_of_executed_units: (\d+)", said)
    reached = re.findall(r" cov: (\d+) ", said)
    result = Result(
        name,
        int(executed[1]) if executed else 0,
        seconds,
        int(reached[-1]) if reached else 0,
        crashers(name),
        said,
    )
    print(result.row(), flush=True)
    return result


def crashers(name: str) -> tuple[Path, ...]:
    """Inputs that failed, as libFuzzer left them."""
    return tuple(path for path in (FOLDER / name).glob("*-*") if path.is_file())


def record(result: Result) -> None:
    """Its row in place of the last one, and the corpus."""
    lines = README.read_text().splitlines(keepends=True)
    lines = [line for line in lines if not line.startswith(f"| {result.name} |")]
    rows = [line for line in lines if re.match(r"\| \w+ \| [\d,]+ \|", line)] + [result.row() + "\n"]
    head = next(at for at, line in enumerate(lines) if line.startswith("| target |")) + 2
    lines = [line for line in lines if line not in rows]
    README.write_text("".join([*lines[:head], *sorted(rows), *lines[head:]]))
    driver(result.name, "--keep")
    found = sorted((path.read_bytes() for path in (FOLDER / result.name / "kept").iterdir()), key=len)
    total = 0
    for count, data in enumerate(found):  # the shortest first, as far as there is room
        total += len(data)
        if total > KEPT_BYTES_MAX:
            found = found[:count]
            break
    corpus.keep(result.name, found)


def commit() -> str:
    said = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return said.stdout.strip() or "-"


def main() -> int:
    names = os.environ.get("FUZZ_TARGETS", "").split() or corpus.names()
    for name in names:
        if name not in corpus.names():
            raise SystemExit(f"no target {name}: choose among {', '.join(corpus.names())}")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(fuzz, names))
    failed = [result for result in results if result.failed]
    for result in failed:
        print(f"\n==== {result.name}\n{result.said[-4000:]}")
        print(
            "\n".join(
                f"run it again: python -m tests.fuzz.driver {result.name} {it}" for it in result.crashers
            )
        )
    if os.environ.get("FUZZ_RECORD"):
        for result in results:
            if not result.failed:
                record(result)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
