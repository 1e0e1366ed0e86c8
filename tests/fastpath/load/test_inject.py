"""How datagrams leave, seen by who receives them: segments over loopback, frames over a veth pair."""

import contextlib
import os
import socket
import struct
import subprocess
import threading

import pytest
from fastpath.load.generator import Generator
from fastpath.load.sink import Sink

from bench.place import Network
from tests.support.require import require

RUN = 4
FLOWS = 40
SENT = 4_001
UFRAGS = [b"flow%04d" % flow for flow in range(FLOWS)]


@pytest.fixture
def acknowledged():
    return bytearray(8)


@contextlib.contextmanager
def served(sink):
    thread = threading.Thread(target=sink.run, kwargs={"echo": True, "duration_ms": 20_000})
    thread.start()
    try:
        yield
    finally:
        sink.stop()
        thread.join(timeout=5)
        sink.close()
    assert not thread.is_alive()


def come_back(generator, sink, *, sent=SENT):
    """How many probes came once to the sink and once back, in order, at their flow's own address: all."""
    assert generator.setup() == FLOWS
    generator.run(echo=True, limit=sent, duration_ms=10_000, window=128)
    assert sink.arrivals.counters() == {"received": sent, "duplicates": 0, "strangers": 0}
    assert generator.echoes.counters() == {"received": sent, "duplicates": 0, "strangers": 0}
    assert generator.counters()["misrouted"] == 0
    assert sink.arrivals.reordered() == 0
    assert sum(generator.sent(flow) for flow in range(FLOWS)) == sent
    assert all(sink.arrivals.flow(flow)["received"] == generator.sent(flow) for flow in range(FLOWS))
    return generator.counters()["sent"]


@pytest.mark.parametrize("sockets", [1, 3])
@pytest.mark.parametrize("burst", [2, 4, 16])
def test_segments_arrive_as_datagrams_of_their_own(burst, sockets):
    sink = Sink(("127.0.0.1", 0), flows=FLOWS, run=RUN)
    generator = Generator(
        ("127.0.0.1", sink.port), UFRAGS, run=RUN, sockets=sockets, inject="gso", burst=burst
    )
    with served(sink):
        assert come_back(generator, sink) == SENT
    generator.close()


def test_a_run_is_a_flows_next_datagrams_in_one_message(acknowledged):
    sink = Sink(("127.0.0.1", 0), flows=FLOWS, run=RUN, acknowledged=acknowledged)
    generator = Generator(("127.0.0.1", sink.port), UFRAGS, run=RUN, inject="gso", acknowledged=acknowledged)
    with served(sink):
        generator.run(limit=256, duration_ms=5_000)
    assert generator.counters()["send_calls"] <= 2
    assert [generator.sent(flow) for flow in range(FLOWS)] == [8] * 24 + [4] * 16
    generator.close()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"inject": "pigeon"}, "inject is 'pigeon': choose one of mmsg, gso, packet"),
        ({"inject": "gso", "burst": 1}, "burst is 1: choose 2..16"),
        ({"inject": "gso", "burst": 17}, "burst is 17"),
        ({"inject": "gso", "size_spread": 8}, "no size_spread with inject 'gso'"),
        ({"inject": "packet"}, "needs interface and gateway_mac"),
        ({"inject": "packet", "interface": "eth0"}, "needs interface and gateway_mac"),
        ({"inject": "packet", "interface": "lo", "gateway_mac": b"12345"}, "has 6"),
    ],
)
def test_impossible_ways_are_refused(settings, sentence):
    with pytest.raises(ValueError, match=sentence):
        Generator(("127.0.0.1", 9), UFRAGS, **settings)


def test_an_interface_that_is_not_there_or_not_allowed_is_told():
    with pytest.raises(OSError, match=r"leave by interface nowhere0|raw frames need CAP_NET_RAW"):
        Generator(("127.0.0.1", 9), UFRAGS, inject="packet", interface="nowhere0", gateway_mac=bytes(6))


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, timeout=20)


