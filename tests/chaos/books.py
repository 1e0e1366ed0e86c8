"""The books of one load: what was sent and arrived, and what else has to be known to judge a loss."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final, Literal

from pyfastpath.tools.bench.load import Load
from tests.chaos import processes
from tests.support.relay import Relay

Mode = Literal["up", "echo"]

START_S: Final = 0.1  # threads begin, and end, a little later than they are told to
HELD_SHARE: Final = 0.97  # of the schedule; below that the generator, not the relay, was too slow
OTHERS_SHARE: Final = 0.15  # of the CPUs


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all flows since load_start."""

    sent: int = 0
    arrived: int = 0
    duplicates: int = 0
    misrouted: int = 0

    def since(self, before: Totals) -> Totals:
        """What came on top of `before`."""
        return Totals(*(getattr(self, name) - getattr(before, name) for name in self.__slots__))

    def plus(self, more: Totals) -> Totals:
        """Both together."""
        return Totals(*(getattr(self, name) + getattr(more, name) for name in self.__slots__))

    @property
    def lost(self) -> int:
        """What has not arrived yet; after load_stop: never will."""
        return self.sent - self.arrived


def totals_of(load: Load, mode: Mode) -> Totals:
    """Sums over all flows of a load since it was made."""
    senders = [stream.generator.counters() for stream in load.streams]
    sinks = [stream.sink.arrivals.counters() for stream in load.streams]
    echoes = [stream.generator.echoes.counters() for stream in load.streams]
    return Totals(
        sent=sum(one["sent"] for one in senders),
        arrived=sum(end["received"] for end in (sinks if mode == "up" else echoes)),
        duplicates=sum(end["duplicates"] for end in (*sinks, *echoes)),
        misrouted=sum(one["misrouted"] for one in senders)
        + sum(end["strangers"] for end in (*sinks, *echoes)),
    )


def behind(sent: int, pps: int, seconds: float) -> str:
    """What a generator did not send in time, as a sentence; empty when it held its schedule."""
    wanted = pps * (seconds - START_S)
    if sent >= HELD_SHARE * wanted:
        return ""
    return f"the generator sent {sent:,} of {wanted:,.0f} that the schedule asked for"


@dataclass(frozen=True, slots=True)
class Opening:
    """The state of everything that is counted, at the moment a load begins.

    relay_drops, own_drops   of the kernel, at the sockets of the relay and of the load tools, by socket
    reasons                  the relay's own drops
    own_s, all_s             CPU time of this process with all it started, and of the machine
    """

    at_s: float
    totals: Totals
    relay_drops: dict[int, int]
    own_drops: dict[int, int]
    reasons: dict[str, int]
    own_s: float
    all_s: float

    @classmethod
    def now(cls, totals: Totals, relay: Relay) -> Opening:
        """Read everything; the clock last."""
        me = os.getpid()
        found = (
            totals,
            processes.udp_drops(relay.process.pid),
            processes.udp_drops(me),
            relay.drops(),
            processes.user_s(processes.tree(me)),
            processes.user_of_all_s(),
        )
        return cls(time.monotonic(), *found)

    def kernel_drops(self, relay: Relay) -> int:
        """At the relay's sockets, since then."""
        return processes.drops_since(self.relay_drops, processes.udp_drops(relay.process.pid))

    def drops(self, relay: Relay) -> dict[str, int]:
        """Of the relay itself since then, by reason; empty while it does not answer."""
        try:
            now = relay.drops()
        except OSError:
            return {}
        reasons = {name: count - self.reasons.get(name, 0) for name, count in now.items()}
        return {name: count for name, count in reasons.items() if count > 0}

    def overrun(self) -> str:
        """What the kernel dropped at the load tools' own sockets since then; empty when nothing."""
        own = processes.drops_since(self.own_drops, processes.udp_drops(os.getpid()))
        return f"sinks and clients were too slow: the kernel dropped {own:,} at their sockets" if own else ""

    def disturbance(self) -> str:
        """Who else used the CPUs since then, and so kept a relay from its sockets; empty when nobody did."""
        own_s = processes.user_s(processes.tree(os.getpid())) - self.own_s
        others_s = processes.user_of_all_s() - self.all_s - own_s
        share = others_s / ((os.cpu_count() or 1) * (time.monotonic() - self.at_s))
        return f"other programs used {share:.0%} of the CPUs" if share > OTHERS_SHARE else ""
