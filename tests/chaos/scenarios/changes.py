"""Changes an operator makes to a relay at work: nobody on a call may notice one, and new calls come in."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from pyfastpath.wire import stun
from pyfastpath.wire.demux import Kind, demux
from tests.chaos.behind import Behind
from tests.chaos.newcomers import Newcomers
from tests.chaos.outcome import Outcome
from tests.chaos.rig import NAMES, NUMBERS, ChaosRig, key_tables
from tests.chaos.scale import Scale
from tests.chaos.sessions import in_turn, installed, minted

EXTRA: Final = 3  # number of the backend that joins and leaves
ITS_SESSIONS: Final = 10
ITS_PER_S: Final = 100


def newcomers(rig: ChaosRig, ufrags: list[str], crowd: int = 0) -> Newcomers:
    """These sessions, evenly over the scale's seconds."""
    return Newcomers(rig, ufrags, per_s=round(len(ufrags) / rig.scale.seconds), crowd=crowd)


def coming(scale: Scale) -> int:
    """How many new sessions come at once."""
    return scale.flows // 5


def changed(rig: ChaosRig, fault: str, changes: list[Callable[[], Any]]) -> Outcome:
    """The changes one after the other, over and over while newcomers come."""
    ufrags = installed(rig.relay, in_turn(NAMES, coming(rig.scale)))
    rig.load_start()
    with newcomers(rig, ufrags) as new:
        for _ in range(rig.scale.repeats):
            for change in changes:
                rig.mark()
                change()
                rig.arrives_again()
    rig.load_stop()
    outcome = rig.outcome(fault, note=new.words).promising_nothing_lost()
    return outcome.promising(new.missed == 0, "new sessions are confirmed meanwhile")


def reload(directory: Path, scale: Scale) -> list[Outcome]:
    """The file edited, and SIGHUP."""
    with ChaosRig(directory, scale.both_ways(), mode="echo") as rig:
        changes = [lambda: rig.reload(coalesce_us=0, dscp_voice=0), lambda: rig.reload(coalesce_us=300)]
        return [changed(rig, "configuration reloaded (SIGHUP)", changes)]


def workers(directory: Path, scale: Scale) -> list[Outcome]:
    """One worker serves all shards, then two do, then one again: at full size in both upstream modes."""
    outcomes = []
    for upstream in ("plain", "trunk") if scale.is_full else ("trunk",):
        folder = directory / upstream
        folder.mkdir()
        with ChaosRig(folder, scale.both_ways(), upstream=upstream, mode="echo", shards=4) as rig:
            changes = [
                lambda count=count: rig.ask("PUT", "/v1/workers", {"count": count}) for count in (2, 4, 1)
            ]
            outcomes.append(changed(rig, "workers 1, 2, 4, 1", changes))
    return outcomes


def token_keys(directory: Path, scale: Scale) -> list[Outcome]:
    """A new token key is learnt, minters change over, the old key is withdrawn. Live calls were opened under
    the old key, and go on."""
    old, new = (0, os.urandom(16)), (3, os.urandom(16))
    with ChaosRig(directory, scale.both_ways(), mode="echo", token_key=old) as rig:
        numbers = in_turn(NUMBERS, coming(scale))
        rig.load_start()
        with newcomers(rig, minted(*old, numbers)) as early:
            rig.mark()
            rig.reload(token_keys=key_tables("kid", old, new))
            with newcomers(rig, minted(*new, numbers), crowd=1) as late:
                rig.arrives_again()
        with newcomers(rig, minted(*new, numbers), crowd=2) as last:
            rig.mark()
            rig.reload(token_keys=key_tables("kid", new))
        refused_before = rig.relay_drops().get("bad_token", 0)
        with newcomers(rig, minted(*old, numbers[:2]), crowd=3) as refused:
            rig.arrives_again()
            refused.give_up()
        rig.load_stop()
        outcome = rig.outcome("token key rotated", note=f"{early.words}; {late.words}; {last.words}")
        bad = rig.relay_drops().get("bad_token", 0)
        return [
            outcome.promising_nothing_lost()
            .promising(early.missed + late.missed + last.missed == 0, "valid tokens are served throughout")
            .promising(refused_before == 0 < bad, "no valid token is refused, a withdrawn key's are")
            .promising(refused.confirmed == 0, "tokens of a withdrawn key open nothing")
        ]


