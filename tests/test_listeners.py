"""Listening sockets of HTTP servers: who may open them, who holds them already, what the error says."""

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from pyfastpath import listeners
from pyfastpath.errors import SocketError
from pyfastpath.types import Endpoint
from tests.support.require import require

NOBODY = 65534


def open_control(path):
    return listeners.open_unix(path, key="control_socket", owner="transceiver")


def test_a_unix_socket_is_its_users_alone_and_replaces_a_dead_one(tmp_path):
    path = tmp_path / "control.sock"
    old = os.umask(0)
    try:
        listening = open_control(path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(SocketError, match="another transceiver answers") as caught:
        open_control(path)
    assert "control_socket" in caught.value.hint
    listening.close()
    open_control(path).close()


def test_another_user_cannot_connect():
    """Mode 0600 is all that guards an API without a token, so it is tried."""
    require("root")
    with tempfile.TemporaryDirectory(prefix="fp-") as folder:
        Path(folder).chmod(0o755)  # the folder hides nothing
        path = Path(folder) / "control.sock"
        with (
            open_control(path),
            socket.socket(socket.AF_UNIX) as ours,
            socket.socket(socket.AF_UNIX) as other,
        ):
            ours.connect(str(path))
            os.seteuid(NOBODY)
            try:
                with pytest.raises(PermissionError):
                    other.connect(str(path))
            finally:
                os.seteuid(0)


def test_a_file_is_never_removed(tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(SocketError, match="is no socket"):
        open_control(path)
    assert path.read_text() == "precious"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(
        SocketError, match=r"cannot make the control socket .*nowhere.*No such file"
    ) as caught:
        open_control(tmp_path / "nowhere" / "control.sock")
    assert "control_socket" in caught.value.hint


@pytest.mark.parametrize("text", ["127.0.0.1:0", "[::1]:0"])
def test_tcp_listens_where_it_says(text):
    if "::" in text and not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    with listeners.open_tcp(Endpoint.parse(text), key="health_listen") as listening:
        where = listeners.local_address(listening)
        with socket.create_connection((str(where.address), where.port), 5):
            assert where.port
        with pytest.raises(SocketError, match=f"TCP .*{where.port}: Address already in use") as caught:
            listeners.open_tcp(where, key="health_listen")
        assert "health_listen" in caught.value.hint
