"""The crowd's wire over real sockets: eight backends, callers on loopback addresses, virtual time.

One thing happens at a time: what was sent has been forwarded or dropped when the next thing begins, so the
truth is never behind. Time passes by turning back the times in the tables.
"""

import socket
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final

import numpy as np
from fastpath.backends import PLAIN, TRUNK
from fastpath.link import Link

from pyfastpath.relay.layout import COUNTERS, DOWN, DROP_REASONS, FLOW, PORT, PROVISIONAL, SHARD_HEADER, UP
from tests.model.crowd import Arrival, Client
from tests.model.ownership import Lease, Session
from tests.support.rig import Rig, address16, now_ms, udp, until

TRUNKS: Final = frozenset({0, 1, 2, 3})
BACKENDS: Final = range(8)
FIRST_INGRESS: Final = 3
DRIFT_MS: Final = 100  # of the real clock within one moment of virtual time
TRANSACTION: Final = np.dtype([("id", np.uint64), ("flow", np.uint32), ("seen_ms", np.uint32)])
UNTRUSTED: Final = [name for name, _ in DROP_REASONS].index("untrusted_trunk")


class RigWire:
    """`rig` with four shards and two listeners a family. The callers' sockets are `keys`."""

    waits_ms = (2_900, 2_900, 8_700)  # no sum of them is within 0.8 s of 5, 7 or 60 s

    def __init__(self, rig: Rig) -> None:
        self.rig, self.trunk = rig, set(TRUNKS)
        self.now_ms = 0
        self._moment_ms = now_ms()
        self.callers = {self._caller_name(sock): sock for sock in self._open_callers()}
        self.stranger = udp(rig.ip)
        self.nudges = 0
        self.backends: list[socket.socket] = []
        self.links: dict[int, Link] = {}
        ips = sorted({ip for ip, _ in rig.addresses if ip in {"127.0.0.1", "::1"}})
        for index in BACKENDS:
            ip = rig.ip if index in TRUNKS else ips[index % len(ips)]
            sock = udp(ip, gro=index in TRUNKS)
            self.backends.append(sock)
            mode = TRUNK if index in TRUNKS else PLAIN
            rig.add_backend(index, sock.getsockname()[1], mode, ip=ip)
            if index in TRUNKS:
                self.links[index] = Link(sock.fileno(), relays=rig.relay_ends, epoch=1)

    # ---- callers ---------------------------------------------------------------------------------------

    @staticmethod
    def _open_callers() -> Iterator[socket.socket]:
        """Two ports of one address, the same port of another, and two of IPv6."""
        first = udp("127.0.0.11")
        yield from (
            first,
            udp("127.0.0.11"),
            udp("127.0.0.12", first.getsockname()[1]),
            udp("::1"),
            udp("::1"),
        )

    @staticmethod
    def _caller_name(sock: socket.socket) -> tuple[bytes, int, int]:
        ip, port = sock.getsockname()[:2]
        return address16(ip), port, 6 if ":" in ip else 4

    @property
    def keys(self) -> list[Client]:
        """Every caller's socket at every ingress of its family: one client port towards two addresses."""
        return [
            Client((*name, FIRST_INGRESS + listener))
            for name in self.callers
            for listener, (ip, _) in enumerate(self.rig.addresses)
            if (6 if ":" in ip else 4) == name[2]
        ]

    # ---- up --------------------------------------------------------------------------------------------

    def install(self, session: Session) -> None:
        """Its flow gets the first port that is free for its backend: ports are shared as much as they may."""
        for memory in self.rig.memories:
            np.frombuffer(memory, SHARD_HEADER, 1)["port_next"] = 0
        assert self.rig.install(session.ufrag, session.backend, session=session.call) == 0

    def up(self, sent: Sequence[tuple[Client, bytes]]) -> list[Arrival | None]:
        self._hold_time()
        before = self._received(UP)
        for key, datagram in sent:
            self.callers[key[:3]].sendto(datagram, self.rig.addresses[key[3] - FIRST_INGRESS])
        until(lambda: self._received(UP) == before + len(sent), f"{len(sent)} datagrams up")
        arrived: dict[bytes, Arrival] = {}
        for key, payload, arrival in chain(self._from_trunks(), self._from_ports()):
            assert payload not in arrived, f"{payload!r} arrived twice"
            wanted = next(sender for sender, datagram in sent if datagram == payload)
            assert key in {None, wanted}, f"{payload!r} of {wanted} was said to come from {key}"
            arrived[payload] = arrival
        return [arrived.get(datagram) for _, datagram in sent]

    def _from_trunks(self) -> Iterator[tuple[Client, bytes, Arrival]]:
        for index, link in self.links.items():
            for payload, (relay, ingress, client), _ in iter_received(link):
                yield (*client, ingress), payload, Arrival(index, relay)

    def _from_ports(self) -> Iterator[tuple[None, bytes, Arrival]]:
        for index in set(BACKENDS) - TRUNKS:
            for payload, source in drain(self.backends[index]):
                yield None, payload, Arrival(index, source)

    # ---- down ------------------------------------------------------------------------------------------

    def down(self, sent: Sequence[tuple[Lease, bytes]]) -> list[Client | None]:
        self._hold_time()
        before = self._received(DOWN)
        for lease, datagram in sent:
            index = lease.session.backend
            if index in TRUNKS:
                path = (lease.way, lease.key[3], lease.key[:3])
                self.links[index].send([(path, datagram, False)])
            else:
                self.backends[index].sendto(datagram, lease.way)
        until(lambda: self._received(DOWN) == before + len(sent), f"{len(sent)} datagrams down")
        arrived: dict[bytes, Client] = {}
        for name, sock in self.callers.items():
            for payload, source in drain(sock):
                assert payload not in arrived, f"{payload!r} arrived twice"
                arrived[payload] = Client((*name, FIRST_INGRESS + self.rig.addresses.index(source[:2])))
        return [arrived.get(datagram) for _, datagram in sent]

    def closed(self, lease: Lease) -> None:
        """The record of an unknown client behind it says that it has been read."""
        before = self._received(DOWN)
        link = self.links[lease.session.backend]
        link.send_flow_closed(lease.way, lease.key[3], lease.key[:3])
        nobody = (address16("127.99.9.9"), 9, 4)
        link.send([((lease.way, FIRST_INGRESS, nobody), b"\x80", False)])
        until(lambda: self._received(DOWN) == before + 1, "flow closed read")

    # ---- time ------------------------------------------------------------------------------------------

    def wait(self, ms: int) -> None:
        """Everything becomes `ms` older; what is over ends."""
        self.now_ms += ms
        self._turn_back(ms - self._elapsed())
        self._moment_ms = now_ms()
        until(self._nothing_overdue, "the end of what is overdue")
        until(self._nudges_read, "the nudges read")

    def restart(self) -> None:
        """Another engine, with one worker more or less."""
        self.rig.stop()
        self.rig.workers_count = 3 - self.rig.workers_count
        self.rig.start()

    def _elapsed(self) -> int:
        return (now_ms() - self._moment_ms) & 0xFFFFFFFF

    def _hold_time(self) -> None:
        """A moment of virtual time takes real time: give it back before it matters."""
        if self._elapsed() > DRIFT_MS:
            self._turn_back(-self._elapsed())
            self._moment_ms = now_ms()

    def _turn_back(self, ms: int) -> None:
        back = np.uint32(ms & 0xFFFFFFFF)
        for rows in self._tables(FLOW, "flows", "flows_capacity"):
            rows["last_seen_ms"] -= back
            rows["ufrag_seen_ms"] -= back
        for rows in self._tables(PROVISIONAL, "provisional", "provisional_capacity"):
            rows["last_seen_ms"] -= back
        for rows in self._tables(TRANSACTION, "transactions", "transactions_capacity"):
            rows["seen_ms"] -= back
        for rows in self._tables(PORT, "ports", "ports_capacity"):
            rows["since_ms"] -= back

    def _nothing_overdue(self) -> bool:
        """Workers look at a part of each table once a millisecond, if something wakes them."""
        for trunk in self.rig.trunks:
            self.stranger.sendto(b"wake up", trunk.getsockname())
            self.nudges += 1
        now = np.uint32(now_ms())
        flows = self._tables(FLOW, "flows", "flows_capacity")
        waiting = self._tables(PROVISIONAL, "provisional", "provisional_capacity")
        return not (
            any(((rows["state"] > 1) & (now - rows["last_seen_ms"] >= 60_000)).any() for rows in flows)
            or any(((rows["state"] > 0) & (now - rows["last_seen_ms"] >= 5_000)).any() for rows in waiting)
        )

    def _nudges_read(self) -> bool:
        rows = self._tables(COUNTERS, "counters", None)
        return sum(int(row["dropped"][0, DOWN, UNTRUSTED]) for row in rows) == self.nudges

    # ---- memory ----------------------------------------------------------------------------------------

    def _tables(self, dtype: Any, name: str, capacity: str | None) -> Iterator[Any]:
        for memory in self.rig.memories:
            header = np.frombuffer(memory, SHARD_HEADER, 1)[0]
            count = int(header[capacity]) if capacity else 1
            yield np.frombuffer(memory, dtype, count, int(header[f"{name}_offset"]))

    def _received(self, direction: int) -> int:
        """Datagrams of callers and backends; neither pings nor what was for the relay itself."""
        rows = [row[0] for row in self._tables(COUNTERS, "counters", None)]
        return sum(
            int(row["received"][direction] - row["punted"][direction] - row["dropped"][direction, UNTRUSTED])
            for row in rows
        )

    def close(self) -> None:
        for sock in (*self.callers.values(), *self.backends, self.stranger):
            sock.close()


def drain(sock: socket.socket) -> Iterator[tuple[bytes, Any]]:
    with suppress(BlockingIOError):
        while True:
            yield sock.recvfrom(70_000)


def iter_received(link: Link) -> Iterator[tuple]:
    while records := link.receive():
        yield from records
