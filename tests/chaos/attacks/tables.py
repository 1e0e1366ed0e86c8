"""Tables filled to the brim by owners of valid sessions: newcomers are refused by name, live calls go on, and
room that comes back is used again."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.chaos.aging import Tables
from tests.chaos.attacks.attackers import Requests
from tests.chaos.attacks.siege import gone, rate_pps
from tests.chaos.behind import Behind
from tests.chaos.outcome import Outcome
from tests.chaos.rig import NAMES, ChaosRig
from tests.chaos.scale import Scale
from tests.chaos.sessions import installed
from tests.support.rig import until

ROOM: Final = 64
TOO_MANY: Final = 200
ROUTES: Final = 800
SILENT: Final = 6  # number of the backend that answers nobody
QUARANTINE_MS: Final = 60_000
CONFIRMED_MS: Final = 60_000
PROVISIONAL_MS: Final = 5_000
LISTEN_MS: Final = 300
ENDS_S: Final = 20.0  # every table is walked through once in 4 s
CROWDS: Final = ("127.100.0.1", "127.101.0.1", "127.102.0.1", "127.103.0.1")


def flows(rig: ChaosRig) -> Outcome:
    """More sessions are confirmed than one shard has room for: their answers are dropped. A minute later the
    room is free again."""
    tables = Tables(rig.keeper_pid)
    rig.load_start()
    with crowd(rig, [NAMES[0]] * TOO_MANY, CROWDS[0]) as first:
        ask(rig, first, TOO_MANY, answers=ROOM)
        until(lambda: rig.relay_drops().get("flow_table_full", 0) >= TOO_MANY - ROOM, "refusals", ENDS_S)
        first.listen(LISTEN_MS)
        served = first.answered
    refused = rig.relay_drops()
    tables.age_flows(CONFIRMED_MS, CROWDS[0][:7])
    until(lambda: len(tables.flows()) == rig.scale.flows, "the crowd's flows expire", ENDS_S)
    with crowd(rig, [NAMES[0]] * ROOM, CROWDS[1]) as second:
        ask(rig, second, ROOM, answers=ROOM)
    rig.load_stop()
    outcome = judged(rig, "flow table full", refused, {"flow_table_full": TOO_MANY - ROOM})
    return outcome.promising(served == ROOM, f"there is room for {ROOM}, and {served} got it")


def network(rig: ChaosRig) -> Outcome:
    """Clients of one /24 with a valid session each ask at once: its bucket serves so many, the others are
    refused. Those of another network find their own bucket full."""
    rig.reload(admission_flows_per_s=1, admission_burst=ROOM)
    rig.load_start()
    with Behind(rig, "silent", SILENT) as silent:
        began_s = time.monotonic()
        with crowd(rig, [silent.name] * TOO_MANY, CROWDS[2]) as flood:
            ask(rig, flood, TOO_MANY)
            until(lambda: silent.heard + sum(rig.relay_drops().values()) >= TOO_MANY, "verdicts", ENDS_S)
        served, earned = silent.heard, 1 + time.monotonic() - began_s
        refused = rig.relay_drops()
        with crowd(rig, [silent.name] * ROOM, CROWDS[3]) as others:
            ask(rig, others, ROOM)
            until(lambda: silent.heard + gone(rig) >= served + ROOM, "the other network is served", ENDS_S)
    rig.load_for(rig.scale.seconds / 2)
    rig.load_stop()
    rig.reload(admission_flows_per_s=0, admission_burst=1)
    outcome = judged(rig, "new flows from one network", refused, {"admission": TOO_MANY - served})
    return outcome.promising(
        ROOM <= served <= ROOM + earned, f"a burst of {ROOM} and one a second are served: {served}"
    )


def ports(rig: ChaosRig) -> Outcome:
    """Provisional flows take all upstream ports of one backend. They expire, their ports rest for a minute,
    and only then serve somebody else."""
    tables, room = Tables(rig.keeper_pid), ports_for(rig.scale)
    wanted = room + TOO_MANY
    rig.load_start()
    with Behind(rig, "silent", SILENT) as silent:

        def asked(count: int, first_source: str, heard: int, dropped: int) -> None:
            with crowd(rig, [silent.name] * count, first_source) as made:
                ask(rig, made, count)
                until(lambda: silent.heard >= heard, f"the backend hears of {heard}", ENDS_S)
                until(lambda: sum(rig.relay_drops().values()) >= dropped, f"{dropped} refusals", ENDS_S)

        asked(wanted, CROWDS[0], room, TOO_MANY)
        heard, refused = silent.heard, rig.relay_drops()
        tables.age_provisional(PROVISIONAL_MS)
        until(lambda: len(tables.provisional()) == 0, "the crowd's flows expire", ENDS_S)
        asked(ROOM, CROWDS[1], room, TOO_MANY + ROOM)
        resting = silent.heard - heard
        tables.age_quarantine(QUARANTINE_MS)
        until(lambda: tables.resting() == 0, "the ports have rested", ENDS_S)
        asked(ROOM, CROWDS[2], room + ROOM, TOO_MANY + ROOM)
    rig.load_stop()
    outcome = judged(rig, "upstream ports exhausted", refused, {"no_upstream_port": TOO_MANY}, ROOM)
    return outcome.promising(heard == room, f"{room} ports serve {heard} provisional flows").promising(
        resting == 0, "a port that rests serves nobody"
    )


def ports_for(scale: Scale) -> int:
    """Upstream ports: for the live calls, half of which are at each backend, and as many more as the attack
    shall find."""
    return scale.flows // 2 + ROOM


def routes(rig: ChaosRig) -> Outcome:
    """The signalling side floods: what does not fit is refused, what is removed makes room."""
    free = ROUTES - 2 * (TOO_MANY + ROOM)  # two pairs of crowds have routes
    rows = [json.dumps({"ufrag": f"flood{number:06}", "backend": NAMES[0]}) for number in range(ROUTES)]
    rig.load_start()
    _, said = rig.relay.request("POST", "/v1/routes", ("\n".join(rows) + "\n").encode())
    refused, why = rig.relay.request("PUT", "/v1/routes", rows[-1].encode())
    rig.ask("DELETE", "/v1/routes/flood000000")
    taken, _ = rig.relay.request("PUT", "/v1/routes", rows[-1].encode())
    rig.load_for(rig.scale.seconds / 2)
    rig.load_stop()
    outcome, answer = judged(rig, "route table full", rig.relay_drops(), {}), json.loads(said)
    return (
        outcome.promising(answer["refused"] == ROUTES - free, f"{free} fit: {answer}")
        .promising(
            refused == 503 and b'"table_full"' in why,
            f"one more is refused, since the table is full: {refused} {why.decode()}",
        )
        .promising(taken // 100 == 2, "a route that was removed makes room")
    )


def judged(
    rig: ChaosRig, fault: str, found: dict[str, int], wanted: dict[str, int], later: int = 0
) -> Outcome:
    """What the flood was refused for, exactly, and nothing else ever; what live calls lost. later: refusals
    that followed under the same name."""
    outcome = rig.outcome(fault)
    in_the_end = {reason: count + later for reason, count in wanted.items()}
    return (
        outcome.promising(found == wanted, f"refused by name: {wanted}, found {found}")
        .promising(rig.relay_drops() == in_the_end, f"and nothing else: {rig.relay_drops()}")
        .promising_calls_whole()
    )


@contextmanager
def crowd(rig: ChaosRig, backends: list[str], first_source: str) -> Iterator[Requests]:
    """Clients with a valid session each, at these backends."""
    made = Requests(rig.relay.listen, installed(rig.relay, backends), reason="", first_source=first_source)
    try:
        yield made
    finally:
        made.close()


def ask(rig: ChaosRig, crowd: Requests, count: int, *, answers: int = 0) -> None:
    """All of them ask once, and so many are answered."""

    def answered() -> bool:
        crowd.listen(LISTEN_MS)
        return crowd.answered >= answers

    crowd.fire(count, rate_pps(rig.scale))
    if answers:
        until(answered, f"{answers} answers", ENDS_S)
