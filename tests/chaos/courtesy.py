"""The CPU only when nobody else wants it.

Attackers, and backends in their service, have machines of their own. Here they share one with the calls whose
latency is measured: what they take from the clients of the calls would be counted against the relay.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def step_back() -> None:
    """This thread, from now on."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


@contextmanager
def stepping_back() -> Iterator[None]:
    """This thread, meanwhile. As root: nobody else may take it back."""
    step_back()
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
