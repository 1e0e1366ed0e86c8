"""An engine imports at a low priority and works at the usual one; without a keeper it does neither."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from pyfastpath.relay.warming import NICE
from tests.support.relay import running_relay
from tests.support.rig import until

NICE_FIELD = 16  # of /proc/PID/stat, counted from the state
BEGIN = """
import os, runpy, socket, sys, threading, time

def nice():
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

class Finder:
    def find_spec(self, name, path, target=None):
        imported(name)

sys.meta_path.insert(0, Finder())
keeper, engine = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sys.argv = ["engine", str(engine.fileno())]

def run():
    runpy.run_module("pyfastpath.relay.warming", run_name="__main__")
"""


def python(code: str) -> "subprocess.CompletedProcess[str]":
    """This, once all is ready to run an engine's process; `imported` is the code's own."""
    command = [sys.executable, "-c", BEGIN + code]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_import_gives_way_and_the_thread_that_goes_on_does_not() -> None:
    said = python("""
def imported(name):
    if name == "pyfastpath.relay.engine":
        print("imported at", nice())

from pyfastpath.relay.warming import warm_up
warm_up(engine.fileno())
print("goes on at", nice(), "pyfastpath.relay.engine" in sys.modules)
""")
    usual = os.nice(0)
    lower = min(19, usual + NICE)
    assert said.stdout == f"imported at {lower}\ngoes on at {usual} True\n", said.stderr


def test_a_broken_import_ends_it_and_is_told_once() -> None:
    said = python("""
def imported(name):
    if name == "pyfastpath.relay.admin":
        raise ImportError("broken on purpose")

run()
""")
    assert said.returncode == 1
    assert said.stderr.count("Traceback") == said.stderr.count("ImportError: broken on purpose") == 1


def test_it_ends_at_once_when_its_keeper_is_gone() -> None:
    """Without waiting for the import, which takes an hour here."""
    said = python("""
def imported(name):
    if name == "pyfastpath.relay.engine":
        keeper.close()
        time.sleep(3600)

run()
""")
    assert (said.returncode, said.stderr) == (0, "")


def test_even_an_exit_of_the_import_ends_it() -> None:
    said = python("""
def imported(name):
    if name == "pyfastpath.relay.engine":
        sys.exit(7)

run()
""")
    assert (said.returncode, said.stderr) == (7, "")


def test_no_thread_of_an_engine_gives_way(tmp_path: Path) -> None:
    with running_relay(tmp_path, backends=[{"id": "a", "address": "127.0.0.1:5000"}]) as relay:
        keeper = relay.process.pid
        until(lambda: "stands by" in relay.log.read_text(), "the next engine stands by", seconds=60)
        engines = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        assert len(engines) == 2
        until(lambda: nices(engines) == {os.nice(0)}, "the thread that imported is gone", seconds=20)


def nices(pids: list[str]) -> set[int]:
    """Of all their threads."""
    found = set()
    for task in (task for pid in pids for task in Path(f"/proc/{pid}/task").iterdir()):
        with suppress(FileNotFoundError, ProcessLookupError):
            found.add(int((task / "stat").read_text().rpartition(")")[2].split()[NICE_FIELD]))
    return found
