"""One replay from the first look at the capture to its outcome: what `pyfastpath replay` does."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any, Final

from pyfastpath.errors import ConfigError, UnreachableError
from pyfastpath.tools.admin import AdminClient
from pyfastpath.tools.replay.casting import Cast
from pyfastpath.tools.replay.feeding import Cue, Show, play
from pyfastpath.tools.replay.names import NONCE_BYTES, Names
from pyfastpath.tools.replay.options import Wishes
from pyfastpath.tools.replay.report import Fault, Outcome, Way
from pyfastpath.tools.replay.tape import Tape
from pyfastpath.tools.replay.target import Route, Target, live_target, own_target, token_target

LOOPBACK: Final = ("127.0.0.1", 0)
TURN_GAP_NS: Final = 1_000_000_000  # between the turns of a loop
PUBLISHED_S: Final = 0.3  # a relay's counters are this much behind at most
FAULTS_MAX: Final = 1000
GIVE_UP_MS: Final = 3000  # a busy machine, as CI has them, may keep a relay from its CPU for a second
COUNTED: Final = ("unroutable", "moved", "timed", "held_back", "starved", "blocked")  # as the player does
RING_BYTES: Final = 64 << 20
BYTES_A_ROLE: Final = 8192  # of the ring: some STUN messages of every session's own
LONGEST_S: Final = 7 * 86_400  # of recorded time, as it is played: beyond it a clock was wrong
LAST_NS: Final = (1 << 63) - 1  # the latest time a player is told; at full speed none counts


def replay(wishes: Wishes, show: Show | None = None) -> Outcome:
    """Play a capture and judge every datagram. show: gets the player's counters now and then.

    PcapError, RoleError: the capture cannot be used. ConfigError: nor can the wishes. UnreachableError: no
    relay answers. OSError: the machine refuses.
    """
    tape = Tape(
        wishes.file, wishes.credentials, server=wishes.server, limit=wishes.limit, preload=wishes.preload
    )
    _check_length(wishes, tape)
    cast = Cast(
        tape.survey.calls,
        sessions=wishes.sessions,
        backends=wishes.backends,
        turns=wishes.turns,
        seed=wishes.seed,
    )
    names = Names(secrets.token_bytes(NONCE_BYTES), wishes.mints)
    with ExitStack() as stack:
        ends = _open_ends(wishes, stack)
        target = stack.enter_context(_target(wishes, ends, cast, names))
        if not wishes.mints:
            target.install(_routes(cast, names))
        player = _cast_player(wishes, cast, ends, target, stack)
        before = target.drops()
        began_s = time.monotonic()
        play(player, _cues(tape, cast, names), show=show)
        elapsed_s = time.monotonic() - began_s
        time.sleep(PUBLISHED_S)
        return _outcome(wishes, tape, cast, target, player, elapsed_s, _since(before, _ask_again(target)))


# ---- before ---------------------------------------------------------------------------------------------


def _check_length(wishes: Wishes, tape: Tape) -> None:
    """ConfigError for a play without end: one wrong time stamp makes a century of a call."""
    length_s = wishes.turns * tape.survey.duration_s
    if wishes.speed and length_s / wishes.speed > LONGEST_S:
        raise ConfigError(
            f"{wishes.file} spans {tape.survey.duration_s:,.0f} s: at {wishes.speed:g}x, played "
            f"{wishes.turns} times, that takes {length_s / wishes.speed / 86_400:,.0f} days",
            "See whether its time stamps are right (capinfos), or play it at --speed max.",
            key="--speed",
        )


def _open_ends(wishes: Wishes, stack: ExitStack) -> list[Any]:
    from fastpath.load.player import PlainEnd, TrunkEnd

    addresses = [(str(end.address), end.port) for end in wishes.ends_at] or [LOOPBACK] * wishes.backends
    key_id, key = wishes.trunk_key or (0, None)
    ends: list[Any] = []
    for place, address in enumerate(addresses):
        if wishes.mode == "plain":
            end = PlainEnd(address)
        else:
            mint = wishes.mints[place] if wishes.mints else None
            identity = (mint.cluster, mint.xcvr, mint.incarnation) if mint else (0, 0, 0)
            end = TrunkEnd(address, key=key, key_id=key_id, identity=identity)
        stack.callback(end.close)
        ends.append(end)
    return ends


def _target(wishes: Wishes, ends: Sequence[Any], cast: Cast, names: Names) -> AbstractContextManager[Target]:
    listen = (str(wishes.target.address), wishes.target.port) if wishes.target else None
    if wishes.socket:
        return live_target(AdminClient(wishes.socket), listen, ends, wishes.mode, names.nonce.hex()[:8])
    if listen is not None:
        return nullcontext(token_target(listen))
    return own_target(
        ends,
        wishes.mode,
        roles=len(cast.roles),
        mints=wishes.mints,
        trunk_key=wishes.trunk_key,
    )


def _routes(cast: Cast, names: Names) -> Iterator[Route]:
    """One for every ufrag of every copy; those of a restarted call belong together."""
    for role in cast.roles:
        if role.flow is not role.flow.call.flows[0]:
            continue
        restarted = len(role.flow.call.ufrags) > 1
        session = names.session(role.flow.call, role.copy) if restarted else ""
        for ordinal in range(len(role.flow.call.ufrags)):
            ufrag = names.ufrag(role.flow.call, role.copy, ordinal, role.backend)
            yield Route(ufrag.decode(), role.backend, session)


def _cast_player(wishes: Wishes, cast: Cast, ends: list[Any], target: Target, stack: ExitStack) -> Any:
    from fastpath.load.player import Player

    player = Player(
        target.listen,
        ends,
        sessions=len(cast.roles),
        speed=wishes.speed,
        first_source=wishes.source,
        ring_bytes=max(RING_BYTES, BYTES_A_ROLE * len(cast.roles)),
        give_up_ms=GIVE_UP_MS,
        findings_max=FAULTS_MAX,
    )
    stack.callback(player.close)
    for role in cast.roles:
        player.assign(role.number, role.part, role.backend, role.phase_ns)
    return player


def _cues(tape: Tape, cast: Cast, names: Names) -> Iterator[Cue]:
    """The capture, turn after turn, every session's STUN messages built. Time never runs back."""
    survey = tape.survey
    now_ns = 0
    for turn in range(cast.turns):
        later_ns = turn * (survey.last_ns - survey.first_ns + TURN_GAP_NS)
        for line in tape.lines():
            part = cast.part(turn, line.flow)
            roles = cast.of_part(part)
            if not roles:
                continue
            patches = None
            if line.template is not None:
                patches = [
                    line.template.build(names.identity(role.flow, role.copy, role.backend)) for role in roles
                ]
            now_ns = min(max(now_ns, line.time_ns + later_ns), LAST_NS)
            yield Cue(part, line.upstream, now_ns, line.payload, patches, line.frame)


