"""Every scenario in its short version: the same code as `make chaos`, at a rate that any machine holds."""

from pathlib import Path

import pytest

from tests.chaos.outcome import CannotRunError
from tests.chaos.run import Scenario, collected
from tests.chaos.scale import SHORT


@pytest.mark.parametrize(("name", "scenario"), collected(full=False).items(), ids=collected(full=False))
def test_promises_are_kept(name: str, scenario: Scenario, tmp_path: Path) -> None:
    try:
        outcomes = scenario(tmp_path, SHORT)
    except CannotRunError as reason:
        pytest.skip(str(reason))
    assert outcomes, f"{name} shows nothing"
    for outcome in outcomes:
        outcome.assert_kept()
