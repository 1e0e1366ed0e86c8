"""What reaches a call, an operator's file or API: a short run of each of their fuzz targets finds nothing."""

from pathlib import Path

import pytest

from tests.fuzz import corpus
from tests.fuzz.smoke import finds_nothing
from tests.fuzz.test_relay_targets import TARGETS as OF_THE_RELAY

pytest.importorskip("atheris", reason="no atheris: there are wheels for Linux on x86-64")
TARGETS = ["admin", "config", "media", "pcap", "realtime", "reception", "sdp"]


def test_every_target_is_run_once() -> None:
    assert sorted(TARGETS + OF_THE_RELAY) == corpus.names()


@pytest.mark.parametrize("name", TARGETS)
def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
    finds_nothing(name, tmp_path)
