"""`pyfastpath transceiver` as a process: it starts, carries a call, obeys its signals and leaves nothing."""

import contextlib
import json
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from aiohttp import web

from pyfastpath import metrics
from pyfastpath.config import TransceiverConfig, load
from pyfastpath.guard import Gate
from pyfastpath.listeners import open_unix
from pyfastpath.tools.ports import free_port
from pyfastpath.transceiver import opus, process
from pyfastpath.transceiver.casting import Casting
from pyfastpath.transceiver.starts import Start
from tests.support import http
from tests.support.rtc_client import RtcClient

TIMEOUT_S = 60
SID = "00000001a"


@dataclass(frozen=True)
class Running:
    """A transceiver for clients that come directly."""

    process: subprocess.Popen[bytes]
    folder: Path
    health: str

    @property
    def control(self) -> Path:
        return self.folder / "control.sock"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def ask(self, method: str, path: str, body: object = b"") -> tuple[int, Any]:
        return http.ask(self.control, method, path, body)

    def ready(self) -> tuple[int, list[str]]:
        try:
            with urlopen(f"http://{self.health}/readyz", timeout=5) as reply:
                return reply.status, json.load(reply)["reasons"]
        except HTTPError as error:
            return error.code, json.load(error)["reasons"]

    def create(self, sid: str = SID) -> int:
        body = {
            "sid": sid,
            "ufrag": f"token{sid}",
            "offer": RtcClient().offer(),
            "candidates": ["127.0.0.1:9"],
        }
        return self.ask("POST", "/v1/sessions", body)[0]

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_S)


def command(folder: Path, health: str, *flags: str) -> list[str]:
    return [
        sys.executable,
        "-m",
        "pyfastpath",
        "transceiver",
        "--plain-listen=127.0.0.1:0",
        f"--control-socket={folder}/control.sock",
        f"--health-listen={health}",
        f"--state-dir={folder}/state",
        f"--log-file={folder}/log",
        *flags,
    ]


@contextmanager
def running(folder: Path, *flags: str, limit: int = 0) -> Iterator[Running]:
    """limit: of open files, soft; 0: as it is."""
    health = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    prefix = ["prlimit", f"--nofile={limit}:"] if limit else []
    started = subprocess.Popen([*prefix, *command(folder, health, *flags)], stdin=subprocess.DEVNULL)
    one = Running(started, folder, health)
    try:
        deadline = time.monotonic() + TIMEOUT_S
        while not one.control.exists() or not _answers(health):
            assert started.poll() is None, one.log
            assert time.monotonic() < deadline, one.log
            time.sleep(0.05)
        yield one
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()


def _answers(health: str) -> bool:
    try:
        urlopen(f"http://{health}/healthz", timeout=5).close()
    except OSError:
        return False
    return True


def test_it_serves_and_exports_every_metric(tmp_path):
    with running(tmp_path) as one:
        assert one.ready() == (200, [])
        assert one.create() == 201
        with urlopen(f"http://{one.health}/metrics", timeout=5) as reply:
            text = reply.read().decode()
        for metric in metrics.TRANSCEIVER_METRICS:
            assert f"# TYPE {metric.family}" in text or f"# TYPE {metric.name}" in text, metric.name
        assert 'fastpath_transceiver_sessions{state="created"} 1.0' in text
        assert one.ask("GET", "/v1/state")[1]["control"] == f"unix:{one.control}"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_without_a_call_either_signal_ends_it_at_once(tmp_path, number):
    with running(tmp_path) as one:
        one.process.send_signal(number)
        assert one.wait() == 0
        assert not one.control.exists()
        assert "Traceback" not in one.log


def test_sigterm_waits_for_the_last_call_and_refuses_new_ones(tmp_path):
    with running(tmp_path, "--drain-deadline-s=60") as one:
        one.create()
        one.process.send_signal(signal.SIGTERM)
        while one.ready() == (200, []):
            time.sleep(0.05)
        assert one.ready() == (503, ["it drains"])
        assert one.create("00000001b") == 503
        assert one.process.poll() is None
        assert one.ask("DELETE", f"/v1/sessions/{SID}")[0] == 204
        assert one.wait() == 0
        assert "drained" in one.log


