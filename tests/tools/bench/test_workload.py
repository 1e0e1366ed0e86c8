"""One workload through a real relay: a schedule, a ramp, a flood, new sessions, and too much of it."""

import os

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.tools.bench import workload as module
from pyfastpath.tools.bench.cpu import divide
from pyfastpath.tools.bench.figures import Row, figures, invalid
from pyfastpath.tools.bench.options import Flags, read_options
from pyfastpath.tools.bench.workload import workload
from pyfastpath.tools.progress import Progress


class Heard(Progress):
    """What a terminal would have shown."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def show(self, text: str) -> None:
        self.texts.append(text)


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    monkeypatch.setattr(module, "OWN_S", 0.2)
    monkeypatch.setattr(module, "OWN_WARMUP_S", 0.1)
    monkeypatch.setattr(module, "OWN_SESSIONS", 5000)


def measured(**flags) -> tuple[list[Row], list[str]]:
    shown = Heard()
    known = {"duration_s": 0.5, "warmup_s": 0.1, "sessions": "50"} | flags
    rows = workload(read_options(Flags(**known)), divide(frozenset(os.sched_getaffinity(0))), shown)
    return rows, shown.texts


def test_a_schedule_through_a_relay_of_our_own():
    (own, row), texts = measured(pps="1k", mode="echo", ramp_s=0.4)
    assert (own.path, own.own_pps) == ("no relay", None)
    assert own.paced[0].rate_pps == 1000, "its own latency at the same rate"
    assert row.own_pps == own.floods[0].sent_pps
    assert row.paced[0].rate_pps == 1000
    said = figures(row)
    assert said["lost"] == said["misrouted"] == 0
    assert said["cpu_ns"]
    assert any(text.startswith("ramp: 0.5 of 1.0 k/s") for text in texts)
    assert any("k/s forwarded · p99" in text for text in texts)


def test_a_flood():
    (_, row), _ = measured(pps="flood", mode="up", upstream="trunk")
    assert row.paced == ()
    assert row.floods[0].forwarded > 1000
    assert invalid(row) == []


def test_new_sessions():
    (own, row), texts = measured(mode="setup", pps="200", sessions="500")
    assert own.floods[0].forwarded > 100
    assert 50 <= row.paced[0].sent <= 105
    assert row.paced[0].lost == 0
    assert figures(row)["p50_us"]
    assert any("k sessions/s" in text for text in texts)


def test_sessions_that_the_warm_up_used_up_are_told():
    with pytest.raises(ConfigError, match="--sessions: all 50 were open before the warm-up was over"):
        measured(mode="setup", pps="flood")


def test_a_rate_that_nobody_can_hold_is_no_measurement():
    (_, row), _ = measured(pps="50M", mode="up", duration_s=0.3)
    assert "the generator held" in invalid(row)[0]
    assert any("no headroom" in reason for reason in invalid(row))