@pytest.fixture(scope="module")
def pair():
    """Two networks with a veth pair between them: clients 10.9.0.0/16 here, the relay 10.8.0.2 there."""
    require("root", "namespaces")
    names = [f"fastpath-{side}-{os.getpid()}" for side in ("clients", "relay")]
    try:
        for name in names:
            ip("netns", "add", name)
        ends = ["veth-clients", "veth-relay"]
        ip("-n", names[0], "link", "add", ends[0], "type", "veth", "peer", "name", ends[1], "netns", names[1])
        for name, end, address in zip(names, ends, ("10.8.0.1/24", "10.8.0.2/24"), strict=True):
            ip("-n", name, "addr", "add", address, "dev", end)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", end, "up")
        ip("-n", names[0], "route", "add", "local", "10.9.0.0/16", "dev", "lo")
        ip("-n", names[1], "route", "add", "10.9.0.0/16", "via", "10.8.0.1")
        yield [Network(name) for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20, check=False)


def mac_of(interface):
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as probe:
        probe.bind((interface, 0))
        return probe.getsockname()[4]


@pytest.mark.parametrize("settings", [{"sockets": 1}, {"sockets": 3, "size_spread": 24}, {"size_bytes": 33}])
def test_frames_arrive_and_their_echoes_return_to_the_sockets(pair, settings):
    with pair[1].inside():
        sink = Sink(("10.8.0.2", 0), flows=FLOWS, run=RUN)
        gateway_mac = mac_of("veth-relay")
    with pair[0].inside():
        generator = Generator(
            ("10.8.0.2", sink.port),
            UFRAGS,
            run=RUN,
            first_source="10.9.0.1",
            inject="packet",
            interface="veth-clients",
            gateway_mac=gateway_mac,
            **settings,
        )
    with served(sink):
        assert come_back(generator, sink) == SENT
    generator.close()


def test_frames_over_loopback_where_the_kernel_believes_them(pair):
    for name in ("accept_local", "route_localnet"):
        key = f"net.ipv4.conf.lo.{name}=1"
        command = ["ip", "netns", "exec", pair[0].namespace, "sysctl", "-qw", key]
        subprocess.run(command, check=True, timeout=20)
    with pair[0].inside():
        sink = Sink(("127.0.0.1", 0), flows=FLOWS, run=RUN)
        generator = Generator(("127.0.0.1", sink.port), UFRAGS, run=RUN, inject="packet", interface="lo")
    with served(sink):
        assert come_back(generator, sink) == SENT
    generator.close()


def test_a_frame_is_what_the_kernel_would_have_sent(pair):
    """But for the UDP checksum, which IPv4 lets be 0."""
    seen = []
    for inject in ("mmsg", "packet"):
        with pair[1].inside():
            relay = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            relay.bind(("10.8.0.2", 0))
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0800))
            wire.bind(("veth-relay", 0x0800))
            wire.settimeout(5)
            gateway_mac = mac_of("veth-relay")
        with pair[0].inside():
            generator = Generator(
                relay.getsockname(),
                UFRAGS,
                first_source="10.9.3.7",
                inject=inject,
                interface="veth-clients",
                gateway_mac=gateway_mac,
            )
        generator.run(rate_pps=100_000, limit=3, duration_ms=1000, drain_ms=0)
        port = relay.getsockname()[1].to_bytes(2, "big")
        frame = b""
        while frame[36:38] != port:
            frame = wire.recv(4096)
        seen.append((frame, generator.socket_of(0)[0].getsockname()[1]))
        for end in (generator, relay, wire):
            end.close()
    kernels, ours = (frame for frame, _ in seen)
    assert ours[:14] == kernels[:14]
    assert ours[14:18] == kernels[14:18]
    assert ours[22:24] == kernels[22:24]  # TTL and protocol
    assert ours[26:34] == kernels[26:34] == socket.inet_aton("10.9.3.7") + socket.inet_aton("10.8.0.2")
    assert sum(struct.unpack("!10H", ours[14:34])) % 0xFFFF == 0  # the header's checksum holds
    assert struct.unpack("!H", ours[34:36])[0] == seen[1][1]
    assert ours[38:42] == kernels[38:40] + b"\0\0"
    assert len(ours) == len(kernels)
