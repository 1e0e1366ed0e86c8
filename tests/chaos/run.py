"""`python -m tests.chaos.run`: every scenario under full load, one after the other; what came of it goes to
bench/results and docs/reliability.md.

A module of tests/chaos/scenarios has SCENARIOS: name -> function of (an empty folder, Scale), which gives its
outcomes; those of ONLY_FULL have their short version elsewhere. Exit code 0: all promises kept; 1: one
broken, or a scenario failed; 4: a load was too slow twice.
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from bench.limit import given_up_after
from tests.chaos import scenarios
from tests.chaos.outcome import CannotRunError, Outcome
from tests.chaos.record import RESULTS, ROOT, Record, write_document
from tests.chaos.scale import FULL, SHORT, Scale
from tests.support.loopback import own_loopback

Scenario = Callable[[Path, Scale], list[Outcome]]
TOTAL_S: Final = 20 * 60.0
ONE_S: Final = 5 * 60.0
TRIES: Final = 2
UNRECORDED: Final = ROOT / "build" / "chaos"  # of a part, or of short versions: nothing for docs
BROKEN, INVALID = 1, 4


def modules(*, full: bool = True) -> dict[str, dict[str, Scenario]]:
    """The scenarios of every module, by its name. full: ONLY_FULL too."""
    found = {}
    for name in sorted(module.name for module in pkgutil.iter_modules(scenarios.__path__)):
        module = importlib.import_module(f"{scenarios.__name__}.{name}")
        found[name] = module.SCENARIOS | (getattr(module, "ONLY_FULL", {}) if full else {})
    return found


def collected(*, full: bool = True) -> dict[str, Scenario]:
    """Every scenario by name, in the order of modules and of their dicts."""
    found: dict[str, Scenario] = {}
    for known in modules(full=full).values():
        twice = found.keys() & known.keys()
        assert not twice, f"scenarios of one name: {twice}"
        found |= known
    return found


def run(chosen: dict[str, Scenario], scale: Scale, record: Record, total_s: float = TOTAL_S) -> int:
    """All chosen scenarios; the exit code."""
    end_s, codes = time.monotonic() + total_s, {0}
    for name, scenario in chosen.items():
        left_s = end_s - time.monotonic()
        if left_s <= 0:
            record.skip(name, f"the {total_s / 60:.0f} minutes were over")
            continue
        codes.add(_one(name, scenario, scale, record, min(ONE_S, left_s)))
        record.save()
    record.save(finished=True)
    return min(codes - {0}, default=0)


def _one(name: str, scenario: Scenario, scale: Scale, record: Record, limit_s: float) -> int:
    """One scenario, again when its load was too slow; its exit code."""
    try:
        with given_up_after(limit_s):
            outcomes = _tried(scenario, scale)
    except CannotRunError as error:
        record.skip(name, str(error))
        say(f"{name}: skipped: {error}")
        return 0
    except Exception as error:  # whatever it is, the other scenarios still have something to say
        record.failure(name, f"{type(error).__name__}: {error}")
        say(f"{name}: failed\n{traceback.format_exc()}")
        return BROKEN
    for outcome in outcomes:
        record.outcome(name, outcome)
        say(f"{name}: {outcome.sentence()}")
    if _is_broken(outcomes):
        return BROKEN
    return INVALID if any(outcome.invalid for outcome in outcomes) else 0


def _tried(scenario: Scenario, scale: Scale) -> list[Outcome]:
    """A promise that was broken under a load that held is told, whatever the other loads did: no second try
    may hide it."""
    outcomes: list[Outcome] = []
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="fastpath-chaos-") as folder:
            outcomes = scenario(Path(folder), scale)
        if _is_broken(outcomes) or not any(outcome.invalid for outcome in outcomes):
            break
    return outcomes


def _is_broken(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.broken and not outcome.invalid for outcome in outcomes)


def say(text: str) -> None:
    """A line, at once."""
    print(text, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description="Faults under load.")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="scenarios of these names")
    parser.add_argument("--short", action="store_true", help="the sizes of the test suite")
    parser.add_argument("--list", action="store_true", help="the names of all scenarios")
    parser.add_argument("--results", type=Path, metavar="FOLDER", help="for the JSON")
    given = parser.parse_args(arguments)
    known = collected()
    if given.list:
        say("\n".join(known))
        return 0
    if unknown := set(given.only) - known.keys():
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    chosen = {name: known[name] for name in known if not given.only or name in given.only}
    scale = SHORT if given.short else FULL
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    folder = given.results or (UNRECORDED if given.short or given.only else RESULTS)
    record = Record("chaos", folder, scale=scale.name)
    with own_loopback():
        code = run(chosen, scale, record)
    say(f"wrote {record.path}")
    if folder == RESULTS:
        write_document()
        say("wrote docs/reliability.md")
    return code


if __name__ == "__main__":
    sys.exit(main())
