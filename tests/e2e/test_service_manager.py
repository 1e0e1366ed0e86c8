"""The daemons under a service manager: what each says, and when."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfastpath.tools.edge import toml_of
from pyfastpath.tools.ports import free_port
from tests.support.manager import Manager

WATCHDOG_S = 0.9
SETTINGS = {
    "transceiver": {"plain_listen": "127.0.0.1:0", "health_listen": "", "drain_deadline_s": 0},
    "gateway": {
        "candidates": ["203.0.113.9:3478"],
        "health_listen": "",
        "token_keys": ["1:000102030405060708090a0b0c0d0e0f"],
        "api_keys": ["an-api-key-of-this-test"],
    },
}
SHOWN = {"transceiver": "STATUS=0 calls", "gateway": "STATUS=0 connections"}


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path) as running:
        yield running


def start(daemon: str, folder: Path, manager: Manager) -> "subprocess.Popen[bytes]":
    own = {"control_socket" if daemon == "transceiver" else "admin_socket": str(folder / "own.sock")}
    if daemon == "gateway":
        own["listen"] = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    file = folder / f"{daemon}.toml"
    file.write_text(toml_of(SETTINGS[daemon] | own))
    command = [sys.executable, "-m", "pyfastpath", daemon, "--config", str(file)]
    return manager.start(command, env={"WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))})


@pytest.mark.parametrize("daemon", ["transceiver", "gateway"])
def test_ready_alive_stopping(daemon: str, tmp_path: Path, manager: Manager) -> None:
    process = start(daemon, tmp_path, manager)
    try:
        manager.wait_for("READY=1")
        manager.wait_for(SHOWN[daemon])
        manager.wait_for("WATCHDOG=1", times=2)
        assert manager.count("STOPPING=1") == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
        assert manager.count("STOPPING=1") >= 1
        assert manager.heard.index("READY=1") < manager.heard.index("STOPPING=1")
    finally:
        process.kill()
        process.wait()
