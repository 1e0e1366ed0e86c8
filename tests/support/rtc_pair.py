"""A connection (or a session) and its client in virtual time, joined by paths that a test may change."""

import random
from collections.abc import Callable
from typing import Any

from pyfastpath.transceiver.path import Path, client_of
from tests.support.rtc_client import RtcClient

STEP_S = 0.01


def path_of(port: int = 50_000, *, relay_port: int = 7000, ingress: int = 0, host: int = 9) -> Path:
    """203.0.113.`host`:port by the relay 10.0.0.1."""
    relay = (bytes([10, 0, 0, 1]) + bytes(12), relay_port, 4)
    return (relay, ingress, (bytes([203, 0, 113, host]) + bytes(12), port, 4))


class Pair:
    """`server` has the five verbs. Datagrams arrive at once unless `lose(data, path, is_up)` says so."""

    def __init__(self, server: Any, client: RtcClient, *, now: float = 1000.0) -> None:
        self.server, self.client, self.now = server, client, now
        self.path = path_of()
        self.lose: Callable[[bytes, Path, bool], bool] = lambda data, path, is_up: False
        self.deaf: set[Path] = set()  # paths whose client does not answer
        self.down: list[tuple[Path, bytes, bool]] = []
        self.events: list[Any] = []

    def up(self, *datagrams: bytes, path: Path | None = None) -> None:
        """From the client to the server, and everything that follows from it."""
        for datagram in datagrams:
            if not self.lose(datagram, path or self.path, True):
                self.server.receive_datagram(datagram, path or self.path, self.now)
        self.settle()

    def settle(self) -> None:
        """Carry datagrams until both sides are quiet."""
        while True:
            while (event := self.server.next_event()) is not None:
                self.events.append(event)
            outgoing = self.server.datagrams_to_send(self.now)
            if not outgoing:
                return
            self.down += outgoing
            for path, datagram, _ in outgoing:
                if path in self.deaf or self.lose(datagram, path, False):
                    continue
                for answer in self.client.receive(datagram, self.now, client_of(path)):
                    if not self.lose(answer, path, True):
                        self.server.receive_datagram(answer, path, self.now)

    def run(self, seconds: float) -> None:
        """Let time pass: timers of both sides fire."""
        end = self.now + seconds
        while self.now < end:
            due = self.server.get_timer()
            self.now = min(
                end, self.now + STEP_S if due is None else max(self.now, min(due, self.now + STEP_S))
            )
            if due is not None and due <= self.now:
                self.server.handle_timer(self.now)
                if self.server.get_timer() == due:
                    self.now += STEP_S / 10  # a timer that stays due would stop the clock
            dtls = self.client.dtls
            if dtls is not None and (timer := dtls.get_timer()) is not None and timer <= self.now:
                dtls.handle_timer(self.now)
                self.up(*self.client.follow())
            self.settle()
            if due is None and self.now + STEP_S > end:
                self.now = end

    def connect(self) -> None:
        """Check, nominate, shake hands."""
        self.up(self.client.check())
        self.up(*self.client.start_dtls(self.now))
        self.run(0.2)
        assert self.client.srtp is not None, f"no keys: {self.client.failed}"

    def take(self, kind: type) -> list[Any]:
        """The events of one kind that came so far, taken away."""
        found = [event for event in self.events if isinstance(event, kind)]
        self.events = [event for event in self.events if not isinstance(event, kind)]
        return found


def entropy(seed: int = 1) -> Callable[[int], bytes]:
    """Random bytes that are the same in each run."""
    return random.Random(seed).randbytes
