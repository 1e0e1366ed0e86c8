"""Keeper and engine as processes: what a kill, a signal or a reload leaves as it was."""

import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.relay import Relay, running_relay
from tests.support.rig import until


@pytest.fixture
def relay(tmp_path: Path, server: socket.socket) -> Iterator[Relay]:
    with running_relay(tmp_path, backends=[{"id": "a", "address": endpoint_text(server)}]) as running:
        yield running


def ask(relay: Relay, method: str, path: str, body: object = None) -> Any:
    data = b"" if body is None else json.dumps(body).encode()
    status, said = relay.request(method, path, data)
    assert status < 300, said.decode()
    return json.loads(said) if said else None


def status(relay: Relay) -> Any:
    return ask(relay, "GET", "/v1/status")


def engine_of(relay: Relay) -> int:
    pid: int = status(relay)["pid"]
    return pid


def is_ready(relay: Relay) -> bool:
    try:
        with urlopen(f"{relay.health}/readyz", timeout=10):
            return True
    except HTTPError as error:
        assert json.load(error) == {"ready": False, "reasons": ["draining"]}
        return False


def answers(relay: Relay) -> bool:
    try:
        return bool(status(relay)["uptime_s"] >= 0)
    except OSError:
        return False


def log_says(relay: Relay, text: str) -> bool:
    return text in relay.log.read_text()


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z"


def test_the_keeper_never_imports_what_changes(relay: Relay) -> None:
    mapped = Path(f"/proc/{relay.process.pid}/maps").read_text()
    assert "fastpath/shard" in mapped
    assert "fastpath/worker" not in mapped
    assert engine_of(relay) != relay.process.pid


def test_a_killed_engine_comes_back_and_loses_nothing(relay: Relay, server: socket.socket) -> None:
    relay.install("ufrag1", backend="a", session="call-1")
    with PlainCall(relay.listen, server, "ufrag1") as call:
        call.confirm()
        call.exchange()
        before = ask(relay, "GET", "/v1/flows")["flows"]
        first = engine_of(relay)
        os.kill(first, signal.SIGKILL)
        late = [bytes([0x80, 96, n]) + bytes(40) for n in range(50)]
        for datagram in late:  # they wait in the kernel for the next engine
            call.client.sendto(datagram, relay.listen)
        assert [server.recvfrom(2048) for _ in late] == [(datagram, call.upstream) for datagram in late]
        call.exchange()
        until(lambda: answers(relay), "the admin API is back")
        assert engine_of(relay) != first
        assert status(relay)["engine_starts"] == 2
        after = ask(relay, "GET", "/v1/flows")["flows"]
        fixed = ("client", "backend", "upstream", "state", "class")
        assert [{k: f[k] for k in fixed} for f in after] == [{k: f[k] for k in fixed} for f in before]
        assert ask(relay, "GET", "/v1/routes/ufrag1")["backend"] == "a"
        relay.assert_conservation()


def test_what_the_api_was_told_outlives_an_engine(relay: Relay) -> None:
    ask(relay, "PUT", "/v1/backends/b", {"address": "127.0.0.1:5001", "allow": ["127.0.0.0/8"]})
    ask(relay, "POST", "/v1/backends/b/drain")
    relay.install("ufrag1", backend="b", target="127.0.0.1:5002")
    ask(relay, "PUT", "/v1/workers", {"count": 2})
    ask(relay, "PUT", "/v1/loglevel", {"level": "debug"})
    ask(relay, "POST", "/v1/drain")
    os.kill(engine_of(relay), signal.SIGKILL)
    until(lambda: answers(relay), "the admin API is back")
    after = status(relay)
    assert {one["id"]: (one["state"], one["source"]) for one in after["backends"]} == {
        "a": ("up", "file"),
        "b": ("draining", "api"),
    }
    assert (after["draining"], after["workers"]) == (True, 2)
    assert ask(relay, "GET", "/v1/loglevel") == {"level": "debug"}
    route = ask(relay, "GET", "/v1/routes/ufrag1")
    assert (route["backend"], route["target"]) == ("b", "127.0.0.1:5002")


