"""Attacks beside a thousand live calls: each hostile datagram is found again under the drop reason it must
have, and no live call loses anything to the relay."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.chaos.attacks import replays, spoofers, strangers, tables, trunk
from tests.chaos.attacks.siege import Bystanders, calls
from tests.chaos.outcome import Outcome
from tests.chaos.rig import ChaosRig
from tests.chaos.scale import Scale

TRUNK_KEY: Final = (0, os.urandom(16))
SHARDS: Final = 2


def on_trunks(directory: Path, scale: Scale) -> list[Outcome]:
    """Replays come first: the relay remembers for a minute who was the first to send a transaction id."""
    with (
        ChaosRig(
            directory,
            calls(scale),
            upstream="trunk",
            mode="echo",
            shards=SHARDS,
            token_key=strangers.KEY,
            trunk_key=TRUNK_KEY,
        ) as rig,
        Bystanders(rig) as peace,
    ):
        return [
            replays.requests(rig, peace),
            replays.tokens(rig, peace),
            strangers.forged_tokens(rig, peace),
            strangers.junk(rig, peace),
            *trunk.datagrams(rig, peace),
            spoofers.reflection(rig, peace),
            spoofers.theft(rig),
        ]


def on_plain_ports(directory: Path, scale: Scale) -> list[Outcome]:
    """The same spoofers before plain backends, and the ports all taken."""
    size = calls(scale)
    with (
        ChaosRig(
            directory, size, upstream="plain", mode="echo", shards=1, plain_ports=tables.ports_for(size)
        ) as rig,
        Bystanders(rig) as peace,
    ):
        again = [spoofers.reflection(rig, peace), spoofers.theft(rig)] if scale.is_full else []
        return [*again, tables.ports(rig)]


def on_full_tables(directory: Path, scale: Scale) -> list[Outcome]:
    """Flows and routes."""
    size = calls(scale)
    room = {"flows_max": size.flows + tables.ROOM, "routes_max": size.flows + tables.ROUTES}
    with ChaosRig(directory, size, upstream="trunk", mode="echo", shards=1, **room) as rig:
        return [tables.flows(rig), tables.network(rig), tables.routes(rig)]


SCENARIOS = {
    "attacks-trunk": on_trunks,
    "attacks-plain": on_plain_ports,
    "attacks-tables": on_full_tables,
}
