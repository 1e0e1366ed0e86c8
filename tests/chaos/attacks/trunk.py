"""Datagrams at the trunk's port that no transceiver sent, or not like this: each has its drop reason."""

from __future__ import annotations

import itertools
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from ipaddress import ip_address
from typing import Final

from pyfastpath.types import Endpoint
from pyfastpath.wire import trunk
from tests.chaos.attacks.attackers import Shot, Spoofer, open_udp, paced, sources
from tests.chaos.attacks.siege import Bystanders, besiege, hostile, slow_pps
from tests.chaos.behind import settings, trunk_key
from tests.chaos.outcome import Outcome
from tests.chaos.rig import ChaosRig

STRANGERS: Final = 50_000
EPOCH: Final = 1_000
WINDOW: Final = trunk.REPLAY_BITS
MEDIA: Final = b"\x80" + bytes(100)
NOBODY: Final = Endpoint(ip_address("127.66.0.1"), 9)
HIDDEN: Final = ("::ffff:192.0.2.1", "64:ff9b::192.0.2.1", "fe80::1")  # must not be inside a record
Dropped = tuple[str, ...]  # what the records of a datagram are dropped for
Wrong = tuple[Callable[[], bytes], Dropped]  # builds a datagram


def datagrams(rig: ChaosRig, peace: Bystanders) -> list[Outcome]:
    """Anything at all from addresses that are no backend's; then from a backend's own address, first by
    somebody who has not the key, then by somebody who has."""
    mallory = Mallory(rig)
    count = hostile(rig.scale, STRANGERS)
    stranger = Spoofer(mallory.target, itertools.islice(anything(rig), count))
    outcomes = [
        besiege(rig, peace, attack, fault, count=count, pace=slow_pps(rig.scale))
        for fault, attack in (
            ("trunk datagrams from addresses of no backend", stranger),
            ("trunk datagrams without the key from a backend's address", Unkeyed(mallory, count)),
            ("old, replayed and malformed trunk datagrams under the right key", Keyed(mallory, count)),
        )
    ]
    mallory.close()
    stranger.close()
    return outcomes


def anything(rig: ChaosRig) -> Iterator[Shot]:
    """Good datagrams, junk and nothing: from a stranger all are alike."""
    key_id, key = known_key(rig)
    down = trunk.direction_key(key, "down")
    header = trunk.Header(EPOCH, 1, tagged=True, key_id=key_id)
    good = trunk.build_datagram(header, [trunk.Record(MEDIA, NOBODY, confirmed=True)], down)
    while True:
        for source in sources("127.40.0.1", 5_000):
            for payload in (good, good[:-16], secrets.token_bytes(50), b"", bytes(1400)):
                yield Shot(source, payload, "untrusted_trunk")


def known_key(rig: ChaosRig) -> tuple[int, bytes]:
    """The trunk's, which only transceivers should have."""
    key = trunk_key(rig)
    assert key is not None, "without a key there is nothing to forge"
    return key


class Mallory:
    """The address of a registered transceiver in the wrong hands."""

    def __init__(self, rig: ChaosRig) -> None:
        self.target = ("127.0.0.1", int(settings(rig)["trunk_port"]))
        self.key_id, self.key = known_key(rig)
        self._socket = open_udp("127.0.0.1")
        address = "{}:{}".format(*self._socket.getsockname())
        rig.ask("PUT", "/v1/backends/mallory", {"address": address, "mode": "trunk", "assume_up": True})
        clients = rig.load.streams[0].generator
        live, source = clients.socket_of(0)
        self.victim = Endpoint(ip_address(source), live.getsockname()[1])
        self.sequence = itertools.count(WINDOW * 4)
        self.last = b""

    def send(self, datagram: bytes) -> None:
        """To the trunk of the relay's first shard."""
        self._socket.sendto(datagram, self.target)

    def signed(
        self,
        *records: trunk.Record,
        raw: bytes = b"",
        epoch: int = EPOCH,
        behind: int = 0,
        key_id: int | None = None,
        key: bytes = b"",
        direction: trunk.Direction = "down",
    ) -> bytes:
        """A datagram as the transceiver would sign it, but for what is named. raw: follows the records."""
        which = self.key_id if key_id is None else key_id
        header = trunk.Header(epoch, next(self.sequence) - behind, tagged=True, key_id=which)
        before = trunk.build_header(header) + b"".join(map(trunk.build_record, records)) + raw
        self.last = before + trunk.tag(trunk.direction_key(key or self.key, direction), before)
        return self.last

    def close(self) -> None:
        self._socket.close()


