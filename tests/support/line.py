"""A call through a real relay, in either mode, whose bursts the relay receives as one batch.

line = Line(relay, TrunkBackend(...), "ufrag")
burst = line.burst("up", datagrams)
assert burst == Burst(datagrams, dropped={})
"""

from __future__ import annotations

import os
import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.request import urlopen

from pyfastpath.wire.stun import build_binding_request, build_message
from tests.support.player import Backend, BackendPath
from tests.support.relay import Address, Relay
from tests.support.rig import udp, until

SUCCESS = 0x0101
BURST_MAX = 64  # one batch
WAIT_S = 20.0
Way = Literal["up", "down"]
BOTH: tuple[Way, Way] = ("up", "down")
BOTH: tuple[Way, Way] = ("up", "down")


# Read by hand: a parser of Prometheus' format takes longer than the relay.
_SAMPLE = re.compile(r"fastpath_(received|punted|dropped)_datagrams_total\{([^}]*)\} (\S+)")


@dataclass(frozen=True)
class Books:
    """What a relay has counted in one direction, its own control records left out."""

    received: int
    dropped: Counter[str]  # by reason

    @classmethod
    def of(cls, relay: Relay, way: Way) -> Books:
        """As the relay says now."""
        received, dropped = 0, Counter[str]()
        with urlopen(f"{relay.health}/metrics", timeout=10) as reply:
            for kind, text, value in _SAMPLE.findall(reply.read().decode()):
                labels = dict(re.findall(r'(\w+)="([^"]*)"', text))
                if labels["direction"] != way:
                    continue
                if kind == "dropped":
                    dropped[labels["reason"]] += int(float(value))
                else:
                    received += int(float(value)) * (1 if kind == "received" else -1)
        return cls(received, +dropped)


@dataclass(frozen=True)
class Burst:
    """Datagrams that went in together: those that came out, in order, and why the others did not."""

    arrived: list[bytes]
    dropped: dict[str, int]


class Line:
    """A client of `relay` whose ufrag leads to `backend`, where nobody else sends.

    client: its socket, loopback's when none is given. listen: where it sends, the relay's first listener.
    """

    def __init__(
        self,
        relay: Relay,
        backend: Backend,
        ufrag: str,
        client: socket.socket | None = None,
        listen: Address | None = None,
    ) -> None:
        self.relay, self.backend, self.ufrag = relay, backend, ufrag
        self.listen = listen or relay.listen
        self.client = client or udp("127.0.0.1")
        self.path: BackendPath = ()
        self.number = 0

    def check(self) -> bytes:
        """Send a Binding Request; gives its transaction id."""
        transaction = os.urandom(12)
        self.client.sendto(build_binding_request(transaction, f"{self.ufrag}:peer".encode()), self.listen)
        return transaction

    def is_heard(self) -> bool:
        """Does a check reach the backend, or does the relay drop it?"""
        before = Books.of(self.relay, "up")
        self.check()
        return bool(self.outcome("up", before, 1).arrived)

    def confirm(self) -> None:
        """A check and its answer."""
        transaction = self.check()
        came: list[tuple[BackendPath, bytes]] = []
        until(lambda: bool(came.extend(self.backend.receive()) or came), "the check at the backend", WAIT_S)
        self.path = came[-1][0]
        self.backend.send(self.path, build_message(SUCCESS, transaction, []))
        until(lambda: bool(list(self._at_client())), "the answer at the client", WAIT_S)

    def media(self, *sizes_bytes: int) -> list[bytes]:
        """Datagrams like RTP of these lengths, no two alike."""
        made = []
        for size_bytes in sizes_bytes:
            self.number += 1
            made.append((b"\x80\x60" + self.number.to_bytes(4, "big")).ljust(size_bytes, b"."))
        return made

    def burst(self, way: Way, datagrams: Sequence[bytes]) -> Burst:
        """Send them all while the relay stands still; gives what has become of them."""
        assert len(datagrams) <= BURST_MAX
        before = Books.of(self.relay, way)
        with standing_still(self.relay):
            self.send(way, datagrams)
        return self.outcome(way, before, len(datagrams))

    def outcome(self, way: Way, before: Books, count: int) -> Burst:
        """What has become of `count` datagrams, once the relay has dealt with them."""
        after = before

        def is_done() -> bool:
            nonlocal after
            after = Books.of(self.relay, way)
            return after.received - before.received >= count

        until(is_done, f"{count} datagrams received {way}", WAIT_S)
        lost = after.dropped - before.dropped
        assert after.received - before.received == count, "somebody else sends too"
        return Burst(list(self._at_backend() if way == "up" else self._at_client()), dict(lost))

    def send(self, way: Way, datagrams: Sequence[bytes]) -> None:
        """Into the relay, from the client or from the backend."""
        for datagram in datagrams:
            if way == "up":
                self.client.sendto(datagram, self.listen)
            else:
                self.backend.send(self.path, datagram)

    def _at_backend(self) -> Iterator[bytes]:
        while batch := self.backend.receive():
            yield from (payload for _, payload in batch)

    def _at_client(self) -> Iterator[bytes]:
        while True:
            try:
                yield self.client.recv(70_000)
            except BlockingIOError:
                return

    def close(self) -> None:
        """Close the client's end; the backend's belongs to whoever made it."""
        self.client.close()


@contextmanager
def standing_still(relay: Relay) -> Iterator[None]:
    """The relay's children do nothing inside; what is sent to them waits in the kernel."""
    children = children_of(relay.process.pid)
    for child in children:
        os.kill(child, signal.SIGSTOP)
    try:
        for child in children:
            until(lambda child=child: _state(child) == "T", "the engine stands still", WAIT_S)
        yield
    finally:
        for child in children:
            os.kill(child, signal.SIGCONT)


def children_of(pid: int) -> list[int]:
    """The processes a relay's keeper has started."""
    return [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
