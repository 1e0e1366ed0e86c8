"""kill -9 of the keeper, where a service manager keeps its sockets and tables."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.chaos.kept import kept_relay
from tests.chaos.outcome import Outcome
from tests.chaos.rig import ChaosRig
from tests.chaos.scale import Scale

# What comes while Python starts twice, for keeper and engine, has to find room in the receive buffers.
PPS_MAX: Final = 5_000


def keeper_killed(directory: Path, scale: Scale) -> list[Outcome]:
    """Keeper and engines die in the same moment; the next keeper takes up what was kept."""
    scale = replace(scale, pps=min(scale.pps // 2, PPS_MAX), repeats=min(scale.repeats, 5))
    with ChaosRig(directory, scale, upstream="trunk", mode="up", start=kept_relay) as rig:
        rig.load_start()
        for _ in range(scale.repeats):
            rig.mark()
            rig.relay.process.crash()  # type: ignore[attr-defined]
            rig.arrives_again()
        rig.load_stop()
        taken = rig.relay.log.read_text().count("sockets and tables of a keeper that died")
        outcome = rig.outcome("keeper killed, its descriptors kept (FDSTORE)")
        return [
            outcome.promising_nothing_lost().promising(
                taken == scale.repeats, "each keeper takes up the sockets and tables of the one before"
            )
        ]


SCENARIOS = {"keeper": keeper_killed}
