"""Datagrams of a set-up, sent as a generator's own client: through its socket, from its source address."""

from __future__ import annotations

import socket
import struct
from typing import Any

IP_PKTINFO = 8  # linux/in.h; the socket module of Python 3.11 does not name it


def send_as(generator: Any, flow: int, datagram: bytes, target: tuple[str, int]) -> None:
    """Sends one datagram as the client of `flow`."""
    sock, source = generator.socket_of(flow)
    in_pktinfo = struct.pack("=i4s4x", 0, socket.inet_aton(source))  # no interface, this source (ip(7))
    sock.sendmsg([datagram], [(socket.IPPROTO_IP, IP_PKTINFO, in_pktinfo)], 0, target)
