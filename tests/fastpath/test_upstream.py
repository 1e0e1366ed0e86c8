"""The way up over real sockets: by which port a datagram leaves, and to which backend."""

from typing import Any

import numpy as np
from fastpath.backends import PLAIN
from fastpath.counters import DROP_REASONS

from pyfastpath.relay.layout import FLOW, PORT, SHARD_HEADER
from pyfastpath.wire.stun import build_binding_request
from tests.support.rig import Rig, udp, until
from tests.support.rig_call import Call


def collect(call: Call, wanted: int) -> list[bytes]:
    """What arrives at the call's backend, `wanted` datagrams at least."""
    got: list[bytes] = []
    until(lambda: bool(got.extend(call.at_backend())) or len(got) >= wanted, f"{wanted} datagrams")
    return got


def let_time_pass(rig: Rig) -> None:
    """Sixty silent seconds end every flow, sixty more the rest of its port: times in the tables go back."""
    for memory in rig.memories:
        header = np.frombuffer(memory, SHARD_HEADER, 1)[0]
        flows = np.frombuffer(memory, FLOW, header["flows_capacity"], int(header["flows_offset"]))
        flows["last_seen_ms"] -= np.uint32(60_001)
        until(lambda: header["flows_count"] == 0, "the end of every flow")  # noqa: B023
        ports = np.frombuffer(memory, PORT, header["ports_capacity"], int(header["ports_offset"]))
        ports["since_ms"] -= np.uint32(60_001)
        until(lambda: header["ports_count"] == 0, "the end of every port's rest")  # noqa: B023


def test_flows_to_two_backends_that_share_a_port_part_within_one_batch() -> None:
    with Rig(ports=1) as rig:
        calls = [Call(rig, PLAIN, f"ufrag{index}", index) for index in range(2)]
        for call in calls:
            call.confirm()
        assert calls[0].path == calls[1].path  # one port for both
        rig.stop()
        sent = {call: [f"\x80{call.ufrag} {n}".encode("latin-1") for n in range(20)] for call in calls}
        for number in range(20):
            for call in calls:
                call.send_up(sent[call][number])
        rig.start()  # all forty are one batch
        for call in calls:
            assert collect(call, 20) == sent[call]
            call.close()


def test_an_address_that_takes_over_an_index_gets_its_own_datagrams() -> None:
    """Workers know a backend by its index and connect a port to the address behind it. When the port has
    rested, the index may stand for another address: servers with a port per session use up indices fast."""
    with Rig(ports=1) as rig:
        former = Call(rig, PLAIN, "firstUfrag", 0)
        former.confirm()
        let_time_pass(rig)
        latter = Call(rig, PLAIN, "secondUfrag", 0)
        latter.confirm()
        assert latter.path == former.path  # the same port
        latter.send_up(b"\x80for the latter")
        assert collect(latter, 1) == [b"\x80for the latter"]
        assert former.at_backend() == []
        for call in (former, latter):
            call.close()


def test_a_datagram_too_long_to_look_at_counts_as_no_decision() -> None:
    """What stands in its place in the batch is left over from another datagram."""
    with Rig() as rig:
        call = Call(rig, PLAIN, "someUfrag")
        transaction = bytes(12)
        call.send_up(build_binding_request(transaction, b"someUfrag:peer"))
        assert len(collect(call, 1)) == 1
        call.send_up(b"\x80" * 3000)
        until(lambda: rig.counters()["received"][0] == 2, "both datagrams counted")
        counters = rig.counters()
        assert drops(counters, 0) == {"oversize": 1}
        assert counters["decisions"].sum() == 1
        call.close()


def drops(counters: Any, direction: int) -> dict[str, int]:
    """By reason, those that occurred."""
    rows = zip(DROP_REASONS, counters["dropped"][direction].tolist(), strict=True)
    return {name: count for (name, _), count in rows if count}


def test_a_backend_that_was_away_gets_every_datagram_of_the_batch_that_finds_it_back() -> None:
    """Its ICMP error is pending on the connected socket; the first of several must not pay for it."""
    with Rig(ports=1, coalesce_us=300_000) as rig:
        call = Call(rig, PLAIN, "someUfrag")
        call.confirm()
        address = call.backend.getsockname()
        call.backend.close()
        call.send_up(b"\x80nobody listens")
        until(lambda: rig.counters()["forwarded"][0] == 2, "the datagram sent into the void")
        call.backend = udp(rig.ip, address[1])
        sent = [b"\x80" + bytes([number]) for number in range(5)]
        for datagram in sent:  # while the worker naps: they will be one batch
            call.send_up(datagram)
        assert collect(call, 5) == sent
        call.close()
