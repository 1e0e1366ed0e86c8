"""A bad setting names key and line; the four sources win over each other in the stated order."""

import msgspec
import pytest

from pyfastpath.config import RelayConfig, fields, load
from pyfastpath.errors import ConfigError

KEY = "000102030405060708090a0b0c0d0e0f"


def refused(tmp_path, text, **sources):
    file = tmp_path / "relay.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file, **{"environ": {}, "cpus": 4, **sources})
    return caught.value


def table(name, **keys):
    return f"[[{name}]]\n" + "".join(f"{key} = {value}\n" for key, value in keys.items())


def backend(**keys):
    return table("backends", **{"id": '"a"', "address": '"192.0.2.1:5000"', **keys})


MISTAKES = [  # what it is, the file, key, line, a word of the message, a word of the hint
    ("unknown key", "\nshardz = 3\n", "shardz", 2, "unknown key", "shards"),
    ("unknown key in a table", backend(portt=3), "backends[0].portt", 4, "unknown key", "Known here"),
    ("unknown key of two lines", '"a\\nb" = 1\n', r'"a\nb"', 1, "unknown key", "Known"),
    ("null in a text", 'log_file = "a\\u0000b"\n', "log_file", 1, "control character", "one line"),
    ("name of two lines", backend(id='"a\\nb"'), "backends[0].id", 2, "control character", "one line"),
    ("home of nobody", "admin_token_file = '~x/y'\n", "admin_token_file", 1, "home directory", "Name a file"),
    ("unknown table", "[relay]\nshards = 2\n", "relay", 1, "unknown key", "Known"),
    ("wrong type", "\n\nshards = 'two'\n", "shards", 3, "expected int", "--help"),
    ("number for a switch", "spin = 1\n", "spin", 1, "expected bool", "--help"),
    ("text for a list", "listen = '1.2.3.4:5'\n", "listen", 1, "expected a list", "[...]"),
    ("above its bound", "\ncoalesce_us = 10001\n", "coalesce_us", 2, "<= 10000", "--help"),
    ("below its bound", "flows_max = 0\n", "flows_max", 1, ">= 1", "--help"),
    ("no such choice", "log_level = 'loud'\n", "log_level", 1, "'loud'", "debug, info, warning, error"),
    ("no such mode", backend(mode="'tunnel'"), "backends[0].mode", 4, "'tunnel'", "trunk, plain"),
    ("missing key", "[[backends]]\nid = 'a'\n", "backends[0].address", 1, "missing", "--help"),
    ("bad name", backend(id="'a b'"), "backends[0].id", 2, "letters", "name"),
    ("bad address", "listen = ['1.2.3:4']\n", "listen[0].address", 1, "'1.2.3:4'", "203.0.113.9:3478"),
    ("second of a list", "listen = [\n'1.2.3.4:5',\n'x',\n]\n", "listen[1].address", 3, "'x'", "203"),
    ("port too high", backend(address="'1.2.3.4:70000'"), "backends[0].address", 3, "65535", "Write"),
    ("port missing", backend(address="'1.2.3.4'"), "backends[0].address", 3, "ip:port", "Write"),
    ("port 0", backend(address="'1.2.3.4:0'"), "backends[0].address", 3, "port 0", "Name"),
    ("unreachable", backend(address="'0.0.0.0:9'"), "backends[0].address", 3, "no address", "own"),
    ("a name for an address", backend(address="'localhost:9'"), "backends[0].address", 3, "IP", "Write"),
    ("IPv6 without brackets", "health_listen = '::1:9478'\n", "health_listen", 1, "'::1:9478'", "["),
    (
        "bad CIDR",
        "allow_clients = ['10.0.0.0/8',\n'10.0.0.0/33']\n",
        "allow_clients[1]",
        2,
        "/33",
        "10.0.0.0/8",
    ),
    (
        "host bits set",
        "allow_clients = ['10.1.2.3/8']\n",
        "allow_clients[0]",
        1,
        "host bits",
        "Write 10.0.0.0/8.",
    ),
    (
        "bad CIDR of a backend",
        backend(allow="['nonsense']"),
        "backends[0].allow[0]",
        4,
        "network",
        "10.0.0.0/8",
    ),
    ("number in a CIDR list", "allow_clients = [3]\n", "allow_clients[0]", 1, "expected str", "--help"),
    (
        "duplicate backend",
        backend() + backend(address="'1.1.1.1:1'"),
        "backends[1].id",
        5,
        "backends[0]",
        "own",
    ),
    (
        "duplicate listener",
        "listen = ['1.1.1.1:1', '1.1.1.1:1']\n",
        "listen[1].address",
        1,
        "listen[0]",
        "own",
    ),
    (
        "duplicate ingress",
        table("listen", address="'1.1.1.1:1'", ingress=7) + table("listen", address="'1.1.1.1:2'", ingress=7),
        "listen[1].ingress",
        6,
        "7 is already",
        "own",
    ),
    (
        "ingress too high",
        table("listen", address="'1.1.1.1:1'", ingress=256),
        "listen[0].ingress",
        3,
        "255",
        "--help",
    ),
    ("no listener", "listen = []\n", "listen", 1, "no address", "listen ="),
    (
        "bad advertise",
        table("listen", address="'1.1.1.1:1'", advertise="'me'"),
        "listen[0].advertise",
        3,
        "'me'",
        "203.0.113.9",
    ),
    (
        "wildcard advertised",
        table("listen", address="'0.0.0.0:1'", advertise="'0.0.0.0'"),
        "listen[0].advertise",
        3,
        "reach",
        "public",
    ),
    ("more workers than shards", "shards = 2\nworkers = 3\n", "workers", 2, "3 workers", "raise shards"),
    ("spin without a spare CPU", "spin = true\nworkers = 4\n", "spin", 1, "4 CPUs", "Lower workers"),
    ("kid too high", table("token_keys", kid=7, key=f"'{KEY}'"), "token_keys[0].kid", 2, "<= 6", "--help"),
    ("key no hex", table("token_keys", kid=0, key="'xyz'"), "token_keys[0].key", 3, "hex", "openssl"),
    ("key too short", table("token_keys", kid=0, key="'00'"), "token_keys[0].key", 3, "16 bytes", "32 hex"),
    ("key of no text", table("token_keys", kid=0, key="5"), "token_keys[0].key", 3, "quotes", "--help"),
    (
        "key file missing",
        table("token_keys", kid=0, key_file="'no-such-file'"),
        "token_keys[0].key_file",
        3,
        "No such file",
        "may read",
    ),
    (
        "key and key file",
        table("trunk_keys", id=0, key=f"'{KEY}'", key_file="'x'"),
        "trunk_keys[0].key_file",
        4,
        "together",
        "Keep one",
    ),
    (
        "duplicate kid",
        table("token_keys", kid=1, key=f"'{KEY}'") * 2,
        "token_keys[1].kid",
        5,
        "token_keys[0]",
        "own",
    ),
    (
        "unknown trunk key",
        "trunk_key_id = 1\n" + table("trunk_keys", id=0, key=f"'{KEY}'"),
        "trunk_key_id",
        1,
        "id 1",
        "trunk_keys",
    ),
    ("trunk backend without trunk", backend(mode="'trunk'"), "backends[0].mode", 4, "no trunk", "trunk_port"),
    (
        "trunk without key",
        "trunk_port = 4000\n" + backend(mode="'trunk'"),
        "backends[0].address",
        4,
        "without key",
        "trunk_insecure",
    ),
    (
        "targets of a trunk backend",
        "trunk_port = 4000\ntrunk_insecure = true\n" + backend(mode="'trunk'", allow="['10.0.0.0/8']"),
        "backends[0].allow",
        7,
        "targets",
        "Remove",
    ),
    (
        "plain without ports",
        "plain_ports = 0\n" + backend(),
        "backends[0].address",
        4,
        "plain_ports is 0",
        "Set",
    ),
    (
        "IPv6 plain without ports",
        backend(address="'[2001:db8::1]:5'"),
        "backends[0].address",
        3,
        "ipv6",
        "Set",
    ),
    (
        "too many plain ports",
        "plain_ports = 60000\nplain_ports_ipv6 = 60000\n",
        "plain_ports",
        1,
        "65534",
        "Lower",
    ),
    ("wrong family", "plain_address = '::1'\n", "plain_address", 1, "IPv4", "this machine"),
    ("trunk port too high", "trunk_port = 65535\nshards = 2\n", "trunk_port", 1, "65535", "lower"),
    (
        "same transceiver twice",
        backend(transceiver=5) + backend(id="'b'", transceiver=5, cluster=0),
        "backends[1].transceiver",
        8,
        "backends[0]",
        "own",
    ),
    ("admin TCP without token", "admin_tcp = '127.0.0.1:9'\n", "admin_tcp", 1, "token", "admin_token_file"),
    ("weak admin token", "admin_token = 'abc'\n", "admin_token", 1, "16", "openssl"),
    ("socket path too long", f"admin_socket = '/{'x' * 120}'\n", "admin_socket", 1, "107", "Shorten"),
    ("no TOML", "shards = 2\nworkers = = 3\n", "workers", 2, "not TOML", "quotes"),
    ("a key twice", "shards = 2\n\nshards = 3\n", "shards", 3, "not TOML", "once"),
    ("an open text", "log_file = 'x\n", "log_file", 1, "not TOML", "quotes"),
]


