"""What reaches a relay: a short run of each of its fuzz targets finds nothing."""

from pathlib import Path

import pytest

from tests.fuzz.smoke import finds_nothing

pytest.importorskip("atheris", reason="no atheris: there are wheels for Linux on x86-64")
TARGETS = ["demux", "stun", "token", "trunk", "trunk_relay", "decision", "tables", "export"]


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    finds_nothing(name, tmp_path)
