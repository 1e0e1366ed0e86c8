"""The admin API of a relay that runs in this process: whatever a request says, it is done, or refused with
a code and a sentence; the relay never fails to answer, and the next request is answered too."""

import atexit
import http.client
import json
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path
from urllib.parse import quote

from pyfastpath.config import load
from pyfastpath.relay import sessions  # noqa: F401  (instrumented before the relay imports it)
from pyfastpath.relay.relay import Relay
from pyfastpath.tools.ports import free_port
from tests.fuzz.tape import Tape

BYTES_MAX = 4096
SMOKE_RUNS = 250
ON_DATA_PLANE = False
CRASHERS: dict[str, bytes] = {}

REQUESTS = (
    *(("PUT", "/v1/routes"), ("POST", "/v1/routes"), ("GET", "/v1/routes/"), ("DELETE", "/v1/routes/")),
    *(
        ("POST", "/v1/answers?backend=a&"),
        ("PUT", "/v1/backends/b"),
        ("PUT", "/v1/backends/"),
        ("DELETE", "/v1/backends/"),
    ),
    *(
        ("GET", "/v1/flows?"),
        ("PUT", "/v1/loglevel"),
        ("GET", "/v1/backends/"),
        ("POST", "/v1/backends/b/drain"),
    ),
    *(("POST", "/v1/drain"), ("DELETE", "/v1/drain"), ("DELETE", "/v1/capture"), ("GET", "/v1/")),
)
ANSWER = (
    b"v=0\r\nm=audio 5004 UDP/TLS/RTP/SAVPF 96\r\nc=IN IP4 127.0.0.1\r\na=ice-ufrag:ufrag1\r\n"
    b"a=candidate:1 1 udp 9 127.0.0.1 5004 typ host\r\n"
)
WORDS = (
    *(
        b'"ufrag"',
        b'"backend"',
        b'"target"',
        b'"ttl_s"',
        b'"session"',
        b'"replace"',
        b"true",
        b"null",
        b'"a"',
        b"1e999",
    ),
    *(
        b'"address"',
        b'"mode"',
        b'"allow"',
        b'"id"',
        b'"127.0.0.0/8"',
        b'"127.0.0.1:9"',
        b'"[::1]:9"',
        b'"plain"',
    ),
    *(
        b'"trunk"',
        b"upstream=",
        b"client=",
        b"limit=",
        b"backend=",
        b"session=",
        b"\\ud800",
        b"\n",
        b"{",
        b"}",
    ),
)


def seeds() -> Iterator[bytes]:
    """Which request, what follows in its path, its body."""
    bodies = {
        "/v1/routes": [
            b'{"ufrag": "abcd", "backend": "a"}',
            b'{"ufrag": "abce", "backend": "a", "ttl_s": 9}\n' * 3,
        ],
        "/v1/answers?backend=a&": [ANSWER],
        "/v1/backends/b": [b'{"address": "127.0.0.1:9", "allow": ["127.0.0.0/8"], "mode": "plain"}'],
        "/v1/loglevel": [b'{"level": "debug"}', b'{"level": 1}'],
    }
    paths = {
        "/v1/routes/": b"abcd",
        "/v1/backends/": b"a",
        "/v1/flows?": b"backend=a&limit=1",
        "/v1/": b"status",
    }
    for number, (_, path) in enumerate(REQUESTS):
        more = paths.get(path, b"")
        for body in bodies.get(path, [b""]):
            yield bytes([number, len(more)]) + more + len(body).to_bytes(2, "big") + body


@cache
def relay() -> http.client.HTTPConnection:
    """One for all inputs: it has to live through them."""
    stack = ExitStack()
    atexit.register(stack.close)
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    flags = {
        "listen": [f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"],
        "backends": ["a=127.0.0.1:9"],
        **{"shards": "1", "workers": "1", "pin": "false", "flows_max": "64", "routes_max": "256"},
        **{
            "targets_max": "8",
            "plain_ports": "4",
            "health_listen": "",
            "admin_socket": str(folder / "admin.sock"),
        },
    }
    stack.enter_context(Relay(load(None, environ={}, flags=flags, cpus=2)))
    return OverUnix(folder / "admin.sock")


class OverUnix(http.client.HTTPConnection):
    """HTTP over a UNIX socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=5)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(str(self.path))


def one_input(data: bytes) -> None:
    tape = Tape(data)
    for _ in range(4):
        if tape.left:
            ask(tape)


def ask(tape: Tape) -> None:
    method, path = tape.choose(REQUESTS)
    more = tape.take(tape.below(64))
    body = tape.piece()
    target = path + quote(more, safe="/=&?%.:[]") if path.endswith(("/", "?", "&")) else path
    if method == "GET" and target.startswith("/v1/capture"):
        return  # a stream without an end of its own
    connection = relay()
    connection.request(method, target, body)
    answer = connection.getresponse()
    said = answer.read()
    assert answer.status < 500 or answer.status == 503, said
    if answer.status >= 400:
        error = json.loads(said)["error"]
        assert set(error) == {"code", "message"}
        assert error["code"] != "internal", said
        assert error["message"]
