"""The engine dies between any two instructions that matter, under load: nothing of confirmed flows is lost.

Only the debug build has the points (fastpath/crash.pxd); the release is asked whether it has none.
"""

import os
from pathlib import Path

import pytest

import fastpath
from tests.chaos.scale import SHORT
from tests.chaos.scenarios.crash import at_points

BUILT_IN = {"debug", "asan"}  # setup.py: the profiles without NDEBUG
PROFILE = os.environ.get("FASTPATH_PROFILE", "release")


@pytest.mark.parametrize("module", ["upstream", "downstream", "flows", "routes", "ports", "counters"])
def test_a_release_does_not_even_know_the_variable(module: str) -> None:
    (binary,) = Path(str(fastpath.__file__)).parent.glob(f"{module}.*.so")
    assert (b"FASTPATH_CRASH" in binary.read_bytes()) == (PROFILE in BUILT_IN)


if PROFILE == "debug":

    @pytest.mark.parametrize("upstream", ["plain", "trunk"])
    def test_dying_at_every_point_loses_nothing(tmp_path: Path, upstream: str) -> None:
        at_points(tmp_path, SHORT, upstream).assert_kept()
