"""Ports for servers of one's own: free, in a row, and none of those the kernel gives away."""

import socket
from contextlib import ExitStack
from pathlib import Path

import pytest

from pyfastpath.errors import SocketError
from pyfastpath.tools import ports
from pyfastpath.tools.ports import LOOPBACK, SERVER_PORTS, free_port


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
@pytest.mark.parametrize("count", [1, 3])
def test_free_ports_can_be_bound(kind: socket.SocketKind, count: int) -> None:
    first = free_port(kind, count)
    assert SERVER_PORTS[0] <= first < SERVER_PORTS[1]
    with ExitStack() as held:
        for port in range(first, first + count):
            held.enter_context(socket.socket(socket.AF_INET, kind)).bind((LOOPBACK, port))


def test_none_below_those_of_the_kernel() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert lowest >= SERVER_PORTS[1]


def test_no_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((LOOPBACK, 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr(ports, "SERVER_PORTS", (port, port + 1))
        with pytest.raises(SocketError, match="no 1 consecutive free ports"):
            free_port(socket.SOCK_DGRAM)
