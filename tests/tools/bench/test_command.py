"""`pyfastpath bench` as a user meets it: another process, real relays, exit codes."""

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from xml.etree import ElementTree

import pytest

from bench.place import Network
from pyfastpath.cli import run
from pyfastpath.tools.bench import sessions, workload
from pyfastpath.tools.own_relay import own_relay
from pyfastpath.tools.ports import free_port
from tests.support.require import require

KEY = "000102030405060708090a0b0c0d0e0f"
SHORT = ("--duration", "0.5", "--warmup", "0.1", "--sessions", "50", "--mode", "echo")


def bench(*flags: str, inside: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = [*inside, sys.executable, "-m", "pyfastpath", "bench", *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYFASTPATH_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)


def test_help_names_every_flag_and_every_exit_code(capsys):
    assert run(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    for flag in (
        *("pps", "duration", "sessions", "ramp", "warmup", "size", "size-dist", "mode", "inject", "upstream"),
        *("target", "socket", "token-key", "transceiver", "trunk-key", "sink", "source"),
        *("json", "csv", "hdr", "junit", "markdown", "fail-if"),
    ):
        assert f"--{flag} " in text, flag
    assert "4 no valid run" in text.replace("\n", " ").replace("  ", " ")


def test_a_workload_against_a_relay_that_runs(tmp_path):
    with own_relay(backends=[{"id": "other", "address": "127.0.0.1:9"}]) as relay:
        said = bench(
            *(
                *SHORT,
                "--pps",
                "1k",
                "--socket",
                relay.admin.socket_path,
                "--json",
                str(tmp_path / "run.json"),
            ),
            *(
                "--json",
                str(tmp_path / "run.json"),
                "--junit",
                str(tmp_path / "run.xml"),
                "--fail-if",
                "loss>0.5",
                "--fail-if",
                "pps<1",
            ),
        )
    # Exit 4 is the truth on a machine that is busy with something else: then the generator was late.
    assert said.returncode in {0, 4}, said.stderr
    found = json.loads((tmp_path / "run.json").read_text())
    assert found["verdict"] == {0: "pass", 4: "invalid"}[said.returncode]
    assert bool(found["reasons"]) == (said.returncode == 4)
    own, row = found["rows"]
    assert own["path"] == "no relay"
    assert row["path"] == "{}:{}".format(*relay.listen)
    assert row["figures"]["lost"] == row["figures"]["misrouted"] == 0
    assert row["figures"]["cpu_ns"] > 0
    assert said.stderr == "" or said.returncode == 4, "no live line where there is no terminal"
    assert "p99.9 µs" in said.stdout
    suite = ElementTree.parse(tmp_path / "run.xml").getroot().find("testsuite")
    assert suite is not None
    assert (suite.attrib["tests"], suite.attrib["failures"]) == ("3", "0")


@contextmanager
def two_networks():
    """Namespaces of clients (10.78.0.1 and 10.79.0.0/16) and of a relay (10.78.0.2), a veth between them."""
    clients, relay = (f"fastpath-bench-{side}-{os.getpid()}" for side in ("c", "r"))

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)

    try:
        for name in (clients, relay):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("-n", clients, "link", "add", "near", "type", "veth", "peer", "name", "far", "netns", relay)
        for name, link, address in ((clients, "near", "10.78.0.1"), (relay, "far", "10.78.0.2")):
            ip("-n", name, "address", "add", f"{address}/24", "dev", link)
            ip("-n", name, "link", "set", link, "up")
        ip("-n", clients, "route", "add", "local", "10.79.0.0/16", "dev", "lo")
        ip("-n", relay, "route", "add", "10.79.0.0/16", "via", "10.78.0.1")
        yield clients, relay
    finally:
        for name in (clients, relay):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True, timeout=10)


def test_a_relay_elsewhere(tmp_path):
    require("root", "ip", "namespaces")
    with two_networks() as (clients, there), ExitStack() as stack:
        with Network(there).inside():
            settings = {"listen": ["10.78.0.2:3478"], "allow_clients": ["10.0.0.0/8"]}
            other = {"id": "other", "address": "127.0.0.1:9"}
            relay = stack.enter_context(own_relay(backends=[other], settings=settings))
        said = bench(
            *(*SHORT, "--pps", "1k", "--sessions", "200", "--inject", "packet", "--source", "10.79.0.1"),
            *(
                "--socket",
                relay.admin.socket_path,
                "--sink",
                "10.78.0.1:0",
                "--json",
                str(tmp_path / "run.json"),
            ),
            inside=("ip", "netns", "exec", clients),
        )
    assert said.returncode in {0, 4}, said.stderr
    _, row = json.loads((tmp_path / "run.json").read_text())["rows"]
    assert row["path"] == "10.78.0.2:3478"
    assert row["samples"][0]["sent"] > 100
    assert row["figures"]["lost"] == row["figures"]["misrouted"] == 0


@pytest.fixture
def _short(monkeypatch):
    monkeypatch.setattr(workload, "OWN_S", 0.2)
    monkeypatch.setattr(workload, "OWN_WARMUP_S", 0.0)
    monkeypatch.setattr(sessions, "TIMEOUT_S", 0.5)


@pytest.mark.usefixtures("_short")
def test_a_condition_that_holds_ends_with_1_or_the_run_was_none(capsys):
    code = run(["bench", *SHORT, "--pps", "1k", "--fail-if", "pps>10"])
    said = capsys.readouterr()
    assert code in {1, 4}, said.err
    assert "FAIL     plain echo: pps is " in said.out


@pytest.mark.usefixtures("_short")
def test_too_much_ends_with_4_and_says_why(capsys):
    assert run(["bench", *SHORT, "--pps", "50M"]) == 4
    said = capsys.readouterr().err
    assert "this run is not valid" in said
    assert "the generator held" in said


@pytest.mark.usefixtures("_short")
def test_nobody_there_ends_with_3(capsys):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{mute.getsockname()[1]}"
        sink = f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"
        tokens = ("--token-key", f"1:{KEY}", "--transceiver", "4", "--sink", sink)
        assert run(["bench", *SHORT, "--target", target, *tokens]) == 3
    assert capsys.readouterr().err == (
        f"pyfastpath: nobody answers at {target}: no session was confirmed. See whether it runs there, and "
        "whether it serves these clients (allow_clients).\n"
    )


def test_a_wrong_flag_ends_with_2_before_anything_runs(capsys):
    assert run(["bench", "--pps", "quick"]) == 2
    assert capsys.readouterr().err == "pyfastpath: --pps: 'quick' is no number. Write 50000, 50k or 1.5M.\n"
