"""kill -9 of the keeper under a service manager that keeps its descriptors: the next one goes on.

The manager is our own (tests/support/manager.py); it does with messages and descriptors what systemd does.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pyfastpath.tools.edge import toml_of
from pyfastpath.tools.ports import free_port
from tests.support import http
from tests.support.manager import Manager, end_group
from tests.support.plain_call import PlainCall, endpoint_text
from tests.support.rig import until

CALLS = 20
RATE_PPS = 1000
ENOUGH_S = 30


@dataclass
class Kept:
    """A relay that a service manager keeps: `process` is the keeper of now."""

    manager: Manager
    folder: Path
    listen: tuple[str, int]
    process: "subprocess.Popen[bytes]"

    def ask(self, method: str, path: str, body: object = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        status, said, _ = http.request(
            self.folder / "admin.sock", method, path, data, {"Content-Type": "application/json"}
        )
        assert status < 300, said.decode()
        return json.loads(said) if said else None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def start(self) -> None:
        """The manager starts the next keeper, as soon as the one before is gone."""
        self.process = start(self.folder, self.manager)

    def crash(self, *, alone: bool = False) -> None:
        """The keeper is killed and another started; over when that one is ready.

        With it its engines are killed, as systemd does (KillMode=mixed); alone: they end by themselves.
        """
        ready = self.manager.count("READY=1")
        self.process.kill()
        self.process.wait()
        if not alone:
            end_group(self.process.pid)
        self.start()
        self.manager.wait_for("READY=1", times=ready + 1)


def start(folder: Path, manager: Manager) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "pyfastpath", "relay", "--config", str(folder / "relay.toml")]
    with (folder / "log").open("ab") as log:
        return manager.start(
            command, stdout=log, stderr=log, start_new_session=True, env={"WATCHDOG_USEC": "3000000"}
        )


@contextmanager
def kept_relay(folder: Path, server: socket.socket, **changed: Any) -> Iterator[Kept]:
    listen = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    settings = {
        "listen": [listen],
        "shards": 2,
        "workers": 1,
        "pin": False,
        "allow_clients": ["127.0.0.0/8"],
        "flows_max": 1024,
        "routes_max": 1024,
        "targets_max": 16,
        "plain_ports": 64,
        "receive_buffer_bytes": 4 << 20,
        "admin_socket": str(folder / "admin.sock"),
        "health_listen": "",
        "backends": [{"id": "a", "address": endpoint_text(server)}],
    } | changed
    (folder / "relay.toml").write_text(toml_of(settings))
    host, _, port = listen.rpartition(":")
    with Manager(folder) as manager:
        relay = Kept(manager, folder, (host, int(port)), start(folder, manager))
        try:
            manager.wait_for("READY=1")
            yield relay
        finally:
            if relay.process.poll() is None:
                relay.process.send_signal(signal.SIGINT)
            try:
                relay.process.wait(ENOUGH_S)
            except subprocess.TimeoutExpired:
                relay.process.kill()
                relay.process.wait()
                raise


def confirmed_call(relay: Kept, server: socket.socket, ufrag: str) -> PlainCall:
    relay.ask("PUT", "/v1/routes", {"ufrag": ufrag, "backend": "a"})
    call = PlainCall(relay.listen, server, ufrag)
    call.confirm()
    return call


def test_no_datagram_is_lost_with_the_keeper(tmp_path: Path, server: socket.socket) -> None:
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    with kept_relay(tmp_path, server) as relay:
        calls = [confirmed_call(relay, server, f"ufrag{number}") for number in range(CALLS)]
        upstream = {call.upstream for call in calls}
        engine = relay.ask("GET", "/v1/status")["pid"]
        sent: list[bytes] = []
        over = threading.Event()

        def talk() -> None:
            while not over.is_set():
                number = len(sent)
                datagram = bytes([0x80, 96]) + number.to_bytes(4, "big") + bytes(34)
                calls[number % CALLS].client.sendto(datagram, relay.listen)
                sent.append(datagram)
                time.sleep(1 / RATE_PPS)

        sender = threading.Thread(target=talk)
        sender.start()
        try:
            until(lambda: len(sent) > 100, "voice", seconds=ENOUGH_S)
            relay.crash()
            relay.crash(alone=True)
            more = len(sent) + 100
            until(lambda: len(sent) > more, "voice afterwards", seconds=ENOUGH_S)
        finally:
            over.set()
            sender.join()
        got: set[bytes] = set()
        while len(got) < len(sent):  # the server's own time-out of 5 s ends a test that would wait in vain
            datagram, source = server.recvfrom(2048)
            assert source in upstream
            got.add(datagram)
        assert got == set(sent)
        for call in calls:
            call.exchange()  # and down again
            call.close()
        status = relay.ask("GET", "/v1/status")
        assert status["pid"] != engine
        assert status["engine_starts"] >= 3
        assert len(relay.ask("GET", "/v1/flows")["flows"]) == CALLS
        assert relay.log.count("sockets and tables of a keeper that died") == 2


def test_what_an_operator_did_is_kept_and_what_needs_a_restart_waits_for_one(
    tmp_path: Path, server: socket.socket
) -> None:
    with kept_relay(tmp_path, server) as relay:
        relay.ask("PUT", "/v1/backends/b", {"address": "127.0.0.1:5001"})
        relay.ask("PUT", "/v1/routes", {"ufrag": "ufrag2", "backend": "b"})
        file = tmp_path / "relay.toml"
        text = file.read_text().replace("flows_max = 1024", "flows_max = 2048")
        file.write_text(text.replace("shards = 2", "shards = 3") + "coalesce_us = 7\n")
        with confirmed_call(relay, server, "ufrag1") as call:
            relay.ask("POST", "/v1/drain")
            relay.crash()
            call.exchange()
        status = relay.ask("GET", "/v1/status")
        assert {backend["id"] for backend in status["backends"]} == {"a", "b"}
        assert status["draining"]
        assert relay.ask("GET", "/v1/routes/ufrag2")["backend"] == "b"
        effective = relay.ask("GET", "/v1/config")["config"]
        assert (effective["flows_max"], effective["shards"], effective["coalesce_us"]) == (1024, 2, 7)
        assert "these keys take effect at the next start: shards, flows_max" in relay.log
        relay.process.send_signal(
            signal.SIGINT
        )  # told to end: nothing is kept, the next start is a fresh one
        assert relay.process.wait(ENOUGH_S) == 0
        relay.manager.wait_until(lambda: not relay.manager.kept, "everything is let go")
        ready = relay.manager.count("READY=1")
        relay.start()
        relay.manager.wait_for("READY=1", times=ready + 1)
        assert relay.ask("GET", "/v1/config")["config"]["flows_max"] == 2048
        assert not relay.ask("GET", "/v1/status")["draining"]


def test_descriptors_that_were_not_all_kept_are_said(tmp_path: Path, server: socket.socket) -> None:
    with kept_relay(tmp_path, server) as relay:
        relay.manager.forget("clients-1")
        relay.crash()
        assert "1 of 71 descriptors were not kept (raise FileDescriptorStoreMax)" in relay.log
        with confirmed_call(relay, server, "ufrag1") as call:
            call.exchange()


def test_ready_status_watchdog_reloading_stopping(tmp_path: Path, server: socket.socket) -> None:
    with kept_relay(tmp_path, server, drain_deadline_s=0) as relay:
        manager = relay.manager
        manager.wait_for("STATUS=0 flows")
        manager.wait_for("WATCHDOG=1", times=2)
        with confirmed_call(relay, server, "ufrag1"):
            manager.wait_for("STATUS=1 flows")
            ready = manager.count("READY=1")
            relay.process.send_signal(signal.SIGHUP)
            manager.wait_for("RELOADING=1")
            manager.wait_for("READY=1", times=ready + 1)
            (tmp_path / "relay.toml").write_text("no such key = 1")  # refused, and the reload is over too
            relay.process.send_signal(signal.SIGHUP)
            manager.wait_for("RELOADING=1", times=2)
            manager.wait_for("READY=1", times=ready + 2)
            relay.process.send_signal(signal.SIGTERM)
            manager.wait_for("STOPPING=1")
            assert relay.process.wait(ENOUGH_S) == 0


def test_an_engine_that_hangs_is_no_sign_of_life(tmp_path: Path, server: socket.socket) -> None:
    """The keeper lives, and says nothing."""
    with kept_relay(tmp_path, server) as relay:
        engine = relay.ask("GET", "/v1/status")["pid"]
        relay.manager.wait_for("WATCHDOG=1", times=2)
        os.kill(engine, signal.SIGSTOP)
        try:
            until(lambda: stands_still(engine), "the engine stands still")
            time.sleep(0.5)  # what was on its way is heard
            before = relay.manager.count("WATCHDOG=1")
            time.sleep(1.5)
            assert relay.process.poll() is None
            assert relay.manager.count("WATCHDOG=1") == before
        finally:
            os.kill(engine, signal.SIGCONT)
        relay.manager.wait_for("WATCHDOG=1", times=before + 1)


def stands_still(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


@pytest.fixture(autouse=True)
def no_word_with_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
