"""More than the relay's CPU time carries, in a short version."""

from tests.chaos.scenarios.overload import SCENARIOS
from tests.chaos.short import short_versions

test_promises_are_kept = short_versions(SCENARIOS)
