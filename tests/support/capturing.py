"""`pyfastpath capture` of a relay under test, as an operator runs it: as a child that a signal ends."""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pyfastpath.tools.capture import Blocks

ENDED_S = 30


class Capturing:
    """`pyfastpath capture` as a child; it runs once the relay has begun."""

    def __init__(self, admin: Path | str, file: Path, *options: str) -> None:
        command = [sys.executable, "-m", "pyfastpath", "capture", "--socket", str(admin)]
        self.file = file
        self.process = subprocess.Popen([*command, "-o", str(file), *options], stderr=subprocess.PIPE)
        deadline = time.monotonic() + ENDED_S
        while not (file.exists() and file.stat().st_size):
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < deadline, "the capture does not begin"
            time.sleep(0.01)

    def wait_for(self, count: int) -> None:
        """Until so many datagrams are in the file."""
        deadline = time.monotonic() + ENDED_S
        while packets(self.file) < count:
            assert time.monotonic() < deadline, f"{packets(self.file)} of {count}"
            time.sleep(0.02)

    def end(self, number: int = signal.SIGINT) -> tuple[int, str]:
        """Exit code and what it said, after a signal."""
        self.process.send_signal(number)
        return self.result()

    def result(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=ENDED_S)
        return self.process.returncode, said.decode()


Begin = Callable[..., Capturing]
"""begin(admin socket, file name, options…): a capture that runs."""


@contextlib.contextmanager
def captures_in(folder: Path) -> Iterator[Begin]:
    """Captures whose files lie in `folder`; a test that fails leaves none running."""
    begun: list[Capturing] = []

    def start(admin: Path | str, name: str, *options: str) -> Capturing:
        begun.append(Capturing(admin, folder / name, *options))
        return begun[-1]

    try:
        yield start
    finally:
        for one in begun:
            if one.process.poll() is None:
                one.process.kill()
                one.process.communicate()


def packets(file: Path) -> int:
    """Whole packets in a file that is being written."""
    blocks = Blocks()
    blocks.feed(file.read_bytes())
    return blocks.packets
