"""A server under test as a child process that says on a line of its output where it can be reached."""

import queue
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

STOP_TIMEOUT_S = 30


@contextmanager
def running_child(command: Sequence[str], *, says: str, log: Path, timeout_s: float = 30) -> Iterator[str]:
    """Start `command` and yield what follows `says` on the line that begins with it; ended with SIGTERM.

    Everything it prints is kept in `log`.
    """
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    said: queue.Queue[str | None] = queue.Queue()
    reader = threading.Thread(target=_read, args=(process, says, log, said), daemon=True)
    reader.start()
    try:
        try:
            line = said.get(timeout=timeout_s)
        except queue.Empty:
            line = None
        assert line is not None, f"{command[0]} never said {says!r}; its output:\n{log.read_text()}"
        yield line
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join()


def _read(process: subprocess.Popen[str], says: str, log: Path, said: queue.Queue[str | None]) -> None:
    """Copy the output to `log`; hand over what follows `says`, or None when the output ends."""
    assert process.stdout is not None
    with log.open("w", buffering=1) as out:
        for line in process.stdout:
            out.write(line)
            if line.startswith(says):
                said.put(line.removeprefix(says).strip())
    said.put(None)
