"""Who plays what: N sessions spread over the calls of a capture, and over the backends. Pure.

A session plays one call: each flow of that call is a role, a client of its own to the relay. In every turn of
a loop all roles are cast anew, with names and client addresses that nobody had before.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pyfastpath.errors import ConfigError
from pyfastpath.tools.replay.calls import Call, Flow

ROLES_MAX: Final = 65_000  # client addresses of one player
PARTS_MAX: Final = 65_535  # flows times turns: what the player tells apart
PHASE_SPREAD_NS: Final = 1_000_000_000  # sessions begin within a second, as callers do, not all at once


@dataclass(frozen=True, slots=True)
class Role:
    """One flow as one session plays it.

    number    of the player's session
    session   whose flow it is, counted over all turns
    part      of the player's call: a flow in a turn
    copy      of the call, counted over all turns: names depend on it
    backend   whose end answers
    phase_ns  how much later than the capture it begins
    """

    number: int
    session: int
    part: int
    flow: Flow
    copy: int
    backend: int
    phase_ns: int


class Cast:
    """The roles of a replay. sessions 0: one a call. turns: how often everything is played.

    ConfigError when the roles are more than one player has.
    """

    def __init__(
        self, calls: Sequence[Call], *, sessions: int = 0, backends: int = 1, turns: int = 1, seed: int = 0
    ) -> None:
        self.sessions = sessions or len(calls)
        self.turns = turns
        self._backends = backends
        self._flows = sum(len(call.flows) for call in calls)
        whole, rest = divmod(self.sessions, max(len(calls), 1))
        self._copies = [(call, whole + (place < rest)) for place, call in enumerate(calls)]
        self._roles_a_turn = sum(copies * len(call.flows) for call, copies in self._copies)
        self._check()
        draw = random.Random(seed)
        self._phases_ns = [draw.randrange(PHASE_SPREAD_NS) for _ in range(self.sessions)]
        self.roles = [role for turn in range(turns) for role in self._turn(turn)]
        self._by_part: dict[int, list[Role]] = {}
        for role in self.roles:
            self._by_part.setdefault(role.part, []).append(role)

    @property
    def calls_played(self) -> int:
        """Calls of the capture that somebody plays: with few sessions, not all of them."""
        return sum(copies > 0 for _, copies in self._copies)

    @property
    def datagrams(self) -> tuple[int, int]:
        """To be sent up and down, in all turns."""
        flows = [role.flow for role in self.roles]
        return sum(flow.up for flow in flows), sum(flow.down for flow in flows)

    def part(self, turn: int, flow: int) -> int:
        """The player's number for a flow in a turn."""
        return turn * self._flows + flow

    def of_part(self, part: int) -> list[Role]:
        """Everybody who plays it, in the order in which their messages are built. Empty: nobody."""
        return self._by_part.get(part, [])

    def _check(self) -> None:
        roles = self._roles_a_turn * self.turns
        if roles > ROLES_MAX or self._flows * self.turns > PARTS_MAX:
            raise ConfigError(
                f"{self.sessions:,} sessions of these calls, {self.turns} times, are {roles:,} clients, "
                f"and one replay has {ROLES_MAX:,}",
                "Take fewer --sessions, or a smaller --loop.",
                key="--sessions",
            )

    def _turn(self, turn: int) -> Iterator[Role]:
        """Whoever plays a flow stands together, copy after copy."""
        number, first_session = turn * self._roles_a_turn, 0
        for call, copies in self._copies:
            for flow in call.flows:
                part = self.part(turn, flow.index)
                for copy in range(copies):
                    session = first_session + copy
                    yield Role(
                        number,
                        turn * self.sessions + session,
                        part,
                        flow,
                        turn * copies + copy,
                        session % self._backends,
                        self._phases_ns[session],
                    )
                    number += 1
            first_session += copies
