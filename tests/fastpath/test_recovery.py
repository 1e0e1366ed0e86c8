"""What an engine that died had received but not sent lies in its shards' batch memory; the next worker
finishes it: nothing is lost, it is counted as recovered, and the slots are as good as new afterwards."""

import os
import socket
from typing import Any

import numpy as np
import pytest
from fastpath._testing.batches import owe
from fastpath.backends import PLAIN, TRUNK
from fastpath.link import Link

from pyfastpath.relay.layout import SHARD_HEADER
from pyfastpath.types import Endpoint
from pyfastpath.wire.trunk import Header, Record, build_datagram, direction_key
from tests.support.rig import Rig, address16, until
from tests.support.rig_call import Call

KEY = bytes(range(16))
EPOCH = 7


def name_of(sock: socket.socket) -> tuple[bytes, int, int]:
    """The address of a socket as the data plane keeps it."""
    ip, port = sock.getsockname()[:2]
    return address16(ip), port, 6 if ":" in ip else 4


def media(number: int) -> bytes:
    return b"\x80" + bytes([number]) * (number + 1)


def gather(arrived: Any, wanted: int) -> list[bytes]:
    got: list[bytes] = []
    until(lambda: bool(got.extend(arrived())) or len(got) >= wanted, f"{wanted} datagrams")
    return got


def books(rig: Rig) -> Any:
    """The counters when all is over; what came in equals what became of it."""
    rig.stop()
    counters = rig.counters()
    became = counters["forwarded"] + counters["dropped"].sum(axis=1) + counters["punted"]
    assert counters["received"].tolist() == became.tolist()
    rig.start()
    return counters


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("mode", [PLAIN, TRUNK], ids=["plain", "trunk"])
def test_datagrams_of_clients_are_finished(ip: str, mode: int) -> None:
    with Rig(ip=ip) as rig:
        call = Call(rig, mode, "someUfrag")
        call.confirm()
        rig.stop()
        for slot in range(5):
            settled = len(media(slot)) if slot in {0, 3} else 0
            owe(rig.shards[0], "client", slot, media(slot), name_of(call.client), done=settled)
        call.send_up(media(9))  # and one that waits in the kernel
        rig.start()
        assert gather(call.at_backend, 4) == [media(1), media(2), media(4), media(9)]
        assert books(rig)["recovered"] == 3
        call.close()


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_replies_to_plain_ports_are_finished(ip: str) -> None:
    with Rig(ip=ip) as rig:
        calls = [Call(rig, PLAIN, f"ufrag{index}", index) for index in range(2)]
        for call in calls:
            call.confirm()
        port_of = {sock.getsockname()[1]: index for index, sock in enumerate(rig.plain)}
        rig.stop()
        for slot in range(6):
            call = calls[slot % 2]
            source = port_of[call.path[0][1]]
            owe(rig.shards[0], "plain", slot, media(slot), name_of(call.backend), source=source)
        rig.start()
        for index, call in enumerate(calls):
            assert gather(call.at_client, 3) == [media(slot) for slot in range(index, 6, 2)]
        assert books(rig)["recovered"] == 6
        for call in calls:
            call.close()


class TrunkCall(Call):
    """A call whose backend end builds its own datagrams, on a keyed or an open link."""

    def __init__(self, rig: Rig, *, keyed: bool) -> None:
        super().__init__(rig, TRUNK, "someUfrag")
        self.key = direction_key(KEY, "down") if keyed else b""
        if keyed:
            rig.add_backend(0, self.backend.getsockname()[1], TRUNK, keyed=True)
            self.link = Link(
                self.backend.fileno(), relays=rig.relay_ends, keys={1: KEY}, key_id=1, epoch=EPOCH
            )
        self.sequence = 1000

    def build(self, *payloads: bytes) -> bytes:
        """The trunk datagram that brings these payloads to the client."""
        self.sequence += 1
        _, ingress, (address, port, family) = self.path
        client = Endpoint.parse(
            f"[{socket.inet_ntop(socket.AF_INET6, address)}]:{port}"
            if family == 6
            else f"{socket.inet_ntop(socket.AF_INET, address[:4])}:{port}"
        )
        records = [Record(payload=payload, client=client, ingress=ingress) for payload in payloads]
        return build_datagram(Header(EPOCH, self.sequence, bool(self.key), 1), records, self.key)


def rig_for(keyed: bool, ip: str = "127.0.0.1") -> Rig:
    return Rig(ip=ip, **({"trunk_keys": {1: KEY}, "trunk_key_id": 1} if keyed else {}))


