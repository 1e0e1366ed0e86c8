"""The relays of a benchmark forward everything, both ways, to whom it belongs: one that loses datagrams, or
sends them to anybody, would be a cheap rival."""

import os
import socket
import struct
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest
from fastpath.load.generator import Generator
from fastpath.load.sink import Sink
from fastpath.load.trunk_sink import TrunkSink

from bench.contestants import Contestant, able, everybody, uvloop_relay
from bench.peers.clients import send_as
from bench.peers.coturn.turn import CHANNEL
from bench.place import Place
from bench.topology import topology
from tests.support.require import require

FLOWS = 40
PROBES = 1000
WINDOW = 64  # in flight: whoever is not scheduled for a while loses none of them in a buffer
UFRAGS = [f"{serial:06d}FastpathBenchRun" for serial in range(FLOWS)]
PEERS = {peer.name: peer for peer in everybody()}


@contextmanager
def serving(sink, *, echo):
    thread = threading.Thread(target=sink.run, kwargs={"echo": echo, "duration_ms": 20_000})
    thread.start()
    try:
        yield
    finally:
        sink.stop()
        thread.join()


@contextmanager
def open_through(peer: Contestant, ufrags, routed=None, network="loopback"):
    """The relay as it runs, generator, sink, and how many flows `peer` let through; it knows the way of
    `routed` (default: all)."""
    _, left_out = able([peer])
    if left_out:
        pytest.skip(left_out[0])
    with ExitStack() as stack:
        net = stack.enter_context(topology(network))
        place = replace(net.place, cpu=min(os.sched_getaffinity(0)))
        settled = bytearray(8)  # so that a run upwards ends when its last probe has arrived
        kind = TrunkSink if peer.upstream == "trunk" else Sink
        with net.backend.inside():
            sink = kind((place.sink_ip, 0), flows=len(ufrags), acknowledged=settled)
        stack.callback(sink.close)
        running = stack.enter_context(peer.start(place, (place.sink_ip, sink.port), routed or ufrags))
        names = [each.encode() for each in ufrags]
        settings = {"first_source": place.first_client, "size_spread": 24, **running.generator}
        with net.clients.inside():
            generator = Generator(running.listen, names, acknowledged=settled, **settings)
        stack.callback(generator.close)
        with serving(sink, echo=False):
            confirmed = running.open_flows(generator, sink, 5000 if routed is None else 300)
        yield running, generator, sink, confirmed


def passes_everything(generator, sink):
    """PROBES upwards, then as many there and back: all arrive, once, in order, at their own client."""
    for echo in (False, True):
        with serving(sink, echo=echo):
            generator.run(echo=echo, window=WINDOW, limit=PROBES, duration_ms=10_000)
    assert generator.counters()["sent"] == 2 * PROBES
    assert generator.counters()["misrouted"] == 0
    assert faults(sink.arrivals) == faults(generator.echoes) == (0, 0)
    assert sink.arrivals.counters()["received"] == 2 * PROBES
    assert generator.echoes.counters()["received"] == PROBES
    for flow in range(FLOWS):
        assert sink.arrivals.flow(flow)["received"] == generator.sent(flow)


def faults(arrivals):
    return arrivals.counters()["duplicates"], arrivals.reordered()


def arrives_unchanged(peer, running, generator, sink):
    """Does a packet of flow 1 come out at the backend byte by byte, behind whatever frames it there?"""
    packet = b"\x80\x6f\0\1" + bytes(4) + b"\1\0\0\0" + os.urandom(160)
    address = ("127.0.0.1", sink.port)
    sink.close()
    framing = struct.pack("!HH", CHANNEL, len(packet)) if running.generator else b""
    target = running.listen[1] if isinstance(running.listen, list) else running.listen
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as backend:
        backend.bind(address)
        backend.settimeout(5)
        send_as(generator, 1, framing + packet, target)
        if peer.upstream == "plain":
            return backend.recv(2048) == packet
        while packet not in (received := backend.recv(65_535)):
            assert received.startswith(b"FT")  # a ping
        return True


@pytest.mark.timeout(400)  # the first `go build` of a machine compiles the standard library
@pytest.mark.parametrize("name", sorted(PEERS))
def test_a_peer_brings_everything_both_ways_unchanged_and_to_its_client(name):
    with open_through(PEERS[name], UFRAGS) as (running, generator, sink, confirmed):
        assert confirmed == FLOWS
        passes_everything(generator, sink)
        assert arrives_unchanged(PEERS[name], running, generator, sink)


@pytest.mark.parametrize("name", ["fastpath trunk", "nginx stream", "coturn", "rtpengine"])
def test_it_does_between_namespaces_too_where_it_has_two_addresses(name):
    require("root", "namespaces")
    with open_through(PEERS[name], UFRAGS, network="inline") as (_, generator, sink, confirmed):
        assert confirmed == FLOWS
        passes_everything(generator, sink)


def test_who_is_not_installed_is_left_out_with_the_package_to_install():
    absent = replace(PEERS["coturn"], needs=(("no-such-program", "no-such-package"),))
    found, left_out = able([absent, PEERS["uvloop relay"]])
    assert [each.name for each in found] == ["uvloop relay"]
    assert left_out == ["coturn left out: apt install no-such-package, or make bench-deps"]


def test_more_flows_than_ports_are_refused_before_anything_starts():
    ufrags = ["ufrag"] * (PEERS["rtpengine"].flows_max + 1)
    with pytest.raises(RuntimeError, match=f"rtpengine holds at most .* flows here, not {len(ufrags):,}"):
        PEERS["rtpengine"].start(Place(), ("127.0.0.1", 9), ufrags)


def test_a_relay_that_does_not_start_says_why():
    place = Place(cpu=min(os.sched_getaffinity(0)))
    with (
        pytest.raises(RuntimeError, match=r"(?s)C recvfrom did not start.*missing option") as refused,
        PEERS["C recvfrom"].start(place, ("127.0.0.1", 9), []),
    ):
        pass
    assert "--routes" in str(refused.value)


def test_a_client_without_a_routed_ufrag_gets_nothing_through():
    others = [f"{serial:06d}SomebodyElse0000" for serial in range(FLOWS)]
    with open_through(uvloop_relay(), UFRAGS, routed=others) as (_, _, sink, confirmed):
        assert confirmed == 0
        assert sink.arrivals.counters()["received"] == 0
