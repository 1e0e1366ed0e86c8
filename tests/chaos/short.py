"""Scenarios as tests: the same code as `make chaos`, at a rate that any machine holds.

A module of scenarios may have a file test_short_MODULE.py, so that its tests run beside those of others:

test_promises_are_kept = short_versions(SCENARIOS)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from tests.chaos.outcome import CannotRunError
from tests.chaos.run import Scenario
from tests.chaos.scale import SHORT


def short_versions(scenarios: Mapping[str, Scenario]) -> Callable[..., None]:
    """A test for each."""

    @pytest.mark.parametrize(("name", "scenario"), scenarios.items(), ids=scenarios)
    def keeps_its_promises(name: str, scenario: Scenario, tmp_path: Path) -> None:
        try:
            outcomes = scenario(tmp_path, SHORT)
        except CannotRunError as reason:
            pytest.skip(str(reason))
        assert outcomes, f"{name} shows nothing"
        for outcome in outcomes:
            outcome.assert_kept()

    return keeps_its_promises
