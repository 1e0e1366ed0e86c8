"""The units: systemd reads them, they fit the code, and the daemons run under what they forbid."""

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfastpath.config import RelayConfig, load
from pyfastpath.relay import fdstore, succession
from pyfastpath.relay.opening import descriptors_of
from pyfastpath.tools.edge import toml_of
from pyfastpath.tools.ports import free_port
from tests.support.confined import settings
from tests.support.manager import Manager
from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.require import require

FOLDER = Path(__file__).parents[2] / "deploy" / "systemd"
UNITS = sorted(FOLDER.glob("*.service"))
EXPOSURE_MAX = 15  # systemd's own scale: 100 is everything open, below 20 is "OK" with a smile
KEYS = {"token_keys": ["1:000102030405060708090a0b0c0d0e0f"], "api_keys": ["an-api-key-of-this-test"]}


@pytest.fixture
def installed(tmp_path: Path) -> dict[str, Path]:
    """The units as they would lie on a machine where /opt/fastpath is there; the template has an instance."""
    found = {}
    for unit in UNITS:
        path = tmp_path / unit.name.replace("@", "@1")
        path.write_text(unit.read_text().replace("/opt/fastpath/bin/pyfastpath", sys.executable))
        found[unit.stem] = path
    return found


def test_systemd_finds_nothing_wrong(installed: dict[str, Path]) -> None:
    require("systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "verify", *map(str, installed.values())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", [unit.stem for unit in UNITS])
def test_little_is_left_open(name: str, installed: dict[str, Path]) -> None:
    require("systemd-analyze")
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", f"--threshold={EXPOSURE_MAX}",
         str(installed[name])], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_relays_unit_fits_the_relay() -> None:
    unit = settings(FOLDER / "pyfastpath-relay.service")
    assert unit["Type"] == ["notify"]
    assert unit["NotifyAccess"] == ["main"]  # the keeper speaks for its engines
    assert int(unit["FileDescriptorStoreMax"][0]) == fdstore.DESCRIPTORS_MAX
    assert descriptors_of(load(None, environ={}, cpus=64)) < fdstore.DESCRIPTORS_MAX
    assert int(unit["TimeoutStopSec"][0]) > RelayConfig().drain_deadline_s + 10
    # An upgrade or an engine's start may be silent for so long, and is no hang.
    silent_s = max(succession.RELEASE_S + succession.TRIAL_S, succession.START_S)
    assert int(unit["WatchdogSec"][0]) > silent_s + 10
    assert unit["RuntimeDirectoryPreserve"] == ["restart"]
    assert unit["KillMode"] == ["mixed"]


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_every_unit_ends_by_draining_and_is_an_ordinary_user(unit: Path) -> None:
    found = settings(unit)
    daemon = found["ExecStart"][0].split()[1]
    assert daemon in unit.stem
    assert found["User"] == ["fastpath"]
    assert "u fastpath " in (FOLDER / "fastpath.sysusers").read_text()
    assert found["ExecReload"] == ["/bin/kill -HUP $MAINPID"]
    assert found["CapabilityBoundingSet"] == [""]
    assert found["Restart"] == ["always"]
    assert found["StartLimitIntervalSec"] == ["0"]
    variables = dict(line.split("=", 1) for line in found["Environment"])
    folders = {f"/run/{found['RuntimeDirectory'][0]}"} | {
        f"/var/lib/{name}" for name in found.get("StateDirectory", [])
    }
    for value in variables.values():
        assert any(Path(value).is_relative_to(folder) for folder in folders), value


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    with Manager(tmp_path) as running:
        yield running


def confined(
    unit: str, daemon: str, folder: Path, manager: Manager, keys: dict[str, object]
) -> "subprocess.Popen[bytes]":
    """A daemon under the filter of its unit, started by a service manager."""
    require("systemd-analyze")
    file = folder / f"{daemon}.toml"
    file.write_text(toml_of(keys))
    rules = [sys.executable, "-m", "tests.support.confined", str(FOLDER / f"{unit}.service")]
    return manager.start([*rules, sys.executable, "-m", "pyfastpath", daemon, "--config", str(file)])


def end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def test_a_relay_works_under_what_its_unit_forbids(tmp_path: Path, manager: Manager) -> None:
    listen = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
    host, _, port = listen.rpartition(":")
    with udp_end() as server:
        keys = {
            "listen": [listen], "allow_clients": ["127.0.0.0/8"], "flows_max": 1024, "routes_max": 1024,
            "targets_max": 16, "plain_ports": 16, "admin_socket": str(tmp_path / "admin.sock"),
            "health_listen": "", "hash_policy": True,
            "backends": [{"id": "a", "address": endpoint_text(server)}],
        }  # fmt: skip
        process = confined("pyfastpath-relay", "relay", tmp_path, manager, keys)
        try:
            manager.wait_for("READY=1")
            status = Path(f"/proc/{process.pid}/status").read_text()
            assert "Seccomp:\t2" in status
            with PlainCall((host, int(port)), server, "ufrag1") as call:
                call.confirm()
                call.exchange()
        finally:
            end(process)


@pytest.mark.parametrize(
    ("unit", "keys"),
    [
        ("pyfastpath-transceiver@", {"plain_listen": "127.0.0.1:0", "health_listen": ""}),
        (
            "pyfastpath-gateway",
            {"candidates": ["203.0.113.9:3478"], "health_listen": "", "tls": "self-signed", **KEYS},
        ),
    ],
)
def test_the_others_start_under_what_their_units_forbid(
    unit: str, keys: dict[str, object], tmp_path: Path, manager: Manager
) -> None:
    daemon = "gateway" if "gateway" in unit else "transceiver"
    own: dict[str, object] = {
        ("admin_socket" if daemon == "gateway" else "control_socket"): str(tmp_path / "own.sock")
    }
    if daemon == "gateway":
        own["listen"] = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
    process = confined(unit, daemon, tmp_path, manager, keys | own)
    try:
        manager.wait_for("READY=1")
        assert "Seccomp:\t2" in Path(f"/proc/{process.pid}/status").read_text()
    finally:
        end(process)