def record_end(payloads: list[bytes], ip: str) -> int:
    """Where the last of these records ends in its datagram."""
    return 12 + sum(len(payload) + (22 if ":" in ip else 10) for payload in payloads)


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("keyed", [False, True], ids=["open", "keyed"])
def test_a_trunk_buffer_goes_on_where_it_was_left(ip: str, keyed: bool) -> None:
    """Three datagrams joined by the kernel, the last one shorter; the first and one record of the second had
    left. Their sequence numbers are in the replay window already: that must not stop the rest."""
    with rig_for(keyed, ip) as rig:
        call = TrunkCall(rig, keyed=keyed)
        call.confirm()
        parts = [call.build(media(1), media(2)), call.build(media(2), media(1)), call.build(media(3))]
        assert len(parts[0]) == len(parts[1]) > len(parts[2])
        if keyed:  # the dead engine had accepted them
            call.backend.sendto(b"".join(parts[:1]), rig.trunks[0].getsockname())
            assert gather(call.at_client, 2) == [media(1), media(2)]
        rig.stop()
        done = len(parts[0]) + record_end([media(2)], ip)
        owe(
            *(rig.shards[0], "trunk", 0, b"".join(parts), name_of(call.backend)),
            done=done,
            segment_bytes=len(parts[0]),
        )
        rig.start()
        assert gather(call.at_client, 2) == [media(1), media(3)]
        counters = books(rig)
        assert counters["recovered"] == 1
        assert counters["dropped"].sum() == 0
        call.close()


@pytest.mark.parametrize("keyed", [False, True], ids=["open", "keyed"])
def test_a_settled_buffer_before_an_owed_one_is_left_alone(keyed: bool) -> None:
    """All of the first buffer had left, its last datagram shorter than the others: nothing of it comes again,
    and nothing behind its end is taken for a record."""
    with rig_for(keyed) as rig:
        call = TrunkCall(rig, keyed=keyed)
        call.confirm()
        rig.stop()
        whole = [call.build(media(4)), call.build(media(2))]
        first = b"".join(whole)
        # What stands in the buffer behind it, from before: a record that would be believed without a check.
        ghost = call.build(media(99))[12:]
        owe(rig.shards[0], "trunk", 0, first + ghost, name_of(call.backend))
        owe(
            *(rig.shards[0], "trunk", 0, first, name_of(call.backend)),
            done=len(first),
            segment_bytes=len(whole[0]),
        )
        owe(rig.shards[0], "trunk", 1, call.build(media(7)), name_of(call.backend))
        rig.start()
        call.send_up(media(1))
        gather(call.at_backend, 1)
        assert gather(call.at_client, 1) == [media(7)]
        counters = books(rig)
        assert counters["recovered"] == 1
        assert counters["dropped"].sum() == 0
        call.close()


def test_slots_that_were_settled_are_as_good_as_new() -> None:
    """Killed between the last send and the settling of the batch: nothing is owed, but every slot still has
    the lengths of its last message. A slot of an IPv4 client must have room for an IPv6 one."""
    with Rig(ip="::1") as rig:
        call = Call(rig, PLAIN, "someUfrag")
        call.confirm()
        rig.stop()
        v4 = (address16("127.0.0.1"), 9, 4)
        for slot in range(64):
            owe(rig.shards[0], "client", slot, media(1), v4, done=len(media(1)))
            owe(rig.shards[0], "plain", slot, media(1), v4, done=len(media(1)))
        rig.start()
        for number in range(20):
            call.send_up(media(number))
        assert gather(call.at_backend, 20) == [media(number) for number in range(20)]
        for number in range(20):
            call.send_down(media(number))
        assert gather(call.at_client, 20) == [media(number) for number in range(20)]
        assert books(rig)["recovered"] == 0
        call.close()


def test_what_may_have_been_sent_twice_is_counted() -> None:
    """The engine died between a send and the note of it."""
    with Rig() as rig:
        call = Call(rig, PLAIN, "someUfrag")
        call.confirm()
        rig.stop()
        for slot in range(3):
            owe(rig.shards[0], "client", slot, media(slot), name_of(call.client))
        np.frombuffer(rig.memories[0], SHARD_HEADER, 1)["sending"] = 1
        rig.start()
        assert gather(call.at_backend, 3) == [media(0), media(1), media(2)]
        counters = books(rig)
        assert (counters["recovered"], counters["duplicated"]) == (3, 3)
        call.close()


def test_a_batch_that_was_whole_stays_whole() -> None:
    """Every slot of every area, in two shards."""
    with Rig(shards=2) as rig:
        call = Call(rig, PLAIN, "someUfrag")
        call.confirm()
        rig.stop()
        stranger = (address16("127.9.9.9"), 9, 4)
        for shard in rig.shards:
            for slot in range(64):
                owe(shard, "client", slot, os.urandom(30), name_of(call.client))
                owe(shard, "plain", slot, media(slot), stranger)
            for slot in range(16):
                owe(shard, "trunk", slot, b"FT" + os.urandom(500), stranger)
        rig.start()
        until(lambda: rig.counters()["recovered"] == 2 * (64 + 64 + 16), "every message recovered")
        counters = books(rig)
        assert counters["received"].sum() >= 2 * (64 + 64 + 16)
        call.close()
