"""One HTTP request over a UNIX socket or TCP, as bytes and status; nothing is hidden."""

import http.client
import json
import socket
from pathlib import Path
from typing import Any

PATIENCE_S = 30.0  # a busy machine answers late


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("relay", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def request(
    where: Path | str,
    method: str,
    target: str,
    body: object = b"",
    headers: dict[str, str] | None = None,
    *,
    timeout_s: float = PATIENCE_S,
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """(status, body, headers). where: a socket's path, or ip:port. A body that is not bytes goes as JSON."""
    on_tcp = not isinstance(where, Path)
    connection = http.client.HTTPConnection(where, timeout=timeout_s) if on_tcp else _Unix(where, timeout_s)
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        connection.request(method, target, data, headers or {})
        reply = connection.getresponse()
        return reply.status, reply.read(), reply.headers
    finally:
        connection.close()


def ask(where: Path | str, method: str, target: str, body: object = b"", **headers: str) -> tuple[int, Any]:
    """(status, JSON body or None)."""
    status, said, _ = request(where, method, target, body, headers)
    return status, json.loads(said) if said else None
