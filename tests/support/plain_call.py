"""One client and one plain server at the two ends of a relay: the shortest call there is."""

import os
import socket
from types import TracebackType
from typing import Self

from pyfastpath.wire.stun import build_binding_request, build_message

Address = tuple[str, int]

SUCCESS = 0x0101
TIMEOUT_S = 20.0


def udp_end(host: str = "127.0.0.1") -> socket.socket:
    """A UDP socket on a port of its own whose receive fails after twenty seconds."""
    end = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
    end.settimeout(TIMEOUT_S)
    end.bind((host, 0))
    return end


def endpoint_text(end: socket.socket) -> str:
    """Where a socket is bound, as ip:port."""
    host, port = end.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class PlainCall:
    """A client of `relay` whose ufrag leads to `server`.

    upstream: the relay's address as the server sees it.
    """

    def __init__(self, relay: Address, server: socket.socket, ufrag: str) -> None:
        self.client = udp_end(relay[0])
        self.relay, self.server, self.ufrag = relay, server, ufrag
        self.upstream: Address = ("", 0)
        self._past: set[bytes] = set()

    def ask(self) -> bytes:
        """Send a Binding Request; gives its transaction id."""
        transaction = os.urandom(12)
        self.client.sendto(build_binding_request(transaction, f"{self.ufrag}:peer".encode()), self.relay)
        return transaction

    def confirm(self) -> None:
        """A Binding Request up, its success response down: the flow is confirmed."""
        transaction = self.ask()
        request, source = self.server.recvfrom(2048)
        self.upstream = source[:2]
        assert request[8:20] == transaction
        response = build_message(SUCCESS, transaction, [])
        self.server.sendto(response, self.upstream)
        assert self.client.recv(2048) == response
        self._past |= {request, response}

    def exchange(self, number: int = 0) -> None:
        """One RTP-like datagram each way arrives unchanged; the server sees the upstream address it knows.

        What an engine had in hand when it was killed may come a second time: that much is promised, no more.
        """
        up, down = (bytes([0x80, 96, way]) + number.to_bytes(4, "big") + os.urandom(20) for way in (1, 2))
        self.client.sendto(up, self.relay)
        assert self._arrived(self.server) == (up, self.upstream)
        self.server.sendto(down, self.upstream)
        assert self._arrived(self.client) == (down, self.relay)
        self._past |= {up, down}

    def _arrived(self, end: socket.socket) -> tuple[bytes, Address]:
        datagram, source = end.recvfrom(2048)
        while datagram in self._past:
            datagram, source = end.recvfrom(2048)
        return datagram, source[:2]

    def close(self) -> None:
        """Close the client's end; the server's belongs to whoever made it."""
        self.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
