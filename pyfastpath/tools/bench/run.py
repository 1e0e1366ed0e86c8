"""A run: the survey or one workload, generator and sink kept away from the relay's CPU."""

from __future__ import annotations

import os
from dataclasses import dataclass

from pyfastpath.tools.bench.cpu import Division, divide, pinned
from pyfastpath.tools.bench.figures import Row
from pyfastpath.tools.bench.options import Options
from pyfastpath.tools.bench.survey import survey
from pyfastpath.tools.bench.workload import workload
from pyfastpath.tools.progress import Progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """The rows of a run, and how CPUs were divided."""

    rows: list[Row]
    division: Division


def run(options: Options, progress: Progress) -> Outcome:
    """Everything that was asked for. UnreachableError when nobody answers at all."""
    cpus = frozenset(os.sched_getaffinity(0))
    # Where a relay that is not ours runs is its own affair: the load takes the CPUs it was given.
    division = divide(cpus) if options.own else Division(None, cpus)
    measure = survey if options.survey else workload
    with pinned(*division.load):
        return Outcome(measure(options, division, progress), division)
