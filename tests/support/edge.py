"""`pyfastpath up` as a child process, on ports of its own: relay, two transceivers, gateway and page.

with running_edge(tmp_path) as edge:
    page.goto(edge.page)
    os.kill(edge.process("t1"), signal.SIGKILL)
"""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

from pyfastpath.tools.ports import free_port
from tests.support.child import running_child

START_TIMEOUT_S = 60  # it calls itself before it says that it is ready
HEALTH_PORTS = 8  # a row of them: relay, gateway, transceivers
STOP_TIMEOUT_S = 30
LAST_LINE = "Ctrl-C stops everything."


@dataclass(frozen=True)
class Edge:
    """An edge that runs. page: its URL; directory: its files and logs; output: what it said."""

    page: str
    directory: Path
    output: Path

    def process(self, name: str) -> int:
        """The id of a child: relay, gateway, t1, t2. AssertionError when it does not run."""
        file = str(self.directory / f"{name}.toml").encode()
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if file in entry.read_bytes().split(b"\0"):
                    return int(entry.parent.name)
            except OSError:  # it ended meanwhile
                continue
        raise AssertionError(f"{name} does not run:\n{self.log(name)}")

    def log(self, name: str) -> str:
        """What a child logged."""
        return (self.directory / f"{name}.log").read_text()


@contextmanager
def running_edge(directory: Path, *flags: str, prefix: Sequence[str] = ()) -> Iterator[Edge]:
    """Start it with these flags, behind `prefix` (as of a network namespace), and wait until it invites."""
    output = directory / "up.log"
    ports = {
        "--relay-port": free_port(socket.SOCK_DGRAM),
        "--page-port": free_port(socket.SOCK_STREAM),
        "--health-port": free_port(socket.SOCK_STREAM, HEALTH_PORTS),
    }
    command = [*prefix, sys.executable, "-m", "pyfastpath", "up", *flags]
    command += [text for flag, port in ports.items() for text in (flag, str(port))]
    with running_child(command, says=LAST_LINE, log=output, timeout_s=START_TIMEOUT_S):
        said = dict(
            line.split(":", 1) for line in output.read_text().splitlines() if line[:4] in ("Talk", "Logs")
        )
        page = said["Talk to it"].split()[0].split("/#")[0]  # /#own chooses the agent it was started with
        yield Edge(page=page, directory=Path(said["Logs"].strip()), output=output)


@contextmanager
def lone_gateway(directory: Path, settings: str = "") -> Iterator[str]:
    """A gateway that no transceiver registers at; yields its page's URL. settings: more lines of its TOML."""
    port = free_port(socket.SOCK_STREAM)
    file, log, page = directory / "gateway.toml", directory / "gateway.log", f"http://127.0.0.1:{port}"
    file.write_text(
        f'listen = "127.0.0.1:{port}"\n'
        f'token_keys = ["1:{"5a" * 16}"]\n'
        'candidates = ["127.0.0.1:9"]\n'
        f'admin_socket = "{directory}/gateway.sock"\n'
        f'health_listen = ""\n{settings}\n'
    )
    command = [sys.executable, "-m", "pyfastpath", "gateway", "--config", str(file)]
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        _wait_until_served(page, process, log)
        yield page
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_served(page: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            urlopen(page, timeout=5).close()
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, f"the gateway does not serve {page}:\n{log.read_text()}"
            time.sleep(0.05)
        else:
            return
