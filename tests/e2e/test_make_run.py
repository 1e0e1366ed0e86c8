"""`make run` is `pyfastpath up`: one tree of processes, a first call, a verdict, and nothing left behind."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from pyfastpath.tools.ports import free_port
from tests.support import http
from tests.support.require import require

COMMAND = [sys.executable, "-m", "pyfastpath", "up"]
TIMEOUT_S = 60
GONE_S = 10
BACK_S = 20
POLL_S = 0.05


@dataclass(frozen=True)
class Ports:
    """Ports that nobody has."""

    relay: int
    page: int
    health: int

    @classmethod
    def free(cls) -> "Ports":
        return cls(
            free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_STREAM), free_port(socket.SOCK_STREAM, 5)
        )

    def flags(self) -> list[str]:
        return [
            f"--relay-port={self.relay}",
            f"--page-port={self.page}",
            f"--health-port={self.health}",
        ]


def run_once(
    *flags: str, prefix: tuple[str, ...] = (), **environment: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*prefix, *COMMAND, "--once", "--transceivers=1", *Ports.free().flags(), *flags],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def assert_verdict(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"path +client → .*:\d+ \(relay(, called at \S+)?\) → transceiver → echo", done.stdout)
    assert re.search(r"setup +answer [\d.]+ ms, connected [\d.]+ ms, first event [\d.]+ ms", done.stdout)
    assert re.search(r"forwarded +[1-9]\d+ datagrams", done.stdout)
    assert re.search(r"dropped +0$", done.stdout, re.MULTILINE)
    assert re.search(r"verdict +OK", done.stdout)


@dataclass(frozen=True)
class Edge:
    """An edge that serves. `folder`: its files."""

    process: subprocess.Popen[str]
    ports: Ports
    folder: Path
    output: Path

    def pids(self) -> dict[str, int]:
        """Pid of each child, by the name of its configuration file."""
        found = {}
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = file.read_bytes().decode().split("\0")
            except OSError:
                continue
            if str(self.folder) in " ".join(words):
                config = next(word for word in words if word.endswith(".toml"))
                found[Path(config).stem] = int(file.parent.name)
        return found

    def engine(self) -> int:
        """Pid of the relay's engine, a child of its keeper."""
        keeper = self.pids()["relay"]
        children = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
        return int(children[0])

    def wait_for(self, line: str, timeout_s: float = BACK_S) -> str:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            said = self.output.read_text()
            if re.search(line, said):
                return said
            time.sleep(POLL_S)
        raise AssertionError(f"never said {line!r}:\n{self.output.read_text()}")

    def ready(self, number: int) -> bool:
        try:
            with urlopen(f"http://127.0.0.1:{self.ports.health + number}/readyz", timeout=2) as reply:
                return reply.status == 200
        except OSError:
            return False

    def wait_until_ready(self, number: int) -> None:
        deadline_s = time.monotonic() + BACK_S
        while not self.ready(number):
            assert time.monotonic() < deadline_s, self.output.read_text()
            time.sleep(POLL_S)

    def wait_until_the_relay_knows(self, transceivers: set[str]) -> None:
        deadline_s, up = time.monotonic() + BACK_S, set[str]()
        while up != transceivers:
            assert time.monotonic() < deadline_s, up
            with suppress(ConnectionError, FileNotFoundError):  # of an engine whose keeper is dead
                _, said = http.ask(self.folder / "relay.sock", "GET", "/v1/backends")
                up = {row["id"] for row in said["backends"] if row["state"] == "up"}
            time.sleep(POLL_S)

    def transceivers(self) -> list[dict[str, object]]:
        status, said = http.ask(self.folder / "gateway.sock", "GET", "/v1/transceivers")
        assert status == 200
        return [row.get("record", row) for row in said["transceivers"]]

    def incarnation(self, transceiver: str) -> object:
        return {row["id"]: row["incarnation"] for row in self.transceivers()}[transceiver]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def assert_all_gone(pids: list[int]) -> None:
    deadline_s = time.monotonic() + GONE_S
    while any(map(alive, pids)):
        assert time.monotonic() < deadline_s, [pid for pid in pids if alive(pid)]
        time.sleep(POLL_S)


@contextmanager
def running_edge(tmp_path: Path, *flags: str) -> Iterator[Edge]:
    """`pyfastpath up` until it invites to talk; ended with SIGTERM if the test did not end it."""
    ports, output, home = Ports.free(), tmp_path / "output", tmp_path / "t"
    home.mkdir()
    with output.open("w") as out:
        process = subprocess.Popen(
            [*COMMAND, *ports.flags(), *flags],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            text=True,
            env=os.environ | {"TMPDIR": str(home)},
        )
    try:
        edge = Edge(process, ports, home, output)
        edge.wait_for("Ctrl-C stops everything", TIMEOUT_S)
        (folder,) = home.iterdir()
        yield Edge(process, ports, folder, output)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(GONE_S)