class Unkeyed:
    """What can be sent without the key."""

    def __init__(self, mallory: Mallory, count: int) -> None:
        self.expected, self._mallory = Counter[str](), mallory
        self._shots = built(itertools.cycle(self._kinds()), count)

    def fire(self, count: int, rate_pps: int) -> None:
        """The next ones, one of a kind after the other."""
        _fire(self, self._mallory, self._shots, count, rate_pps)

    def _kinds(self) -> Iterator[Wrong]:
        good = self._mallory.signed(trunk.Record(MEDIA, self._mallory.victim, confirmed=True))
        yield partial(self._mallory.signed, key=bytes(16)), ("bad_tag",)
        yield partial(self._mallory.signed, key_id=3), ("bad_tag",)
        yield partial(self._mallory.signed, direction="up"), ("bad_tag",)  # the relay's own, sent back
        header = trunk.Header(EPOCH, 1)
        yield partial(trunk.build_datagram, header, [trunk.Record(MEDIA, self._mallory.victim)]), ("bad_tag",)
        for size in range(len(good)):  # 28: header and tag
            yield partial(bytes, good[:size]), ("bad_trunk" if size < 28 else "bad_tag",)
        for position in range(len(good)):
            turned = good[:position] + bytes([good[position] ^ 0x80]) + good[position + 1 :]
            yield partial(bytes, turned), ("bad_trunk" if position < 4 else "bad_tag",)


class Keyed:
    """What a transceiver that was taken over can do: nothing to the calls of others."""

    def __init__(self, mallory: Mallory, count: int) -> None:
        self.expected, self._mallory = Counter[str](), mallory
        self._shots = built(itertools.cycle([*self._kinds()]), count)

    def fire(self, count: int, rate_pps: int) -> None:
        """The next ones, one of a kind after the other."""
        _fire(self, self._mallory, self._shots, count, rate_pps)

    def _kinds(self) -> Iterator[Wrong]:
        mallory, signed = self._mallory, self._mallory.signed
        ping = trunk.Record(trunk.build_control(trunk.Ping(bytes(8))), control=True)
        yield partial(signed, ping), ()
        yield lambda: mallory.last, ("replayed",)
        yield partial(signed, ping, behind=WINDOW + 500), ("replayed",)
        yield partial(signed, ping, epoch=EPOCH - 1), ("old_epoch",)
        yield partial(signed, ping, epoch=0), ("old_epoch",)
        yield partial(signed, trunk.Record(MEDIA, mallory.victim)), ("wrong_backend",)
        yield partial(signed, trunk.Record(MEDIA, mallory.victim, confirmed=True)), ("wrong_backend",)
        closed = trunk.Record(trunk.build_control(trunk.FlowClosed()), mallory.victim, control=True)
        yield partial(signed, closed), ()  # of another's flow: read, and without effect
        yield partial(signed, trunk.Record(b"\xff\xff", control=True)), ()
        yield partial(signed, trunk.Record(MEDIA, NOBODY)), ("unknown_flow",)
        yield partial(signed, trunk.Record(MEDIA, NOBODY, ingress=255, confirmed=True)), ("unknown_ingress",)
        yield partial(signed, trunk.Record(b"\x50", mallory.victim)), ("not_webrtc",)
        hidden = [trunk.Record(MEDIA, Endpoint(ip_address(each), 9)) for each in HIDDEN]
        yield partial(signed, *hidden), ("bad_record",) * len(HIDDEN)
        record = trunk.build_record(trunk.Record(MEDIA, NOBODY))
        for size in range(2, len(record)):
            yield partial(signed, raw=record[:size]), ("bad_record",)
        for flag in (0x20, 0x40, 0x80):
            yield partial(signed, raw=record[:2] + bytes([flag]) + record[3:]), ("bad_record",)
        for length in (len(MEDIA) + 1, 0x7FFF, 0xFFFF):
            yield partial(signed, raw=length.to_bytes(2, "big") + record[2:]), ("bad_record",)


def built(wrong: Iterator[Wrong], count: int) -> Iterator[tuple[bytes, Dropped]]:
    """That many datagrams, ready to go. In Python a tag takes as long as fifty datagrams of a call: made
    between two sends, on the CPU of the calls' clients, it is the clients that would be late."""
    return iter([(build(), reasons) for build, reasons in itertools.islice(wrong, count)])


def _fire(
    attack: Unkeyed | Keyed,
    mallory: Mallory,
    shots: Iterator[tuple[bytes, Dropped]],
    count: int,
    rate_pps: int,
) -> None:
    fired: list[str] = []
    for datagram, reasons in paced(itertools.islice(shots, count), rate_pps):
        mallory.send(datagram)
        fired += reasons
    attack.expected.update(fired)
