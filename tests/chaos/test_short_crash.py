"""Engines killed under load, in short versions."""

from tests.chaos.scenarios.crash import SCENARIOS
from tests.chaos.short import short_versions

test_promises_are_kept = short_versions(SCENARIOS)
