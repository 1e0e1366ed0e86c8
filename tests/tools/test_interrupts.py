"""SIGTERM and SIGHUP end what they interrupt as Ctrl-C would: through everything that was begun."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from pyfastpath.tools.interrupts import SIGNALS, interruptible


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_leaves_through_what_was_begun(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    cleaned = []

    def work() -> None:
        try:
            os.kill(os.getpid(), number)
            signal.pause()
        finally:
            cleaned.append(signal.getsignal(number) == before)

    with pytest.raises(SystemExit) as ended, interruptible():
        work()
    assert ended.value.code == 128 + number
    assert cleaned == [True]  # a second one would have ended it at once


def test_afterwards_signals_are_as_they_were() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_what_is_ignored_stays_ignored() -> None:
    program = (
        "import os, signal\n"
        "from pyfastpath.tools.interrupts import interruptible\n"
        "with interruptible():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    print('lives')\n"
    )
    ignored = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", ignored], check=False, capture_output=True, text=True, timeout=20
    )
    assert (done.returncode, done.stdout) == (0, "lives\n"), done.stderr


def test_another_thread_changes_nothing() -> None:
    seen = []

    def work() -> None:
        with interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
