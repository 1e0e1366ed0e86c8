"""The gateway's configuration: every mistake names key and line, flags and variables are twins."""

import pytest

from pyfastpath.config import GatewayConfig, fields, load, print_config
from pyfastpath.errors import ConfigError

KEY = "000102030405060708090a0b0c0d0e0f"
TOKEN = "0123456789abcdef"
GOOD = f"token_keys = ['1:{KEY}']\ncandidates = ['192.0.2.1:3478']\n"

MISTAKES = [  # what it is, what stands from line 3 on, key, line, a word of the message, a word of the hint
    ("unknown key", "pages = true\n", "pages", 3, "unknown key", "page"),
    ("wrong type", "page = 1\n", "page", 3, "bool", "pyfastpath gateway --help"),
    ("bad listen", "listen = 'x'\n", "listen", 3, "'x'", "Write"),
    ("no URL", "public_url = 'voice.example.org'\n", "public_url", 3, "no URL", "https://"),
    ("no such TLS", "tls = 'acme'\n", "tls", 3, "'acme'", "self-signed"),
    (
        "two certificates",
        "tls = 'self-signed'\ntls_cert = 'a'\ntls_key = 'b'\n",
        "tls",
        3,
        "together",
        "Keep",
    ),
    ("certificate without key", "tls_cert = 'a'\n", "tls_cert", 3, "without tls_key", "Set tls_key"),
    ("key without certificate", "tls_key = 'a'\n", "tls_key", 3, "without tls_cert", "Set tls_cert"),
    ("weak API key", f"api_keys = ['{TOKEN}',\n'abc']\n", "api_keys[1]", 4, "16", "openssl"),
    ("empty API key", "api_keys = ['']\n", "api_keys[0]", 3, "empty", "Remove"),
    ("unknown kid", "token_kid = 2\n", "token_kid", 3, "kid 2", "token_keys"),
    ("call key no hex", "call_key = 'xyz'\n", "call_key", 3, "not hex", "openssl"),
    ("call key too short", f"call_key = '{KEY}'\n", "call_key", 3, "this one 16", "openssl rand -hex 32"),
    ("no registry", "registry = 'redis://x'\n", "registry", 3, "no registry", "file:"),
    ("registry without folder", "registry = 'file:'\n", "registry", 3, "no registry", "file:/run"),
    ("transceiver that is none", "transceivers = ['t1']\n", "transceivers[0]", 3, "id=address", "unix:/run"),
    ("control that is none", "transceivers = ['t1=x']\n", "transceivers[0].control", 3, "neither", "http://"),
    (
        "control without token",
        "transceivers = ['t1=http://10.0.0.1:9']\n",
        "transceivers[0].control",
        3,
        "token",
        "control_token_file",
    ),
    (
        "transceiver twice",
        "[[transceivers]]\nid = 'a'\ncontrol = 'unix:/a'\n" * 2,
        "transceivers[1].id",
        7,
        "transceivers[0]",
        "own",
    ),
    ("admin without token", "admin_listen = '127.0.0.1:9'\n", "admin_listen", 3, "token", "admin_token_file"),
    ("weak admin token", "admin_token = 'abc'\n", "admin_token", 3, "16", "openssl"),
    ("no origin", "allow_origins = ['example.org']\n", "allow_origins[0]", 3, "no origin", "https://"),
    (
        "no network",
        "trusted_proxies = ['10.0.0.1/8']\n",
        "trusted_proxies[0]",
        3,
        "not a network",
        "10.0.0.0/8",
    ),
    ("too many calls", "calls_per_minute = -1\n", "calls_per_minute", 3, ">= 0", "--help"),
    ("health", "health_listen = '1.2.3.4'\n", "health_listen", 3, "ip:port", "Write"),
]


def refused(tmp_path, text):
    file = tmp_path / "g.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, kind=GatewayConfig, environ={})
    return caught.value


@pytest.mark.parametrize(
    ("text", "key", "line", "message", "hint"),
    [row[1:] for row in MISTAKES],
    ids=[row[0] for row in MISTAKES],
)
def test_a_bad_file_names_key_and_line(tmp_path, text, key, line, message, hint):
    error = refused(tmp_path, GOOD + text)
    assert (error.key, error.line) == (key, line), str(error)
    assert message in error.message
    assert hint in error.hint


def test_without_keys_and_candidates_there_is_no_call(tmp_path):
    error = refused(tmp_path, "")
    assert [item.key for item in (error, *error.others)] == ["token_keys", "candidates"]


@pytest.mark.parametrize(
    ("candidates", "key", "word"),
    [
        ("['192.0.2.1:1', '192.0.2.1:1']", "candidates[1]", "already"),
        ("['0.0.0.0:1']", "candidates[0]", "no address"),
        ("['relay:1']", "candidates[0]", "IP address"),
        (str([f"192.0.2.1:{port}" for port in range(1, 18)]), "candidates", "at most 16"),
    ],
)
def test_candidates_are_addresses_clients_can_reach(tmp_path, candidates, key, word):
    error = refused(tmp_path, f"token_keys = ['1:{KEY}']\ncandidates = {candidates}\n")
    assert (error.key, error.line) == (key, 2)
    assert word in error.message


