"""explain gives the relay's own answer: the rule, the drop reason, and whole captures."""

import re
import subprocess
from pathlib import Path

import pytest

from pyfastpath.cli import run
from pyfastpath.config import load
from pyfastpath.errors import FastpathError
from pyfastpath.tools.explain import explain
from pyfastpath.wire.stun import build_binding_request
from tests.support.require import require

PCAPS = Path(__file__).parent.parent / "pcaps"
KEY = "000102030405060708090a0b0c0d0e0f"
VECTOR = "JZPEZz1QHaAakSfP7nGpci"  # kid 2, cluster 77, transceiver 4242, incarnation 3, expires 20000 units
EXPIRES_S = 20_000 * 32
CONFIG = f"""
listen = ["127.0.0.1:40000"]
allow_clients = ["127.0.0.0/8"]
cluster = 77
token_keys = ["2:{KEY}"]

[[backends]]
id = "web1"
address = "192.0.2.7:5000"

[[backends]]
id = "x1"
address = "192.0.2.8:5000"
transceiver = 4242
incarnation = 3
"""


@pytest.fixture
def config(tmp_path):
    return configured(tmp_path, CONFIG)


def configured(tmp_path, text):
    file = tmp_path / "relay.toml"
    file.write_text(text)
    return load(file, environ={})


def request(ufrag=b"abcdefgh", **options):
    return build_binding_request(bytes(12), ufrag + b":cli1", key=b"password", **options)


@pytest.mark.parametrize(
    ("ufrag", "wall_s", "routed", "words"),
    [
        ("abcdefgh", 0, False, ["no_route", "ctl routes get abcdefgh"]),
        (VECTOR, EXPIRES_S - 3600, True, ["key 2", "forward to x1", "decision: token"]),
        (VECTOR, EXPIRES_S + 3600, False, ["token_expired", "3600 s ago"]),
        (VECTOR[::-1], EXPIRES_S, False, ["bad_token"]),
        ("a b", 0, False, ["bad_stun", "RFC 8839"]),
        ("é" * 5, 0, False, ["bad_stun"]),
    ],
)
def test_a_ufrag_meets_the_rules_in_their_order(config, ufrag, wall_s, routed, words):
    said = explain(ufrag, config, wall_s=wall_s)
    assert said.routed == routed
    for word in words:
        assert word in "\n".join(said.lines)


def test_an_installed_route_beats_the_token(config):
    said = explain(VECTOR, config, route="web1", wall_s=0)
    assert said.routed
    assert "forward to web1 (route decision: session_route)" in said.lines[-1]


def test_the_hash_policy_names_the_backend_by_its_id(tmp_path):
    config = configured(tmp_path, "hash_policy = true\n" + CONFIG)
    said = explain("abcdefgh", config, wall_s=0)
    assert said.routed
    assert any("hash: backend web1 has" in line or "hash: backend x1 has" in line for line in said.lines)


def test_an_unknown_backend_is_refused(config):
    with pytest.raises(FastpathError, match="Configured: web1, x1"):
        explain("abcdefgh", config, route="nobody", wall_s=0)


def spaced(data):
    return data.hex(" ")


@pytest.mark.parametrize("form", [bytes.hex, spaced, lambda data: "0x" + data.hex()])
def test_a_binding_request_in_hex_is_decided_by_its_ufrag(config, form):
    said = explain(form(request()), config, route="web1", wall_s=0)
    assert said.routed
    assert "ufrag abcdefgh" in said.lines


@pytest.mark.parametrize(
    ("datagram", "routed", "word"),
    [
        (b"\x80" + bytes(20), True, "RTP/RTCP"),
        (b"\x16\xfe\xfd" + bytes(20), True, "flow table"),
        (b"\x47" + bytes(20), False, "not_webrtc"),
        (request()[:-1], False, "bad_stun"),
        (request()[:-1] + b"\0", False, "FINGERPRINT"),
        (b"\x01\x01" + request()[2:], True, "no Binding Request"),
    ],
)
def test_other_datagrams(config, datagram, routed, word):
    said = explain("0x" + datagram.hex(), config, route="web1", wall_s=0)
    assert said.routed == routed
    assert word in "\n".join(said.lines)


@pytest.mark.parametrize("name", ["chromium-dtls12", "chromium-dtls13-sped", "wrtc-12-clients"])
def test_a_capture_of_a_real_call_passes_whole(config, name):
    said = explain(str(PCAPS / f"{name}.pcap"), config, route="web1", wall_s=0)
    assert said.routed
    assert not any("drop" in line for line in said.lines)
    total = sum(int(line.split()[-1]) for line in said.lines if " up " in line or " down " in line)
    assert f"{total} UDP datagrams" in said.lines[0]


def test_without_a_route_everything_is_dropped_by_name(config):
    said = explain(str(PCAPS / "chromium-dtls12.pcap"), config, wall_s=0)
    assert not said.routed
    assert any("drop no_route" in line for line in said.lines)
    assert any("drop unknown_flow" in line for line in said.lines)


def test_clients_that_are_not_allowed(tmp_path):
    config = configured(tmp_path, CONFIG.replace('allow_clients = ["127.0.0.0/8"]', ""))
    said = explain(str(PCAPS / "wrtc-12-clients.pcap"), config, route="web1", wall_s=0)
    assert any("drop client_not_allowed" in line for line in said.lines)


def test_a_relay_elsewhere_is_found_by_the_first_request(tmp_path):
    config = configured(tmp_path, CONFIG.replace(":40000", ":3478"))
    assert explain(str(PCAPS / "chromium-dtls12.pcap"), config, route="web1", wall_s=0).routed


def test_a_capture_of_the_starts_of_frames_says_that_messages_are_cut(tmp_path, config):
    require("editcap")
    short = tmp_path / "short.pcapng"
    source = PCAPS / "chromium-dtls12.pcap"
    subprocess.run(["editcap", "-s", "96", "-F", "pcapng", source, short], check=True, timeout=30)
    said = "\n".join(explain(str(short), config, route="web1", wall_s=0).lines)
    assert re.search(r"^\d+ STUN messages were cut when recorded", said, re.MULTILINE)
    assert not any(" cut " in line for line in explain(str(source), config, route="web1", wall_s=0).lines)


def test_on_the_command_line(tmp_path, capsys):
    file = tmp_path / "relay.toml"
    file.write_text(CONFIG)
    assert run(["explain", "abcdefgh", "-c", str(file), "--route", "web1"]) == 0
    assert "forward to web1" in capsys.readouterr().out
    assert run(["explain", "abcdefgh", "-c", str(file)]) == 1
    (tmp_path / "broken.pcap").write_bytes(b"\xd4\xc3\xb2\xa1\x02\0\x04\0" + bytes(26))
    assert run(["explain", str(tmp_path / "broken.pcap"), "-c", str(file)]) == 2
    assert "byte 24" in capsys.readouterr().err
