"""The transceiver's configuration: every mistake names key and line, flags and variables are twins."""

import pytest

from pyfastpath.config import TransceiverConfig, fields, load, print_config
from pyfastpath.config.transceiver import parse_span
from pyfastpath.errors import ConfigError

KEY = "000102030405060708090a0b0c0d0e0f"
TOKEN = "0123456789abcdef"
RELAY = "relays = ['127.0.0.1:7000']\n"
FAR = "relays = ['10.0.0.1:7000']\ntrunk_insecure = true\n"

MISTAKES = [  # what it is, the file, key, line, a word of the message, a word of the hint
    ("unknown key", RELAY + "agnet = 'echo'\n", "agnet", 2, "unknown key", "agent"),
    ("wrong type", RELAY + "sessions_max = 'x'\n", "sessions_max", 2, "int", "pyfastpath transceiver --help"),
    ("no way in", "agent = 'echo'\n", "relays", 0, "no client", "plain_listen"),
    ("bad name", RELAY + "id = 'a b'\n", "id", 2, "letters", "name"),
    ("bad relay", "relays = ['127.0.0.1:1', 'x']\n", "relays[1]", 1, "'x'", "10.0.0.1:7000"),
    ("range backwards", "relays = ['127.0.0.1:9-8']\n", "relays[0]", 1, "run from 9", "7003"),
    ("range too high", "relays = ['127.0.0.1:9-65536']\n", "relays[0]", 1, "65535", "7003"),
    ("relay of port 0", "relays = ['127.0.0.1:0']\n", "relays[0]", 1, "no socket", "trunk_port"),
    ("relay anywhere", "relays = ['0.0.0.0:5']\n", "relays[0]", 1, "no socket", "trunk_address"),
    ("relay twice", "relays = ['127.0.0.1:1',\n'127.0.0.1:1']\n", "relays[1]", 2, "already", "own"),
    ("too many relays", "relays = ['127.0.0.1:1-65']\n", "relays", 1, "65 relay sockets", "fewer"),
    ("no key beyond loopback", "relays = ['10.0.0.1:7']\n", "relays[0]", 1, "without key", "trunk_insecure"),
    ("trunk anywhere", RELAY + "trunk_listen = '0.0.0.0:5'\n", "trunk_listen", 2, "no address", "own"),
    (
        "trunk on loopback",
        FAR + "trunk_listen = '127.0.0.1:0'\n",
        "trunk_listen",
        3,
        "reaches no",
        "relay can",
    ),
    (
        "trunk of IPv4",
        "relays = ['[::1]:7']\ntrunk_listen = '127.0.0.1:0'\n",
        "trunk_listen",
        2,
        "no",
        "Write",
    ),
    ("trunk key", RELAY + f"trunk_keys = ['0:{KEY}']\ntrunk_key_id = 1\n", "trunk_key_id", 3, "id 1", "Name"),
    ("short trunk key", RELAY + "trunk_keys = ['0:00']\n", "trunk_keys[0].key", 2, "16 bytes", "openssl"),
    ("plain anywhere", "plain_listen = '0.0.0.0:5'\n", "plain_listen", 1, "no address", "own"),
    (
        "registers nowhere",
        "plain_listen = '127.0.0.1:0'\nrelay_admin = ['/a']\n",
        "relay_admin",
        2,
        "no trunk",
        "relays",
    ),
    (
        "admin without token",
        RELAY + "relay_admin = ['/a', '127.0.0.1:9']\n",
        "relay_admin[1]",
        2,
        "token",
        "relay_admin_token_file",
    ),
    ("admin that is none", RELAY + "relay_admin = ['here']\n", "relay_admin[0]", 2, "'here'", "Write"),
    (
        "control without token",
        RELAY + "control_listen = '127.0.0.1:9'\n",
        "control_listen",
        2,
        "token",
        "control_token_file",
    ),
    (
        "control anywhere",
        RELAY + f"control_token = '{TOKEN}'\ncontrol_listen = '[::]:9'\n",
        "control_listen",
        3,
        "no address",
        "own",
    ),
    ("weak control token", RELAY + "control_token = 'abc'\n", "control_token", 2, "16", "openssl"),
    (
        "long control socket",
        RELAY + f"control_socket = '/{'x' * 120}'\n",
        "control_socket",
        2,
        "107",
        "Shorten",
    ),
    ("registry that is none", RELAY + "registry = 'redis:x'\n", "registry", 2, "neither", "unix:"),
    ("registry without folder", RELAY + "registry = 'file:'\n", "registry", 2, "no folder", "file:/run"),
    (
        "registry without token",
        RELAY + "registry = 'http://127.0.0.1:9'\n",
        "registry",
        2,
        "token",
        "registry_token_file",
    ),
    ("no agent", RELAY + "agent = 'http://x'\n", "agent", 2, "no agent", "module:Class"),
    ("key for no server", RELAY + "agent_key_file = 'x'\n", "agent_key_file", 2, "takes no key", "Remove"),
    ("health", RELAY + "health_listen = 'x'\n", "health_listen", 2, "'x'", "Write"),
]


@pytest.mark.parametrize(
    ("text", "key", "line", "message", "hint"),
    [row[1:] for row in MISTAKES],
    ids=[row[0] for row in MISTAKES],
)
def test_a_bad_file_names_key_and_line(tmp_path, text, key, line, message, hint):
    file = tmp_path / "t.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, kind=TransceiverConfig, environ={})
    error = caught.value
    assert (error.key, error.line) == (key, line), str(error)
    assert message in error.message
    assert hint in error.hint