def test_defaults(tmp_path):
    file = tmp_path / "g.toml"
    file.write_text(f"token_keys = ['1:{KEY}', '4:{KEY}']\ncandidates = ['192.0.2.1:3478']\n")
    config = load(file, kind=GatewayConfig, environ={})
    assert config.token_kid == 4
    assert config.admin_socket.endswith(".sock")
    assert "gateway" in config.admin_socket
    assert config.allow_origins == ("*",)


def test_secrets_come_from_files_one_a_line(tmp_path):
    (tmp_path / "api").write_text(f"{TOKEN}1\n{TOKEN}2\n")
    (tmp_path / "call").write_text(KEY * 2 + "\n")
    file = tmp_path / "g.toml"
    file.write_text(GOOD + "api_keys_file = 'api'\ncall_key_file = 'call'\n")
    config = load(file, kind=GatewayConfig, environ={})
    assert [key.value for key in config.api_keys] == [f"{TOKEN}1".encode(), f"{TOKEN}2".encode()]
    assert config.call_key.value == bytes(range(16)) * 2


def test_a_secret_that_cannot_be_read_names_its_key(tmp_path):
    error = refused(tmp_path, GOOD + "call_key_file = 'none'\n")
    assert (error.key, error.line) == ("call_key_file", 3)
    assert "No such file" in error.message


def test_no_secret_stands_in_an_error(tmp_path):
    for text in ("api_keys = [['hunter2hunter2hunter2']]\n", "call_key = 'hunter2hunter2hunter2'\n"):
        assert "hunter2" not in str(refused(tmp_path, GOOD + text))


def test_what_is_printed_shows_no_secret_and_loads_again(tmp_path):
    environ = {
        "PYFASTPATH_GATEWAY_TOKEN_KEYS": f"1:{KEY}",
        "PYFASTPATH_GATEWAY_CANDIDATES": "192.0.2.1:3478",
        "PYFASTPATH_GATEWAY_API_KEYS": TOKEN,
        "PYFASTPATH_GATEWAY_CALL_KEY": KEY * 2,
        "PYFASTPATH_GATEWAY_TRANSCEIVERS": "t1=unix:/run/t1.sock",
    }
    config = load(kind=GatewayConfig, environ=environ)
    printed = print_config(config)
    assert KEY not in printed
    assert TOKEN not in printed
    file = tmp_path / "printed.toml"
    text = printed.replace('call_key = "redacted"', f'call_key = "{KEY * 2}"')
    text = text.replace('\nkey = "redacted"', f'\nkey = "{KEY}"').replace('"redacted"', f'"{TOKEN}"')
    file.write_text(text)
    assert load(file, kind=GatewayConfig, environ={}) == config


TWINS = {  # for every key a value that is not its default
    "listen": "127.0.0.1:1",
    "public_url": "https://voice.example.org",
    "tls": "self-signed",
    "tls_cert": "cert.pem",
    "tls_key": "key.pem",
    "state_dir": "/var/lib/x",
    "api_keys": TOKEN,
    "api_keys_file": "token",
    "token_keys": f"3:{KEY}",
    "token_kid": "2",
    "call_key": KEY * 2,
    "call_key_file": "call",
    "cluster": "4",
    "candidates": "192.0.2.7:1",
    "call_max_s": "5",
    "registry": "file:/run/x",
    "admin_socket": "/run/a.sock",
    "admin_listen": "127.0.0.1:6",
    "admin_token": TOKEN,
    "admin_token_file": "token",
    "transceivers": "t1=unix:/run/t1.sock",
    "control_token": TOKEN,
    "control_token_file": "token",
    "allow_origins": "https://app.example.org",
    "calls_per_minute": "7",
    "trusted_proxies": "10.0.0.0/8",
    "page": "false",
    "health_listen": "127.0.0.1:8",
    "log_level": "debug",
    "log_format": "json",
    "log_file": "/var/log/x",
}
NEEDS = {
    "token_kid": {"token_keys": [f"2:{KEY}", f"4:{KEY}"]},
    "admin_listen": {"admin_token_file": "token"},
    "tls_cert": {"tls_key": "key.pem"},
    "tls_key": {"tls_cert": "cert.pem"},
}
BESIDE = {"tls_cert": "tls_key", "tls_key": "tls_cert"}  # neither may stand alone


@pytest.mark.parametrize("spec", fields(GatewayConfig), ids=lambda spec: spec.name)
def test_flag_and_variable_are_twins(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "call").write_text(KEY * 2 + "\n")
    assert spec.help
    assert spec.variable.startswith("PYFASTPATH_GATEWAY_")
    flags = {"token_keys": [f"1:{KEY}"], "candidates": ["192.0.2.1:1"]} | NEEDS.get(spec.name, {})
    text = TWINS[spec.name]

    def made(**sources):
        return getattr(load(kind=GatewayConfig, **sources), spec.name)

    by_flag = made(environ={}, flags=flags | {spec.name: [text] if spec.is_list else text})
    without = {name: value for name, value in flags.items() if name != spec.name}
    assert made(environ={spec.variable: text}, flags=without) == by_flag
    bare = {name: value for name, value in flags.items() if name != BESIDE.get(spec.name)}
    assert made(environ={}, flags=bare) != by_flag
