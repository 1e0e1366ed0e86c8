"""Changes by an operator under load, in short versions."""

from tests.chaos.scenarios.changes import SCENARIOS
from tests.chaos.short import short_versions

test_promises_are_kept = short_versions(SCENARIOS)
