"""`make run-aiortc` with ONCE=1: the relay before an unmodified server, and what a taken port says."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pyfastpath.tools.ports import free_port
from tests.support.require import require

COMMAND = [sys.executable, "-m", "examples.aiortc_echo"]
TIMEOUT_S = 60


def run_once(*prefix: str, **environment: str) -> subprocess.CompletedProcess[str]:
    ports = {
        "RELAY_PORT": str(free_port(socket.SOCK_DGRAM)),
        "PAGE_PORT": str(free_port(socket.SOCK_STREAM)),
        "HEALTH_PORT": str(free_port(socket.SOCK_STREAM)),
    }
    return subprocess.run(
        [*prefix, *COMMAND],
        env=os.environ | ports | {"ONCE": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def assert_verdict(done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"forwarded +[1-9]\d+ datagrams", done.stdout)
    assert re.search(r"dropped +0$", done.stdout, re.MULTILINE)
    assert re.search(r"latency +in the relay ≤ [\d.]+ ms", done.stdout)
    assert re.search(r"verdict +OK", done.stdout)


def test_once_ends_with_the_verdict_and_leaves_nothing_behind(tmp_path: Path) -> None:
    assert_verdict(run_once(TMPDIR=str(tmp_path)))
    assert list(tmp_path.iterdir()) == [], "sockets, configuration and logs go with the demo"


def test_a_machine_without_a_network() -> None:
    """A container with loopback alone: there aioice offers nothing by itself."""
    require("root", "namespaces")
    alone = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
    assert_verdict(run_once(*alone))


@pytest.mark.parametrize(
    ("variable", "kind", "protocol"),
    [
        ("RELAY_PORT", socket.SOCK_DGRAM, "UDP"),
        ("PAGE_PORT", socket.SOCK_STREAM, "TCP"),
        ("HEALTH_PORT", socket.SOCK_STREAM, "TCP"),
    ],
)
def test_a_taken_port_is_named(variable: str, kind: socket.SocketKind, protocol: str) -> None:
    with socket.socket(socket.AF_INET, kind) as taken:
        taken.bind(("127.0.0.1", 0))
        if kind == socket.SOCK_STREAM:
            taken.listen()
        port = taken.getsockname()[1]
        done = run_once(**{variable: str(port)})
    assert done.returncode == 1
    assert f"{protocol} port {port} of 127.0.0.1: Address already in use" in done.stderr
    assert f"make run-aiortc {variable}={port + 1}" in done.stderr


def test_a_port_that_is_none_is_refused() -> None:
    done = run_once(RELAY_PORT="seventy")
    assert done.returncode == 1
    assert "RELAY_PORT=seventy is no port" in done.stderr
