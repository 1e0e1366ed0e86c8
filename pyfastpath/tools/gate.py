"""`--fail-if 'p99_us>200'`: what a run must not be, and whether it was. Pure.

A gate names a figure of the run, compares it with a number and fails the run when the comparison holds. A
figure that the run did not measure fails its gate too: nothing passes because nobody looked.
"""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from pyfastpath.errors import ConfigError

FLAG: Final = "--fail-if"
# What a load run can be judged by: name -> what it is.
FIGURES: Final[Mapping[str, str]] = {
    "loss": "share of the datagrams sent that never arrived, 0 to 1",
    "lost": "datagrams that never arrived",
    "duplicates": "datagrams that arrived once too often",
    "misrouted": "datagrams that arrived at the wrong end",
    "reordered": "datagrams that arrived after a later one of their flow",
    "p50_us": "median latency from the intended send time",
    "p90_us": "latency nine in ten stay below",
    "p99_us": "latency 99 % stay below",
    "p999_us": "latency 99.9 % stay below",
    "max_us": "the longest latency",
    "pps": "datagrams forwarded a second",
    "cpu_ns": "CPU time of the relay a forwarded datagram",
    "late": "datagrams sent more than 1 ms after their time",
}
COMPARISONS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}
_SHAPE: Final = re.compile(r"\s*(?P<name>\w+)\s*(?P<comparison>>=|<=|==|>|<)\s*(?P<limit>\S+)\s*")


@dataclass(frozen=True, slots=True)
class Gate:
    """Fails a run when `name` `comparison` `limit` holds."""

    name: str
    comparison: str
    limit: float

    def __str__(self) -> str:
        return f"{self.name}{self.comparison}{self.limit:.15g}"  # 2000000, as it was written

    def judge(self, figures: Mapping[str, float | None]) -> Judgement:
        """Look at the figures of a run; None, NaN or missing means that it was not measured."""
        value = figures.get(self.name)
        if value is None or math.isnan(value):
            return Judgement(self, None, True)
        return Judgement(self, value, COMPARISONS[self.comparison](value, self.limit))


@dataclass(frozen=True, slots=True)
class Judgement:
    """What became of a gate. value: the figure, None when the run has none."""

    gate: Gate
    value: float | None
    failed: bool

    def __str__(self) -> str:
        """One clause: `p99_us is 312: fails at p99_us>200`."""
        if self.value is None:
            return f"{self.gate.name} was not measured, so {self.gate} cannot be answered"
        verb = "fails" if self.failed else "would fail"
        return f"{self.gate.name} is {_short(self.value)}: {verb} at {self.gate}"


def parse_gate(text: str, known: Mapping[str, str] = FIGURES) -> Gate:
    """Read one condition. known: the figures that may be named. ConfigError says what is wrong with it."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise ConfigError(
            f"{text!r} is no condition",
            "Write a figure, > >= < <= or ==, and a number: loss>0.001.",
            key=FLAG,
        )
    name, written = match["name"], match["limit"]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise ConfigError(f"there is no figure {name!r}", f"{hint}Known: {', '.join(known)}.", key=FLAG)
    try:
        limit = float(written)
    except ValueError:
        hint = (
            "Write a share, not per cent: 0.1% is 0.001." if written.endswith("%") else "Write 200 or 0.001."
        )
        raise ConfigError(f"{written!r} in {text!r} is no number", hint, key=FLAG) from None
    if math.isnan(limit):
        raise ConfigError(f"{text!r} compares with nothing", "Write 200 or 0.001.", key=FLAG)
    return Gate(name, match["comparison"], limit)


def parse_gates(texts: Iterable[str], known: Mapping[str, str] = FIGURES) -> list[Gate]:
    """Read every condition that was given."""
    return [parse_gate(text, known) for text in texts]


def judge(gates: Iterable[Gate], figures: Mapping[str, float | None]) -> list[Judgement]:
    """One judgement a gate, in their order."""
    return [gate.judge(figures) for gate in gates]


def _short(value: float) -> str:
    return f"{value:.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"
