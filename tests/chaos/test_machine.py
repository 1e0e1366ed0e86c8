"""What a machine takes from a real relay: descriptors, memory, CPUs, its admin socket.

Calls go on; what cannot begin says in one sentence what to do.
"""

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest

from pyfastpath.tools.ports import free_port
from tests.support import http
from tests.support.line import children_of
from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.relay import Relay, running_relay
from tests.support.rig import until

WAIT_S = 20.0
START_S = 60.0


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Relay, PlainCall]]:
    """A relay with two pinned workers, and a confirmed call through it."""
    with udp_end() as server:
        settings = {"backends": [{"id": "a", "address": endpoint_text(server)}], "pin": True, "workers": 2}
        with running_relay(tmp_path_factory.mktemp("machine"), **settings) as relay:
            relay.install("ufrag1", backend="a")
            with PlainCall(relay.listen, server, "ufrag1") as call:
                call.confirm()
                yield relay, call
                relay.assert_conservation()
    assert relay.process.returncode == 0


def refused(directory: Path, *prefix: str, **keys: Any) -> tuple[int, str]:
    """A relay that cannot start: its exit code, and what it says."""
    settings = {
        "listen": [f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"],
        "plain_ports": 64,
        "flows_max": 4096,
        "routes_max": 4096,
        "admin_socket": str(directory / "refused.sock"),
        "health_listen": "",
    } | keys
    flags = [
        f"--{name.replace('_', '-')}={value}"
        for name, values in settings.items()
        for value in (values if isinstance(values, list) else [values])
    ]
    command = [*prefix, sys.executable, "-m", "pyfastpath", "relay", *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    return done.returncode, done.stderr


# ---- at start ---------------------------------------------------------------------------------------


def test_too_few_descriptors_at_start_are_said_before_anything_opens(tmp_path: Path) -> None:
    code, said = refused(tmp_path, "prlimit", "--nofile=300:300", plain_ports=512)
    assert code == 4
    assert "need" in said
    assert "the limit is 300" in said
    assert "ulimit -n" in said


@pytest.mark.skipif(
    os.environ.get("FASTPATH_PROFILE") == "asan", reason="a sanitizer needs terabytes of address space"
)
def test_too_little_address_space_at_start_is_said_in_one_sentence(tmp_path: Path) -> None:
    code, said = refused(tmp_path, "prlimit", f"--as={1 << 30}", flows_max=8_388_608)
    assert code == 4, said
    assert "Lower flows_max, routes_max or shards, or raise the memory limit." in said
    assert "Traceback" not in said


# ---- while it runs ----------------------------------------------------------------------------------


def test_no_descriptor_is_left_and_calls_go_on(served: tuple[Relay, PlainCall]) -> None:
    """Nobody gets an answer from the admin API meanwhile; with descriptors again, everybody does."""
    relay, call = served
    starts, pids = relay.total("engine_starts"), family(relay)
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises((OSError, HTTPException)):
            http.request(relay.admin, "GET", "/v1/status", timeout_s=2)
        for number in range(10):
            call.exchange(number)
    finally:
        for pid, limits in before.items():
            with contextlib.suppress(ProcessLookupError):  # a standby that was about to open its files
                resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    relay.install("ufrag2", backend="a")
    call.exchange(10)
    assert relay.total("engine_starts") == starts


def test_an_engine_that_dies_with_no_descriptor_left_is_followed_by_another_once_there_are_some(
    served: tuple[Relay, PlainCall],
) -> None:
    relay, call = served
    keeper, starts = relay.process.pid, relay.total("engine_starts")
    limits = resource.prlimit(keeper, resource.RLIMIT_NOFILE)
    resource.prlimit(keeper, resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        for child in children_of(keeper):
            os.kill(child, signal.SIGKILL)
        until(lambda: "no engine can be started" in relay.log.read_text(), "the keeper says so", WAIT_S)
    finally:
        resource.prlimit(keeper, resource.RLIMIT_NOFILE, limits)
    until(lambda: bool(children_of(keeper)), "an engine is started", WAIT_S)
    for end in (call.client, call.server):
        end.settimeout(START_S)  # what is sent waits for the new engine
    call.exchange()
    assert relay.total("engine_starts") > starts


def test_cpus_come_and_go(served: tuple[Relay, PlainCall]) -> None:
    """Pinned workers are moved by hand: the CPU they were pinned to is another's now."""
    relay, call = served
    cpus = several_cpus()
    starts = relay.total("engine_starts")
    for left in (cpus[:1], cpus[-1:], cpus):
        for pid in family(relay):
            for task in Path(f"/proc/{pid}/task").iterdir():
                os.sched_setaffinity(int(task.name), left)
        call.exchange()
        set_workers(relay, 1, 2)  # the new ones are pinned to the CPUs there are
        call.exchange()
    assert relay.total("engine_starts") == starts


def test_a_cpuset_shrinks_and_grows(served: tuple[Relay, PlainCall]) -> None:
    relay, call = served
    cpus = several_cpus()
    starts = relay.total("engine_starts")
    with cpuset(cpus) as group:
        for pid in family(relay):
            (group / "cgroup.procs").write_text(str(pid))
        for left in (cpus[:1], cpus[-1:], cpus):
            (group / "cpuset.cpus").write_text(",".join(map(str, left)))
            call.exchange()
            set_workers(relay, 1, 2)
            call.exchange()
        for pid in family(relay):
            (group.parent / "cgroup.procs").write_text(str(pid))
    assert relay.total("engine_starts") == starts


def several_cpus() -> list[int]:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("one CPU: none can be taken away")
    return cpus


def set_workers(relay: Relay, *counts: int) -> None:
    for count in counts:
        status, said = relay.request("PUT", "/v1/workers", b'{"count": %d}' % count)
        assert status == 200, said


@contextlib.contextmanager
def cpuset(cpus: list[int]) -> Iterator[Path]:
    """A cgroup (v1) of these CPUs; it must be empty at the end."""
    root = Path("/sys/fs/cgroup/cpuset")
    if not (root / "cpuset.cpus").exists() or not os.access(root, os.W_OK):
        pytest.skip("needs the cpuset controller of cgroup v1, and the right to divide it")
    group = root / f"fastpath-{os.getpid()}"
    group.mkdir()
    try:
        (group / "cpuset.mems").write_text((root / "cpuset.mems").read_text())
        (group / "cpuset.cpus").write_text(",".join(map(str, cpus)))
        yield group
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (root / "cgroup.procs").write_text(pid)
        group.rmdir()


def test_the_admin_sockets_file_is_removed(served: tuple[Relay, PlainCall]) -> None:
    """Calls, health and reloads go on; ctl says that nobody answers, and a stop leaves nothing behind."""
    relay, call = served
    relay.admin.unlink()
    call.exchange()
    command = [sys.executable, "-m", "pyfastpath", "ctl", "--socket", str(relay.admin), "status"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    assert done.returncode == 3, done.stderr
    assert str(relay.admin) in done.stderr
    relay.process.send_signal(signal.SIGHUP)
    until(lambda: "reloaded" in relay.log.read_text(), "the settings are read again", WAIT_S)
    call.exchange()


def family(relay: Relay) -> list[int]:
    """The keeper and its children."""
    return [relay.process.pid, *children_of(relay.process.pid)]
