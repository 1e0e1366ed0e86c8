"""What a benchmark run does, as data: who carries which workload, where, how often.

A scenario is one table of the report. In a round every contestant is started anew for it, takes its
workloads in turn, and ends: A B C, A B C. Names of contestants are those of bench.contestants.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bench.contestants import Contestant, c_mmsg, c_trunk, everybody, fastpath
from bench.load import Shape, Traffic
from bench.targets import FLOW, PLAIN, SAME, SHARED, TRUNK

VOICES, VOICE_PPS = 1000, 50  # a thousand clients with a packet every 20 ms
BUDGETS_US = (0, 100, 200, 500, 1000)
FLOW_COUNTS = (1000, 10_000, 100_000)
SPREAD_BYTES = 24
# What the schedules may ask: a share of the generator's own rate, at most a rate the slowest relay here holds
# on a core (else it would be measured saturated, or lose). A flow's echo counts twice: there and back.
PACED_UP_SHARE, PACED_UP_PPS = 0.6, 140_000
PACED_ECHO_SHARE, PACED_ECHO_PPS = 0.4, 58_000
SCALE_SHARE, SCALE_PPS = 0.5, 100_000
WHOLE_CORE_SHARE = (
    0.6  # of those rates where the relay's core does its receive softirq too: it is full sooner
)
WARMUP_S, MEASURE_S = 0.3, 1.1
START_S = 1.5  # about what one contestant needs from its start to its first workload, and to its end
REST_S = 0.35  # what a workload takes beyond its warm-up and its measured time

FLOOD_UP, FLOOD_ECHO = Shape("flood up", echo=False), Shape("flood echo", echo=True)
PACED_UP, PACED_ECHO = Shape("paced up", echo=False), Shape("paced echo", echo=True)
VOICE_UP = Shape("voice up", echo=False, rate_pps=VOICES * VOICE_PPS)
VOICE_BOTH = Shape("voice both ways", echo=True, rate_pps=VOICES * VOICE_PPS // 2)
LATENCY_UP = Shape("latency up", echo=False, rate_pps=VOICES * VOICE_PPS, naps=False)
SPREAD_UP = Shape("spread up", echo=False)
SCALE_UP = Shape("scale up", echo=False)
SHARES = {  # the schedules that depend on the generator's own rate: its workload, the share, the most
    PACED_UP.name: (FLOOD_UP.name, PACED_UP_SHARE, PACED_UP_PPS),
    PACED_ECHO.name: (FLOOD_ECHO.name, PACED_ECHO_SHARE, PACED_ECHO_PPS),
    SPREAD_UP.name: (FLOOD_UP.name, PACED_UP_SHARE, PACED_UP_PPS),
    SCALE_UP.name: (FLOOD_UP.name, SCALE_SHARE, SCALE_PPS),
}
MEANING = {
    FLOOD_UP.name: "as fast as a window of 512 in flight allows, client to backend",
    FLOOD_ECHO.name: "the same, there and back",
    PACED_UP.name: "on a schedule below what every relay here carries, up",
    PACED_ECHO.name: "the same, there and back",
    VOICE_UP.name: f"{VOICES:,} sessions × {VOICE_PPS}/s up",
    VOICE_BOTH.name: f"{VOICE_BOTH.rate_pps // 1000}k/s up and as many down",
    LATENCY_UP.name: f"{LATENCY_UP.rate_pps:,}/s up, nobody naps: for the latency",
    SPREAD_UP.name: f"as paced up, sizes vary by ± {SPREAD_BYTES} bytes",
    SCALE_UP.name: "on a schedule, spread over more and more flows",
}

OURS = (TRUNK, PLAIN)
RIVALS = ("coturn", "Go relay", "nginx stream", "rtpengine", "uvloop relay")
MAIN = (*OURS, FLOW, SHARED, SAME, *RIVALS)
SPIN = "fastpath plain, spin"


@dataclass(frozen=True)
class Scenario:
    """rounds: of these at most as many as the run has."""

    name: str
    topologies: tuple[str, ...]
    contestants: tuple[str, ...]
    shapes: tuple[Shape, ...]
    traffic: Traffic = field(default_factory=Traffic)
    rounds: int = 3

    def turn_s(self, measure_s: float = MEASURE_S) -> float:
        """About how long one contestant takes, from its start to its end."""
        setup_s = START_S + self.traffic.flows / 20_000
        return setup_s + len(self.shapes) * (WARMUP_S + measure_s + REST_S)

    def round_s(self, measure_s: float = MEASURE_S) -> float:
        """About how long a round takes, everybody in all topologies."""
        return len(self.topologies) * len(self.contestants) * self.turn_s(measure_s)


OWN_SHAPES = (FLOOD_UP, FLOOD_ECHO, PACED_UP, PACED_ECHO, VOICE_UP, VOICE_BOTH, LATENCY_UP)
MICRO_S = 20.0
UNSATURATED = (PACED_UP, PACED_ECHO, VOICE_UP, VOICE_BOTH)


def _budget(name: str, budget_us: int) -> str:
    return f"{name}, {budget_us} µs"


FULL = (
    Scenario(
        "relays",
        ("loopback",),
        (*MAIN, "C recvfrom", _budget(FLOW, 500), _budget(SHARED, 500)),
        (FLOOD_UP, FLOOD_ECHO, *UNSATURATED),
    ),
    Scenario("relays", ("inline",), MAIN, (FLOOD_UP, FLOOD_ECHO, *UNSATURATED)),
    Scenario("relays", ("rps",), MAIN, UNSATURATED),  # a whole core's cost means nothing where it is full
    Scenario(
        "latency", ("loopback",), (*MAIN, SPIN, _budget(OURS[0], 0), _budget(OURS[0], 200)), (LATENCY_UP,)
    ),
    Scenario(
        "sizes",
        ("loopback",),
        (OURS[0], SHARED, SAME, "C trunk, GSO alone, 500 µs"),
        (SPREAD_UP,),
        Traffic(size_spread_bytes=SPREAD_BYTES),
        rounds=2,
    ),
    *(
        Scenario("scale", ("loopback",), (OURS[0], SHARED, SAME), (SCALE_UP,), Traffic(flows), rounds=2)
        for flows in FLOW_COUNTS
    ),
    *(
        Scenario(
            "coalescing",
            ("loopback",),
            (_budget(OURS[0], us), _budget("C trunk", us) if us else "C trunk"),
            (VOICE_UP, LATENCY_UP),
            rounds=2,
        )
        for us in BUDGETS_US
    ),
)
QUICK = (
    Scenario(
        "relays",
        ("loopback",),
        (*OURS, FLOW, SHARED, "Go relay", "nginx stream", "uvloop relay"),
        (FLOOD_UP, FLOOD_ECHO, *UNSATURATED),
        rounds=2,
    ),
    Scenario("relays", ("inline",), (*OURS, FLOW, SHARED), (PACED_UP, PACED_ECHO), rounds=1),
)


def catalogue() -> dict[str, Contestant]:
    """Everybody a scenario may name."""
    variants = [fastpath("plain", spin=True), c_trunk("run", 500)]
    for budget_us in BUDGETS_US:
        variants += [fastpath("trunk", budget_us), c_trunk("bundle", budget_us), c_mmsg("shared", budget_us)]
    return {each.name: each for each in (*variants, *everybody())}


def planned_s(scenarios: Sequence[Scenario], rounds: int, measure_s: float = MEASURE_S) -> float:
    """About how long a run takes, the generator's own rates and the micro benchmarks included."""
    topologies = {name for each in scenarios for name in each.topologies}
    own_s = START_S + len(OWN_SHAPES) * (WARMUP_S + measure_s + REST_S)
    rounds_s = sum(each.round_s(measure_s) * min(rounds, each.rounds) for each in scenarios)
    return rounds_s + (rounds + 1) * len(topologies) * own_s + MICRO_S


def chosen(
    scenarios: tuple[Scenario, ...], only: tuple[str, ...], topologies: tuple[str, ...]
) -> list[Scenario]:
    """The scenarios that are left when only some contestants (parts of names) or scenarios (whole names), and
    only some topologies are wanted; none named: all."""
    found = []
    for each in scenarios:
        places = tuple(name for name in each.topologies if not topologies or name in topologies)
        who = each.contestants
        if only and each.name not in only:
            who = tuple(name for name in who if any(part.lower() in name.lower() for part in only))
        if places and who:
            found.append(replace(each, topologies=places, contestants=who))
    return found


def rated(shape: Shape, own_pps: dict[str, float], *, whole_core: bool = False) -> Shape:
    """A schedule's rate from the generator's own rates in this topology, datagrams a second by workload."""
    if shape.name not in SHARES or shape.rate_pps:
        return shape
    flood, share, most = SHARES[shape.name]
    most = int(WHOLE_CORE_SHARE * most) if whole_core else most
    return replace(shape, rate_pps=int(min(share * own_pps[flood], most)))
