"""One client and its backend at the two ends of a rig: the shortest call there is, in either mode."""

import os
import socket
from collections.abc import Iterator

from fastpath.backends import TRUNK
from fastpath.link import Link

from pyfastpath.wire.stun import build_binding_request, build_message
from tests.support.rig import Rig, udp, until

SUCCESS = 0x0101


class Call:
    """One client and its backend at the two ends of a rig, in one of the two modes."""

    def __init__(self, rig: Rig, mode: int, ufrag: str, index: int = 0) -> None:
        self.rig, self.mode, self.index = rig, mode, index
        self.client = udp(rig.ip)
        self.backend = udp(rig.ip, gro=mode == TRUNK)
        rig.add_backend(index, self.backend.getsockname()[1], mode)
        rig.install(ufrag, index)
        self.ufrag = ufrag
        self.link = (
            Link(
                self.backend.fileno(),
                relays=rig.relay_ends,
                keys=rig.policy["trunk_keys"],
                key_id=rig.policy.get("trunk_key_id", 0),
                epoch=1,
            )
            if mode == TRUNK
            else None
        )
        self.path: tuple = ()

    def close(self) -> None:
        self.client.close()
        self.backend.close()

    def send_up(self, datagram: bytes) -> None:
        self.client.sendto(datagram, self.rig.address)

    def at_backend(self) -> list[bytes]:
        """What arrived at the backend; remembers the way back."""
        if self.link:
            records = self.link.receive()
            if records:
                self.path = records[-1][1]
            return [payload for payload, _, _ in records]
        return [datagram for datagram, _ in self._drain(self.backend)]

    def at_client(self) -> list[bytes]:
        return [datagram for datagram, _ in self._drain(self.client, keep_path=False)]

    def send_down(self, datagram: bytes, ecn: int = 0) -> None:
        if self.link:
            self.link.send([(self.path, datagram, False)], ecn)
        else:
            self.backend.sendto(datagram, self.path[0])

    def confirm(self) -> None:
        """One check and its answer."""
        transaction = os.urandom(12)
        self.send_up(build_binding_request(transaction, f"{self.ufrag}:peer".encode()))
        got: list[bytes] = []
        until(lambda: bool(got.extend(self.at_backend()) or got), "the Binding Request at the backend")
        self.send_down(build_message(SUCCESS, transaction, []))
        until(lambda: bool(self.at_client()), "the response at the client")

    def _drain(self, sock: socket.socket, *, keep_path: bool = True) -> Iterator[tuple[bytes, tuple]]:
        while True:
            try:
                datagram, _, _, source = sock.recvmsg(70000)
            except BlockingIOError:
                return
            if keep_path:
                self.path = (source,)
            yield datagram, source
