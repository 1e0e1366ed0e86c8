"""The relay that is broken on purpose: only in builds with C asserts, and only when it is asked for.

What it does, and that a replay sees it, is tests/path/test_replay_sabotage.py (debug build).
"""

import os
from pathlib import Path

import pytest

import fastpath

BUILT_IN = {"debug", "asan"}  # setup.py: the profiles without NDEBUG


@pytest.mark.parametrize("module", ["upstream", "downstream"])
def test_a_release_does_not_even_know_the_variable(module: str) -> None:
    profile = os.environ.get("FASTPATH_PROFILE", "release")
    (binary,) = Path(str(fastpath.__file__)).parent.glob(f"{module}.*.so")
    assert (b"FASTPATH_SABOTAGE" in binary.read_bytes()) == (profile in BUILT_IN)
