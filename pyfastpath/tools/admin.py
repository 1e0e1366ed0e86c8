"""A client of the relay's admin API, over its UNIX socket or over TCP with a bearer token."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from pyfastpath.errors import AdminError, UnreachableError
from pyfastpath.types import Endpoint, Secret

NO_SECRET = Secret(b"")
TIMEOUT_S = 30  # a bulk install of a million routes takes some seconds


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Where a relay's admin API is. `tcp` beats `socket_path` and needs the token."""

    socket_path: str
    tcp: Endpoint | None = None
    token: Secret = NO_SECRET

    @property
    def where(self) -> str:
        """The address, for messages."""
        return str(self.tcp) if self.tcp else self.socket_path

    def get(self, *path: str, **query: str | int | None) -> Any:
        """GET /v1/`path`; query parameters that are None are left out. Returns the JSON body."""
        return self.request("GET", path, query=query)

    def request(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        query: dict[str, str | int | None] | None = None,
        body: object = None,
    ) -> Any:
        """One request; `body` is sent as it is when bytes, else as JSON. Returns the JSON body, None without.

        Raises UnreachableError when nobody listens, AdminError when the relay refuses.
        """
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        connection = self._connection(TIMEOUT_S)
        try:
            connection.request(method, _target(path, query or {}), data, self._headers)
            reply = connection.getresponse()
            said = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        finally:
            connection.close()
        if reply.status >= 400:
            raise _refusal(reply.status, said)
        return json.loads(said) if said else None

    @contextlib.contextmanager
    def stream(
        self, *path: str, quiet_s: float, **query: str | int | None
    ) -> Iterator[http.client.HTTPResponse]:
        """GET of a body that is read as it comes, and that may say nothing for `quiet_s`.

        Raises as `request` does; what breaks while the body is read is the reader's.
        """
        with contextlib.closing(self._connection(quiet_s)) as connection:
            try:
                connection.request("GET", _target(path, query), headers=self._headers)
                reply = connection.getresponse()
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(error) from None
            if reply.status >= 400:
                raise _refusal(reply.status, reply.read())
            yield reply

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token.value.decode()}"} if self.token else {}

    def _connection(self, timeout_s: float) -> http.client.HTTPConnection:
        if self.tcp:
            return http.client.HTTPConnection(str(self.tcp.address), self.tcp.port, timeout=timeout_s)
        return _UnixConnection(self.socket_path, timeout_s)

    def _unreachable(self, error: Exception) -> UnreachableError:
        if isinstance(error, PermissionError):
            return UnreachableError(
                f"no permission to talk to {self.where}", "Use the relay's own user, or root (sudo)."
            )
        if self.tcp is None and not Path(self.socket_path).exists():
            return UnreachableError(
                f"no relay runs here: there is no socket {self.where}",
                "Start one, or say where it is: --socket PATH or PYFASTPATH_ADMIN_SOCKET.",
            )
        return UnreachableError(
            f"no relay answers on {self.where} ({error})", "See whether it runs, and its log."
        )


def _target(path: tuple[str, ...], query: dict[str, str | int | None]) -> str:
    """/v1/`path`; query parameters that are None are left out."""
    given = {name: value for name, value in query.items() if value is not None}
    target = "/v1/" + "/".join(quote(part, safe="+") for part in path)
    return target + ("?" + urlencode(given) if given else "")


def _refusal(status: int, body: bytes) -> AdminError:
    try:
        message = str(json.loads(body)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = body.decode(errors="replace")[:200] or "no reason given"
    return AdminError(message, status=status)
