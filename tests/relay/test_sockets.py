"""Sockets on a real kernel: every option is read back, every refusal is one sentence."""

import os
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyfastpath.errors import SocketError
from pyfastpath.relay import sockets
from pyfastpath.types import Endpoint
from tests.support.plain_call import endpoint_text, udp_end

SO_REUSEPORT_OPTION = (socket.SOL_SOCKET, socket.SO_REUSEPORT)
BUFFER = 1 << 17


@contextmanager
def owned(fd: int) -> Iterator[socket.socket]:
    with socket.socket(fileno=fd) as sock:
        yield sock


def option(sock: socket.socket, level: int, name: int) -> int:
    return sock.getsockopt(level, name)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "0.0.0.0", "[::]"])
def test_a_client_socket_has_every_option(host: str) -> None:
    wanted = Endpoint.parse(f"{host}:0")
    opened = sockets.open_client(wanted, receive_buffer_bytes=BUFFER)
    with owned(opened.fd) as sock:
        assert os.get_blocking(opened.fd) is False
        assert option(sock, *SO_REUSEPORT_OPTION) == 1
        assert option(sock, socket.SOL_SOCKET, sockets.SO_TIMESTAMPNS) == 1
        wildcard = wanted.address.is_unspecified
        if wanted.family == 6:
            assert option(sock, socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1
            assert option(sock, socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS) == 1
            assert option(sock, socket.IPPROTO_IPV6, socket.IPV6_TCLASS) == sockets.EF
            assert option(sock, socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO) == wildcard
            assert option(sock, socket.IPPROTO_IPV6, sockets.IPV6_MTU_DISCOVER) == sockets.PMTUDISC_DONT
        else:
            assert option(sock, socket.IPPROTO_IP, socket.IP_RECVTOS) == 1
            assert option(sock, socket.IPPROTO_IP, socket.IP_TOS) == sockets.EF
            assert option(sock, socket.IPPROTO_IP, sockets.IP_PKTINFO) == wildcard
            assert option(sock, socket.IPPROTO_IP, sockets.IP_MTU_DISCOVER) == sockets.PMTUDISC_DONT
        assert opened.receive_buffer_bytes == 2 * BUFFER  # the kernel reports twice what it grants
        assert sockets.granted_bytes(opened.fd) == 2 * BUFFER
        assert opened.endpoint.port == sock.getsockname()[1] != 0
        assert sockets.local_endpoint(opened.fd) == opened.endpoint


def test_shards_share_a_port_but_two_relays_do_not() -> None:
    first = sockets.open_client(Endpoint.parse("127.0.0.1:0"), receive_buffer_bytes=BUFFER)
    with owned(first.fd):
        second = sockets.open_client(first.endpoint, receive_buffer_bytes=BUFFER)
        os.close(second.fd)
        with pytest.raises(SocketError, match=f"UDP {first.endpoint}: the port is in use"):
            sockets.refuse_if_taken(first.endpoint)
    sockets.refuse_if_taken(first.endpoint)


def test_a_trunk_socket_receives_runs_whole() -> None:
    opened = sockets.open_trunk(Endpoint.parse("127.0.0.1:0"), receive_buffer_bytes=BUFFER)
    with owned(opened.fd) as trunk, udp_end() as sender:
        trunk.setblocking(True)
        trunk.settimeout(5)
        sender.setsockopt(socket.SOL_UDP, 103, 100)  # UDP_SEGMENT: one send, three datagrams
        sender.sendto(bytes(300), trunk.getsockname())
        data, control, _, _ = trunk.recvmsg(65536, 128)
        assert len(data) == 300
        grouped = [value for level, kind, value in control if (level, kind) == (17, sockets.UDP_GRO)]
        assert struct.unpack("=i", grouped[0])[0] == 100
        assert option(trunk, *SO_REUSEPORT_OPTION) == 0


def test_plain_ports_are_distinct_and_marked() -> None:
    ends = [sockets.open_plain(Endpoint.parse("127.0.0.1:0")) for _ in range(8)]
    assert len({one.endpoint.port for one in ends}) == 8
    for one in ends:
        with owned(one.fd) as sock:
            assert option(sock, socket.IPPROTO_IP, socket.IP_TOS) == sockets.EF
            assert option(sock, *SO_REUSEPORT_OPTION) == 0


def test_kernel_drops_are_counted() -> None:
    opened = sockets.open_client(Endpoint.parse("127.0.0.1:0"), receive_buffer_bytes=4096)
    with owned(opened.fd) as sock, udp_end() as sender:
        assert sockets.kernel_drops(opened.fd) == 0
        for _ in range(100):
            sender.sendto(bytes(1000), sock.getsockname())
        received = 0
        while True:
            try:
                sock.recv(2048)
            except BlockingIOError:
                break
            received += 1
        assert sockets.kernel_drops(opened.fd) == 100 - received > 0


@pytest.mark.parametrize(
    ("opening", "text", "says"),
    [
        (sockets.open_plain, "198.51.100.77:0", "this machine has no such address. `ip addr`"),
        (sockets.open_tcp, "198.51.100.77:0", "TCP 198.51.100.77:0: this machine has no such address."),
    ],
)
def test_a_refusal_says_what_to_do(opening: Callable[[Endpoint], object], text: str, says: str) -> None:
    with pytest.raises(SocketError) as refused:
        opening(Endpoint.parse(text))
    assert says in str(refused.value)
    assert refused.value.exit_code == 4


def test_ports_in_use() -> None:
    with udp_end() as other, socket.create_server(("127.0.0.1", 0)) as listening:
        where = Endpoint.parse(endpoint_text(other))
        with pytest.raises(SocketError, match="the port is in use"):
            sockets.open_trunk(where, receive_buffer_bytes=BUFFER)
        with pytest.raises(SocketError, match=r"TCP .* the port is in use"):
            sockets.open_tcp(Endpoint.parse(endpoint_text(listening)))


def test_no_descriptor_left_and_nothing_leaks() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(3)]
    highest = max(taken)
    for fd in taken:
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
    ends: list[sockets.Opened] = []

    def open_until_refused() -> None:
        for _ in range(64):
            ends.append(sockets.open_plain(Endpoint.parse("127.0.0.1:0")))

    try:
        with pytest.raises(SocketError, match="no file descriptor is left"):
            open_until_refused()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for one in ends:
            os.close(one.fd)
    assert len(ends) < 64


