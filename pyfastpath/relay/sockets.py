"""Every socket the relay ever opens, with its options and one clear error when the machine refuses.

The keeper calls this once; engines inherit the descriptors. All UDP sockets are non-blocking.
"""

import contextlib
import errno
import os
import resource
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from pyfastpath import listeners
from pyfastpath.errors import SocketError
from pyfastpath.types import Endpoint

# Linux numbers the socket module does not name (uapi/linux/{in,in6,udp}.h, asm-generic/socket.h).
IP_PKTINFO: Final = 8
IP_MTU_DISCOVER: Final = 10
IPV6_MTU_DISCOVER: Final = 23
PMTUDISC_DONT: Final = 0
SO_RCVBUFFORCE: Final = 33
SO_TIMESTAMPNS: Final = 35
SO_MEMINFO: Final = 55
UDP_GRO: Final = 104
MEMINFO_DROPS: Final = 8  # SK_MEMINFO_DROPS: ninth of the nine words SO_MEMINFO gives
MEMINFO_WORDS: Final = 9

EF: Final = 46 << 2  # expedited forwarding (RFC 3246) as a TOS octet
LISTEN_BACKLOG: Final = 128
SPARE_DESCRIPTORS: Final = 1024  # for what is not opened once and for all: HTTP of three listeners, logs

_NO_PRIVILEGE: Final = (
    "no permission to open it",
    "Ports below net.ipv4.ip_unprivileged_port_start need CAP_NET_BIND_SERVICE: grant it "
    "(AmbientCapabilities=, setcap), start as root, or choose a higher port.",
)
_NO_DESCRIPTOR: Final = (
    "no file descriptor is left",
    "Raise the limit (ulimit -n, LimitNOFILE=) or lower plain_ports.",
)
_REFUSALS: Final = {
    errno.EADDRINUSE: (
        "the port is in use",
        "Stop the process that holds it (`ss -lunpt` shows it) or choose another port.",
    ),
    errno.EACCES: _NO_PRIVILEGE,
    errno.EPERM: _NO_PRIVILEGE,
    errno.EADDRNOTAVAIL: ("this machine has no such address", "`ip addr` lists the addresses it has."),
    errno.EAFNOSUPPORT: (
        "this kernel has no support for the address family",
        "Remove that address from the configuration.",
    ),
    errno.EMFILE: _NO_DESCRIPTOR,
    errno.ENFILE: _NO_DESCRIPTOR,
    errno.ENOBUFS: ("the kernel has no memory for the socket", "Lower receive_buffer_bytes or shards."),
    errno.ENOMEM: ("the kernel has no memory for the socket", "Lower receive_buffer_bytes or shards."),
}


@dataclass(frozen=True, slots=True)
class Opened:
    """One UDP socket and the receive buffer the kernel granted, in bytes (as SO_RCVBUF reports it)."""

    fd: int
    endpoint: Endpoint
    receive_buffer_bytes: int


def open_client(endpoint: Endpoint, *, receive_buffer_bytes: int, tos: int = EF) -> Opened:
    """A client socket of one shard: SO_REUSEPORT, told the local address, the ECN bits and the time."""
    with _errors(endpoint, "UDP"), _building(endpoint, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if endpoint.address.is_unspecified:
            _set_packet_info(sock)
        _set_datagram_options(sock, tos)
        return _bound(sock, endpoint, receive_buffer_bytes)


def refuse_if_taken(endpoint: Endpoint) -> None:
    """SocketError when another process holds the address.

    SO_REUSEPORT alone would let a second relay of the same user share the port, and every other
    datagram, in silence; so a socket without it must be able to bind first.
    """
    with _errors(endpoint, "UDP"), _building(endpoint, socket.SOCK_DGRAM) as sock:
        sock.bind(_sockaddr(endpoint))
        sock.close()


def open_trunk(endpoint: Endpoint, *, receive_buffer_bytes: int, tos: int = EF) -> Opened:
    """A shard's trunk socket: runs of segments arrive as one buffer (UDP_GRO)."""
    with _errors(endpoint, "UDP"), _building(endpoint, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_UDP, UDP_GRO, 1)
        _set_datagram_options(sock, tos)
        return _bound(sock, endpoint, receive_buffer_bytes)


def open_plain(endpoint: Endpoint, *, tos: int = EF) -> Opened:
    """One upstream port of plain mode; port 0 lets the kernel choose.

    Workers connect the socket to its backend and let go again, and letting go forgets a port that was never
    asked for by its number: a second socket asks for what the kernel chose for a first.
    """
    with (
        _errors(endpoint, "UDP"),
        _building(endpoint, socket.SOCK_DGRAM) as chooser,
        _building(endpoint, socket.SOCK_DGRAM) as sock,
    ):
        for one in (chooser, sock):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        chooser.bind(_sockaddr(endpoint))
        chosen = Endpoint(endpoint.address, chooser.getsockname()[1])
        _set_datagram_options(sock, tos)
        sock.bind(_sockaddr(chosen))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)  # nobody else may have it from here on
        granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        return Opened(sock.detach(), chosen, granted)


