"""`pyfastpath replay` as it is typed: exit codes, one sentence for each mistake, files."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from pyfastpath.cli import run
from pyfastpath.tools.own_relay import own_relay
from pyfastpath.tools.ports import free_port
from tests.support.captures import HOSTILE, pcap, record, section

PCAP = Path(__file__).parents[2] / "pcaps" / "chromium-dtls12.pcap"
KEY = bytes(range(16)).hex()


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_file_ends_with_2_and_one_sentence(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, says = HOSTILE[name]
    file = tmp_path / "hostile.pcap"
    file.write_bytes(data)
    assert run(["replay", str(file)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(f"pyfastpath: {file}: ")
    assert says in told.err
    assert told.err.count("\n") == 1


@pytest.mark.parametrize(
    ("data", "says"),
    [(pcap(), "no packet at all"), (section(), "no packet at all"), (pcap(record()), "no WebRTC call")],
    ids=["pcap", "pcapng", "no-call"],
)
def test_nothing_to_play_ends_with_2(
    data: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "empty.pcap"
    file.write_bytes(data)
    assert run(["replay", str(file)]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nowhere.pcap"], "cannot read nowhere.pcap: No such file"),
        (["."], "cannot read .: Is a directory"),
        ([str(PCAP), "--speed", "warp"], "--speed: 'warp'"),
        ([str(PCAP), "--passwords", "nowhere.jsonl"], "--passwords: cannot read nowhere.jsonl"),
        ([str(PCAP), "--json", "nowhere/x.json"], "--json: there is no folder nowhere"),
        ([str(PCAP), "--junit", str(PCAP)], "chromium-dtls12.pcap is the capture already"),
        ([str(PCAP), "--source", "0.0.0.0"], "--source: 0.0.0.0 is nobody's address"),
        ([str(PCAP), "--fail-if", "p98_us>1"], "there is no figure 'p98_us'"),
        ([str(PCAP), "--server", "203.0.113.1:1"], "no WebRTC call that could be replayed"),
    ],
    ids=["file", "folder", "speed", "passwords", "json", "junit", "source", "figure", "server"],
)
def test_mistakes_end_with_2(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["replay", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_a_pipe_is_not_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert run(["replay", str(tmp_path / "pipe")]) == 2
    assert "pipe is a pipe, and a capture is read" in capsys.readouterr().err


@pytest.fixture
def folder() -> Iterator[Path]:
    """Under a short name: a UNIX socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_replay_that_is_ended_leaves_nothing_behind(number: signal.Signals, folder: Path) -> None:
    """No backend in the relay that stays, no relay and no folder of its own."""
    command = [sys.executable, "-m", "pyfastpath", "replay", str(PCAP)]
    with own_relay(backends=[]) as relay:
        for more in (["--socket", relay.admin.where], []):
            child = subprocess.Popen([*command, *more], env={**os.environ, "TMPDIR": str(folder)})
            deadline = time.monotonic() + 30
            while not (relay.admin.get("backends")["backends"] or any(folder.glob("*/admin.sock"))):
                assert child.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.02)
            child.send_signal(number)
            assert child.wait(30) == 128 + number
            assert relay.admin.get("backends")["backends"] == []
            assert list(folder.iterdir()) == []


def test_a_replay_tells_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said, junit = tmp_path / "said.json", tmp_path / "junit.xml"
    arguments = ["--speed", "max", "--sessions", "3", "--limit", "100", "--json", str(said)]
    assert run(["replay", str(PCAP), *arguments, "--junit", str(junit), "--fail-if", "loss>0.5"]) == 0
    text = capsys.readouterr().out
    assert text.endswith("verdict    PASSED\n")
    document = json.loads(said.read_text())
    assert document["passed"]
    assert document["up"]["delivered"] + document["down"]["delivered"] == 300
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert suite.get("failures") == "0"
    assert "loss>0.5" in {case.get("name") for case in suite}


def test_a_condition_that_holds_ends_with_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", str(PCAP), "--speed", "max", "--limit", "20", "--fail-if", "max_us>0"]) == 1
    assert "FAILED: max_us is" in capsys.readouterr().out


def test_no_relay_where_the_socket_should_be_ends_with_3(tmp_path: Path, capsys) -> None:
    assert run(["replay", str(PCAP), "--socket", str(tmp_path / "no.sock")]) == 3
    assert "no relay runs here" in capsys.readouterr().err


def test_a_target_that_forwards_nothing_ends_with_3(capsys: pytest.CaptureFixture[str]) -> None:
    nobody, sink = free_port(socket.SOCK_DGRAM), free_port(socket.SOCK_DGRAM)
    arguments = ["--target", f"127.0.0.1:{nobody}", "--sink", f"127.0.0.1:{sink}"]
    tokens = ["--token-key", f"0:{KEY}", "--transceiver", "1"]
    assert run(["replay", str(PCAP), *arguments, *tokens, "--speed", "max", "--limit", "1"]) == 3
    assert f"UNREACHABLE: nothing that was sent to the relay at 127.0.0.1:{nobody}" in capsys.readouterr().out


def test_what_the_machine_refuses_ends_with_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["replay", str(PCAP), "--sink", "203.0.113.77:5000"]) == 4  # nobody's address here
    assert "the machine refuses" in capsys.readouterr().err
