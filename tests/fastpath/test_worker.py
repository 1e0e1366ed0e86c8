"""The loop over real sockets: both upstream modes, directions and families, every size and ECN mark."""

import os
import socket
import time
from collections.abc import Callable

import pytest
from fastpath.backends import PLAIN, TRUNK
from fastpath.link import Link

from pyfastpath.relay.layout import DOWN, DROP_REASONS
from pyfastpath.wire.token import mint
from tests.support.rig import DEFAULT_TOS, Rig, udp, until
from tests.support.rig_call import Call

SO_NO_CHECK = 11
DSCP = (40, 34, 10, 0)  # voice, voice with data, video, bulk: none of them what the sockets are set to
ECN_NAMES = {0: "Not-ECT", 1: "ECT(1)", 2: "ECT(0)", 3: "CE"}


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("mode", [PLAIN, TRUNK], ids=["plain", "trunk"])
@pytest.mark.parametrize("keyed", [False, True], ids=["", "keyed"])
def test_every_size_passes_both_ways(ip: str, mode: int, keyed: bool) -> None:
    policy = {"trunk_keys": {1: os.urandom(16)}, "trunk_key_id": 1} if keyed else {}
    with Rig(ip=ip, **policy) as rig:
        call = Call(rig, mode, "someUfrag")
        if keyed and mode == TRUNK:
            rig.add_backend(0, call.backend.getsockname()[1], mode, keyed=True)
            call.link = Link(
                call.backend.fileno(), relays=rig.relay_ends, keys=policy["trunk_keys"], key_id=1, epoch=1
            )
        call.confirm()
        sent = [bytes([0x80]) + os.urandom(size - 1) for size in range(1, 1473)]
        for start in range(0, len(sent), 32):
            few = sent[start : start + 32]
            for datagram in few:
                call.send_up(datagram)
            expect(call.at_backend, few)
            for datagram in few:
                call.send_down(datagram)
            expect(call.at_client, few)
        rig.stop()
        counters = rig.counters()
        assert (
            counters["received"].tolist()
            == (counters["forwarded"] + counters["dropped"].sum(axis=1) + counters["punted"]).tolist()
        )
        assert counters["dropped"].sum() == 0
        rig.start()
        call.close()


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("mode", [PLAIN, TRUNK], ids=["plain", "trunk"])
@pytest.mark.parametrize("ecn", ECN_NAMES, ids=ECN_NAMES.values())
def test_ecn_is_copied_both_ways(ip: str, mode: int, ecn: int) -> None:
    level, kind = traffic_class_of(ip)
    with Rig(ip=ip) as rig:
        call = Call(rig, mode, "someUfrag")
        call.confirm()
        call.client.setsockopt(level, kind, ecn)
        call.send_up(b"\x80up")
        if call.link:
            got: list[tuple] = []
            until(lambda: bool(got.extend(call.link.receive()) or got), "the datagram at the backend")
            assert got[0][2] == ecn
            call.send_down(b"\x80down", ecn)
        else:
            assert marks(call.backend, level, kind) & 3 == ecn
            call.backend.setsockopt(level, kind, ecn)
            call.send_down(b"\x80down")
        assert marks(call.client, level, kind) == 46 << 2 | ecn  # and DSCP EF towards the client
        call.close()