def open_tcp(endpoint: Endpoint) -> int:
    """A listening TCP socket."""
    with _errors(endpoint, "TCP"), _building(endpoint, socket.SOCK_STREAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(_sockaddr(endpoint))
        sock.listen(LISTEN_BACKLOG)
        return sock.detach()


def open_unix(path: Path) -> int:
    """A listening UNIX socket of mode 0600; takes the place of one whose owner is gone."""
    return listeners.open_unix(path, key="admin_socket", owner="relay").detach()


def reserve_descriptors(count: int) -> None:
    """Raise the limit of open files so that `count` sockets and regions fit, and an engine's own files.

    SocketError when it does not reach: said here, before the engine finds out.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + SPARE_DESCRIPTORS
    if soft >= needed:
        return
    if hard < needed:
        raise SocketError(
            f"{count} plain ports and other sockets need {needed} open files, the limit is {hard}.",
            "Raise the limit (ulimit -n, LimitNOFILE=) or lower plain_ports, plain_ports_ipv6 or shards.",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def granted_bytes(fd: int) -> int:
    """The receive buffer of an inherited socket, as the kernel reports it."""
    with _borrowed(fd) as sock:
        return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def kernel_drops(fd: int) -> int:
    """Datagrams the kernel dropped on this socket since it was opened (SO_MEMINFO)."""
    with _borrowed(fd) as sock:
        words = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * MEMINFO_WORDS)
    return int(struct.unpack(f"={MEMINFO_WORDS}I", words)[MEMINFO_DROPS])


def local_endpoint(fd: int) -> Endpoint:
    """Where an inherited IP socket is bound."""
    with _borrowed(fd) as sock:
        name = sock.getsockname()
    return Endpoint(ip_address(name[0]), name[1])


@contextlib.contextmanager
def _borrowed(fd: int) -> Iterator[socket.socket]:
    """A socket object over somebody else's descriptor, which it does not close."""
    sock = socket.socket(fileno=fd)
    try:
        yield sock
    finally:
        sock.detach()


@contextlib.contextmanager
def _building(endpoint: Endpoint, kind: int) -> Iterator[socket.socket]:
    """A fresh non-blocking socket of the endpoint's family; closed unless it was detached."""
    family = socket.AF_INET6 if endpoint.family == 6 else socket.AF_INET
    with socket.socket(family, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
        if endpoint.family == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        yield sock


def _set_packet_info(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def _set_datagram_options(sock: socket.socket, tos: int) -> None:
    """What every UDP socket of the relay has: ECN and arrival time in, EF out, fragmentation allowed."""
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DONT)
    else:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DONT)


def _bound(sock: socket.socket, endpoint: Endpoint, receive_buffer_bytes: int) -> Opened:
    """Bind, set the buffer, read back what was granted (the kernel reports twice what it was asked)."""
    if receive_buffer_bytes:
        try:
            sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, receive_buffer_bytes)
        except PermissionError:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    sock.bind(_sockaddr(endpoint))
    name = sock.getsockname()
    granted = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
    return Opened(sock.detach(), Endpoint(endpoint.address, name[1]), granted)


def _sockaddr(endpoint: Endpoint) -> tuple[str, int]:
    return str(endpoint.address), endpoint.port


@contextlib.contextmanager
def _errors(endpoint: Endpoint, protocol: str) -> Iterator[None]:
    """One sentence for each way the kernel refuses a socket."""
    try:
        yield
    except OSError as error:
        raise SocketError(*_explained(endpoint, protocol, error)) from error


def _explained(endpoint: Endpoint, protocol: str, error: OSError) -> tuple[str, str]:
    """(message, hint) for one refused socket."""
    number = error.errno or 0
    message, hint = _REFUSALS.get(number, (os.strerror(number), "`pyfastpath doctor` shows what is missing."))
    return f"{protocol} {endpoint}: {message}.", hint
