"""A relay that was started by root and serves as an ordinary user: what still works, what the errors say."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyfastpath.tools.edge import toml_of
from pyfastpath.tools.ports import free_port
from tests.support import http
from tests.support.plain_call import PlainCall, endpoint_text
from tests.support.reachable import PYTHON, reachable
from tests.support.require import require
from tests.support.rig import until

USER = pwd.getpwnam("nobody")
ENOUGH_S = 30


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the user can reach, with one of the user's own in it."""
    require("root", "namespaces")
    made = Path(tempfile.mkdtemp(prefix="fastpath-user-"))
    made.chmod(0o755)
    (made / "own").mkdir()
    os.chown(made / "own", USER.pw_uid, USER.pw_gid)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def prefix() -> Iterator[list[str]]:
    with reachable() as command:
        yield command


def command(prefix: list[str], folder: Path, listen: str, server: socket.socket, **changed: Any) -> list[str]:
    """What starts a relay that is to serve as the user."""
    settings = {
        "user": USER.pw_name,
        "listen": [listen],
        "pin": False,
        "allow_clients": ["127.0.0.0/8"],
        "flows_max": 1024,
        "routes_max": 1024,
        "targets_max": 16,
        "plain_ports": 16,
        "receive_buffer_bytes": 1 << 20,
        "admin_socket": str(folder / "own" / "admin.sock"),
        "health_listen": "",
        "log_file": str(folder / "own" / "log"),
        "backends": [{"id": "a", "address": endpoint_text(server)}],
    } | changed
    (folder / "relay.toml").write_text(toml_of(settings))
    return [*prefix, PYTHON, "-m", "pyfastpath", "relay", "--config", str(folder / "relay.toml")]


def family(pid: int) -> list[int]:
    """A process and its children."""
    return [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_everything_goes_on_as_that_user(folder: Path, prefix: list[str], server: socket.socket) -> None:
    listen = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    host, _, port = listen.rpartition(":")
    admin, log = folder / "own" / "admin.sock", folder / "own" / "log"

    def ask(method: str, path: str, body: bytes = b"") -> Any:
        status, said, _ = http.request(admin, method, path, body, {"Content-Type": "application/json"})
        assert status < 300, said
        return json.loads(said) if said else None

    def engine() -> int:
        try:
            pid: int = ask("GET", "/v1/status")["pid"]
        except OSError:
            return 0
        return pid

    with subprocess.Popen(command(prefix, folder, listen, server), stdin=subprocess.DEVNULL) as keeper:
        try:
            until(lambda: bool(engine()), "the admin API", seconds=ENOUGH_S)
            until(lambda: len(family(keeper.pid)) == 3, "keeper, engine, standby", seconds=ENOUGH_S)
            for pid in family(keeper.pid):
                status = status_of(pid)
                assert set(status["Uid"].split()) == {str(USER.pw_uid)}
                assert (int(status["CapEff"], 16), int(status["CapBnd"], 16)) == (0, 0)
                assert status["NoNewPrivs"] == "1"
            assert admin.stat().st_uid == log.stat().st_uid == USER.pw_uid
            ask("PUT", "/v1/routes", b'{"ufrag": "ufrag1", "backend": "a"}')
            with PlainCall((host, int(port)), server, "ufrag1") as call:
                call.confirm()
                first = engine()
                os.kill(first, signal.SIGKILL)
                call.exchange()
                until(lambda: engine() not in (0, first), "another engine", seconds=ENOUGH_S)
                log.rename(folder / "own" / "log.1")
                keeper.send_signal(signal.SIGHUP)
                until(lambda: log.exists() and "reloaded" in log.read_text(), "the reload", seconds=ENOUGH_S)
                call.exchange()
        finally:
            keeper.send_signal(signal.SIGINT)
            assert keeper.wait(ENOUGH_S) == 0
    assert not admin.exists()


@pytest.mark.parametrize(
    ("changed", "mode", "said"),
    [
        ({"log_file": "{folder}/log"}, 0o644, "log_file: cannot open {folder}/log: Permission denied"),
        (
            {"admin_socket": "{folder}/admin.sock"},
            0o644,
            "admin_socket: nobody may not write in {folder}, where the admin socket is",
        ),
        ({}, 0o600, "{folder}/relay.toml: cannot read it: Permission denied"),
    ],
)
def test_what_that_user_may_not_do_is_said_at_the_start(
    folder: Path,
    prefix: list[str],
    server: socket.socket,
    changed: dict[str, str],
    mode: int,
    said: str,
) -> None:
    values = {key: value.format(folder=folder) for key, value in changed.items()}
    start = command(prefix, folder, f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}", server, **values)
    (folder / "relay.toml").chmod(mode)
    ended = subprocess.run(start, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2, ended.stderr
    assert said.format(folder=folder) in ended.stderr
