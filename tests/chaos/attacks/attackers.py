"""Who attacks: senders that stand at any address of 127/8, and know what must become of all they send.

An attack fires `count` datagrams and books each under the reason the relay must drop it for ("" when it must
not be dropped). What came back is counted too: nobody attacks without listening.
"""

from __future__ import annotations

import errno
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from itertools import islice
from typing import Final, Protocol, TypeVar

from fastpath.load.generator import Generator

from pyfastpath.tools.bench.threads import NAP_US

Address = tuple[str, int]
Thing = TypeVar("Thing")
IP_PKTINFO: Final = 8  # linux/in.h; the socket module knows it from 3.12 on
BUFFER_BYTES: Final = 4 << 20
DATAGRAM_BYTES: Final = 65_536
NEVER_MS: Final = 3_600_000
NAP_S: Final = 0.0005
TURN: Final = 64  # datagrams between two looks at the clock
_PKTINFO: Final = struct.Struct("=I4sI")


class Attack(Protocol):
    """Something done to a relay, over and over."""

    expected: Counter[str]  # datagrams fired so far, by the reason that the relay must have dropped them for

    def fire(self, count: int, rate_pps: int) -> None:
        """Send `count` more datagrams at this rate."""


@dataclass(frozen=True, slots=True)
class Shot:
    """One hostile datagram, and the drop reason it must find."""

    source: str
    payload: bytes
    reason: str


class Spoofer:
    """One socket that sends from every address of 127/8 and its own port.

    port: of somebody whose address is to be stolen; 0: a free one. shots: what `fire` sends, finitely
    many. All are made ready here: between two sends it would be the calls' clients, on the same CPU, that
    are late.
    """

    def __init__(self, target: Address, shots: Iterable[Shot] = (), *, port: int = 0) -> None:
        self.target, self.expected = target, Counter[str]()
        self.heard = 0
        self._ready = iter([([each.payload], _from(each.source), each.reason) for each in shots])
        self.socket = open_udp("0.0.0.0", port)

    def fire(self, count: int, rate_pps: int) -> None:
        """The next shots."""
        fired = []
        for payload, source, reason in paced(islice(self._ready, count), rate_pps, self.hear):
            self.socket.sendmsg(payload, source, 0, self.target)
            fired.append(reason)
        assert len(fired) == count, f"only {len(fired)} of {count} shots were made ready"
        self.expected.update(fired)

    def send(self, source: str, payload: bytes) -> None:
        """One datagram from this address."""
        self.socket.sendmsg([payload], _from(source), 0, self.target)

    def hear(self) -> None:
        """Take what came back."""
        with suppress(BlockingIOError):
            while True:
                self.socket.recv(DATAGRAM_BYTES, socket.MSG_DONTWAIT)
                self.heard += 1

    def close(self) -> None:
        self.socket.close()


@cache
def _from(source: str) -> list[tuple[int, int, bytes]]:
    """The control message that makes this the datagram's source (ip(7), IP_PKTINFO)."""
    return [(socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(0, IPv4Address(source).packed, 0))]


class Requests:
    """Binding Requests as a browser sends them, each from an address of its own, under these ufrags in turn.

    reason: what all of them must be dropped for. Where they are served instead, `answered` counts.
    """

    def __init__(self, target: Address, ufrags: Iterable[str], *, reason: str, first_source: str) -> None:
        self.expected, self._reason = Counter[str](), reason
        self._generator = Generator(target, [each.encode() for each in ufrags], first_source=first_source)

    def fire(self, count: int, rate_pps: int) -> None:
        """The next `count` clients ask once."""
        before = self._generator.setup_counters()["sent"]
        self._generator.open_at(
            rate_pps=rate_pps,
            limit=count,
            duration_ms=NEVER_MS,
            retry_ms=NEVER_MS,
            drain_ms=0,
            nap_us=NAP_US,
        )
        self.expected[self._reason] += self._generator.setup_counters()["sent"] - before

    @property
    def answered(self) -> int:
        """How many clients got a success response."""
        return int(self._generator.setup_counters()["confirmed"])

    def listen(self, milliseconds: int) -> None:
        """Take what still comes back."""
        self._generator.receive(duration_ms=milliseconds)

    def close(self) -> None:
        self._generator.close()


def paced(
    things: Iterable[Thing], rate_pps: int, meanwhile: Callable[[], None] = lambda: None
) -> Iterator[Thing]:
    """The things, no faster than this. meanwhile: called now and then."""
    began_s = time.monotonic()
    for number, thing in enumerate(things):
        if number % TURN == 0:
            meanwhile()
            while number > rate_pps * (time.monotonic() - began_s):
                time.sleep(NAP_S)
        yield thing


def sources(network: str, count: int) -> list[str]:
    """`count` addresses from this one on."""
    first = int(IPv4Address(network))
    return [str(IPv4Address(first + number)) for number in range(count)]


def victim_of(target: Address, host: str) -> tuple[socket.socket, Spoofer]:
    """Somebody at this address, and whoever sends in that name. Its port must be free at every address: none
    of the relay's own."""
    while True:
        victim = open_udp(host)
        try:
            return victim, Spoofer(target, port=victim.getsockname()[1])
        except OSError as error:
            victim.close()
            if error.errno != errno.EADDRINUSE:
                raise


def open_udp(host: str, port: int = 0) -> socket.socket:
    """A UDP socket whose address somebody else may share: what is sent to a spoofed address reaches the one
    who is bound to just that."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    made.bind((host, port))
    return made
