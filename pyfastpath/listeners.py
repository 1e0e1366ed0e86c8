"""Listening sockets of our HTTP servers: a UNIX socket of mode 0600, or TCP. Errors name the setting."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Final

from pyfastpath.errors import SocketError
from pyfastpath.types import Endpoint

# A burst that finds no room is refused on a UNIX socket, and waits a second on TCP. The kernel's own bound
# (net.core.somaxconn) stays in force. Whoever serves a socket names it again: asyncio's default is 100.
LISTEN_BACKLOG: Final = 4096


def open_unix(path: Path, *, key: str, owner: str) -> socket.socket:
    """A listening UNIX socket of mode 0600; takes the place of one whose owner is gone.

    key: the setting that holds the path. owner: who would have it already, for the message.
    """
    _remove_stale(path, key, owner)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        # bind() makes the file with the socket's own mode: never wider
        os.fchmod(listening.fileno(), 0o600)
        listening.bind(str(path))
        path.chmod(0o600)
        listening.listen(LISTEN_BACKLOG)
    except OSError as error:
        listening.close()
        raise SocketError(
            f"cannot make the {key.replace('_', ' ')} {path}: {error.strerror}.",
            f"Set {key} to a path in a directory that exists and this user may write.",
        ) from error
    return listening


def open_tcp(address: Endpoint, *, key: str) -> socket.socket:
    """A listening TCP socket. key: the setting that holds the address."""
    family = socket.AF_INET if address.family == 4 else socket.AF_INET6
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if address.family == 6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((str(address.address), address.port))
        listening.listen(LISTEN_BACKLOG)
    except OSError as error:
        listening.close()
        raise SocketError(
            f"cannot listen on TCP {address}: {error.strerror}.",
            f"Stop what uses it, or set {key} to another address of this machine.",
        ) from error
    return listening


def local_address(listening: socket.socket) -> Endpoint:
    """Where a TCP socket listens, its port chosen by the kernel included."""
    host, port = listening.getsockname()[:2]
    return Endpoint.parse(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _remove_stale(path: Path, key: str, owner: str) -> None:
    """Remove a socket file nobody listens behind; SocketError when somebody does or it is no socket."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return
    if not stat.S_ISSOCK(mode):
        raise SocketError(f"{path} exists and is no socket.", f"Set {key} to another path.")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
        except OSError as error:
            raise SocketError(f"{path}: {error.strerror}.", f"Set {key} to another path.") from error
    raise SocketError(f"another {owner} answers on {path}.", f"Stop it, or give this one its own {key}.")
