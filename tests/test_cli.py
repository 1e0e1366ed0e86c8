"""The command line as an operator meets it: help, exit codes, one sentence an error."""

import json
import socket
import subprocess
import sys

import pytest

from pyfastpath import __version__
from pyfastpath.cli import run
from pyfastpath.config import GatewayConfig, RelayConfig, TransceiverConfig, fields
from pyfastpath.config.document import has_flag
from pyfastpath.tools.ports import free_port
from tests.support.relay import running_relay

DAEMONS = (RelayConfig, TransceiverConfig, GatewayConfig)
KEY = "000102030405060708090a0b0c0d0e0f"
TOKEN_RELAY = f"""
trunk_port = 4000
cluster = 7
token_keys = ["3:{KEY}"]

[[backends]]
id = "x1"
address = "127.0.0.1:5000"
mode = "trunk"
transceiver = 42
incarnation = 2
"""


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    """Variables of the machine play no part, and no relay of the machine is asked."""
    for spec in (spec for daemon in DAEMONS for spec in fields(daemon)):
        monkeypatch.delenv(spec.variable, raising=False)
    monkeypatch.setenv("PYFASTPATH_ADMIN_SOCKET", str(tmp_path / "admin.sock"))
    monkeypatch.setenv("COLUMNS", "200")


@pytest.mark.parametrize("daemon", DAEMONS)
def test_the_help_of_a_daemon_names_every_flag(capsys, daemon):
    assert run([daemon.COMMAND, "--help"]) == 0
    text = capsys.readouterr().out
    for spec in fields(daemon):
        assert (f"{spec.flag} " in text.replace("\n", " \n")) == has_flag(spec), spec.name
    assert "SIGHUP" in text
    assert "Exit codes" in text


SETTINGS = {  # the least a daemon can run with, as the environment has it
    TransceiverConfig: {"RELAYS": "127.0.0.1:7000", "TRUNK_KEYS": f"0:{KEY}"},
    GatewayConfig: {"TOKEN_KEYS": f"1:{KEY}", "CANDIDATES": "192.0.2.1:3478"},
}


@pytest.mark.parametrize("daemon", SETTINGS)
def test_the_other_daemons_check_and_print_their_settings(capsys, monkeypatch, daemon):
    assert run([daemon.COMMAND, "--check-config"]) == 2
    assert f"pyfastpath: default: {'relays' if daemon is TransceiverConfig else 'token_keys'}:" in (
        capsys.readouterr().err
    )
    for name, value in SETTINGS[daemon].items():
        monkeypatch.setenv(daemon.PREFIX + name, value)
    assert run([daemon.COMMAND, "--check-config"]) == 0
    assert "settings: good, digest " in capsys.readouterr().out
    assert run([daemon.COMMAND, "--print-config", "--log-level", "debug"]) == 0
    text = capsys.readouterr().out
    assert 'log_level = "debug"' in text
    assert KEY not in text


def test_the_help_of_up_says_what_it_takes(capsys):
    assert run(["up", "--help"]) == 0
    text = capsys.readouterr().out
    for flag in ("--public-ip", "--tls", "--agent", "--agent-key-file", "--relay-port", "--page-port",
                 "--health-port", "--transceivers", "--once"):  # fmt: skip
        assert flag in text


@pytest.mark.parametrize(("command", "missing"), [(["up"], "aioice"), (["transceiver"], "OpenSSL")])
def test_what_only_the_extra_brings_is_named(command, missing, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith(("pyfastpath.t", missing))]:
        if name.startswith(("pyfastpath.transceiver", "pyfastpath.tools.up", missing)):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("PYFASTPATH_TRANSCEIVER_RELAYS", "127.0.0.1:7000")
    assert run(command) == 1
    said = capsys.readouterr().err
    assert missing in said
    assert "pip install 'pyfastpath[transceiver]'" in said


@pytest.mark.parametrize("command", [[], ["ctl"], ["token"], ["ctl", "routes"]])
def test_a_command_alone_shows_its_help(capsys, command):
    run(command)
    said = capsys.readouterr()
    assert "Usage" in said.out + said.err


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"pyfastpath {__version__}\n"


def test_python_m_pyfastpath_is_the_same_command():
    said = subprocess.run(
        [sys.executable, "-m", "pyfastpath", "--version"], capture_output=True, text=True, check=True
    )
    assert said.stdout == f"pyfastpath {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["--bogus"], ["relay", "--bogus"], ["nonsense"], ["ctl", "flows", "--limit", "x"]]
)
def test_wrong_usage_ends_with_2(arguments):
    assert run(arguments) == 2


