"""Ports of 127.0.0.1 for servers that are about to start."""

import random
import socket
from contextlib import ExitStack
from typing import Final

from pyfastpath.errors import SocketError

LOOPBACK: Final = "127.0.0.1"
SERVER_PORTS: Final = (20_000, 32_000)  # the kernel's own begin at 32768
TRIES: Final = 100


def free_port(kind: socket.SocketKind, count: int = 1) -> int:
    """The first of `count` consecutive ports that nobody has on 127.0.0.1 now.

    Below those the kernel gives to clients: a server binds its port a while after it was chosen here, and
    meanwhile the kernel would give it away. SocketError when none is found.
    """
    for _ in range(TRIES):
        port = random.randrange(*SERVER_PORTS)
        try:
            with ExitStack() as held:
                for one in range(port, port + count):
                    held.enter_context(socket.socket(socket.AF_INET, kind)).bind((LOOPBACK, one))
        except OSError:
            continue
        return port
    raise SocketError(
        f"no {count} consecutive free ports on {LOOPBACK} between {SERVER_PORTS[0]} and {SERVER_PORTS[1]}.",
        "`ss -lunpt` shows who holds them.",
    )