def test_an_engine_that_dies_over_and_over_is_started_ever_more_slowly(relay: Relay) -> None:
    began_s = time.monotonic()
    for start in range(2, 6):
        os.kill(engine_of(relay), signal.SIGKILL)
        until(lambda: answers(relay), "the admin API is back")
        assert status(relay)["engine_starts"] == start
    # Only a lower bound: the second and third short life in a row cost 0.1 and 0.2 s.
    assert time.monotonic() - began_s > 0.3


def test_a_moment_without_descriptors_costs_no_call(relay: Relay, server: socket.socket) -> None:
    relay.install("ufrag1", backend="a")
    with PlainCall(relay.listen, server, "ufrag1") as call:
        call.confirm()
        limits = resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        os.kill(engine_of(relay), signal.SIGKILL)
        until(lambda: "no engine can be started" in relay.log.read_text(), "the refusal")
        resource.prlimit(relay.process.pid, resource.RLIMIT_NOFILE, limits)
        until(lambda: answers(relay), "the admin API is back", seconds=20)
        call.exchange()


def test_a_reload_keeps_flows_and_follows_the_file(
    relay: Relay, server: socket.socket, tmp_path: Path
) -> None:
    relay.install("ufrag1", backend="a")
    path = tmp_path / "relay.toml"
    with PlainCall(relay.listen, server, "ufrag1") as call, udp_end() as other:
        call.confirm()
        text = path.read_text().replace(
            "backends = [", f'backends = [{{id = "b", address = "{endpoint_text(other)}"}}, '
        )
        path.write_text(text + "coalesce_us = 0\nhash_policy = true\n")
        relay.process.send_signal(signal.SIGHUP)
        until(lambda: log_says(relay, "reloaded; changed: "), "the reload")
        assert {one["id"] for one in status(relay)["backends"]} == {"a", "b"}
        assert ask(relay, "GET", "/v1/config")["config"]["coalesce_us"] == 0
        call.exchange()
        path.write_text(text.replace('id = "a"', 'id = "c"'))  # the same server under another name
        assert ask(relay, "POST", "/v1/reload") == {
            "changed": ["coalesce_us", "backends", "hash_policy"],
            "needs_restart": [],
        }
        call.exchange()
        assert [flow["backend"] for flow in ask(relay, "GET", "/v1/flows")["flows"]] == ["c"]
        os.kill(engine_of(relay), signal.SIGKILL)  # the next engine goes by what was reloaded
        until(lambda: answers(relay), "the admin API is back")
        assert {one["id"] for one in status(relay)["backends"]} == {"b", "c"}
        call.exchange()


def test_a_bad_file_changes_nothing_and_is_said(relay: Relay, tmp_path: Path) -> None:
    path = tmp_path / "relay.toml"
    good = path.read_text()
    path.write_text(
        good + 'coalesce_ms = 3\nallow_clients = ["10.0.0.300/8"]\n'.replace("allow_clients", "dscp")
    )
    relay.process.send_signal(signal.SIGHUP)
    until(lambda: log_says(relay, "not reloaded: "), "the refusal")
    code, said = relay.request("POST", "/v1/reload")
    error = json.loads(said)["error"]
    assert (code, error["code"]) == (422, "bad_config")
    assert "coalesce_ms" in error["message"]
    assert "line" in error["message"]
    path.write_text(good.replace("flows_max = 4096", "flows_max = 8192"))
    assert ask(relay, "POST", "/v1/reload") == {"changed": [], "needs_restart": ["flows_max"]}
    assert answers(relay)


def test_a_log_that_cannot_be_reopened_ends_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    backends = [{"id": "a", "address": "127.0.0.1:9"}]
    with running_relay(tmp_path, log_file=str(folder / "own.log"), backends=backends) as relay:
        folder.rename(tmp_path / "moved")
        relay.process.send_signal(signal.SIGHUP)
        own = tmp_path / "moved" / "own.log"
        until(lambda: own.read_text().count("not reopened: ") == 2, "keeper and engine say so")
        until(lambda: "reloaded; changed: nothing" in own.read_text(), "the reload all the same")
        assert relay.process.poll() is None
        assert status(relay)["engine_starts"] == 1