def trunk_keys(directory: Path, scale: Scale) -> list[Outcome]:
    """Both ends learn a new trunk key, change over one after the other, and forget the old one."""
    old, new = (1, os.urandom(16)), (2, os.urandom(16))
    with ChaosRig(directory, scale.both_ways(), upstream="trunk", mode="echo", trunk_key=old) as rig:
        sinks = [stream.sink for stream in rig.load.streams]

        def rotate(before: tuple[int, bytes], after: tuple[int, bytes]) -> list[Callable[[], Any]]:
            both, one = key_tables("id", before, after), key_tables("id", after)
            return [
                lambda: rig.reload(trunk_keys=both),
                lambda: [sink.learn_key(*after) for sink in sinks],
                lambda: rig.reload(trunk_key_id=after[0]),
                lambda: [sink.sign_with(after[0]) for sink in sinks],
                lambda: rig.reload(trunk_keys=one),
                lambda: [sink.forget_key(before[0]) for sink in sinks],
            ]

        outcome = changed(rig, "trunk key rotated, and back", [*rotate(old, new), *rotate(new, old)])
        bad = sum(sink.counters()["bad"] for sink in sinks)
        return [outcome.promising(bad == 0, "every tag holds")]


def backends(directory: Path, scale: Scale) -> list[Outcome]:
    """A backend with live calls drains, is removed, and comes back; another joins and leaves."""
    with ChaosRig(directory, scale.both_ways(), mode="echo") as rig:
        address = "{}:{}".format(*rig.load.backends[0])
        others = installed(rig.relay, [NAMES[1]] * coming(scale))
        changes = (
            ("POST", f"/v1/backends/{NAMES[0]}/drain", None),
            ("POST", f"/v1/backends/{NAMES[0]}/undrain", None),
            ("POST", f"/v1/backends/{NAMES[0]}/drain", None),
            ("DELETE", f"/v1/backends/{NAMES[0]}", None),
            ("PUT", f"/v1/backends/{NAMES[0]}", {"address": address, "transceiver": NUMBERS[0]}),
        )
        stray = Counter[str]()
        rig.load_start()
        with newcomers(rig, others) as new:
            for _ in range(scale.repeats):
                with another(rig, stray):
                    for change in changes:
                        told(rig, *change)
        back = installed(rig.relay, [NAMES[0]] * 10)
        with newcomers(rig, back, crowd=1) as returned:
            rig.arrives_again()
        rig.load_stop()
        outcome = rig.outcome("backend added, drained, removed, added again", note=new.words)
        return [
            outcome.promising_nothing_lost()
            .promising(new.missed == 0, "new sessions of the other backend are confirmed meanwhile")
            .promising(returned.missed == 0, "a backend that came back gets new sessions")
            .promising(
                not stray.total(), f"a backend that joins hears its own sessions and no others: {dict(stray)}"
            )
        ]


def told(rig: ChaosRig, method: str, path: str, body: object = None) -> None:
    """One change, and calls that go on."""
    rig.mark()
    rig.ask(method, path, body)
    rig.arrives_again()


@contextmanager
def another(rig: ChaosRig, stray: Counter[str]) -> Iterator[None]:
    """A backend joins, and ten sessions of its own come; in the end it leaves. stray: counts what it heard of
    anybody else, and its own sessions that it did not hear, or that did not hear it."""
    heard = Counter[str]()

    def answers(datagram: bytes) -> Iterable[bytes]:
        if demux(datagram) != Kind.STUN:
            heard["media"] += 1
            return ()
        request = stun.parse_message(datagram)
        heard[(request.ufrag or b"").decode()] += 1
        return (stun.build_message(stun.BINDING_SUCCESS, request.transaction),)

    rig.mark()
    with Behind(rig, "extra", EXTRA, answers) as extra:
        rig.arrives_again()
        its_own = installed(rig.relay, [extra.name] * ITS_SESSIONS)
        with Newcomers(rig, its_own, per_s=ITS_PER_S, crowd=2) as new:
            yield
        told(rig, "DELETE", f"/v1/backends/{extra.name}")
    stray["not answered"] += new.missed
    stray["not heard"] += len(set(its_own) - heard.keys())
    stray["others"] += sum(count for ufrag, count in heard.items() if ufrag not in its_own)


SCENARIOS = {
    "reload": reload,
    "workers": workers,
    "token-keys": token_keys,
    "trunk-keys": trunk_keys,
    "backends": backends,
}
