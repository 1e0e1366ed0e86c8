"""The survey with real relays, short: everybody takes every turn, and rates leave everybody room."""

import os

import pytest

from pyfastpath.tools.bench import survey as module
from pyfastpath.tools.bench.cpu import divide, pinned
from pyfastpath.tools.bench.figures import figures
from pyfastpath.tools.bench.options import Flags, Options, read_options
from pyfastpath.tools.bench.survey import PACED_SHARE, TIMED_PPS, survey
from pyfastpath.tools.progress import Progress


def options(**changes) -> Options:
    known = read_options(Flags(sessions="100"))
    return Options(**({name: getattr(known, name) for name in Options.__slots__} | changes))


@pytest.fixture
def one_round(monkeypatch):
    monkeypatch.setattr(module, "ROUNDS", 1)


def test_everybody_takes_every_turn(one_round):
    division = divide(frozenset(os.sched_getaffinity(0)))
    with pinned(*division.load), Progress() as progress:
        rows = survey(options(duration_s=3.0), division, progress)
    assert [row.label for row in rows] == [
        *("no relay up", "plain up", "trunk up", "no relay echo", "plain echo", "trunk echo"),
    ]
    for row in rows:
        (flood,), (paced,), (timed,) = row.floods, row.paced, row.timed
        assert flood.rate_pps == 0
        assert timed.rate_pps == min(TIMED_PPS, paced.rate_pps)
        slowest = min(one.floods[0].sent_pps for one in rows if one.mode == row.mode)
        assert paced.rate_pps == int(PACED_SHARE * slowest)
        assert (row.own_pps is None) == (row.path == "no relay")
        said = figures(row)
        assert (paced.cpu_ns is None) == (row.path == "no relay")
        assert said["misrouted"] == said["duplicates"] == 0