def test_an_engine_starts_also_when_the_log_cannot_be_opened_any_more(
    tmp_path: Path, server: socket.socket
) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    backends = [{"id": "a", "address": endpoint_text(server)}]
    with running_relay(tmp_path, log_file=str(folder / "own.log"), backends=backends) as relay:
        own = tmp_path / "moved" / "own.log"
        until(lambda: " stands by" in (folder / "own.log").read_text(), "an engine stands by", seconds=30)
        folder.rename(own.parent)
        os.kill(engine_of(relay), signal.SIGKILL)
        until(lambda: own.read_text().count(" stands by") == 2, "one that had to open it", seconds=30)
        os.kill(engine_of(relay), signal.SIGKILL)
        until(lambda: answers(relay), "the admin API is back")
        assert status(relay)["engine_starts"] == 3
        assert "not reopened: " in relay.log.read_text()  # on standard error


def test_keys_that_wait_for_a_restart_wait_for_the_keepers(relay: Relay, tmp_path: Path) -> None:
    """An engine that dies after such a reload comes back over the sockets and tables that are there."""
    path = tmp_path / "relay.toml"
    text = path.read_text().replace("shards = 2", "shards = 3").replace("plain_ports = 64", "plain_ports = 9")
    path.write_text(text.replace("listen = [", 'listen = ["127.0.0.1:9", ') + "coalesce_us = 7\n")
    said = ask(relay, "POST", "/v1/reload")
    assert said["changed"] == ["coalesce_us"]
    assert set(said["needs_restart"]) == {"listen", "shards", "plain_ports"}
    before = status(relay)["listeners"]
    os.kill(engine_of(relay), signal.SIGKILL)
    until(lambda: answers(relay), "the admin API is back")
    after = status(relay)
    assert (after["listeners"], after["shards"]) == (before, 2)
    assert ask(relay, "GET", "/v1/config")["config"]["coalesce_us"] == 7


def test_sighup_reopens_the_log(tmp_path: Path) -> None:
    file = tmp_path / "own.log"
    with running_relay(
        tmp_path, backends=[{"id": "a", "address": "127.0.0.1:5000"}], log_file=str(file)
    ) as relay:
        file.rename(tmp_path / "own.log.1")
        relay.process.send_signal(signal.SIGHUP)
        until(lambda: file.exists() and "reloaded" in file.read_text(), "the new log file")
        assert "reloaded" not in (tmp_path / "own.log.1").read_text()


def test_changing_the_number_of_workers_keeps_flows(relay: Relay, server: socket.socket) -> None:
    for number in range(8):
        relay.install(f"ufrag{number}", backend="a")
    calls = [PlainCall(relay.listen, server, f"ufrag{number}") for number in range(8)]
    for call in calls:
        call.confirm()
    upstream = [call.upstream for call in calls]
    for count in (2, 1, 2):
        assert len(ask(relay, "PUT", "/v1/workers", {"count": count})["workers"]) == count
        for call in calls:
            call.exchange()
    assert [call.upstream for call in calls] == upstream
    relay.assert_conservation()
    for call in calls:
        call.close()


def test_sigterm_waits_for_live_flows_and_a_second_one_does_not(relay: Relay, server: socket.socket) -> None:
    relay.install("ufrag1", backend="a")
    engine = engine_of(relay)
    with PlainCall(relay.listen, server, "ufrag1") as call:
        call.confirm()
        relay.process.send_signal(signal.SIGTERM)
        until(lambda: status(relay)["draining"], "the drain")
        call.exchange()
        drain = ask(relay, "GET", "/v1/drain")
        assert (drain["live_flows"], drain["done"], drain["ends"]) == (1, False, True)
        assert 0 < drain["deadline_left_s"] <= 30
        os.kill(engine, signal.SIGKILL)  # even now a dead engine is replaced, and its successor drains on
        until(lambda: answers(relay), "the admin API is back")
        call.exchange()
        assert relay.process.poll() is None
        relay.process.send_signal(signal.SIGTERM)
        assert relay.process.wait(30) == 0
    assert not relay.admin.exists()


