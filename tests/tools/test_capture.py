"""`pyfastpath capture` from a live relay, and what tshark makes of its file."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyfastpath.cli import run
from pyfastpath.tools.capture import Blocks
from pyfastpath.wire.frames import LINK_RAW
from pyfastpath.wire.pcapng import PcapngWriter
from tests.support.capturing import Begin, captures_in
from tests.support.pcap import read_capture
from tests.support.plain_call import PlainCall, endpoint_text, udp_end
from tests.support.player import PlainBackend, Player
from tests.support.relay import Relay, running_relay
from tests.support.require import require

PCAPS = Path(__file__).parents[1] / "pcaps"
SERVER_PORT = 40_000  # of the server in every capture


@pytest.fixture(scope="module")
def backend() -> Iterator[PlainBackend]:
    end = PlainBackend()
    yield end
    end.close()


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory, backend: PlainBackend) -> Iterator[Relay]:
    with running_relay(tmp_path_factory.mktemp("relay"), backends=[spec_of(backend)]) as running:
        yield running


def spec_of(backend: PlainBackend) -> dict[str, str]:
    return {"id": "b0", "address": "{}:{}".format(*backend.address)}


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    with captures_in(tmp_path) as start:
        yield start


def tshark(file: Path, *options: str) -> list[str]:
    """Its lines, with the heuristic that finds RTP without signalling."""
    command = [require("tshark"), "-n", "-r", str(file), "--enable-heuristic", "rtp_udp", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    assert "cut short" not in done.stderr
    return done.stdout.splitlines()


def fields(file: Path, *names: str) -> list[list[str]]:
    options = [word for name in names for word in ("-e", name)]
    return [line.split("\t") for line in tshark(file, "-T", "fields", *options)]


# ---- tshark ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [(), ("--full",)], ids=["headers", "full"])
def test_tshark_decodes_a_real_call(
    backend: PlainBackend, begin: Begin, tmp_path: Path, options: tuple[str, ...]
) -> None:
    """On a relay of its own: one that knows a capture's transaction ids takes it for a replay."""
    recorded = PCAPS / "chromium-dtls12.pcap"
    played = read_capture(recorded, SERVER_PORT)
    owners = {session.server_ufrag: 0 for session in played.sessions}
    with running_relay(tmp_path, backends=[spec_of(backend)]) as relay:
        for ufrag in owners:
            relay.install(ufrag, backend="b0")
        capturing = begin(relay.admin, "call.pcapng", *options)
        Player(played, relay.listen, [backend], owners).play()
        capturing.wait_for(len(played.datagrams))
        code, said = capturing.end()
        relay.assert_conservation()
    assert (code, said) == (0, f"{capturing.file}: {len(played.datagrams)} datagrams\n")

    seen, expected = fields(capturing.file, *COLUMNS), fields(recorded, *COLUMNS)
    ups = sum(datagram.upstream for datagram in played.datagrams)
    assert Counter(int(row[5] or "0", 16) for row in seen) == {1: ups, 2: len(seen) - ups}
    assert families(seen) == families(expected)
    assert families(seen).keys() == {"STUN", "DTLS", "RTP"}
    assert columns(seen, 1, 2) == columns(expected, 1, 2)  # every ufrag, every kind of handshake message
    raw, ethernet = 28, 42  # IP and UDP headers; with the link's
    assert sorted(int(row[3]) - raw for row in seen) == sorted(int(row[3]) - ethernet for row in expected)
    cut = [row for row in seen if row[3] != row[4]]
    assert bool(cut) == (not options)
    assert all(int(row[4]) < raw + 60 for row in cut)  # headers of DTLS, RTP and RTCP
    assert {row[0] for row in cut}.isdisjoint({"STUN"})


COLUMNS = (
    "_ws.col.Protocol",
    "stun.att.username",
    "dtls.handshake.type",
    "frame.len",
    "frame.cap_len",
    "frame.packet_flags_direction",
)


