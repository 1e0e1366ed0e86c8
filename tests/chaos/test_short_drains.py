"""Drains under load, in short versions."""

from tests.chaos.scenarios.drains import SCENARIOS
from tests.chaos.short import short_versions

test_promises_are_kept = short_versions(SCENARIOS)