# ---- after ----------------------------------------------------------------------------------------------


def _ask_again(target: Target) -> Counter[str] | None:
    """The drops after the play; None: the relay has gone meanwhile, which the verdict shows."""
    try:
        return target.drops()
    except UnreachableError:
        return None


def _since(before: Counter[str] | None, after: Counter[str] | None) -> dict[str, int] | None:
    return None if before is None or after is None else dict(after - before)


def _outcome(
    wishes: Wishes,
    tape: Tape,
    cast: Cast,
    target: Target,
    player: Any,
    elapsed_s: float,
    drops: dict[str, int] | None,
) -> Outcome:
    counters = player.counters()
    planned_up, planned_down = cast.datagrams
    up, down = _way(counters["up"]), _way(counters["down"])
    shares = ("p50", "p90", "p99", "p999", "max")
    return Outcome(
        **_captured(tape),
        target=target.name,
        mode=wishes.mode,
        backends=wishes.backends,
        sessions=cast.sessions,
        turns=cast.turns,
        calls_played=cast.calls_played,
        speed=wishes.speed,
        seed=wishes.seed,
        planned_up=planned_up,
        planned_down=planned_down,
        up=up,
        down=down,
        elapsed_s=elapsed_s,
        **{name: counters[name] for name in COUNTED},
        timing_us=_quantiles(player.timing_ns, ("p50", "p99", "max")) if counters["timed"] else {},
        latency_us=_quantiles(player.latency_ns, shares) if up.delivered + down.delivered else {},
        drops=drops,
        faults=tuple(_faults(player, cast)),
        gates=wishes.gates,
    )


def _captured(tape: Tape) -> dict[str, Any]:
    """What the outcome says of the capture."""
    survey = tape.survey
    return {
        "file": str(tape.file),
        "calls": len(survey.calls),
        "flows": sum(len(call.flows) for call in survey.calls),
        "datagrams": survey.datagrams,
        "recorded_s": survey.duration_s,
        "skipped": dict(survey.skipped.most_common()),
        "signed": survey.signed,
        "unsigned": survey.unsigned,
    }


def _way(counters: Mapping[str, int]) -> Way:
    return Way(**{name: counters[name] for name in Way.__dataclass_fields__})


def _quantiles(ask: Callable[[float], int], names: Sequence[str]) -> dict[str, float]:
    shares = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999, "max": 1.0}
    return {name: ask(shares[name]) / 1000 for name in names}


def _faults(player: Any, cast: Cast) -> Iterator[Fault]:
    """The player's findings in the capture's terms. An upstream port that changed is none."""
    for found in player.findings():
        if found.kind == "moved":
            continue
        at_s = found.at_ns / 1e9
        if found.session < 0:
            yield Fault(found.kind, found.upstream, -1, "", -1, "", -1, at_s, found.detail)
            continue
        role = cast.roles[found.session]
        address, port = player.client(found.session)
        call = role.flow.call
        yield Fault(
            found.kind,
            found.upstream,
            role.session,
            f"{address}:{port}",
            call.index,
            call.ufrags[0].decode(),
            found.index,
            at_s,
            found.detail,
        )