def test_a_bad_file_ends_with_2_and_names_key_and_line(tmp_path, capsys):
    file = tmp_path / "relay.toml"
    file.write_text("shards = 2\n\ncoalesce_us = 'x'\nspinn = true\n")
    assert run(["relay", "--config", str(file), "--check-config"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert any(f"{file}, line 3: coalesce_us:" in line for line in said)
    assert any(f"{file}, line 4: spinn:" in line for line in said)
    assert len(said) == 2


def test_a_bad_flag_ends_with_2(capsys):
    assert run(["relay", "--shards", "many", "--check-config"]) == 2
    assert "flag --shards" in capsys.readouterr().err


def test_check_config_says_good(capsys):
    assert run(["relay", "--check-config", "--backends", "a=192.0.2.1:5", "--backends", "b=192.0.2.2:5"]) == 0
    assert "good, 2 backends" in capsys.readouterr().out


def test_print_config_shows_flag_environment_and_file_without_secrets(tmp_path, capsys, monkeypatch):
    file = tmp_path / "relay.toml"
    file.write_text(f"[[token_keys]]\nkid = 0\nkey = '{KEY}'\n")
    monkeypatch.setenv("PYFASTPATH_TRUNK_MTU", "900")
    assert run(["relay", "--config", str(file), "--no-pin", "--listen", "192.0.2.1:1", "--print-config"]) == 0
    text = capsys.readouterr().out
    assert "pin = false" in text
    assert "trunk_mtu = 900" in text
    assert 'address = "192.0.2.1:1"' in text
    assert KEY not in text


def test_a_port_in_use_is_one_clear_error_and_ends_with_4(tmp_path, capsys):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
        # In a process of its own: a relay changes the signal mask and the logging of the process it runs in.
        said = subprocess.run(
            [
                sys.executable,
                "-m",
                "pyfastpath",
                "relay",
                "--listen",
                f"127.0.0.1:{port}",
                "--plain-ports",
                "0",
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert said.returncode == 4
    assert f"127.0.0.1:{port}" in said.stderr
    assert "in use" in said.stderr
    assert "Traceback" not in said.stderr


def test_doctor_examines_a_good_machine(capsys):
    port = free_port(socket.SOCK_DGRAM)
    arguments = ["doctor", "--listen", f"127.0.0.1:{port}", "--health-listen", "", "--plain-ports", "16"]
    code = run(arguments)
    text = capsys.readouterr().out
    assert code == (1 if " fail" in text else 0)
    for check in ("kernel", "CPUs", "receive buffer", "open files", "listen"):
        assert check in text


def test_doctor_ends_with_1_when_a_port_is_taken(capsys):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        assert run(["doctor", "--listen", address, "--health-listen", "", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    (listen,) = [item for item in findings if item["check"] == "listen"]
    assert listen["level"] == "fail"
    assert listen["fix"]


def test_a_token_is_minted_inspected_and_explained_by_its_verdict(tmp_path, capsys):
    file = tmp_path / "relay.toml"
    file.write_text(TOKEN_RELAY)
    assert run(["token", "mint", "-c", str(file), "--backend", "x1", "--class", "video", "--count", "2"]) == 0
    first, second = capsys.readouterr().out.split()
    assert first != second
    assert run(["token", "inspect", first, "-c", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["kid"], said["cluster"], said["transceiver"], said["incarnation"]) == (3, 7, 42, 2)
    assert (said["class"], said["backend"], said["verdict"]) == ("video", "x1", "token")
    assert 4 * 3600 - 64 <= said["expires_in_s"] <= 4 * 3600 + 64

    assert run(["token", "inspect", first[::-1], "-c", str(file)]) == 1
    assert "not" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["token", "mint"], "destination"),
        (["token", "mint", "--transceiver", "5"], "no token key"),
        (["token", "mint", "--backend", "x"], "no backend 'x'"),
        (["token", "mint", "--transceiver", "5", "--class", "loud"], "no class"),
    ],
)
def test_token_mint_says_what_is_missing(arguments, word, capsys):
    assert run(arguments) in {1, 2}
    assert word in capsys.readouterr().err


def test_ctl_without_a_relay_ends_with_3(capsys, tmp_path):
    assert run(["ctl", "--socket", str(tmp_path / "none.sock"), "status"]) == 3
    assert "no relay runs here" in capsys.readouterr().err


def test_ctl_works_on_a_relay_that_was_started_from_a_file(tmp_path, capsys):
    with running_relay(tmp_path, backends=[{"id": "a", "address": "127.0.0.1:5000"}]) as relay:
        assert run(["ctl", "--socket", str(relay.admin), "status"]) == 0
        assert "ready           yes" in capsys.readouterr().out
