"""The relays of a benchmark forward everything, both ways, to whom it belongs: one that loses datagrams, or
sends them to anybody, would be a cheap rival."""

import threading
from contextlib import ExitStack, contextmanager

import pytest
from fastpath.generator import Generator
from fastpath.sink import Sink
from fastpath.trunk_sink import TrunkSink

from bench.contestants import Contestant, everybody, uvloop_relay
from bench.place import Place
from tests.support.require import require

FLOWS = 40
PROBES = 1000
RATE_PPS = 4000
PEERS = {peer.name: peer for peer in everybody()}
PACKAGES = {  # the program a test needs first
    name: [program for program, _ in peer.needs] for name, peer in PEERS.items()
}


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
def open_through(peer: Contestant, ufrags, routed=None):
    """Generator, sink and how many flows `peer` lets through; it knows the way of `routed` (default: all)."""
    place = Place()
    kind = TrunkSink if peer.upstream == "trunk" else Sink
    with ExitStack() as stack:
        settled = bytearray(8)  # so that a run upwards ends when its last probe has arrived
        sink = kind((place.sink_ip, 0), flows=len(ufrags), acknowledged=settled)
        stack.callback(sink.close)
        running = stack.enter_context(peer.start(place, (place.sink_ip, sink.port), routed or ufrags))
        names = [each.encode() for each in ufrags]
        generator = Generator(running.listen, names, acknowledged=settled, **running.generator)
        stack.callback(generator.close)
        with serving(sink, echo=False):
            confirmed = running.open_flows(generator, sink, 5000 if routed is None else 300)
        yield generator, sink, confirmed


def faults(arrivals):
    return arrivals.counters()["duplicates"], arrivals.reordered()


@pytest.mark.parametrize("name", sorted(PEERS))
def test_a_peer_brings_everything_both_ways_unchanged_and_to_its_client(name):
    require(*PACKAGES[name])
    ufrags = [f"{serial:06d}FastpathBenchRun" for serial in range(FLOWS)]
    with open_through(PEERS[name], ufrags) as (generator, sink, confirmed):
        assert confirmed == FLOWS
        for echo in (False, True):
            with serving(sink, echo=echo):
                generator.run(echo=echo, rate_pps=RATE_PPS, limit=PROBES, duration_ms=10_000)
        assert generator.counters()["sent"] == 2 * PROBES
        assert generator.counters()["misrouted"] == 0
        assert faults(sink.arrivals) == faults(generator.echoes) == (0, 0)
        assert sink.arrivals.counters()["received"] == 2 * PROBES
        assert generator.echoes.counters()["received"] == PROBES
        for flow in range(FLOWS):
            assert sink.arrivals.flow(flow)["received"] == generator.sent(flow)


def test_a_client_without_a_routed_ufrag_gets_nothing_through():
    ufrags = [f"{serial:06d}FastpathBenchRun" for serial in range(FLOWS)]
    others = [f"{serial:06d}SomebodyElse0000" for serial in range(FLOWS)]
    with open_through(uvloop_relay(), ufrags, routed=others) as (_, sink, confirmed):
        assert confirmed == 0
        assert sink.arrivals.counters()["received"] == 0
