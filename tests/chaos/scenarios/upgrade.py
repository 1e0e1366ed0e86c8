"""Another version takes over under load, up and down, also one whose tables have another layout, also one
that is broken: nothing is lost, and nobody's flow moves."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pyfastpath
from tests.chaos.outcome import CannotRunError, Outcome
from tests.chaos.rig import ChaosRig
from tests.chaos.scale import Scale
from tests.support.installed import COMPILED, Installed
from tests.support.rig import until

OLD: Final = pyfastpath.__version__
NEW: Final = "2.0"
UPGRADE_S: Final = 90.0
DEBUG: Final = Path(__file__).parents[3] / "build" / "debug" / "lib" / "fastpath"
ROUNDS: Final = 2


def same_layout(directory: Path, scale: Scale) -> list[Outcome]:
    """There and back, over the same tables."""
    installed = Installed(directory)
    installed.version(NEW)
    return [_upgraded(directory, scale, installed, "upgraded and back", wanted="done")]


def broken(directory: Path, scale: Scale) -> list[Outcome]:
    """A version that dies of the word; the old one goes on."""
    installed = Installed(directory)
    installed.crash_at_start(NEW)
    return [
        _upgraded(
            directory, scale, installed, "upgrade to a version that crashes", wanted="failed", back=False
        )
    ]


def other_layout(directory: Path, scale: Scale) -> list[Outcome]:
    """There and back, each time with tables made anew from an export. Only debug builds have two layouts."""
    if not DEBUG.is_dir():
        raise CannotRunError("there is no debug build: make debug")
    installed = Installed(directory, DEBUG)
    installed.version(NEW, layout=1)
    return [
        _upgraded(directory, scale, installed, "upgraded to another table layout and back", wanted="done")
    ]


def _upgraded(
    directory: Path, scale: Scale, installed: Installed, fault: str, *, wanted: str, back: bool = True
) -> Outcome:
    rounds = ROUNDS if scale.is_full and back else 1  # after a broken one, whoever stands by is of it
    size = scale.both_ways()  # the candidate reads its programs on the relay's own CPU
    with ChaosRig(directory, size, mode="echo", start=lambda _, **config: installed.running(**config)) as rig:
        rig.load_start()
        ends = []
        for _ in range(rounds):
            for version in (NEW, OLD) if back else (NEW,):
                _when_nobody_imports(rig)
                installed.switch(version)
                rig.mark()
                ends.append(_upgrade(rig))
                rig.arrives_again()
        rig.load_stop()
        outcome = rig.outcome(fault, note="debug build" if installed.compiled != COMPILED else "")
    return outcome.promising_nothing_lost().promising(
        all(end == wanted for end in ends), f"every upgrade is {wanted}, not {', '.join(ends)}"
    )


def _upgrade(rig: ChaosRig) -> str:
    """How it ended: done or failed."""
    rig.ask("POST", "/v1/upgrade")
    found: dict[str, Any] = {"state": ""}

    def has_ended() -> bool:
        try:
            found.update(json.loads(rig.relay.request("GET", "/v1/upgrade", b"")[1]))
        except (OSError, http.client.HTTPException):  # one engine goes, the other comes
            return False
        return found["state"] in ("done", "failed")

    until(has_ended, "the end of the upgrade", seconds=UPGRADE_S)
    return str(found["state"])


def _when_nobody_imports(rig: ChaosRig) -> None:
    """Every engine that ever served has got one behind it. One that still imports would import what is
    installed meanwhile."""

    def all_have() -> bool:
        said = rig.relay.log.read_text()
        return said.count(" stands by\n") >= said.count(" workers serve ")

    until(all_have, "another stands by", seconds=UPGRADE_S)


SCENARIOS: dict[str, Callable[[Path, Scale], list[Outcome]]] = {
    "upgrade": same_layout,
    "broken upgrade": broken,
}
ONLY_FULL = {"layout upgrade": other_layout}  # in the suite of the debug build: tests/path/test_upgrade.py