def test_sigterm_without_flows_ends_at_once(relay: Relay) -> None:
    engine = engine_of(relay)
    relay.process.send_signal(signal.SIGTERM)
    assert relay.process.wait(30) == 0
    assert is_gone(engine)


def test_the_drain_deadline_ends_it(tmp_path: Path, server: socket.socket) -> None:
    backends = [{"id": "a", "address": endpoint_text(server)}]
    with running_relay(tmp_path, backends=backends, drain_deadline_s=1) as relay:
        relay.install("ufrag1", backend="a")
        with PlainCall(relay.listen, server, "ufrag1") as call:
            call.confirm()
            relay.process.send_signal(signal.SIGTERM)
            assert relay.process.wait(30) == 0
        assert log_says(relay, "drain deadline passed with 1 live flows")


def test_sigusr1_drains_and_the_api_ends_the_drain(relay: Relay) -> None:
    relay.process.send_signal(signal.SIGUSR1)
    until(lambda: status(relay)["reasons"] == ["draining"], "the drain")
    assert ask(relay, "DELETE", "/v1/drain")["draining"] is False
    assert status(relay)["ready"]


def test_an_engine_that_dies_while_it_drains_keeps_the_deadline(
    tmp_path: Path, server: socket.socket
) -> None:
    backends = [{"id": "a", "address": endpoint_text(server)}]
    with running_relay(tmp_path, backends=backends, drain_deadline_s=600) as relay:
        relay.install("ufrag1", backend="a")
        with PlainCall(relay.listen, server, "ufrag1") as call:
            call.confirm()
            ask(relay, "POST", "/v1/drain", {"wait_s": 100})
            os.kill(engine_of(relay), signal.SIGKILL)
            until(lambda: answers(relay), "the admin API is back")
            drain = ask(relay, "GET", "/v1/drain")
            assert (drain["draining"], drain["refusing"], drain["ends"]) == (True, True, False)
            assert drain["deadline_left_s"] < 100
            relay.process.send_signal(signal.SIGTERM)
            until(lambda: ask(relay, "GET", "/v1/drain")["ends"], "the end is near")
            assert ask(relay, "GET", "/v1/drain")["deadline_left_s"] < 100  # the earlier one holds
            code, said = relay.request("DELETE", "/v1/drain")
            assert (code, json.loads(said)["error"]["code"]) == (409, "conflict")
            os.kill(engine_of(relay), signal.SIGKILL)  # the next one is told again, which is no second time
            until(lambda: answers(relay), "the admin API is back")
            call.exchange()
            assert relay.process.poll() is None


def test_new_flows_are_taken_until_the_notice_of_a_drain_is_over(relay: Relay, server: socket.socket) -> None:
    for number in range(4):
        relay.install(f"ufrag{number}", backend="a")
    calls = [PlainCall(relay.listen, server, f"ufrag{number}") for number in range(4)]
    try:
        calls[0].confirm()
        assert is_ready(relay)
        said = ask(relay, "POST", "/v1/drain", {"notice_s": 600})
        assert (said["draining"], said["refusing"], said["done"]) == (True, False, False)
        assert not is_ready(relay)
        calls[1].confirm()  # whoever has not yet heard of it is served
        ask(relay, "POST", "/v1/drain")
        calls[2].ask()
        until(lambda: relay.drops("up") == {"draining": 1}, "the refusal")
        calls[0].exchange()
        assert ask(relay, "DELETE", "/v1/drain")["draining"] is False
        calls[3].confirm()
        assert is_ready(relay)
    finally:
        for call in calls:
            call.close()


def test_a_notice_ends_by_itself(relay: Relay) -> None:
    ask(relay, "POST", "/v1/drain", {"notice_s": 0.5})
    assert not status(relay)["ready"]
    until(lambda: ask(relay, "GET", "/v1/drain")["done"], "the end of a drain of nobody", seconds=10)
    until(lambda: log_says(relay, "draining: new flows are refused"), "the workers are told", seconds=10)