@pytest.mark.parametrize(
    ("text", "key", "line", "message", "hint"),
    [row[1:] for row in MISTAKES],
    ids=[row[0] for row in MISTAKES],
)
def test_a_bad_file_names_key_and_line(tmp_path, text, key, line, message, hint):
    error = refused(tmp_path, text)
    assert (error.key, error.line) == (key, line), str(error)
    assert f"relay.toml, line {line}: {key}: " in str(error)
    assert message in error.message
    assert hint in error.hint


def test_all_mistakes_are_told_at_once(tmp_path):
    error = refused(tmp_path, "shardz = 1\nspin = 3\nworkers = 'x'\n")
    assert [item.key for item in (error, *error.others)] == ["shardz", "spin", "workers"]


def test_a_secret_never_stands_in_an_error(tmp_path):
    secret = "deadbeefdeadbeefdeadbeef"
    for text in (table("token_keys", kid=0, key=f"'{secret}'"), f"admin_token = ['{secret}']\n"):
        error = refused(tmp_path, text)
        assert secret not in str(error)


def test_a_missing_or_binary_file_is_one_clear_error(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.toml", environ={})
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="UTF-8"):
        load(tmp_path / "binary.toml", environ={})


def test_a_file_without_end_is_read_up_to_a_bound(tmp_path):
    """As /dev/zero is, or whatever is mounted where a secret should be."""
    with pytest.raises(ConfigError, match="longer than 1048576 characters"):
        load("/dev/zero", environ={})
    file = tmp_path / "relay.toml"
    for text, key in (
        ("admin_token_file = '/dev/zero'\n", "admin_token_file"),
        (table("token_keys", kid=0, key_file="'/dev/zero'"), "token_keys[0].key_file"),
    ):
        file.write_text(text)
        with pytest.raises(ConfigError, match="longer than") as caught:
            load(file, environ={})
        assert caught.value.key == key
    file.write_text("#" + "x" * (1 << 20))
    with pytest.raises(ConfigError, match="longer than"):
        load(file, environ={})
    file.write_text("#" + "x" * ((1 << 20) - 1))
    load(file, environ={}, cpus=4)


