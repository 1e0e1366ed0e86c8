"""A real engine process: it gets ready, and ends when nobody wants it."""

import contextlib
import os
import resource
from pathlib import Path

import pytest
from fastpath.shard import LAYOUT_VERSION

from pyfastpath import __version__
from pyfastpath.relay import orders
from pyfastpath.relay.child import Child
from pyfastpath.relay.manifest import Manifest, plain_config
from pyfastpath.relay.opening import open_relay
from tests.relay.conftest import MakeConfig

END_S = 30.0


def descriptors() -> list[int]:
    return [int(path.name) for path in Path("/proc/self/fd").iterdir()]


def test_one_that_waits_is_ready_and_ends_when_it_is_let_go(make_config: MakeConfig) -> None:
    config = make_config(backends=["a=127.0.0.1:9"])
    opening = open_relay(config)
    child = Child.spawn(Manifest(opening=opening, config=plain_config(config)), opening.descriptors())
    assert orders.receive_news(child.end) == (orders.Ready(LAYOUT_VERSION, __version__), [])
    child.close()
    assert child.process.wait(END_S) == 0
    opening.close()


def test_one_that_cannot_be_started_leaves_nothing_open(make_config: MakeConfig) -> None:
    opening = open_relay(make_config(backends=["a=127.0.0.1:9"]))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    before = len(descriptors())
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(descriptors()) + 4, limits[1]))
    held: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        for _ in range(3):  # enough for the socket and the manifest, not for the process
            os.close(held.pop())
        with pytest.raises(OSError, match="Too many open files"):
            Child.spawn(Manifest(opening=opening), opening.descriptors())
    finally:
        for fd in held:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert len(descriptors()) == before
    opening.close()


def test_fates_in_words(make_config: MakeConfig) -> None:
    config = make_config(backends=["a=127.0.0.1:9"])
    opening = open_relay(config)
    child = Child.spawn(Manifest(opening=opening, config=plain_config(config)), opening.descriptors())
    child.process.kill()
    assert child.fate(child.process.wait(END_S)) == "SIGKILL"
    assert child.fate(3) == "exit code 3"
    assert child.fate(-40) == "signal 40"  # a real-time signal: most have no name
    child.close()
    opening.close()
