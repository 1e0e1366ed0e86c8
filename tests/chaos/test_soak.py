"""A soak of a few seconds: everything it does, and every book it keeps."""

from pathlib import Path

from tests.chaos.soak import Soak


def test_a_short_soak_keeps_every_promise(tmp_path: Path) -> None:
    soak = Soak(seconds=3, seed=5)
    soak.run(tmp_path)
    soak.outcome.assert_kept()
    figures = dict(soak.figures)
    assert figures["engine killed"]
    assert figures["flood of junk"]
    assert not figures["calls that came and went"].startswith("0")
    assert figures["promises"] == "kept"