@pytest.mark.parametrize(
    ("environ", "where", "key"),
    [
        ({"PYFASTPATH_SHARDS": "many"}, "PYFASTPATH_SHARDS", "shards"),
        ({"PYFASTPATH_SHARD": "2"}, "PYFASTPATH_SHARD", ""),
        ({"PYFASTPATH_ALLOW_CLIENTS": "10.0.0.0/8,x"}, "PYFASTPATH_ALLOW_CLIENTS", "allow_clients[1]"),
        ({"PYFASTPATH_BACKENDS": "a=1.2.3.4:5 b"}, "PYFASTPATH_BACKENDS", "backends[1]"),
        ({"PYFASTPATH_TOKEN_KEYS": "nonsense"}, "PYFASTPATH_TOKEN_KEYS", "token_keys[0]"),
        ({"PYFASTPATH_TOKEN_KEYS_FILE": "/no/such/file"}, "PYFASTPATH_TOKEN_KEYS_FILE", "token_keys"),
        ({"PYFASTPATH_ADMIN_TOKEN_FILE": "/no/such/file"}, "PYFASTPATH_ADMIN_TOKEN_FILE", "admin_token_file"),
    ],
)
def test_a_bad_variable_names_itself(environ, where, key):
    with pytest.raises(ConfigError) as caught:
        load(environ=environ, cpus=4)
    assert where in caught.value.where
    assert caught.value.key == key


