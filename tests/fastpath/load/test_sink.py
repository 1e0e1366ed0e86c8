"""The plain sink seen from the wire: what it answers, counts and sends back."""

import os
import socket
import struct
import threading
import time

import pytest
from fastpath.load.generator import Generator, binding_request
from fastpath.load.sink import Sink

RUN = 3


@pytest.fixture(params=["127.0.0.1", "::1"])
def address(request):
    return request.param


@pytest.fixture
def served(address):
    sink = Sink((address, 0), flows=4, run=RUN, acknowledged=(acknowledged := bytearray(8)))
    thread = threading.Thread(target=sink.run, kwargs={"echo": True, "duration_ms": 20_000})
    thread.start()
    yield sink, acknowledged
    sink.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()
    sink.close()


@pytest.fixture
def client(address, served):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.connect((address, served[0].port))
        client.settimeout(2)
        yield client


def probe(flow, sequence, run=RUN, length=172):
    head = b"\x80\x6f" + struct.pack("!H", sequence & 0xFFFF) + bytes(4)
    return (head + struct.pack("=IIQQ", flow, run, sequence, 0)).ljust(length, b"\x5a")


def test_a_binding_request_gets_its_transaction_and_address_back(client):
    transaction = os.urandom(12)
    client.send(binding_request(b"ufrg", transaction, b"password"))
    response = client.recv(2048)
    assert response[:2] == b"\x01\x01"
    assert struct.unpack_from("!H", response, 2)[0] == len(response) - 20
    assert response[4:20] == b"\x21\x12\xa4\x42" + transaction
    assert response[20:22] == b"\x00\x20"
    host, port = client.getsockname()[:2]
    assert struct.unpack_from("!H", response, 26)[0] ^ 0x2112 == port
    packed = bytes(a ^ b for a, b in zip(response[28:], response[4:20], strict=False))
    assert socket.inet_ntop(client.family, packed) == host


def test_an_echo_is_the_datagram_itself(client, served):
    for length in (32, 172, 1472):
        sent = probe(1, length, length=length)
        client.send(sent)
        assert client.recv(2048) == sent
    assert served[0].counters()["echoed"] == 3


def test_order_loss_and_duplicates_are_told_apart(client, served):
    sink, acknowledged = served
    for sequence in (0, 1, 4, 3, 3, 200, 140, 140, 100):  # 2 is lost; 100 is behind the window of 64
        client.send(probe(2, sequence))
        client.recv(2048)
    assert sink.arrivals.flow(2) == {"next": 201, "received": 7, "duplicates": 2, "reordered": 3}
    assert sink.arrivals.reordered() == 3
    assert int.from_bytes(acknowledged, "little") == 7


def test_strangers_are_neither_counted_nor_echoed(client, served):
    for stranger in (b"", b"\x80", probe(1, 1, run=RUN + 1), probe(4, 1), b"\x16" + probe(1, 1)[1:]):
        client.send(stranger)
    client.send(probe(0, 9))
    assert client.recv(2048) == probe(0, 9)
    assert served[0].arrivals.counters() == {"received": 1, "duplicates": 0, "strangers": 5}


def test_latency_counts_from_the_intended_time(client, served):
    sink, _ = served
    assert sink.arrivals.latency_ns(0.5) == 0
    intended_ns = time.monotonic_ns() - 2_000_000_000
    client.send(probe(0, 0)[:24] + struct.pack("=Q", intended_ns))
    client.recv(2048)
    assert sink.arrivals.latency_ns(0.5) >= 2_000_000_000 * (1 - 1 / 32)
    sink.arrivals.forget_latency()
    assert sink.arrivals.latency_ns(0.5) == 0


DOWN_FLOWS = 60


@pytest.fixture
def down():
    """A generator whose flows are open, and the sink they are open at."""
    returned = bytearray(8)
    sink = Sink(("127.0.0.1", 0), flows=DOWN_FLOWS, run=RUN)
    ufrags = [b"flow%04d" % flow for flow in range(DOWN_FLOWS)]
    generator = Generator(("127.0.0.1", sink.port), ufrags, sockets=2, run=RUN, returned=returned)
    thread = threading.Thread(target=sink.run)
    thread.start()
    assert generator.setup() == DOWN_FLOWS
    sink.stop()
    thread.join(timeout=5)
    thread = threading.Thread(target=generator.receive, kwargs={"duration_ms": 20_000})
    thread.start()
    yield sink, generator, returned
    generator.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()
    sink.close()
    generator.close()


@pytest.mark.parametrize("speed", [{"rate_pps": 20_000}, {"window": 200}], ids=["rate", "window"])
def test_probes_of_its_own_reach_each_flow_at_its_own_address(down, speed):
    sink, generator, returned = down
    sink.send(limit=6_000, duration_ms=10_000, acknowledged=returned, size_spread=20, **speed)
    counters = sink.counters()
    assert (counters["opened"], counters["sent"], counters["written_off"]) == (DOWN_FLOWS, 6_000, 0)
    assert generator.echoes.counters() == {"received": 6_000, "duplicates": 0, "strangers": 0}
    assert generator.counters()["misrouted"] == 0
    assert generator.echoes.reordered() == 0
    for flow in range(DOWN_FLOWS):
        assert generator.echoes.flow(flow)["received"] == sink.sent(flow) == 100
    assert 0 < generator.echoes.latency_ns(0.5) < 5_000_000_000


def test_requests_are_answered_while_it_sends(down):
    sink, generator, _ = down
    generator.stop()
    thread = threading.Thread(target=sink.send, kwargs={"rate_pps": 5_000, "duration_ms": 10_000})
    thread.start()
    late = Generator(("127.0.0.1", sink.port), [b"late"] * 3, run=RUN)
    assert late.setup(timeout_ms=5_000) == 3
    sink.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()
    late.close()


def test_what_cannot_be_sent_is_refused(down):
    sink, _, returned = down
    with pytest.raises(ValueError, match="downwards needs `acknowledged`"):
        sink.send()
    with pytest.raises(ValueError, match="size_bytes is 31"):
        sink.send(acknowledged=returned, size_bytes=31)
    empty = Sink(("127.0.0.1", 0), flows=1)
    with pytest.raises(ValueError, match="no flow is open"):
        empty.send(rate_pps=1000)
    empty.close()


def test_a_run_ends_by_itself():
    sink = Sink(("127.0.0.1", 0))
    sink.run(duration_ms=60)
    assert sink.counters()["datagrams"] == 0
    sink.close()
