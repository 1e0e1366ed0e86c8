"""CPU time as the kernel counts it, and who gets which CPU."""

import os
import subprocess
import sys
import threading
import time

from pyfastpath.tools.bench.cpu import Division, divide, is_visible, pinned, used_ns

BUSY_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
print("started", flush=True)
time.sleep(60)
"""


def test_the_relay_has_a_cpu_of_its_own_where_there_are_two():
    assert divide(frozenset({0, 1})) == Division(0, frozenset({1}))
    assert divide(frozenset({2, 4, 7})) == Division(2, frozenset({4, 7}))
    assert divide(frozenset({3})) == Division(None, frozenset({3}))


def test_threads_started_meanwhile_stay_on_these_cpus():
    before = os.sched_getaffinity(0)
    one = max(before)
    found: list[set[int]] = []
    with pinned(one):
        thread = threading.Thread(target=lambda: found.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
    assert found == [{one}]
    assert os.sched_getaffinity(0) == before


def test_the_time_of_children_counts():
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY_CHILD], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        before = used_ns(process.pid)
        deadline_s = time.monotonic() + 20
        while used_ns(process.pid) - before < 100_000_000:
            assert time.monotonic() < deadline_s, "its child spins, and no time passed"
            time.sleep(0.05)
        assert is_visible(process.pid)
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_thread_that_has_ended_keeps_counting():
    def spin():
        end_s = time.thread_time() + 0.05
        while time.thread_time() < end_s:
            pass

    before = used_ns(os.getpid())
    thread = threading.Thread(target=spin)
    thread.start()
    thread.join()
    assert used_ns(os.getpid()) - before > 50_000_000


def test_who_is_gone_used_nothing():
    process = subprocess.Popen(["true"])
    process.wait()
    assert used_ns(process.pid) == 0
    assert not is_visible(process.pid)