def test_once_ends_with_the_verdict_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Settings of the environment play no part."""
    nonsense = {"PYFASTPATH_LISTEN": "nonsense", "PYFASTPATH_GATEWAY_TLS": "nonsense"}
    assert_verdict(run_once(TMPDIR=str(tmp_path), **nonsense))
    assert list(tmp_path.iterdir()) == [], "sockets, configuration, keys and logs go with the edge"


def test_a_machine_without_a_network() -> None:
    """A container with loopback alone: there aioice offers nothing by itself."""
    require("root", "namespaces")
    alone = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    assert_verdict(run_once(prefix=alone))


def test_for_others_with_https() -> None:
    """A public address that is this machine's only by translation: the call to itself goes by loopback."""
    done = run_once("--public-ip", "203.0.113.9", "--tls", "self-signed")
    assert_verdict(done)
    assert "client → 203.0.113.9:" in done.stdout


@pytest.mark.parametrize(
    ("flag", "kind", "protocol"),
    [
        ("relay", socket.SOCK_DGRAM, "UDP"),
        ("page", socket.SOCK_STREAM, "TCP"),
        ("health", socket.SOCK_STREAM, "TCP"),
    ],
)
def test_a_taken_port_is_named_with_the_flag_that_chooses_another(
    flag: str, kind: socket.SocketKind, protocol: str
) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        done = run_once(f"--{flag}-port={port}")
    assert done.returncode == 4
    assert f"{protocol} port {port} of 127.0.0.1: Address already in use" in done.stderr
    assert f"--{flag}-port {port + 1} (make run {flag.upper()}_PORT={port + 1})" in done.stderr


@pytest.mark.parametrize(
    ("flags", "code", "word"),
    [
        (["--public-ip", "example.org"], 2, "'example.org' is not an IP address"),
        (["--tls", "acme"], 2, "--tls self-signed"),
        (["--transceivers", "0"], 2, "--transceivers"),
        (["--agent", "nobody"], 1, "nobody"),
        (["--agent", "tests.no_such_module:Agent"], 1, "tests.no_such_module"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(
    flags: list[str], code: int, word: str, tmp_path: Path
) -> None:
    done = run_once(*flags, TMPDIR=str(tmp_path))
    assert done.returncode == code, done.stdout + done.stderr
    assert word in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def assert_it_ends_cleanly(edge: Edge, number: signal.Signals) -> None:
    everybody = [*edge.pids().values(), edge.engine()]
    edge.process.send_signal(number)
    assert edge.process.wait(GONE_S) == 0
    assert_all_gone(everybody)
    assert not edge.folder.exists()
    assert "stopped" in edge.output.read_text()
    assert "killed" not in edge.output.read_text()


def test_ctrl_c_ends_everything_cleanly(tmp_path: Path) -> None:
    with running_edge(tmp_path) as edge:
        assert set(edge.pids()) == {"relay", "gateway", "t1", "t2"}
        assert oct(edge.folder.stat().st_mode & 0o777) == "0o700"
        assert_it_ends_cleanly(edge, signal.SIGINT)


def test_nothing_survives_a_parent_that_was_killed(tmp_path: Path) -> None:
    with running_edge(tmp_path) as edge:
        everybody = [*edge.pids().values(), edge.engine()]
        edge.process.kill()
        assert_all_gone(everybody)


def test_what_dies_is_replaced_and_serves_again(tmp_path: Path) -> None:
    with running_edge(tmp_path) as edge:
        before = edge.pids()
        incarnation = edge.incarnation("t1")
        os.kill(before["t1"], signal.SIGKILL)
        edge.wait_for("transceiver t1 ended by SIGKILL: starting another")
        edge.wait_until_ready(2)
        assert edge.incarnation("t1") != incarnation
        os.kill(before["gateway"], signal.SIGKILL)
        edge.wait_for("the gateway ended by SIGKILL: starting another")
        edge.wait_until_ready(1)
        after = edge.pids()
        assert {name for name in after if after[name] != before[name]} == {"t1", "gateway"}
        edge.wait_until_ready(2)
        edge.wait_until_ready(3)
        assert {row["id"] for row in edge.transceivers()} == {"t1", "t2"}, "registered at the new gateway"
        os.kill(before["relay"], signal.SIGKILL)
        edge.wait_for("the relay ended by SIGKILL: starting another")
        edge.wait_until_ready(0)
        edge.wait_until_the_relay_knows({"t1", "t2"})
        assert_it_ends_cleanly(edge, signal.SIGTERM)
