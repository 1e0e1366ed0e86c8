"""The runner: what is recorded of scenarios that succeed, break, fail, cannot run or were too slow."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.chaos.outcome import CannotRunError, Outcome
from tests.chaos.record import Record, newest, write_document
from tests.chaos.report import document
from tests.chaos.run import BROKEN, INVALID, collected, main, run
from tests.chaos.scale import SHORT, Scale

GOOD = Outcome("nothing", "1/s over 1 flows, plain, up", 1, 10, 10, 0, 0, 0, 0, 1.25, 80.0, "all is well")


def good(_directory: Path, _scale: Scale) -> list[Outcome]:
    return [GOOD.promising_nothing_lost()]


def lossy(_directory: Path, _scale: Scale) -> list[Outcome]:
    return [replace(GOOD, arrived=7, lost=3).promising_nothing_lost()]


def failing(_directory: Path, _scale: Scale) -> list[Outcome]:
    raise OSError("the roof is on fire")


def rootless(_directory: Path, _scale: Scale) -> list[Outcome]:
    raise CannotRunError("this needs root")


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record("chaos", tmp_path, scale="short")


def test_everything_is_recorded_and_the_worst_decides(record: Record, tmp_path: Path) -> None:
    assert run({"good": good, "rootless": rootless}, SHORT, record) == 0
    assert run({"good": good, "lossy": lossy, "failing": failing}, SHORT, record) == BROKEN
    saved = json.loads(record.path.read_text())
    assert [row["lost"] for row in saved["outcomes"]] == [0, 0, 3]
    assert saved["skipped"] == [{"scenario": "rootless", "reason": "this needs root"}]
    assert saved["failures"] == [{"scenario": "failing", "error": "OSError: the roof is on fire"}]
    text = document(saved, None)
    assert "| nothing | 1/s over 1 flows, plain, up | 1 | 10 | 3 | 0 | 0 | 0 | 1.2 | 80 |" in text
    assert "**broken promise: nothing is lost**; all is well" in text
    assert "* rootless: this needs root" in text
    assert "* failing: OSError: the roof is on fire" in text
    assert newest("chaos", tmp_path) == saved
    assert newest("soak", tmp_path) is None


def test_a_slow_load_is_tried_again_and_then_no_result(record: Record) -> None:
    tries: list[Path] = []

    def slow(directory: Path, _scale: Scale) -> list[Outcome]:
        tries.append(directory)
        return [replace(GOOD, invalid="" if len(tries) == 4 else "too slow")]

    assert run({"slow": slow}, SHORT, record) == INVALID
    assert run({"slow": slow}, SHORT, record) == 0
    assert len(set(tries)) == 4
    assert [row["invalid"] for row in record.result["outcomes"]] == ["too slow", ""]


def test_no_second_try_hides_a_promise_that_was_broken_under_a_load_that_held(record: Record) -> None:
    tries: list[Path] = []

    def half_slow(directory: Path, _scale: Scale) -> list[Outcome]:
        tries.append(directory)
        slow, kept = replace(GOOD, invalid="too slow"), GOOD.promising_nothing_lost()
        return [slow, lossy(directory, _scale)[0]] if len(tries) == 1 else [kept, kept]

    assert run({"half slow": half_slow}, SHORT, record) == BROKEN
    assert len(tries) == 1
    assert [bool(row["broken"]) for row in record.result["outcomes"]] == [False, True]


def test_what_the_time_does_not_suffice_for_is_left_out(record: Record) -> None:
    assert run({"good": good}, SHORT, record, total_s=0) == 0
    assert record.result["outcomes"] == []
    assert "were over" in record.result["skipped"][0]["reason"]


def test_a_scenario_that_hangs_is_ended(record: Record) -> None:
    def hanging(_directory: Path, _scale: Scale) -> list[Outcome]:
        while True:
            pass

    assert run({"hanging": hanging}, SHORT, record, total_s=0.2) == BROKEN
    assert record.result["failures"][0]["error"].startswith("GivenUpError: given up after 0 s")


def test_a_soak_has_its_place_in_the_document(tmp_path: Path) -> None:
    soak = Record("soak", tmp_path, seconds=60, seed=7)
    soak.result["figures"] = [["seconds, seed", "60, 7"]]
    soak.save(finished=True)
    write_document(tmp_path / "reliability.md", tmp_path)
    text = (tmp_path / "reliability.md").read_text()
    assert "## Soak" in text
    assert "| seconds, seed | 60, 7 |" in text
    assert "did not come to its end" not in text


def test_names_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list"]) == 0
    assert capsys.readouterr().out.splitlines() == list(collected())
    with pytest.raises(SystemExit):
        main(["--only", "nonsense"])
    assert "no scenario nonsense" in capsys.readouterr().err
