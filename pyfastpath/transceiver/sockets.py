"""The two UDP sockets of a transceiver: the trunk towards the relays, and a plain one for direct clients."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from typing import Final

from fastpath.link import Link

from pyfastpath.errors import SocketError
from pyfastpath.transceiver.path import Address, Path
from pyfastpath.types import Endpoint, canonical

UDP_GRO: Final = 104  # linux/udp.h; the socket module does not name it
RECEIVE_BUFFER_BYTES: Final = 8 << 20
DATAGRAMS_A_TURN: Final = 64
DATAGRAM_BYTES_MAX: Final = 2048
Received = tuple[bytes, Path, int]  # datagram, its path, the two ECN bits (0 where nobody looks at them)
Outgoing = tuple[Path, bytes, bool]


def bind_udp(address: Endpoint) -> socket.socket:
    """A bound, non-blocking UDP socket with a large receive buffer. SocketError says what is in the way."""
    bound = socket.socket(socket.AF_INET if address.family == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        if address.family == 6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        bound.setblocking(False)
        bound.bind((str(address.address), address.port))
    except OSError as error:
        bound.close()
        raise SocketError(
            f"cannot bind UDP {address}: {error.strerror}.", "Choose an address and port of this machine."
        ) from None
    return bound


def _address_of(bound: socket.socket) -> Endpoint:
    host, port = bound.getsockname()[:2]
    return Endpoint(canonical(ip_address(host)), port)


class TrunkSocket:
    """Our end of the trunk FT1. keys: id -> 16 bytes; none: relays on loopback only."""

    def __init__(
        self,
        address: Endpoint,
        relays: Iterable[Endpoint],
        *,
        keys: Mapping[int, bytes],
        key_id: int,
        epoch: int,
        mtu_bytes: int,
    ) -> None:
        self._socket = bind_udp(address)
        self._socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.address = _address_of(self._socket)
        self.relays: list[Address] = [(one.address16, one.port, one.family) for one in relays]
        self._link = Link(
            self._socket.fileno(),
            relays=self.relays,
            keys=dict(keys),
            key_id=key_id,
            epoch=epoch,
            mtu_bytes=mtu_bytes,
        )

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def receive(self) -> list[Received]:
        """What one batch brought; empty when nothing waits."""
        received: list[Received] = self._link.receive()
        return received

    def send(self, datagrams: list[Outgoing]) -> None:
        """Bundled by relay, each relay's in order."""
        self._link.send(datagrams)

    def send_state(
        self, *, state: int, incarnation: int, cluster: int, xcvr: int, sessions: int, capacity: int
    ) -> None:
        """A state record to every relay socket (wire/trunk.py)."""
        for relay in self.relays:
            self._link.send_state(
                relay,
                state=state,
                incarnation=incarnation,
                cluster=cluster,
                xcvr=xcvr,
                sessions=sessions,
                capacity=capacity,
            )

    def send_flow_closed(self, path: Path) -> None:
        """Tell the relay to forget the client's flow now."""
        self._link.send_flow_closed(*path)

    @property
    def dropped(self) -> Mapping[str, int]:
        """Trunk datagrams and records that were not believed, by the relay's drop reasons."""
        return dict(self._link.dropped)

    def close(self) -> None:
        """Nothing is received or sent any more."""
        self._socket.close()


class PlainSocket:
    """Clients that come without a relay."""

    def __init__(self, address: Endpoint) -> None:
        self._socket = bind_udp(address)
        self.address = _address_of(self._socket)
        self.dropped = {"send_failed": 0}  # datagrams the kernel did not take

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def receive(self) -> list[Received]:
        """At most DATAGRAMS_A_TURN; an oversized one comes cut, which no protocol here accepts."""
        received: list[Received] = []
        for _ in range(DATAGRAMS_A_TURN):
            try:
                data, source = self._socket.recvfrom(DATAGRAM_BYTES_MAX)
            except OSError:  # nothing more, or an ICMP error of something sent before
                break
            client = Endpoint(canonical(ip_address(source[0])), source[1])
            received.append((data, (None, 0, (client.address16, client.port, client.family)), 0))
        return received

    def send(self, datagrams: list[Outgoing]) -> None:
        """One by one; what the kernel refuses is gone, as UDP goes, and counted."""
        for path, data, _ in datagrams:
            client = Endpoint.from_address16(*path[2])
            try:
                self._socket.sendto(data, (str(client.address), client.port))
            except OSError:
                self.dropped["send_failed"] += 1

    def close(self) -> None:
        """Nothing is received or sent any more."""
        self._socket.close()
