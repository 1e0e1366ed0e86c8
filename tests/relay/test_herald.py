"""What the keeper tells the service manager, message by message."""

import signal

import pytest

from pyfastpath.notify import ServiceManager
from pyfastpath.relay.herald import Herald
from tests.support.manager import Manager


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (lambda herald: herald.started(), ["READY=1"]),
        (lambda herald: herald.reloaded(), ["READY=1"]),
        (lambda herald: herald.alive("7 flows"), ["WATCHDOG=1", "STATUS=7 flows"]),
        (lambda herald: herald.signalled(signal.SIGTERM), ["STOPPING=1"]),
        (lambda herald: herald.signalled(signal.SIGINT), ["STOPPING=1"]),
        (lambda herald: herald.signalled(signal.SIGUSR1), []),
        (lambda herald: herald.signalled(signal.SIGUSR2), []),
    ],
)
def test_each_event_is_one_message(tmp_path, event, said):
    with Manager(tmp_path) as manager:
        word = ServiceManager({"NOTIFY_SOCKET": str(manager.path), "WATCHDOG_USEC": "3000000"})
        event(Herald(word))
        assert word.wait_until_heard()
        assert manager.heard == [*said, "BARRIER=1"]


def test_a_reload_carries_its_time(tmp_path):
    with Manager(tmp_path) as manager:
        word = ServiceManager({"NOTIFY_SOCKET": str(manager.path)})
        Herald(word).signalled(signal.SIGHUP)
        assert word.wait_until_heard()
        reloading, usec, _ = manager.heard
        assert reloading == "RELOADING=1"
        assert int(usec.removeprefix("MONOTONIC_USEC=")) > 0