def test_a_bad_flag_names_itself():
    with pytest.raises(ConfigError, match=r"flag --coalesce-us: coalesce_us: expected int"):
        load(environ={}, flags={"coalesce_us": "x"}, cpus=4)


def test_variables_of_kubernetes_are_not_ours():
    theirs = {"PYFASTPATH_RELAY_PORT_9478_TCP": "tcp://10.0.0.1:9478", "PYFASTPATH_SERVICE_HOST": "x"}
    assert load(environ=theirs, cpus=4) == load(environ={}, cpus=4)


def test_flag_beats_environment_beats_file_beats_default(tmp_path):
    file = tmp_path / "relay.toml"
    file.write_text("coalesce_us = 1\nroute_ttl_s = 1\ntrunk_mtu = 600\n")
    environ = {"PYFASTPATH_COALESCE_US": "2", "PYFASTPATH_ROUTE_TTL_S": "2"}
    config = load(file, environ=environ, flags={"coalesce_us": "3", "shards": None}, cpus=4)
    assert (config.coalesce_us, config.route_ttl_s, config.trunk_mtu) == (3, 2, 600)
    assert config.drain_deadline_s == RelayConfig().drain_deadline_s


def test_every_key_has_a_variable(tmp_path):
    token = tmp_path / "token"
    token.write_text("0123456789abcdef\n")
    environ = {
        "PYFASTPATH_LISTEN": "192.0.2.1:3478,[2001:db8::1]:3478",
        "PYFASTPATH_PIN": "false",
        "PYFASTPATH_BACKENDS": "web1=192.0.2.9:5000",
        "PYFASTPATH_TOKEN_KEYS": f"1:{KEY}",
        "PYFASTPATH_ADMIN_TOKEN_FILE": str(token),
        "PYFASTPATH_LOG_FORMAT": "json",
        "PYFASTPATH_ALLOW_CLIENTS": "127.0.0.0/8, ::1/128",
    }
    config = load(environ=environ, cpus=4)
    assert [item.address for item in config.listen] == ["192.0.2.1:3478", "[2001:db8::1]:3478"]
    assert [item.ingress for item in config.listen] == [0, 1]
    assert not config.pin
    assert (config.backends[0].id, config.backends[0].mode) == ("web1", "plain")
    assert config.token_keys[0].key.value == bytes(range(16))
    assert config.admin_token.value == b"0123456789abcdef"
    assert config.log_format == "json"
    assert config.allow_clients == ("127.0.0.0/8", "::1/128")


def test_key_files_start_from_the_folder_of_the_file(tmp_path):
    (tmp_path / "token.key").write_text(KEY + "\n")
    file = tmp_path / "relay.toml"
    file.write_text(table("token_keys", kid=3, key_file="'token.key'"))
    assert load(file, environ={}).token_keys[0].key.value == bytes(range(16))