def traffic_class_of(ip: str) -> tuple[int, int]:
    """Level and number of the option, and of the control message, that hold the traffic class byte."""
    return (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if ":" in ip else (socket.IPPROTO_IP, socket.IP_TOS)


def marks(sock: socket.socket, level: int, kind: int) -> int:
    """The traffic class byte of the next datagram."""
    seen: list[int] = []

    def arrived() -> bool:
        try:
            _, control, _, _ = sock.recvmsg(2048, 256)
        except BlockingIOError:
            return False
        seen.extend(data[0] for found_level, found, data in control if (found_level, found) == (level, kind))
        return True

    until(arrived, "a datagram")
    return seen[0]


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("mode", [PLAIN, TRUNK], ids=["plain", "trunk"])
@pytest.mark.parametrize("traffic_class", range(4))
def test_dscp_follows_the_class_in_the_token(ip: str, mode: int, traffic_class: int) -> None:
    key, now_s = os.urandom(16), int(time.time())
    names = {"cluster": 1, "xcvr": 2, "incarnation": 3}
    ufrag = mint(key, 0, expires_s=now_s + 3600, session=4, traffic_class=traffic_class, **names)
    with Rig(ip=ip, token_keys={0: key}, dscp=DSCP) as rig:
        rig.settings.set_wall(now_s)
        call = Call(rig, mode, ufrag)
        rig.shared.routes.remove(ufrag.encode())
        rig.add_backend(0, call.backend.getsockname()[1], mode, has_xcvr=True, **names)
        call.confirm()
        call.send_up(b"\x80up")
        # The trunk's own header is Expedited Forwarding, whatever it carries.
        expected = DEFAULT_TOS if call.link else DSCP[traffic_class] << 2
        assert marks(call.backend, *traffic_class_of(ip)) == expected
        call.send_down(b"\x80down")
        assert marks(call.client, *traffic_class_of(ip)) == DSCP[traffic_class] << 2
        call.close()


def test_a_spinning_worker_serves_and_never_waits() -> None:
    with Rig(spin=True, coalesce_us=10_000) as rig:
        call = Call(rig, PLAIN, "someUfrag")
        call.confirm()
        call.send_up(b"\x80up")
        expect(call.at_backend, [b"\x80up"])
        # One that waits has twenty turns a second in which it finds nothing.
        until(lambda: rig.counters()["blocks"] > 1000, "turns of a worker that spins")
        assert rig.counters()["naps"] == 0
        call.close()


def test_a_stopped_worker_leaves_what_waits_in_the_kernel() -> None:
    with Rig() as rig:
        call = Call(rig, PLAIN, "someUfrag")
        call.confirm()
        rig.stop()
        for number in range(50):
            call.send_up(b"\x80" + bytes([number]))
        rig.start()
        got: list[bytes] = []
        until(lambda: bool(got.extend(call.at_backend())) or len(got) == 50, f"{len(got)} of 50")
        assert got == [b"\x80" + bytes([number]) for number in range(50)]
        call.close()


def test_kernel_limits_a_record_that_fits_no_bundle_travels_alone() -> None:
    with Rig(trunk_mtu=600) as rig:
        call = Call(rig, TRUNK, "someUfrag")
        call.confirm()
        sent = [bytes([0x80]) * size for size in (100, 1400, 100, 590, 20)]
        for datagram in sent:
            call.send_up(datagram)
        got: list[bytes] = []
        until(
            lambda: bool(got.extend(call.at_backend())) or len(got) == len(sent), f"{len(got)} of {len(sent)}"
        )
        assert got == sent
        rig.stop()
        assert rig.counters()["trunk_oversize"] == 2
        rig.start()
        call.close()


@pytest.mark.parametrize("refused", [False, True], ids=["taken", "refused"])
def test_kernel_limits_a_run_that_is_refused_goes_singly_and_no_other_is_tried(refused: bool) -> None:
    """The kernel cuts nothing for a socket that sends without checksums: EINVAL (udp(7), UDP_SEGMENT)."""
    with Rig() as rig:
        call = Call(rig, TRUNK, "someUfrag")
        call.confirm()
        if refused:
            rig.trunks[0].setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
        for burst in range(2):
            rig.stop()  # so that all of it is one batch
            sent = [bytes([0x80, burst, number]) + bytes(1000) for number in range(40)]
            for datagram in sent:
                call.send_up(datagram)
            rig.start()
            expect(call.at_backend, sent)
        rig.stop()
        assert rig.counters()["trunk_singly"] == refused
        assert rig.counters()["dropped"].sum() == 0
        rig.start()
        call.close()


@pytest.mark.parametrize("ip", ["127.0.0.1", "::1"])
def test_one_port_serves_two_backends_and_then_one_again(ip: str) -> None:
    """The port's socket is connected while it serves one backend address, and must let go for the second."""
    with Rig(ip=ip, ports=1) as rig:
        first, second = Call(rig, PLAIN, "firstUfrag", 0), Call(rig, PLAIN, "secondUfrag", 1)
        for call in (first, second):
            call.confirm()
        assert first.path == second.path  # the same upstream port
        for number in range(10):
            for call in (first, second):
                sent = b"\x80" + call.ufrag.encode() + bytes([number])
                call.send_up(sent)
                expect(call.at_backend, [sent])
                call.send_down(sent)
                expect(call.at_client, [sent])
        for call in (first, second):
            call.close()


def test_a_backend_that_is_away_for_a_moment_costs_only_what_it_did_not_hear() -> None:
    """Its ICMP error is pending on the connected socket and must not eat the next datagram."""
    with Rig(ports=1) as rig:
        call = Call(rig, PLAIN, "someUfrag")
        call.confirm()
        address = call.backend.getsockname()
        call.backend.close()
        call.send_up(b"\x80nobody listens")
        until(lambda: rig.counters()["forwarded"][0] == 2, "the datagram sent into the void")
        call.backend = udp(rig.ip, address[1])
        call.send_up(b"\x80back again")
        expect(call.at_backend, [b"\x80back again"])
        call.close()


def expect(arrived: Callable[[], list[bytes]], datagrams: list[bytes]) -> None:
    """Exactly these, in this order."""
    got: list[bytes] = []
    until(lambda: bool(got.extend(arrived())) or len(got) >= len(datagrams), f"{len(datagrams)} datagrams")
    assert got == datagrams


def test_replies_count_only_from_the_flows_backend() -> None:
    with Rig() as rig:
        call = Call(rig, PLAIN, "someUfrag")
        call.confirm()
        stranger = udp(rig.ip)
        stranger.sendto(b"\x80forged", call.path[0])
        call.send_down(b"\x80real")
        got: list[bytes] = []
        until(lambda: bool(got.extend(call.at_client()) or got), "the real reply")
        assert got == [b"\x80real"]
        stranger.close()
        call.close()


def test_a_transceiver_teaches_a_client_that_the_relay_forgot() -> None:
    """Only with CONFIRMED, and only at an ingress of ours."""
    with Rig() as rig:
        call, forgotten = Call(rig, TRUNK, "someUfrag"), udp(rig.ip)
        call.confirm()
        assert call.link is not None
        relay_end, ingress, (address, _, family) = call.path
        client = (address, forgotten.getsockname()[1], family)
        for number, (at, confirmed) in enumerate(((ingress, False), (ingress + 1, True), (ingress, True))):
            call.link.send([((relay_end, at, client), b"\x80" + bytes([number]), confirmed)])
        got: list[bytes] = []
        until(lambda: bool(got.extend(call._drain(forgotten, keep_path=False)) or got), "what was taught")
        assert [datagram for datagram, _ in got] == [b"\x80\x02"]
        rig.stop()
        assert rig.counters()["taught"] == 1
        rig.start()
        forgotten.close()
        call.close()


def test_an_empty_trunk_datagram_has_a_name() -> None:
    """It carries nothing, but it came: from a stranger, and from a backend, for which it is no header."""
    with Rig() as rig, udp("127.0.0.1") as backend, udp("127.0.0.1") as stranger:
        rig.add_backend(0, backend.getsockname()[1], TRUNK)
        for _ in range(3):
            backend.sendto(b"", rig.trunks[0].getsockname())
        stranger.sendto(b"", rig.trunks[0].getsockname())
        until(lambda: rig.counters()["received"][DOWN] == 4, "four datagrams received")
        named = dict(zip((name for name, _ in DROP_REASONS), rig.counters()["dropped"][DOWN], strict=True))
        assert (named["bad_trunk"], named["untrusted_trunk"]) == (3, 1)


def test_a_record_for_an_ingress_that_does_not_exist_has_its_own_name() -> None:
    """Fuzzing found that it was an unknown flow's."""
    with Rig() as rig:
        call = Call(rig, TRUNK, "someUfrag")
        call.confirm()
        assert call.link is not None
        relay_end, ingress, client = call.path
        call.link.send([((relay_end, ingress + 1, client), b"\x80lost", True)])
        call.link.send([((relay_end, ingress, client), b"\x80last", False)])
        got: list[bytes] = []
        until(lambda: bool(got.extend(call.at_client()) or got), "the last datagram")
        rig.stop()
        named = dict(zip((name for name, _ in DROP_REASONS), rig.counters()["dropped"][DOWN], strict=True))
        assert {name: int(count) for name, count in named.items() if count} == {"unknown_ingress": 1}
        rig.start()
        call.close()