def test_the_limit_of_open_files_is_raised_or_the_pool_refused() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (1000, hard))
        sockets.reserve_descriptors(2000)
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (2000 + sockets.SPARE_DESCRIPTORS, hard)
        with pytest.raises(SocketError, match="other sockets need"):
            sockets.reserve_descriptors(hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_the_admin_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    old = os.umask(0)
    try:
        fd = sockets.open_unix(path)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SocketError, match="another relay answers on"):
        sockets.open_unix(path)
    os.close(fd)
    os.close(sockets.open_unix(path))  # whoever made it is gone: it is replaced


def test_an_admin_path_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    with pytest.raises(SocketError, match="exists and is no socket"):
        sockets.open_unix(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "precious"
    with pytest.raises(SocketError, match=r"cannot make the admin socket .*: No such file or directory"):
        sockets.open_unix(tmp_path / "nowhere" / "admin.sock")


def test_a_tcp_listener_is_there_again_at_once() -> None:
    fd = sockets.open_tcp(Endpoint.parse("127.0.0.1:0"))
    where = sockets.local_endpoint(fd)
    with owned(fd) as listening:
        listening.setblocking(True)
        reached = threading.Thread(target=lambda: socket.create_connection(("127.0.0.1", where.port)).close())
        reached.start()
        listening.accept()[0].close()  # our end closes first: its address stays in TIME_WAIT
        reached.join()
    os.close(sockets.open_tcp(where))
