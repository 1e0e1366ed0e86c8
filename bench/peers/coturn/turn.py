"""The little of TURN (RFC 8656) that opens a way through coturn: an allocation and a channel for each flow.

`open_channels` speaks through the very sockets and source addresses of a generator's flows, because an
allocation belongs to the client's transport address. Authentication is off, so no nonce and no integrity.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from typing import Any

from bench.peers.clients import send_as

Address = tuple[str, int]
CHANNEL = 0x4000  # channel numbers belong to an allocation: the same one serves all (RFC 8656 section 12)
COOKIE = 0x2112A442
ALLOCATE, CHANNEL_BIND = 0x003, 0x009
SUCCESS = 0x100  # class bits of a success response (RFC 8489 section 5)
XOR_PEER_ADDRESS, CHANNEL_NUMBER, LIFETIME, REQUESTED_TRANSPORT = 0x0012, 0x000C, 0x000D, 0x0019
UDP = 17
LIFETIME_S = 3600
IN_FLIGHT = 64
RETRY_S = 0.25
HEADER = struct.Struct("!HHI12s")


def allocate(transaction: bytes) -> bytes:
    """An Allocate request for a relayed UDP address."""
    return _message(
        ALLOCATE,
        transaction,
        (REQUESTED_TRANSPORT, bytes([UDP, 0, 0, 0])),
        (LIFETIME, struct.pack("!I", LIFETIME_S)),
    )


def channel_bind(transaction: bytes, backend: Address) -> bytes:
    """A ChannelBind request: CHANNEL leads to the backend's IPv4 address."""
    number = int.from_bytes(socket.inet_aton(backend[0]), "big")
    address = struct.pack("!BBHI", 0, 1, backend[1] ^ COOKIE >> 16, number ^ COOKIE)
    return _message(
        CHANNEL_BIND,
        transaction,
        (CHANNEL_NUMBER, struct.pack("!HH", CHANNEL, 0)),
        (XOR_PEER_ADDRESS, address),
    )


def answered(datagram: bytes) -> tuple[int, bytes] | None:
    """(method, transaction) of a success response; None for anything else, ChannelData included."""
    if len(datagram) < HEADER.size:
        return None
    kind, _, cookie, transaction = HEADER.unpack_from(datagram)
    if cookie != COOKIE or not kind & SUCCESS or kind & 0x10:
        return None
    return kind & ~SUCCESS, transaction


class Opening:
    """Allocation, then channel, of every flow, at most IN_FLIGHT asked for at a time; no socket, no clock."""

    def __init__(self, flows: int, backend: Address) -> None:
        self.backend = backend
        self.opened = 0
        self._next = iter(range(flows))
        self._salt = os.urandom(4)
        self._asked: dict[int, tuple[int, float]] = {}  # flow -> what was asked last, when

    def due(self, now_s: float) -> list[tuple[int, bytes]]:
        """(flow, request) of all that is to be sent now: first requests, and again what was not answered."""
        requests = []
        while len(self._asked) < IN_FLIGHT and (flow := next(self._next, None)) is not None:
            self._asked[flow] = (ALLOCATE, now_s - RETRY_S)
        for flow, (method, asked_s) in self._asked.items():
            if now_s - asked_s >= RETRY_S:
                self._asked[flow] = (method, now_s)
                requests.append((flow, self._request(method, flow)))
        return requests

    def take(self, datagram: bytes) -> None:
        """Notes an answer: an allocation asks for its channel at once, a channel is the end."""
        found = answered(datagram)
        if found is None or found[1][4:8] != self._salt:
            return
        flow = int.from_bytes(found[1][:4], "big")
        if flow not in self._asked or self._asked[flow][0] != found[0]:
            return
        if found[0] == ALLOCATE:
            self._asked[flow] = (CHANNEL_BIND, float("-inf"))
        else:
            del self._asked[flow]
            self.opened += 1

    def _request(self, method: int, flow: int) -> bytes:
        transaction = flow.to_bytes(4, "big") + self._salt + method.to_bytes(4, "big")
        return allocate(transaction) if method == ALLOCATE else channel_bind(transaction, self.backend)


def open_channels(generator: Any, flows: int, listen: Address, backend: Address, timeout_ms: int) -> int:
    """Opens a channel to `backend` for every flow of a generator; how many were opened in time."""
    sockets = list({generator.socket_of(flow)[0] for flow in range(flows)})
    opening, end_s = Opening(flows, backend), time.monotonic() + timeout_ms / 1000
    while opening.opened < flows and (now_s := time.monotonic()) < end_s:
        for flow, request in opening.due(now_s):
            send_as(generator, flow, request, listen)
        for sock in select.select(sockets, [], [], 0.01)[0]:
            _take_all(sock, opening)
    return opening.opened


def _take_all(sock: socket.socket, opening: Opening) -> None:
    while True:
        try:
            opening.take(sock.recv(2048, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return


def _message(method: int, transaction: bytes, *attributes: tuple[int, bytes]) -> bytes:
    """All values here are whole words: nothing to pad (RFC 8489 section 14)."""
    body = b"".join(struct.pack("!HH", kind, len(value)) + value for kind, value in attributes)
    return HEADER.pack(method, len(body), COOKIE, transaction) + body