def families(rows: list[list[str]]) -> Counter[str]:
    """Packets by protocol; without the handshake's extensions nobody can tell SRTP from RTP."""
    return Counter(
        "DTLS" if "DTLS" in row[0] else "RTP" if "RTP" in row[0] or "RTCP" in row[0] else row[0]
        for row in rows
    )


def columns(rows: list[list[str]], *wanted: int) -> list[set[str]]:
    """The first value of each row, by column."""
    return [{row[column].split(",")[0] for row in rows} for column in wanted]


def test_wireshark_shows_the_comments_and_the_counts(relay: Relay, begin: Begin) -> None:
    capturing = begin(relay.admin, "drops.pcapng")
    with udp_end() as client:
        client.sendto(b"\x80 nobody asked for me", relay.listen)
        capturing.wait_for(1)
    assert capturing.end()[0] == 0
    assert fields(capturing.file, "frame.comment", "udp.dstport") == [
        ["dropped: unknown_flow", str(relay.listen[1])]
    ]
    said = subprocess.run(
        [require("capinfos"), "-M", "-t", "-E", "-c", "-I", str(capturing.file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pcapng" in said.stdout
    assert "Raw IP" in said.stdout
    assert "clients" in said.stdout


# ---- the command -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_well(relay: Relay, begin: Begin, number: int) -> None:
    capturing = begin(relay.admin, "x.pcapng", "--duration", "60")
    code, said = capturing.end(number)
    assert code == 0
    assert said.startswith(f"{capturing.file}: 0 datagrams; nothing went by that was asked for")
    assert capturing.file.read_bytes()[-52:][:4] == b"\x05\0\0\0"


def test_ctl_ends_anothers(
    relay: Relay, begin: Begin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capturing = begin(relay.admin, "x.pcapng", "--duration", "60")
    where = ["ctl", "--socket", str(relay.admin), "capture"]
    other = tmp_path / "other.pcapng"
    assert run([*where, "-o", str(other)]) == 1
    assert "a capture runs already. Wait for its end, or end it: pyfastpath capture --end" in (
        capsys.readouterr().err
    )
    assert not other.exists()
    assert run([*where, "--end"]) == 0
    assert capturing.result()[0] == 0
    assert run([*where, "--end"]) == 1
    assert "no capture runs. pyfastpath capture -o FILE begins one" in capsys.readouterr().err


def test_all_options_arrive(relay: Relay, backend: PlainBackend, begin: Begin, tmp_path: Path) -> None:
    """Two calls, of which each filter shows one."""
    relay.install("ufragSeven", backend="b0", session="seven")
    relay.install("ufragEight", backend="b0", session="eight")
    backend.socket.settimeout(5)
    try:
        with (
            PlainCall(relay.listen, backend.socket, "ufragSeven") as seven,
            PlainCall(relay.listen, backend.socket, "ufragEight") as eight,
        ):
            for call in (seven, eight):
                call.confirm()
            for option in (
                ["--session", "seven"],
                ["--ufrag", "ufragSeven"],
                ["--client", endpoint_text(seven.client)],
                ["--client", "127.0.0.1", "--backend", "b0", "--session", "seven"],
            ):
                file = tmp_path / "seven.pcapng"
                file.unlink(missing_ok=True)
                capturing = begin(
                    relay.admin, file.name, *option, "--full", "--snap", "20", "--max-bytes", "5000"
                )
                for call in (seven, eight):
                    call.exchange()
                capturing.wait_for(2)
                assert capturing.end()[0] == 0
                rows = fields(file, "udp.port", "frame.cap_len")
                assert {port for row in rows for port in row[0].split(",")} == {
                    str(relay.listen[1]),
                    str(seven.client.getsockname()[1]),
                }
                assert [row[1] for row in rows] == ["48", "48"]
    finally:
        backend.socket.setblocking(False)


def test_standard_output_is_a_pcapng(relay: Relay) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pyfastpath",
            "capture",
            "--socket",
            str(relay.admin),
            "-o",
            "-",
            "--duration",
            "1",
        ],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout[:4] == b"\x0a\x0d\x0d\x0a"
    assert done.stderr.startswith(b"standard output: 0 datagrams; nothing went by")


def test_what_makes_no_sense_is_a_usage_error(
    relay: Relay, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["capture", "--socket", str(relay.admin)]
    assert run(where) == 2
    assert "-o FILE" in capsys.readouterr().err
    assert run([*where, "-o", str(tmp_path / "no" / "folder")]) == 2
    assert "cannot write" in capsys.readouterr().err
    assert run([*where, "-o", str(tmp_path / "x"), "--client", "nobody"]) == 1
    assert "client: 'nobody' is not ip:port. Give an IP address, or ip:port" in capsys.readouterr().err
    assert run([*where, "-o", str(tmp_path / "x"), "--duration", "0"]) == 2
    assert not (tmp_path / "x").exists()


def test_no_relay_no_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["capture", "--socket", str(tmp_path / "none"), "-o", str(tmp_path / "x")]) == 3
    assert "no relay runs here" in capsys.readouterr().err


def test_a_full_disk_is_said(relay: Relay, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["capture", "--socket", str(relay.admin), "-o", "/dev/full"]) == 1
    assert "cannot write the capture: No space left" in capsys.readouterr().err


def test_a_relay_that_dies_leaves_whole_blocks(begin: Begin, tmp_path: Path) -> None:
    with udp_end() as server:
        spec = {"id": "a", "address": endpoint_text(server)}
        with running_relay(tmp_path, backends=[spec]) as relay:
            relay.install("someUfrag", backend="a")
            capturing = begin(relay.admin, "x.pcapng", "--duration", "60")
            with PlainCall(relay.listen, server, "someUfrag") as call:
                call.confirm()
                capturing.wait_for(2)
            status, body = relay.request("GET", "/v1/status")
            assert status == 200
            os.kill(json.loads(body)["pid"], signal.SIGKILL)
            code, said = capturing.result()
    assert code == 3
    assert "broke the capture off after 2 datagrams" in said
    assert len(tshark(capturing.file)) == 2


def test_blocks_are_put_together_whatever_the_pieces() -> None:
    writer = PcapngWriter()
    whole = (
        writer.section_header()
        + writer.interface(LINK_RAW)
        + b"".join(writer.packet(n, bytes(n), n) for n in range(50))
        + writer.statistics(70, 20)
    )
    for size in (1, 2, 3, 7, 12, 64, 1000, len(whole)):
        blocks = Blocks()
        pieces = [blocks.feed(whole[at : at + size]) for at in range(0, len(whole), size)]
        assert b"".join(pieces) == whole
        assert (blocks.packets, blocks.asked_for) == (50, 70)
    blocks = Blocks()
    assert blocks.feed(whole[:-1]) == whole[:-52]
    assert (blocks.packets, blocks.asked_for) == (50, None)


def test_a_relay_that_talks_nonsense_is_written_nowhere() -> None:
    assert Blocks().feed(struct.pack("<II", 1, 4) + bytes(100)) == b""


def test_what_is_not_in_the_file_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A relay that says: seven were asked for, and the file holds two."""
    writer = PcapngWriter()
    body = writer.section_header() + writer.interface(LINK_RAW)
    body += writer.packet(1, b"E", 20) + writer.packet(2, b"E", 20) + writer.statistics(7, 5)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

        threading.Thread(target=serve, daemon=True).start()
        where = f"127.0.0.1:{listener.getsockname()[1]}"
        assert run(["capture", "--tcp", where, "-o", str(tmp_path / "x")]) == 0
    assert "2 datagrams, 5 more are not in it" in capsys.readouterr().err
    assert (tmp_path / "x").read_bytes() == body
