"""Models of what a killed writer leaves behind, checked for every interleaving and every kill (spin).

Each model names switches that break it: a check that does not find what is broken proves nothing.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.require import require

HERE = Path(__file__).parent
MODELS = sorted(path.stem for path in HERE.glob("*.pml"))
BROKEN = {  # model, switch: what the assertion that fails speaks of
    ("counters", "PLUS_ONE"): "seen",
    ("counters", "ONE_LOOK"): "seen",
    ("flows", "OLD_GOES_FIRST"): "complete",
    ("flows", "NO_MARK"): "complete",
    ("flows", "KEEPS_ODD"): "complete",
    ("flows", "KEEPS_BOTH"): "complete",
    ("flows", "ONE_LOOK"): "a==b",
    ("flows", "FIRST_WINS"): "found_number>=atleast",
    ("handover", "DONE_BEFORE_SEND"): "sent",
    ("handover", "READY_BEFORE_EMPTY"): "duplicated",
    ("handover", "FORGETS_OWED"): "sent",
    ("handover", "MARK_BEFORE_BOOKS"): "duplicated",
    ("succession", "WORD_BEFORE_RELEASE"): "words==0",
    ("succession", "KILL_IS_DEATH"): "words==0",
    ("succession", "NO_LOCK"): "writer==4",  # nobody
    ("succession", "NO_STANDBY"): "!(safe)||engine[serving].works",
    ("succession", "PROBATION_ENDS"): "safe||lost",
    ("succession", "FORGETS_THE_DEAD"): "writer==serving",
    ("succession", "NO_DEADLINE"): "writer==serving",
    ("succession", "STARTED_IN_TIME"): "writer==serving",
}


def check(model: str, folder: Path, *flags: str) -> str:
    """What spin's verifier says of all states. Most of the time goes into gcc: -O0 is the quickest in all."""
    file = HERE / f"{model}.pml"
    commands = (
        [require("spin"), "-a", *flags, file],
        [require("gcc"), "-O0", "-w", "-DSAFETY", "-o", "pan", "pan.c"],
    )
    for command in commands:
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
    done = subprocess.run(
        [folder / "pan", "-m100000"], cwd=folder, check=False, capture_output=True, text=True, timeout=100
    )
    assert "max search depth too small" not in done.stdout
    return done.stdout


@pytest.mark.parametrize("model", MODELS)
def test_what_is_claimed_holds_in_every_state(model: str, tmp_path: Path) -> None:
    said = check(model, tmp_path)
    assert "errors: 0" in said, said
    states = re.search(r"(\d+) states, stored", said)
    assert states
    assert int(states[1]) > 1000


@pytest.mark.parametrize(("model", "switch"), BROKEN, ids=list(map(" ".join, BROKEN)))
def test_a_broken_one_is_found(model: str, switch: str, tmp_path: Path) -> None:
    said = check(model, tmp_path, f"-D{switch}")
    found = re.search(r"assertion violated \(?(.*)\) \(at depth", said)
    assert found, said
    assert BROKEN[model, switch] in found[1]


def test_every_switch_of_a_model_is_tried() -> None:
    named = {
        (model, name)
        for model in MODELS
        for name in re.findall(r"^#ifn?def (\w+)", (HERE / f"{model}.pml").read_text(), re.MULTILINE)
    }
    assert named == set(BROKEN)
