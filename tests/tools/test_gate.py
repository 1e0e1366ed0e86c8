"""Conditions that fail a run: how they are written, what they say, and that nothing unmeasured passes."""

import math

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.tools.gate import FIGURES, Gate, judge, parse_gate, parse_gates


@pytest.mark.parametrize(
    ("text", "gate"),
    [
        ("loss>0.001", Gate("loss", ">", 0.001)),
        (" p99_us >= 200 ", Gate("p99_us", ">=", 200)),
        ("pps<1e5", Gate("pps", "<", 100_000)),
        ("misrouted == 0", Gate("misrouted", "==", 0)),
        ("late<=3", Gate("late", "<=", 3)),
    ],
)
def test_a_condition_is_read(text, gate):
    assert parse_gate(text) == gate


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("loss", "'loss' is no condition. Write a figure"),
        ("loss=>1", "'loss=>1' is no condition"),
        ("", "'' is no condition"),
        ("loss>", "'loss>' is no condition"),
        ("p99us>1", "there is no figure 'p99us'. Did you mean p99_us? Known: loss, lost, duplicates"),
        ("speed<1", "there is no figure 'speed'. Known: loss"),
        ("loss>0.1%", "'0.1%' in 'loss>0.1%' is no number. Write a share, not per cent: 0.1% is 0.001."),
        ("loss>many", "'many' in 'loss>many' is no number. Write 200 or 0.001."),
        ("loss>nan", "compares with nothing"),
        ("loss>1 2", "is no condition"),
    ],
)
def test_a_wrong_condition_is_one_sentence_that_names_the_flag(text, said):
    with pytest.raises(ConfigError) as refused:
        parse_gate(text)
    assert str(refused.value).startswith("--fail-if: ")
    assert said in str(refused.value)
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "value", "failed"),
    [
        ("loss>0.1", 0.1, False),
        ("loss>=0.1", 0.1, True),
        ("pps<100", 99, True),
        ("pps<=100", 101, False),
        ("lost==0", 0, True),
        ("lost>0", 0, False),
    ],
)
def test_a_run_is_judged(text, value, failed):
    gate = parse_gate(text)
    (judgement,) = judge([gate], {gate.name: value})
    assert judgement.failed is failed
    assert judgement.value == value


@pytest.mark.parametrize("figures", [{}, {"p99_us": None}, {"p99_us": math.nan}])
def test_what_was_not_measured_fails(figures):
    (judgement,) = judge([parse_gate("p99_us>200")], figures)
    assert judgement.failed
    assert str(judgement) == "p99_us was not measured, so p99_us>200 cannot be answered"


def test_a_judgement_is_a_sentence():
    first, second = judge(parse_gates(["p99_us>200", "loss>0.001"]), {"p99_us": 312.4, "loss": 0})
    assert str(first) == "p99_us is 312.4: fails at p99_us>200"
    assert str(second) == "loss is 0: would fail at loss>0.001"


def test_a_limit_is_told_in_full():
    for text in ("p99_us>2000000", "loss>0.001", "pps<1234567.5"):
        assert str(parse_gate(text)) == text


def test_another_tool_has_its_own_figures():
    assert parse_gate("corrupted>0", {"corrupted": "changed on the way"}).name == "corrupted"
    with pytest.raises(ConfigError, match=r"no figure 'pps'\. Known: corrupted\."):
        parse_gate("pps<1", {"corrupted": "changed on the way"})
    assert {"loss", "p999_us", "cpu_ns", "late"} <= set(FIGURES)
