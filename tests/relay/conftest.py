"""A small configuration, a relay in this process, and a server behind it."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyfastpath.config import RelayConfig, load
from pyfastpath.relay.relay import Relay
from pyfastpath.tools.ports import free_port
from tests.support.plain_call import endpoint_text, udp_end

MakeConfig = Callable[..., RelayConfig]


@pytest.fixture
def make_config(tmp_path: Path) -> MakeConfig:
    """A complete configuration for loopback, with small tables; keywords change it."""

    def make(**changed: object) -> RelayConfig:
        flags: dict[str, object] = {
            # Not port 0: the kernel may give SO_REUSEPORT sockets the port of another test's relay.
            "listen": [f"127.0.0.1:{free_port(socket.SOCK_DGRAM)}"],
            "shards": "2",
            "workers": "1",
            "pin": "false",
            "flows_max": "1024",
            "routes_max": "4096",
            "targets_max": "64",
            "plain_ports": "16",
            "receive_buffer_bytes": "262144",
            "allow_clients": ["127.0.0.0/8", "::1/128"],
            "admin_socket": str(tmp_path / "admin.sock"),
            "health_listen": "",
            **changed,
        }
        return load(None, environ={}, flags=flags, cpus=4)

    return make


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """A server's UDP socket on loopback."""
    with udp_end() as end:
        yield end


@pytest.fixture
def relay(make_config: MakeConfig, server: socket.socket) -> Iterator[Relay]:
    """A relay that runs in this process, with one plain backend `a`, the server."""
    with Relay(make_config(backends=[f"a={endpoint_text(server)}"])) as running:
        yield running
