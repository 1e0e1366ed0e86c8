"""A relay that is broken on purpose is caught, with the datagram named. Debug and asan builds only."""

from pathlib import Path

import pytest

from pyfastpath.tools.replay.options import Flags, read_flags
from pyfastpath.tools.replay.report import FAILED, Fault, Outcome, to_text
from pyfastpath.tools.replay.run import replay

PCAP = Path(__file__).parents[1] / "pcaps" / "chromium-dtls12.pcap"
SESSIONS = 10
SESSIONS_DROPPED = 30  # more than 10,000 datagrams each way: one in so many is dropped


@pytest.fixture(params=["plain", "trunk"])
def upstream(request: pytest.FixtureRequest) -> str:
    return request.param


def broken(monkeypatch: pytest.MonkeyPatch, how: str, upstream: str, sessions: int = SESSIONS) -> Outcome:
    monkeypatch.setenv("FASTPATH_SABOTAGE", how)
    return replay(read_flags(Flags(file=PCAP, speed="max", sessions=sessions, upstream=upstream), wall_s=0))


def named(outcome: Outcome, kind: str, upstream: bool) -> Fault:
    """The one fault of this kind and direction; it names session, call and frame."""
    assert outcome.exit_code == FAILED, to_text(outcome)
    (fault,) = [item for item in outcome.faults if (item.kind, item.upstream) == (kind, upstream)]
    assert 0 <= fault.session < outcome.sessions
    assert (fault.call, fault.ufrag) == (0, "4b0eec3d")
    assert 1 <= fault.frame <= 943
    assert str(fault) in to_text(outcome)
    return fault


def test_without_sabotage_it_passes(monkeypatch: pytest.MonkeyPatch, upstream: str) -> None:
    assert broken(monkeypatch, "", upstream).exit_code == 0


def test_one_in_ten_thousand_is_dropped(monkeypatch: pytest.MonkeyPatch, upstream: str) -> None:
    outcome = broken(monkeypatch, "drop", upstream, SESSIONS_DROPPED)
    assert (outcome.up.lost, outcome.down.lost) == (1, 1)
    for way in (True, False):
        named(outcome, "lost", way)
    assert outcome.drops == {}  # the relay itself says that it forwarded them


def test_one_is_misrouted(monkeypatch: pytest.MonkeyPatch, upstream: str) -> None:
    outcome = broken(monkeypatch, "misroute", upstream)
    assert (outcome.up.misrouted, outcome.down.misrouted) == (1, 1)
    assert "at end" in named(outcome, "misrouted", True).detail
    assert "at the client of session" in named(outcome, "misrouted", False).detail


def test_one_is_reordered(monkeypatch: pytest.MonkeyPatch, upstream: str) -> None:
    outcome = broken(monkeypatch, "reorder", upstream)
    assert outcome.up.reordered == 1
    assert outcome.up.delivered == outcome.planned_up
    named(outcome, "reordered", True)


def test_one_is_corrupted(monkeypatch: pytest.MonkeyPatch, upstream: str) -> None:
    outcome = broken(monkeypatch, "corrupt", upstream)
    assert (outcome.up.corrupted, outcome.down.corrupted) == (1, 1)
    for way in (True, False):
        assert named(outcome, "corrupted", way).detail.startswith("byte ")