def test_free_ingress_ids_are_given_in_order():
    config = load(environ={}, flags={"listen": ["1.1.1.1:1", "1.1.1.1:2"]}, cpus=4)
    assert [item.ingress for item in config.listen] == [0, 1]


@pytest.mark.parametrize(
    ("cpus", "shards", "workers"), [(1, 2, 1), (2, 2, 1), (3, 3, 2), (4, 4, 4), (16, 16, 16), (128, 64, 64)]
)
def test_default_shards_and_workers(cpus, shards, workers):
    config = load(environ={}, cpus=cpus)
    assert (config.shards, config.workers) == (shards, workers)


def test_advertised_address():
    flags = {"listen": ["0.0.0.0:3478"]}
    listen = load(environ={}, flags=flags, cpus=4).listen[0]
    for text, told in [
        ("", "0.0.0.0:3478"),
        ("203.0.113.9", "203.0.113.9:3478"),
        ("203.0.113.9:1", "203.0.113.9:1"),
        ("2001:db8::1", "[2001:db8::1]:3478"),
        ("[2001:db8::1]:7", "[2001:db8::1]:7"),
    ]:
        assert str(msgspec.structs.replace(listen, advertise=text).advertised) == told


TWINS = {  # for every key a value that is not its default
    "listen": "192.0.2.1:1",
    "shards": "3",
    "workers": "2",
    "pin": "false",
    "spin": "true",
    "coalesce_us": "7",
    "receive_buffer_bytes": "262144",
    "flows_max": "77",
    "routes_max": "78",
    "targets_max": "79",
    "route_ttl_s": "80",
    "backends": "a=192.0.2.2:2",
    "hash_policy": "true",
    "cluster": "5",
    "token_keys": f"1:{KEY}",
    "allow_clients": "10.0.0.0/8",
    "admission_flows_per_s": "86",
    "admission_burst": "87",
    "plain_address": "192.0.2.3",
    "plain_ports": "81",
    "plain_address_ipv6": "2001:db8::1",
    "plain_ports_ipv6": "82",
    "trunk_address": "127.0.0.2",
    "trunk_port": "8300",
    "trunk_mtu": "900",
    "trunk_keys": f"0:{KEY}",
    "trunk_key_id": "2",
    "trunk_insecure": "true",
    "dscp_voice": "1",
    "dscp_voice_data": "2",
    "dscp_video": "3",
    "dscp_bulk": "4",
    "drain_deadline_s": "83",
    "user": "nobody",
    "admin_socket": "/run/other.sock",
    "admin_tcp": "127.0.0.1:84",
    "admin_token": "0123456789abcdef0",
    "admin_token_file": "token",
    "health_listen": "127.0.0.1:85",
    "log_level": "debug",
    "log_format": "json",
    "log_file": "/var/log/other.log",
}


@pytest.mark.parametrize("spec", fields(RelayConfig), ids=lambda spec: spec.name)
def test_flag_and_variable_are_twins(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("0123456789abcdef\n")
    flags = {"workers": "1"} if spec.name != "workers" else {"shards": "4"}
    if spec.name == "admin_tcp":
        flags["admin_token_file"] = "token"
    if spec.name == "trunk_key_id":
        flags["trunk_keys"] = [f"0:{KEY}", f"2:{KEY}"]
    text = TWINS[spec.name]
    several = isinstance(getattr(RelayConfig(), spec.name), tuple)
    by_flag = load(environ={}, flags=flags | {spec.name: [text] if several else text}, cpus=8)
    by_variable = load(environ={spec.variable: text}, flags=flags, cpus=8)
    assert getattr(by_flag, spec.name) == getattr(by_variable, spec.name)
    assert getattr(by_flag, spec.name) != getattr(load(environ={}, flags=flags, cpus=8), spec.name)
