"""How large a scenario is: in full for the record, short inside the suite.

A scenario takes what it needs of a scale, and may ask for less of it: `replace(scale, pps=scale.pps // 2)`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final


@dataclass(frozen=True)
class Scale:
    """flows: confirmed sessions under load. pps: datagrams a second over all of them. repeats: how often a
    fault is done. seconds: how long a load lasts that has no other reason to end. pinned: the relay has a CPU
    of its own, as it would where it is deployed; the load has the others."""

    name: str
    flows: int
    pps: int
    repeats: int
    seconds: float
    pinned: bool

    @property
    def is_full(self) -> bool:
        """Is this the size that goes on record?"""
        return self.name == "full"

    def both_ways(self) -> Scale:
        """For load that is echoed: every probe is relayed twice and taken twice by this machine, so of the
        full rate a fifth leaves everybody the same headroom."""
        return replace(self, pps=self.pps // 5) if self.is_full else self


FULL: Final = Scale("full", flows=10_000, pps=100_000, repeats=20, seconds=10.0, pinned=True)
SHORT: Final = Scale("short", flows=500, pps=5_000, repeats=2, seconds=1.0, pinned=False)