def test_a_second_sigterm_ends_it_and_a_watcher_learns_why(tmp_path):
    with running(tmp_path, "--drain-deadline-s=60") as one:
        one.create()
        with _events(one.control) as stream:
            assert b'"created"' in _next_state(stream)
            one.process.send_signal(signal.SIGTERM)
            while one.ready() == (200, []):
                time.sleep(0.05)
            one.process.send_signal(signal.SIGTERM)
            rest = stream.read()
        assert b'"state": "closed"' in rest
        assert b'"reason": "drained"' in rest
        assert one.wait() == 0


def test_the_drain_deadline_ends_it_with_live_calls(tmp_path):
    with running(tmp_path, "--drain-deadline-s=0") as one:
        one.create()
        one.process.send_signal(signal.SIGTERM)
        assert one.wait() == 0
        assert "deadline" in one.log


def test_sigusr1_drains_and_sighup_reopens_the_log(tmp_path):
    with running(tmp_path) as one:
        one.process.send_signal(signal.SIGUSR1)
        while one.ready() == (200, []):
            time.sleep(0.05)
        assert one.create() == 503
        (tmp_path / "log").rename(tmp_path / "log.1")
        one.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + TIMEOUT_S
        while not (tmp_path / "log").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert one.process.poll() is None


def test_a_restart_has_another_incarnation(tmp_path):
    found = []
    for _ in range(2):
        with running(tmp_path) as one:
            found.append(one.ask("GET", "/v1/state")[1]["incarnation"])
            one.process.send_signal(signal.SIGINT)
            assert one.wait() == 0
    assert found == [0, 1]


@pytest.mark.parametrize(
    ("flags", "code", "word"),
    [
        (["--agent=nobody"], 2, "nobody"),
        (["--relays=nowhere"], 2, "flag --relays"),
        (["--control-socket=/no/such/folder/x.sock"], 4, "control_socket"),
        (["--plain-listen=192.0.2.77:9"], 4, "192.0.2.77:9"),
        (["--health-listen=192.0.2.77:9"], 4, "health_listen"),
        (["--state-dir=/proc/nothing"], 2, "state_dir"),
        (["--log-file=/proc/nothing/log"], 2, "log_file"),
    ],
)
def test_what_cannot_be_opened_is_one_clear_error(tmp_path, flags, code, word):
    said = subprocess.run(
        command(tmp_path, "127.0.0.1:0", *flags),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert said.returncode == code, said.stderr
    assert word in said.stderr
    assert "Traceback" not in said.stderr


def test_it_may_open_a_file_for_each_session(tmp_path):
    with running(tmp_path, "--sessions-max=3000", limit=1500) as one:
        soft, _ = resource.prlimit(one.process.pid, resource.RLIMIT_NOFILE)
        assert soft == 3000 + process.SPARE_FILES


def test_a_second_one_on_the_same_socket_is_refused(tmp_path):
    with running(tmp_path):
        said = subprocess.run(
            command(tmp_path, "127.0.0.1:0"), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert said.returncode == 4
        assert "another transceiver answers" in said.stderr


async def test_a_missing_libopus_is_said_at_the_start(monkeypatch):
    monkeypatch.setattr(opus, "_LIBRARY", "libopus.so.none")
    opus._library.cache_clear()
    config = load(kind=TransceiverConfig, environ={}, flags={"plain_listen": "127.0.0.1:0"})
    try:
        with pytest.raises(opus.OpusError, match="apt-get install libopus0"):
            process.open_endpoint(config, Start(1, 1), Casting("echo"))
    finally:
        opus._library.cache_clear()


@contextmanager
def _events(control: Path) -> Iterator[Any]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as end:
        end.settimeout(TIMEOUT_S)
        end.connect(str(control))
        end.sendall(f"GET /v1/sessions/{SID}/events HTTP/1.0\r\n\r\n".encode())
        with end.makefile("rb") as stream:
            yield stream


def _next_state(stream: Any) -> bytes:
    return next(line for line in stream if line.startswith(b"data:"))


async def test_a_burst_of_requests_finds_room_at_the_control_socket(tmp_path):
    """While the process is busy with something else, which a test in its loop can arrange."""
    path = tmp_path / "control.sock"
    async with contextlib.AsyncExitStack() as undo:
        listening = open_unix(path, key="control_socket", owner="transceiver")
        await process.serve_http(undo, web.Application(), listening, Gate())
        waiting = [undo.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(400)]
        for one in waiting:
            one.setblocking(False)
            one.connect(str(path))  # BlockingIOError when there is no room
