"""A loopback of one's own, where nothing comes to a port but what belongs there.

Test files run beside each other. A load outlives its relay by a moment, a relay asks for a while after a
backend that has gone, and the kernel gives the ports they mean to somebody else: a test next door that counts
every datagram counts theirs.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.namespace import entered, namespace
from tests.support.require import can_make_namespaces


@contextmanager
def own_loopback() -> Iterator[None]:
    """This thread, and the processes it starts, are alone; without root they stay where they are."""
    if not can_make_namespaces():
        yield
        return
    with namespace(f"fastpath-alone-{os.getpid()}") as name, entered(name):
        yield


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    """For the conftest.py of tests that count every datagram: a file is alone."""
    with own_loopback():
        yield
