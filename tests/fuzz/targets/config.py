"""Configuration files of the three daemons: an error that names key and line and says what to do, or a
configuration that is the same when it is printed and read again."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pyfastpath.config import RelayConfig, load
from pyfastpath.config.document import TABLES, print_config
from pyfastpath.config.fields import fields
from pyfastpath.config.gateway import GatewayConfig
from pyfastpath.config.transceiver import TransceiverConfig
from pyfastpath.errors import ConfigError

BYTES_MAX = 2048
SMOKE_RUNS = 120
ON_DATA_PLANE = False
CRASHERS = {
    "a file in the home of nobody": b'\2api_keys_file = "~x"\n',
    "a file's name of two lines made two lines of its message": b'\2api_keys_file = "a\\nb"\n',
    "a file's name with a null character": b'\2api_keys_file = "~\\u0000b"\n',
    "a key of two lines made two lines of its message": b'= ["b\\n_spage =  \\\\"]\n',
}

DAEMONS = (RelayConfig, TransceiverConfig, GatewayConfig)
WORDS = (
    *(f"{spec.name} = ".encode() for kind in DAEMONS for spec in fields(kind)),
    *(f"[[{name}]]\n".encode() for name in TABLES),
    *(f"{name} = ".encode() for table in TABLES.values() for name in table.__struct_fields__),
    *(
        b'"127.0.0.1:3478"',
        b'"[::]:9"',
        b'"10.0.0.0/8"',
        b"[",
        b"]",
        b"true",
        b"-1",
        b"1e9",
        b"2979-05-27",
        b'""',
    ),
)
FILE = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)) / f"{os.getpid()}.toml"


def seeds() -> Iterator[bytes]:
    """Which daemon, then its file."""
    for which, kind in enumerate(DAEMONS):
        yield bytes([which])
        yield bytes([which]) + b"nonsense = 1\n"
        for spec in fields(kind):
            value = b'["a", "b"]' if spec.is_list else b"1"
            yield bytes([which]) + spec.name.encode() + b" = " + value + b"\n"
    yield b'\0listen = ["127.0.0.1:3478"]\nworkers = 1\n[[backends]]\nid = "a"\naddress = "192.0.2.1:9"\n'
    yield b'\0trunk_port = 3500\n[[token_keys]]\nkid = 1\nkey = "00112233445566778899aabbccddeeff"\n'
    yield b'\1relays = ["127.0.0.1:3500"]\ntransceiver = 7\nlisten = "127.0.0.1:0"\n'
    yield b'\2[[transceivers]]\nid = "a"\ncontrol = "unix:/run/x.sock"\n'


def one_input(data: bytes) -> None:
    kind = DAEMONS[data[0] % 3 if data else 0]
    FILE.write_bytes(data[1:])
    try:
        config = load(FILE, kind=kind, environ={}, cpus=4)
    except ConfigError as error:
        for each in (error, *error.others):
            assert each.hint, each
            assert "\n" not in str(each), each
            assert 0 <= each.line <= data.count(b"\n") + data.count(b"\r") + 2, each
        return
    printed = print_config(config)
    if '"redacted"' not in printed:
        FILE.write_text(printed)
        assert load(FILE, kind=kind, environ={}, cpus=4) == config
