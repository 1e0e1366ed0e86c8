"""The transceiver's end of the trunk as the player sees it: a path is (relay, ingress, client)."""

import socket
from ipaddress import ip_address

from fastpath.link import Link

from tests.support.pcap import Address
from tests.support.player import BackendPath

UDP_GRO = 104  # linux/udp.h
RelayEnd = tuple[bytes, int, int]  # address16, port, family


def relay_ends(host: str, first_port: int, shards: int) -> list[RelayEnd]:
    """The trunk sockets of a relay: one a shard, on consecutive ports."""
    address = ip_address(host)
    packed = address.packed.ljust(16, b"\0")
    return [(packed, first_port + shard, address.version) for shard in range(shards)]


class TrunkBackend:
    """A Link on a socket of its own; remembers the ECN bits each datagram carried."""

    def __init__(
        self,
        relays: list[RelayEnd],
        *,
        keys: dict[int, bytes],
        key_id: int = 0,
        epoch: int = 1,
        host: str = "127.0.0.1",
    ) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.socket.bind((host, 0))
        self.socket.setblocking(False)
        self.address: Address = self.socket.getsockname()
        self.link = Link(self.socket.fileno(), relays=relays, keys=keys, key_id=key_id, epoch=epoch)

    def fileno(self) -> int:
        return self.socket.fileno()

    def receive(self) -> list[tuple[BackendPath, bytes]]:
        return [(path, payload) for payload, path, _ in self.link.receive()]

    def send(self, path: BackendPath, payload: bytes) -> None:
        self.link.send([(path, payload, False)])

    def client(self, path: BackendPath) -> Address | None:
        """The client's address as the relay wrote it into the record."""
        address16, port, family = path[2]
        return str(ip_address(address16[:4] if family == 4 else address16)), port

    def close(self) -> None:
        self.socket.close()
