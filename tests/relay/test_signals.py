"""Signals wake a selector, in whatever thread they arrive, and children are born deaf to them."""

import subprocess
import sys

PROGRAM = """
import os, selectors, signal, subprocess, sys, threading
import numpy  # whose threads take signals too
from pyfastpath.relay.signals import Signals

signals = Signals({signal.SIGTERM, signal.SIGUSR1})
watch = selectors.DefaultSelector()
watch.register(signals, selectors.EVENT_READ)
os.kill(os.getpid(), signal.SIGUSR1)
os.kill(os.getpid(), signal.SIGTERM)
assert watch.select(10)
assert set(signals.take()) == {signal.SIGUSR1, signal.SIGTERM}
assert not list(signals.take())
with signals.kept_from_children():
    child = subprocess.run(["grep", "SigBlk", "/proc/self/status"], capture_output=True, text=True)
blocked = int(child.stdout.split()[1], 16)
assert blocked >> signal.SIGTERM - 1 & 1 and blocked >> signal.SIGUSR1 - 1 & 1
assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
signals.close()
os.kill(os.getpid(), signal.SIGTERM)
print("alive")
"""


def test_signals_become_readable() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "alive\n", done.stderr