def test_signals_to_both_processes_count_once(relay: Relay, server: socket.socket) -> None:
    """systemd and terminals signal the whole group: that must not be taken for a second SIGTERM."""
    relay.install("ufrag1", backend="a")
    with PlainCall(relay.listen, server, "ufrag1") as call:
        call.confirm()
        os.kill(engine_of(relay), signal.SIGTERM)
        relay.process.send_signal(signal.SIGTERM)
        until(lambda: status(relay)["draining"], "the drain")
        call.exchange()
        assert relay.process.poll() is None


def test_an_engine_does_not_outlive_its_keeper(relay: Relay) -> None:
    engine = engine_of(relay)
    relay.process.kill()
    relay.process.wait()
    until(lambda: is_gone(engine), "the engine's end")


def test_a_stale_admin_socket_is_replaced_a_live_one_is_not(tmp_path: Path, server: socket.socket) -> None:
    backends = [{"id": "a", "address": endpoint_text(server)}]
    with running_relay(tmp_path, backends=backends) as relay:
        engine = engine_of(relay)
        second = start(tmp_path / "relay.toml", listen=["127.0.0.1:0"], health_listen="")
        assert second.returncode == 4
        assert "another relay answers on" in second.stderr
        relay.process.kill()
        relay.process.wait()
        until(lambda: is_gone(engine), "the engine's end")
    assert (tmp_path / "admin.sock").exists()
    with running_relay(tmp_path, backends=backends) as relay:
        assert answers(relay)
        assert relay.admin.stat().st_mode & 0o777 == 0o600


def start(
    config: Path | None = None, *, before: Callable[[], None] | None = None, **flags: Any
) -> "subprocess.CompletedProcess[str]":
    """A relay that is expected to refuse to start."""
    command = [sys.executable, "-m", "pyfastpath", "relay"]
    command += ["--config", str(config)] if config else []
    for name, value in flags.items():
        for one in value if isinstance(value, list) else [value]:
            command += ["--" + name.replace("_", "-"), str(one)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, preexec_fn=before, check=False)


SMALL = {"flows_max": 1024, "routes_max": 1024, "targets_max": 16, "backends": ["a=127.0.0.1:5000"]}


def test_a_port_in_use_is_one_clear_error(tmp_path: Path) -> None:
    with udp_end() as other:
        where = endpoint_text(other)
        ended = start(listen=[where], health_listen="", admin_socket=tmp_path / "a.sock", **SMALL)
    assert ended.returncode == 4
    (line,) = ended.stderr.splitlines()
    assert f"UDP {where}: the port is in use. Stop the process that holds it" in line


def test_two_relays_never_share_a_port(relay: Relay, tmp_path: Path) -> None:
    """SO_REUSEPORT alone would let them, and every other call would fail."""
    host, port = relay.listen
    ended = start(listen=[f"{host}:{port}"], health_listen="", admin_socket=tmp_path / "b.sock", **SMALL)
    assert ended.returncode == 4
    assert "the port is in use" in ended.stderr


def without_bind_service() -> None:
    """In the child before exec: even root may not bind low ports then (prctl(2), capabilities(7))."""
    drop_from_bounding_set, cap_net_bind_service = 24, 10
    ctypes.CDLL(None).prctl(drop_from_bounding_set, cap_net_bind_service, 0, 0, 0)


def test_a_missing_privilege_is_one_clear_error(tmp_path: Path) -> None:
    ended = start(
        before=without_bind_service,
        listen=["127.0.0.1:443"],
        health_listen="",
        admin_socket=tmp_path / "a.sock",
        **SMALL,
    )
    assert ended.returncode == 4, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert "UDP 127.0.0.1:443: no permission to open it. Ports below" in line
    assert "CAP_NET_BIND_SERVICE" in line


def test_an_address_of_another_machine_is_one_clear_error(tmp_path: Path) -> None:
    ended = start(listen=["198.51.100.77:0"], health_listen="", admin_socket=tmp_path / "a.sock", **SMALL)
    assert ended.returncode == 4
    assert "UDP 198.51.100.77:0: this machine has no such address." in ended.stderr
