"""One of the daemons alone, as a child process: `pyfastpath transceiver` or `pyfastpath gateway`."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from pyfastpath.tools.edge import toml_of
from pyfastpath.tools.ports import free_port

READY_TIMEOUT_S = 60
STOP_TIMEOUT_S = 30


@contextmanager
def running_daemon(daemon: str, directory: Path, *, until: str, **settings: Any) -> Iterator[str]:
    """Start it with these keys of its configuration; yields the URL of its health.

    until: healthz, it answers, or readyz, it takes calls. Ended with SIGINT; its log is
    `directory`/`daemon`.log.
    """
    where = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    file, log = directory / f"{daemon}.toml", directory / f"{daemon}.log"
    file.write_text(toml_of({"health_listen": where} | settings))
    command = [sys.executable, "-m", "pyfastpath", daemon, "--config", str(file)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        _wait_until_200(f"http://{where}/{until}", process, log)
        yield f"http://{where}"
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_200(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline_s = time.monotonic() + READY_TIMEOUT_S
    while True:
        assert process.poll() is None, log.read_text()
        try:
            urlopen(url, timeout=2).close()
        except OSError:
            assert time.monotonic() < deadline_s, log.read_text()
            time.sleep(0.05)
        else:
            return