def test_a_relay_is_enough():
    config = load(
        kind=TransceiverConfig, environ={}, flags={"relays": "127.0.0.1:7000-7001", "transceiver": "3"}
    )
    assert config.id == "transceiver-3"
    assert [str(relay) for relay in config.relay_sockets] == ["127.0.0.1:7000", "127.0.0.1:7001"]
    assert config.control_socket.endswith(".sock")
    assert "transceiver-3" in config.control_socket


def test_control_by_tcp_alone_makes_no_socket():
    flags = {"relays": "127.0.0.1:7000", "control_listen": "127.0.0.1:0"}
    environ = {"PYFASTPATH_TRANSCEIVER_CONTROL_TOKEN": TOKEN}
    assert load(kind=TransceiverConfig, environ=environ, flags=flags).control_socket == ""


def test_a_keyed_or_insecure_trunk_may_leave_the_machine(tmp_path):
    file = tmp_path / "t.toml"
    file.write_text(FAR + "trunk_listen = '10.0.0.2:7100'\n")
    assert load(file, kind=TransceiverConfig, environ={}).relay_sockets
    file.write_text(
        f"relays = ['10.0.0.1:7000']\ntrunk_listen = '10.0.0.2:0'\n[[trunk_keys]]\nid = 0\nkey = '{KEY}'\n"
    )
    assert load(file, kind=TransceiverConfig, environ={}).trunk_keys[0].key.value == bytes(range(16))


def test_ranges_are_spelt_out():
    assert [str(item) for item in parse_span("[2001:db8::1]:7-9")] == [
        f"[2001:db8::1]:{n}" for n in (7, 8, 9)
    ]


def test_a_token_of_a_file_is_named_by_its_file(tmp_path):
    (tmp_path / "token").write_text("weak\n")
    file = tmp_path / "t.toml"
    file.write_text(RELAY + "control_token_file = 'token'\n")
    with pytest.raises(ConfigError, match="token: control_token: shorter than 16"):
        load(file, kind=TransceiverConfig, environ={})


def test_what_is_printed_shows_no_secret_and_loads_again(tmp_path):
    environ = {
        "PYFASTPATH_TRANSCEIVER_RELAYS": "127.0.0.1:7000",
        "PYFASTPATH_TRANSCEIVER_TRUNK_KEYS": f"0:{KEY}",
        "PYFASTPATH_TRANSCEIVER_CONTROL_TOKEN": TOKEN,
    }
    config = load(kind=TransceiverConfig, environ=environ)
    printed = print_config(config)
    assert KEY not in printed
    assert TOKEN not in printed
    file = tmp_path / "printed.toml"
    file.write_text(printed.replace('key = "redacted"', f'key = "{KEY}"').replace('"redacted"', f'"{TOKEN}"'))
    assert load(file, kind=TransceiverConfig, environ={}) == config


TWINS = {  # for every key a value that is not its default
    "id": "t7",
    "cluster": "5",
    "transceiver": "6",
    "trunk_listen": "127.0.0.2:1",
    "relays": "127.0.0.1:8",
    "trunk_keys": f"0:{KEY}",
    "trunk_key_id": "2",
    "trunk_mtu": "900",
    "trunk_insecure": "true",
    "plain_listen": "127.0.0.1:9",
    "relay_admin": "/run/r.sock",
    "relay_admin_token": TOKEN,
    "relay_admin_token_file": "token",
    "control_socket": "/run/c.sock",
    "control_listen": "127.0.0.1:10",
    "control_token": TOKEN,
    "control_token_file": "token",
    "registry": "file:/run/x",
    "registry_token": TOKEN,
    "registry_token_file": "token",
    "agent": "wss://model.example.org/v1",
    "agent_key_file": "token",
    "sessions_max": "11",
    "call_max_s": "12",
    "drain_deadline_s": "13",
    "state_dir": "/var/lib/x",
    "health_listen": "127.0.0.1:14",
    "log_level": "debug",
    "log_format": "json",
    "log_file": "/var/log/x",
}
NEEDS = {
    "trunk_key_id": {"trunk_keys": [f"0:{KEY}", f"2:{KEY}"]},
    "control_listen": {"control_token_file": "token"},
    "agent_key_file": {"agent": "wss://model.example.org/v2"},
}


@pytest.mark.parametrize("spec", fields(TransceiverConfig), ids=lambda spec: spec.name)
def test_flag_and_variable_are_twins(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text(TOKEN + "\n")
    assert spec.help
    assert spec.variable.startswith("PYFASTPATH_TRANSCEIVER_")
    flags = {"relays": ["127.0.0.1:7"]} | NEEDS.get(spec.name, {})
    text = TWINS[spec.name]

    def made(**sources):
        return getattr(load(kind=TransceiverConfig, **sources), spec.name)

    by_flag = made(environ={}, flags=flags | {spec.name: [text] if spec.is_list else text})
    without = {name: value for name, value in flags.items() if name != spec.name}
    assert made(environ={spec.variable: text}, flags=without) == by_flag != made(environ={}, flags=flags)


def test_variables_of_the_other_daemons_are_not_misspelt_ones():
    environ = {spec.variable: "" for spec in fields(TransceiverConfig)}
    load(environ=environ, cpus=4)
    with pytest.raises(ConfigError, match="Did you mean PYFASTPATH_TRANSCEIVER_RELAYS"):
        load(
            kind=TransceiverConfig,
            environ={"PYFASTPATH_TRANSCEIVER_RELAY": "x"},
            flags={"relays": "127.0.0.1:1"},
        )
