"""Copied tokens and replayed datagrams: they open provisional flows, and nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pyfastpath.wire import stun
from tests.chaos.aging import Tables
from tests.chaos.attacks.attackers import Requests, Shot, Spoofer, sources
from tests.chaos.attacks.siege import Bystanders, besiege, gone, hostile, rate_pps, slow_pps
from tests.chaos.attacks.strangers import KEY
from tests.chaos.behind import Behind, settings
from tests.chaos.outcome import Outcome
from tests.chaos.rig import ChaosRig
from tests.chaos.sessions import in_turn, minted

SILENT: Final = 3
TOKENS: Final = 5_000  # more than fill the ring: 8 flows each in each shard
MANY: Final = 200_000
REPLAYS: Final = 60_000
SESSION_CAP: Final = 8
RING: Final = 16_384  # provisional flows of one shard
STATE_MIB: Final = 64.0  # transaction memory (16 MiB a shard) and ring, touched for the first time


def tokens(rig: ChaosRig, peace: Bystanders) -> Outcome:
    """The transceiver does not answer: MESSAGE-INTEGRITY needs the password, which a copied ufrag has not."""
    count = hostile(rig.scale, MANY)
    copied = minted(*KEY, [SILENT] * min(TOKENS, count // 20))
    attack = Requests(rig.relay.listen, in_turn(copied, count), reason="", first_source="127.48.0.1")
    tables = Tables(rig.keeper_pid)
    with Behind(rig, "silent", SILENT, yields=rig.scale.is_full) as silent:
        created, confirmed = _changes(rig, "provisional_created"), _changes(rig, "confirmed")
        outcome = besiege(
            rig,
            peace,
            attack,
            "valid tokens from many addresses",
            count=count,
            pace=rate_pps(rig.scale),
            memory_mib=STATE_MIB,
            settled=lambda: silent.heard + gone(rig) >= attack.expected[""],
            note=lambda: f"{len(tables.provisional()):,} provisional flows of {len(copied):,} tokens left",
        )
        fired, opened, missed = attack.expected[""], _changes(rig, "provisional_created") - created, gone(rig)
        attack.close()
    return (
        outcome.promising(
            fired - missed <= opened <= fired, f"each opens a provisional flow: {opened:,} of {fired:,}"
        )
        .promising(_changes(rig, "confirmed") == confirmed, "none is confirmed")
        .promising(tables.most_of_one_ufrag() <= SESSION_CAP, "a ufrag holds eight in a shard")
        .promising(len(tables.provisional()) <= settings(rig)["shards"] * RING, "the ring is bounded")
        .promising(len(tables.flows()) == rig.scale.flows + peace.flows, "the flow table is untouched")
    )


def requests(rig: ChaosRig, peace: Bystanders) -> Outcome:
    """The sinks answer everybody, as no transceiver would; media from the same address follows each request,
    and a success response of the call's from an address that asked nothing."""
    count = hostile(rig.scale, REPLAYS)
    attack = Spoofer(rig.relay.listen, replayed(rig, count))
    confirmed = _changes(rig, "confirmed")
    tables = Tables(rig.keeper_pid)

    def answered() -> bool:
        attack.hear()
        return attack.heard + gone(rig) >= attack.expected[""]

    outcome = besiege(
        rig,
        peace,
        attack,
        "requests and responses of live calls replayed from other addresses",
        count=count,
        pace=slow_pps(rig.scale),
        memory_mib=STATE_MIB,
        settled=answered,
        note=lambda: f"{attack.expected['']:,} requests forwarded, their answers came back",
    )
    attack.close()
    heard, asked = attack.heard, attack.expected[""]
    return (
        outcome.promising(_changes(rig, "confirmed") == confirmed, "no replay confirms a flow")
        .promising(heard <= asked, f"the attacker hears one answer a request: {heard:,} of {asked:,}")
        .promising(len(tables.flows()) == rig.scale.flows + peace.flows, "no live flow moved or ended")
    )


def replayed(rig: ChaosRig, count: int) -> Iterator[Shot]:
    """Call after call, from address after address."""
    known = [
        stream.generator.clients.request(flow)
        for stream in rig.load.streams
        for flow in range(stream.sessions)
    ]
    asking, listening = sources("127.64.0.1", count // 3 + 1), sources("127.80.0.1", count // 3 + 1)

    def shots() -> Iterator[Shot]:
        for number, (first, other) in enumerate(zip(asking, listening, strict=True)):
            request = known[number % len(known)]
            answer = stun.build_message(stun.BINDING_SUCCESS, request[8:20])
            yield Shot(first, request, "")
            yield Shot(first, b"\x80" + bytes(171), "provisional")
            yield Shot(other, answer, "unknown_flow")

    return shots()


def _changes(rig: ChaosRig, state: str) -> int:
    return rig.relay.total("flow_changes", state=state)
