"""The verdict of a replay, and how it is told: one screen, JSON, JUnit. Pure.

Passed is a replay of which every datagram came out once, unchanged, in order, at its place. A gate on a
figure (`--fail-if`) replaces that rule for this figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from pyfastpath.tools.flag_values import TRUNK_KEY_HINT
from pyfastpath.tools.gate import FIGURES as GENERAL_FIGURES
from pyfastpath.tools.gate import Gate, Judgement, judge
from pyfastpath.tools.junit import Case

PASSED, FAILED, UNREACHABLE, INVALID = 0, 1, 3, 4  # exit codes
FAULTS_SHOWN: Final = 10
TIMING_BROKEN_US: Final = 10_000  # half of all datagrams this much too late: the capture's timing is not kept
STARVED_SHARE_MAX: Final = 0.1

FIGURES: Final[Mapping[str, str]] = {
    name: GENERAL_FIGURES[name]
    for name in (
        *("loss", "lost", "duplicates", "misrouted", "reordered"),
        *("p50_us", "p90_us", "p99_us", "p999_us", "max_us", "pps"),
    )
} | {
    "corrupted": "datagrams that arrived changed",
    "strangers": "datagrams that arrived and that nobody sent",
    "unroutable": "datagrams a server could not send, for its backend never heard of the session",
    "unsent": "datagrams left when nothing came out any more",
    "timing_p50_us": "how much later than recorded half of all datagrams left at most",
    "timing_p99_us": "how much later than recorded 99 % of all datagrams left at most",
}
NEVER: Final = (
    *("lost", "duplicates", "reordered", "corrupted", "misrouted", "strangers", "unroutable", "unsent"),
)
_SAME: Final = {"loss": "lost"}  # two figures for one thing


@dataclass(frozen=True, slots=True)
class Way:
    """What became of the datagrams of one direction."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    corrupted: int = 0
    misrouted: int = 0
    strangers: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """One datagram that did not come out as it should. session -1: nobody's."""

    kind: str
    upstream: bool
    session: int
    client: str  # address at the relay
    call: int  # of the capture
    ufrag: str  # its ufrag in the capture
    frame: int  # number in the capture, -1: of none
    at_s: float  # since the replay began
    detail: str

    def __str__(self) -> str:
        way = "up" if self.upstream else "down"
        if self.session < 0:
            return f"{self.kind} {way} at {self.at_s:.6f} s: {self.detail}"
        return (
            f"{self.kind} {way}: frame {self.frame} of call {self.call} ({self.ufrag}), "
            f"session {self.session} ({self.client}), at {self.at_s:.6f} s: {self.detail}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Everything a replay knows when it is over. Times are microseconds where a name says so."""

    file: str
    calls: int
    flows: int
    datagrams: int
    recorded_s: float
    skipped: dict[str, int]
    signed: int
    unsigned: int
    target: str
    mode: str
    backends: int
    sessions: int
    turns: int
    calls_played: int
    speed: float  # 0: as fast as order lets
    seed: int
    planned_up: int
    planned_down: int
    up: Way
    down: Way
    unroutable: int
    moved: int
    elapsed_s: float
    timed: int
    held_back: int
    starved: int
    blocked: int  # not sent: the machine's own send buffers were full
    timing_us: dict[str, float]  # p50, p99, max; empty: nothing was timed
    latency_us: dict[str, float]  # p50, p90, p99, p999, max; empty: nothing came out
    drops: dict[str, int] | None  # of the relay during the run; None: not asked
    faults: tuple[Fault, ...] = ()
    gates: tuple[Gate, ...] = field(default_factory=tuple)

    @property
    def sent(self) -> int:
        """In both directions."""
        return self.up.sent + self.down.sent

    @property
    def unsent(self) -> int:
        """Datagrams whose turn never came, because nothing came out any more."""
        return self.planned_up + self.planned_down - self.sent - self.unroutable

    def figures(self) -> dict[str, float | None]:
        """What gates can name."""
        both = {name: getattr(self.up, name) + getattr(self.down, name) for name in Way.__dataclass_fields__}
        delivered = both.pop("delivered")
        sent = both.pop("sent")
        return {
            **both,
            "unroutable": self.unroutable,
            "unsent": self.unsent,
            "loss": both["lost"] / sent if sent else None,
            "pps": delivered / self.elapsed_s if self.elapsed_s else None,
            **{f"{name}_us": value for name, value in self.latency_us.items()},
            **{f"timing_{name}_us": value for name, value in self.timing_us.items() if name != "max"},
        }

    def judgements(self) -> list[Judgement]:
        """The rules that hold for this replay, and whether each is kept."""
        named = {_SAME.get(gate.name, gate.name) for gate in self.gates}
        rules = [Gate(name, ">", 0) for name in NEVER if name not in named]
        return judge([*rules, *self.gates], self.figures())

    @property
    def invalid(self) -> str:
        """Why nothing can be concluded from it; empty: it is valid."""
        if self.blocked:
            return f"this machine had no room to send {self.blocked:,} of {self.sent:,} datagrams"
        if not self.speed or not self.sent:
            return ""
        if self.timing_us.get("p50", 0) > TIMING_BROKEN_US:
            return f"half of all datagrams left more than {TIMING_BROKEN_US // 1000} ms after their time"
        if self.starved > STARVED_SHARE_MAX * self.sent:
            return f"the capture could not be read in time for {self.starved:,} of {self.sent:,} datagrams"
        return ""

    @property
    def unreachable(self) -> bool:
        """Nothing at all arrived."""
        return self.up.sent > 0 and not self.up.delivered + self.up.corrupted + self.up.misrouted

    @property
    def exit_code(self) -> int:
        """Of the command."""
        if self.unreachable:
            return UNREACHABLE
        if self.invalid:
            return INVALID
        return FAILED if any(item.failed for item in self.judgements()) else PASSED


def to_text(outcome: Outcome) -> str:
    """One screen."""
    return "\n".join(f"{head:11}{line}" for head, line in _lines(outcome))


def _lines(o: Outcome) -> Iterator[tuple[str, str]]:
    yield "capture", f"{o.file}: {_count(o.calls, 'call')}, {o.datagrams:,} datagrams, {o.recorded_s:.1f} s"
    if o.skipped:
        yield "left out", ", ".join(f"{count:,} {why}" for why, count in o.skipped.items())
    if o.unsigned:
        known = f"{o.signed:,} of {o.signed + o.unsigned:,}"
        yield "integrity", f"recomputed in {known} STUN messages, kept in the others: no password"
    speed = f"{o.speed:g}×" if o.speed else "full speed"
    turns = f", {o.turns} times" if o.turns > 1 else ""
    unplayed = f" ({_count(o.calls - o.calls_played, 'call')} unplayed)" if o.calls_played < o.calls else ""
    yield (
        "played",
        f"{_count(o.sessions, 'session')}{turns}{unplayed} at {speed} through {o.target} to "
        f"{_count(o.backends, f'{o.mode} backend')}, seed {o.seed}",
    )
    yield "", f"in {o.elapsed_s:.1f} s: {(o.up.delivered + o.down.delivered) / o.elapsed_s:,.0f} datagrams/s"
    for head, way, planned in (("up", o.up, o.planned_up), ("down", o.down, o.planned_down)):
        yield head, _way_line(way, planned)
    if o.unroutable:
        yield "", f"{o.unroutable:,} datagrams of servers whose session never reached them were not sent"
    if o.unsent:
        yield "", f"{o.unsent:,} datagrams were left when nothing came out any more"
    yield from _time_lines(o)
    if o.drops:
        yield "relay", "dropped " + ", ".join(f"{count:,} {why}" for why, count in o.drops.items())
    for number, fault in enumerate(o.faults[:FAULTS_SHOWN]):
        yield "" if number else "faults", str(fault)
    if len(o.faults) > FAULTS_SHOWN:
        yield "", "more of them are in the JSON (--json)"
    yield "verdict", _verdict(o)


def _way_line(way: Way, planned: int) -> str:
    share = 100 * way.delivered / planned if planned else 100.0
    faults = ", ".join(
        f"{getattr(way, name):,} {name}" for name in NEVER if hasattr(way, name) and getattr(way, name)
    )
    exact = "100" if way.delivered == planned else f"{min(share, 99.9999):.4f}"
    said = faults or ("each once, unchanged, in order" if way.delivered == planned else "the others not sent")
    return f"{way.delivered:,} of {planned:,} delivered ({exact} %), {said}"


def _time_lines(o: Outcome) -> Iterator[tuple[str, str]]:
    if o.speed:
        late = f"p50 {o.timing_us['p50']:.0f} µs, p99 {o.timing_us['p99']:.0f} µs" if o.timing_us else "none"
        share = 100 * o.held_back / max(o.sent, 1)
        yield (
            "timing",
            f"after the recorded time: {late}; {share:.0f} % waited for what they answer, or for room",
        )
    if o.latency_us:
        shown = ", ".join(f"{name} {value:,.0f} µs" for name, value in o.latency_us.items())
        yield "latency", shown


def _verdict(o: Outcome) -> str:
    if o.unreachable:
        said = f"UNREACHABLE: nothing that was sent to {o.target} came out at our backends"
        return f"{said}. {TRUNK_KEY_HINT}" if o.drops and o.drops.get("bad_tag") else said
    if o.invalid:
        return f"INVALID: {o.invalid}. Take fewer --sessions, or a lower --speed"
    failed = [str(item) for item in o.judgements() if item.failed]
    return f"FAILED: {'; '.join(failed)}" if failed else "PASSED"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def to_document(outcome: Outcome) -> dict[str, Any]:
    """Everything, for programs."""
    said = asdict(outcome)
    said["gates"] = [str(gate) for gate in outcome.gates]
    said["figures"] = outcome.figures()
    said["judgements"] = [
        {"gate": str(item.gate), "value": item.value, "failed": item.failed} for item in outcome.judgements()
    ]
    said |= {"invalid": outcome.invalid, "unreachable": outcome.unreachable}
    return said | {"passed": outcome.exit_code == PASSED, "exit_code": outcome.exit_code}


def to_cases(outcome: Outcome) -> Sequence[Case]:
    """One JUnit case a rule; a run that cannot be judged is an error in each."""
    broken = _verdict(outcome) if outcome.unreachable or outcome.invalid else ""
    told = {
        name: "\n".join(str(fault) for fault in outcome.faults if _figure(fault) == name) for name in NEVER
    }
    return [
        Case(
            str(item.gate),
            failure=str(item) if item.failed and not broken else "",
            error=broken,
            output=told.get(_SAME.get(item.gate.name, item.gate.name), ""),
            seconds=0.0 if number else outcome.elapsed_s,  # of the suite: their sum
        )
        for number, item in enumerate(outcome.judgements())
    ]


def _figure(fault: Fault) -> str:
    """Which figure a fault is counted in."""
    return {"duplicate": "duplicates", "stranger": "strangers"}.get(fault.kind, fault.kind)
