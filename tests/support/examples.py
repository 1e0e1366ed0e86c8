"""How many random cases a test of the data plane draws.

Release and debug compare results and draw them all. The sanitizers ask only whether memory was touched that
should not be: three times as slowly, and behind ten minutes of fuzzing whose inputs they run again. There a
quarter is enough.
"""

import os
from collections.abc import Sequence

from hypothesis import HealthCheck, settings

SHARE = 4 if os.environ.get("FASTPATH_PROFILE") == "asan" else 1


def examples(count: int, *, may_be: Sequence[HealthCheck] = ()) -> settings:
    """A decorator: so many, or their share. may_be: what Hypothesis is not to complain of."""
    return settings(max_examples=count // SHARE, suppress_health_check=may_be)
