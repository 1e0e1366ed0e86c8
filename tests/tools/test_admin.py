"""The client's own errors: nobody there, no permission, a reply that is no JSON."""

import socket
import threading

import pytest

from pyfastpath.errors import AdminError, UnreachableError
from pyfastpath.tools.admin import AdminClient
from pyfastpath.types import Endpoint


@pytest.fixture
def answering():
    """A TCP server that gives every request one fixed reply; call it with the reply, get its address."""
    listeners = []

    def start(reply: bytes) -> Endpoint:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(reply)

        threading.Thread(target=serve, daemon=True).start()
        return Endpoint.parse(f"127.0.0.1:{listener.getsockname()[1]}")

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def test_no_socket_says_where_it_should_be(tmp_path):
    with pytest.raises(UnreachableError, match=r"there is no socket .*none\.sock.*--socket"):
        AdminClient(str(tmp_path / "none.sock")).get("status")


def test_a_socket_without_a_listener_is_unreachable(tmp_path):
    path = tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    with pytest.raises(UnreachableError, match="no relay answers"):
        AdminClient(str(path)).get("status")


def test_a_refusal_carries_status_and_message(answering):
    body = b'{"error": {"code": "conflict", "message": "ufrag is taken. Pass replace."}}'
    where = answering(b"HTTP/1.1 409 Conflict\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    with pytest.raises(AdminError, match="ufrag is taken") as caught:
        AdminClient("", where).get("status")
    assert caught.value.status == 409


def test_a_refusal_of_somebody_else_is_shown_as_it_is(answering):
    where = answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 9\r\n\r\n<h1>proxy")
    with pytest.raises(AdminError, match="<h1>proxy"):
        AdminClient("", where).get("status")


def test_what_is_no_http_is_unreachable(answering):
    with pytest.raises(UnreachableError):
        AdminClient("", answering(b"SSH-2.0-OpenSSH\r\n")).get("status")
