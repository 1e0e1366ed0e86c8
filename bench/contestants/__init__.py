"""The relays of a benchmark run: how each is built, configured and started, with one worker on one CPU.

contestants()   everybody who can run here, and who was left out and why
fastpath(), c_mmsg(), c_trunk() …   one of them with other settings
"""

from __future__ import annotations

from collections.abc import Iterable

from bench.contestants.children import program as find
from bench.contestants.contract import Contestant, Running
from bench.contestants.ours import fastpath
from bench.contestants.packaged import coturn, nginx, rtpengine
from bench.contestants.references import c_mmsg, c_recvfrom, c_trunk, go_relay, uvloop_relay

__all__ = [
    "Contestant",
    "Running",
    "able",
    "c_mmsg",
    "c_recvfrom",
    "c_trunk",
    "contestants",
    "coturn",
    "everybody",
    "fastpath",
    "go_relay",
    "limits",
    "nginx",
    "rivals",
    "rtpengine",
    "uvloop_relay",
]


def rivals() -> list[Contestant]:
    """Ours, and the relays others could run in our place, with the settings of the headline."""
    return [
        fastpath("trunk"),
        fastpath("plain"),
        uvloop_relay(),
        go_relay(),
        nginx(),
        coturn(),
        rtpengine(),
    ]


def limits() -> list[Contestant]:
    """The C forwarders: the limit of each technique."""
    return [
        c_recvfrom(),
        c_mmsg("flow"),
        c_mmsg("flow", 500),
        c_mmsg("shared"),
        c_mmsg("shared", 500),
        c_trunk("run"),
        c_trunk(),
        c_trunk("bundle", 500),
    ]


def everybody() -> list[Contestant]:
    """All of them."""
    return [*rivals(), *limits()]


def able(wanted: Iterable[Contestant]) -> tuple[list[Contestant], list[str]]:
    """Who of `wanted` can run here, and why the others cannot."""
    found: list[Contestant] = []
    left_out: list[str] = []
    for each in wanted:
        missing = [package for program, package in each.needs if not find(program)]
        if missing:
            left_out.append(f"{each.name} left out: apt install {' '.join(missing)}, or make bench-deps")
        else:
            found.append(each)
    return found, left_out


def contestants() -> tuple[list[Contestant], list[str]]:
    """Everybody who can run here, and why the others cannot."""
    return able(everybody())
