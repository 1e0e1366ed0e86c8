"""What the call benchmarks print, and which of their runs they refuse."""

import pytest

from bench.calls.tables import capacity_report, faults, remarks, setup_report

GOOD = {
    "sessions": 100,
    "seconds": 8.0,
    "scheduled": 40_000,
    "sent": 40_000,
    "replies": 39_990,
    "checked": 400,
    "wrong": 0,
    "lost": 0,
    "late_p99_ms": 0.9,
    "late_max_ms": 20.0,
    "response_p50_ms": 1.0,
    "response_p99_ms": 3.0,
    "load_cpu_share": 0.3,
    "cpu_ms": 0.6,
    "cpu_share": 0.2,
    "waited_share": 0.01,
    "relay_ms": 0.2,
}


def result(**servers):
    return {
        "commit": "abc",
        "date": "2026-01-01",
        "machine": {"cpu": "some", "buffers": {"rmem": 1}},
        "settings": {"rounds": 3, "warmup_s": 2.0, "measure_s": 8.0},
        "goals_ms": {name: 0.67 if name == "echo" else None for name in servers},
        "servers": servers,
    }


def test_a_quiet_run_is_valid_and_needs_no_word():
    assert faults(GOOD) == []
    assert remarks(GOOD) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"load_cpu_share": 0.81}, "saturates: 81% of its CPU"),
        ({"late_p99_ms": 6.0}, "saturates: 6.0 ms late"),
        ({"sent": 39_000}, "saturates: 97.5% sent"),
        ({"replies": 30_000}, "75.0% answered"),
        ({"wrong": 1}, "1 of 400 replies wrong"),
        ({"checked": 0}, "0 of 0 replies wrong"),
    ],
)
def test_a_run_is_invalid_with_its_reason(change, word):
    (said,) = faults(GOOD | change)
    assert word in said


@pytest.mark.parametrize(
    ("change", "word"), [({"cpu_share": 0.95}, "saturated"), ({"waited_share": 0.2}, "disturbed")]
)
def test_what_bends_a_figure_is_said(change, word):
    (said,) = remarks(GOOD | change)
    assert said.startswith(word)


def test_medians_are_of_valid_rounds_only():
    rows = [GOOD, GOOD | {"cpu_ms": 0.8}, GOOD | {"cpu_ms": 9.0, "wrong": 3}]
    text = capacity_report(result(echo=rows, theirs=[GOOD | {"cpu_ms": cost} for cost in (60.0, 60.0, 1.0)]))
    (line,) = [line for line in text.splitlines() if line.startswith("| echo")]
    assert "**0.70** | 0.60-0.80 | ≤ 0.67 | 1,429 |" in line
    assert "1 of 3 rounds invalid; 3 of 400 replies wrong" in line
    assert "theirs costs 87.5 times echo (75.0-100.0)." in text


def test_a_server_without_a_valid_round_has_no_figure():
    text = capacity_report(result(echo=[GOOD | {"wrong": 1}], theirs=[GOOD]))
    (line,) = [line for line in text.splitlines() if line.startswith("| echo")]
    assert line.startswith("| echo | 100 | invalid |")
    assert line.count("|") == 12
    assert "costs" not in text


def test_setup_is_told_step_by_step_and_a_step_nobody_saw_is_a_dash():
    calls = [
        {"steps_ms": {"answered": 5.0, "media": media}, "server_ms": {"keys": 7.0}}
        for media in (9.0, 15.0, 11.0)
    ]
    other = [{"steps_ms": {"media": 30.0}, "server_ms": {}}]
    text = setup_report(
        {"commit": "abc", "date": "2026-01-01", "machine": {}, "calls": {"ours": calls, "theirs": other}}
    )
    assert "| **first RTP packet received** | 11.0 (9.0-15.0) | 30.0 (30.0-30.0) |" in text
    assert "| the POST is answered | 5.0 (5.0-5.0) | – |" in text
    assert "| handshake done | 7.0 (7.0-7.0) |" in text
