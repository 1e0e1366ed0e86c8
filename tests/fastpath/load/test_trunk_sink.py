"""The trunk sink seen from a relay: FT1 datagrams in, FT1 datagrams out."""

import ipaddress
import os
import socket
import struct
import threading

import pytest
from fastpath.load.generator import Generator, binding_request
from fastpath.load.trunk_sink import TrunkSink

from pyfastpath.relay.sockets import SO_RCVBUFFORCE
from pyfastpath.types import Endpoint
from pyfastpath.wire import trunk as wire

RUN = 5
FLOWS = 50
CONTROL, IPV6 = 16, 4
PING, PONG, STATE = b"\x01", b"\x02", b"\x03"
UDP_SEGMENT, UDP_GRO = 103, 104
ROOM_BYTES = 8 << 20
KEY = bytes(range(16))


def record(payload, *, flags=0, ingress=0, client=("127.0.0.9", 4000)):
    address = ipaddress.ip_address(client[0]).packed
    flags |= IPV6 if len(address) == 16 else 0
    return struct.pack("!HBBH", len(payload), flags, ingress, client[1]) + address + payload


def datagram(*records, sequence=0, epoch=1):
    return b"FT\x01\x00" + struct.pack("!II", epoch, sequence) + b"".join(records)


def records(data):
    """(flags, ingress, client, payload) of each record of an untagged FT1 datagram."""
    assert data[:4] == b"FT\x01\x00"
    offset, found = 12, []
    while offset + 2 <= len(data) and data[offset : offset + 2] != b"\0\0":
        length, flags, ingress, port = struct.unpack_from("!HBBH", data, offset)
        start = offset + 6 + (16 if flags & IPV6 else 4)
        client = (str(ipaddress.ip_address(data[offset + 6 : start])), port)
        found.append((flags, ingress, client, data[start : start + length]))
        offset = start + length
    return found


def probe(flow, sequence):
    head = b"\x80\x6f" + bytes(6)
    return (head + struct.pack("=IIQQ", flow, RUN, sequence, 0)).ljust(172, b"\x5a")


@pytest.fixture
def acknowledged():
    return bytearray(8)


@pytest.fixture
def sink(acknowledged):
    sink = TrunkSink(
        ("127.0.0.1", 0), flows=FLOWS, run=RUN, acknowledged=acknowledged, identity=(77, 4242, 3)
    )
    thread = threading.Thread(target=sink.run, kwargs={"echo": True, "duration_ms": 20_000})
    thread.start()
    yield sink
    sink.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()
    sink.close()


class Relay:
    """The relay's end of the trunk, one datagram at a time."""

    def __init__(self, sink):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", sink.port))
        self.socket.settimeout(2)

    def receive(self):
        """The records of the next datagram that holds more than state records, which come when they like."""
        while True:
            found = records(self.socket.recv(65536))
            if kept := [each for each in found if not (each[0] & CONTROL and each[3][:1] == STATE)]:
                return kept


@pytest.fixture
def relay(sink):
    relay = Relay(sink)
    yield relay
    relay.socket.close()


def test_a_ping_gets_its_pong(relay):
    opaque = os.urandom(8)
    relay.socket.send(datagram(record(PING + bytes(3) + opaque, flags=CONTROL, client=("0.0.0.0", 0))))
    assert relay.receive() == [(CONTROL, 0, ("0.0.0.0", 0), PONG + bytes(3) + opaque)]


def test_a_relay_hears_at_once_that_the_sink_is_up(relay):
    relay.socket.send(datagram())
    ((flags, _, _, payload),) = records(relay.socket.recv(65536))
    assert flags == CONTROL
    assert payload == STATE + bytes([1, 3, 0]) + struct.pack("!HHII", 77, 4242, 0, 0)


def test_a_sink_that_comes_back_as_another_incarnation_says_so(relay, sink):
    sink.come_back_as(4)
    relay.socket.send(datagram())
    ((_, _, _, payload),) = records(relay.socket.recv(65536))
    assert payload[:4] == STATE + bytes([1, 4, 0])


@pytest.mark.parametrize("client", [("198.51.100.7", 54321), ("2001:db8::5", 443)])
def test_a_binding_request_is_answered_in_a_record_to_its_client(relay, client):
    transaction = os.urandom(12)
    request = binding_request(b"ufrg", transaction, b"password")
    relay.socket.send(datagram(record(request, ingress=9, client=client)))
    ((flags, ingress, to, response),) = relay.receive()
    assert (flags & ~IPV6, ingress, to) == (0, 9, client)
    assert response[:2] == b"\x01\x01"
    assert response[8:20] == transaction
    assert struct.unpack_from("!H", response, 26)[0] ^ 0x2112 == client[1]
    packed = bytes(a ^ b for a, b in zip(response[28:], response[4:20], strict=False))
    assert str(ipaddress.ip_address(packed)) == client[0]


def test_echoes_are_bundled_and_keep_client_ingress_and_ecn(relay):
    sent = [
        record(probe(flow, 0), flags=flow % 4, ingress=flow, client=("192.0.2.1", flow)) for flow in range(7)
    ]
    relay.socket.send(datagram(*sent))
    assert relay.receive() == [(f % 4, f, ("192.0.2.1", f), probe(f, 0)) for f in range(7)]


def test_runs_come_in_by_gro_and_leave_by_gso(relay, sink):
    relay.socket.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
    segments = [
        datagram(*(record(probe(flow, sequence)) for flow in range(7)), sequence=sequence)
        for sequence in range(9)
    ]
    size = struct.pack("=H", len(segments[0]))
    relay.socket.sendmsg([b"".join(segments)], [(socket.IPPROTO_UDP, UDP_SEGMENT, size)])
    echoed, joined = [], 0
    while len(echoed) < 63:
        data, ancillary, _, _ = relay.socket.recvmsg(65536, 64)
        step = struct.unpack("=i", ancillary[0][2])[0] if ancillary else len(data)
        joined = max(joined, -(-len(data) // step))
        for start in range(0, len(data), step):
            echoed += [each[3] for each in records(data[start : start + step]) if not each[0] & CONTROL]
    assert echoed == [probe(flow, sequence) for sequence in range(9) for flow in range(7)]
    assert joined > 1
    assert sink.counters()["gaps"] == 0


def test_what_does_not_parse_is_counted_and_nothing_else(relay, sink):
    for bad in (
        b"FT\x01",
        b"FT\x02\x00" + bytes(8),
        b"FT\x01\x01" + bytes(40),  # tagged, on a link without a key
        datagram(record(probe(0, 0))[:-1]),
        datagram(record(probe(0, 0), flags=0x80)),
    ):
        relay.socket.send(bad)
    relay.socket.send(datagram(record(probe(1, 0)), sequence=5))
    assert relay.receive()[0][3] == probe(1, 0)
    assert sink.counters()["bad"] == 5
    assert sink.arrivals.counters() == {"received": 1, "duplicates": 0, "strangers": 0}


def test_missing_sequences_of_the_trunk_are_counted(relay, sink):
    for sequence in (0, 1, 5, 3):
        relay.socket.send(datagram(record(probe(0, sequence)), sequence=sequence))
        relay.receive()
    assert sink.counters()["gaps"] == 2  # 2 and 4


class Shim:
    """The least a trunk relay can be: no table, one ingress, one record a datagram."""

    def __init__(self, sink_port):
        self.clients = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.clients.bind(("127.0.0.1", 0))
        self.trunk = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.trunk.connect(("127.0.0.1", sink_port))
        self.threads = [threading.Thread(target=self.up), threading.Thread(target=self.down)]
        self.stopping = False
        for sock in (self.clients, self.trunk):
            sock.settimeout(0.05)
            # By rate nobody waits for a shim: all that is sent while it is not run has to find room.
            option = SO_RCVBUFFORCE if os.geteuid() == 0 else socket.SO_RCVBUF
            sock.setsockopt(socket.SOL_SOCKET, option, ROOM_BYTES)
        for thread in self.threads:
            thread.start()

    def pump(self, step):
        while not self.stopping:
            try:
                step()
            except TimeoutError:
                continue

    def up(self):
        sequence = iter(range(1 << 32))

        def step():
            data, client = self.clients.recvfrom(2048)
            self.trunk.send(datagram(record(data, client=client), sequence=next(sequence)))

        self.pump(step)

    def down(self):
        def step():
            for flags, _, client, payload in records(self.trunk.recv(65536)):
                if not flags & CONTROL:
                    self.clients.sendto(payload, client)

        self.pump(step)

    def close(self):
        self.stopping = True
        for thread in self.threads:
            thread.join(timeout=5)
        self.clients.close()
        self.trunk.close()


@pytest.mark.parametrize("echo", [False, True])
def test_generator_to_trunk_sink_loses_nothing(sink, acknowledged, echo):
    shim = Shim(sink.port)
    ufrags = [b"flow%04d" % flow for flow in range(FLOWS)]
    generator = Generator(shim.clients.getsockname(), ufrags, run=RUN, acknowledged=acknowledged)
    try:
        assert generator.setup(timeout_ms=5000) == FLOWS
        generator.run(echo=echo, limit=5_000, duration_ms=10_000, window=64)
        assert generator.counters()["sent"] == 5_000
        assert sink.arrivals.counters() == {"received": 5_000, "duplicates": 0, "strangers": 0}
        if echo:
            assert generator.echoes.counters() == {"received": 5_000, "duplicates": 0, "strangers": 0}
            assert generator.counters()["misrouted"] == 0
    finally:
        generator.close()
        shim.close()


@pytest.fixture
def idle():
    """A sink that nobody serves yet."""
    sink = TrunkSink(("127.0.0.1", 0), flows=FLOWS, run=RUN)
    yield sink
    sink.close()


@pytest.mark.parametrize("speed", [{"rate_pps": 10_000}, {"window": 64}], ids=["rate", "window"])
def test_probes_of_its_own_reach_each_flow_by_its_relay(idle, speed):
    returned = bytearray(8)
    shims = [Shim(idle.port), Shim(idle.port)]
    names = [shims[flow % 2].clients.getsockname() for flow in range(FLOWS)]
    generator = Generator(names, [b"flow"] * FLOWS, run=RUN, returned=returned)
    serving = threading.Thread(target=idle.run)
    serving.start()
    assert generator.setup() == FLOWS
    idle.stop()
    serving.join(timeout=5)
    receiving = threading.Thread(target=generator.receive, kwargs={"duration_ms": 20_000})
    receiving.start()
    try:
        idle.send(limit=2_000, duration_ms=10_000, acknowledged=returned, size_spread=24, **speed)
        assert idle.counters()["sent"] == 2_000
        assert generator.echoes.counters() == {"received": 2_000, "duplicates": 0, "strangers": 0}
        assert generator.counters()["misrouted"] == 0
        assert {idle.sent(flow) for flow in range(FLOWS)} == {40}
    finally:
        generator.stop()
        receiving.join(timeout=5)
        generator.close()
        for shim in shims:
            shim.close()


def test_pings_are_answered_while_it_sends(idle):
    relay = Relay(idle)
    relay.socket.send(
        datagram(record(binding_request(b"ufrg", struct.pack("=I", 3) + bytes(8), b"password")))
    )
    serving = threading.Thread(target=idle.run)
    serving.start()
    relay.receive()
    idle.stop()
    serving.join(timeout=5)
    sending = threading.Thread(target=idle.send, kwargs={"rate_pps": 1_000, "duration_ms": 10_000})
    sending.start()
    relay.socket.send(datagram(record(PING + bytes(11), flags=CONTROL, client=("0.0.0.0", 0)), sequence=1))
    seen = []
    while not any(flags & CONTROL for flags, *_ in seen) or len(seen) < 10:
        seen += relay.receive()
    idle.stop()
    sending.join(timeout=5)
    relay.socket.close()
    probes = [(client, struct.unpack_from("=I", data, 8)[0]) for flags, _, client, data in seen if not flags]
    assert set(probes) == {(("127.0.0.9", 4000), 3)}


def test_what_cannot_be_sent_is_refused(idle):
    with pytest.raises(ValueError, match="downwards needs `acknowledged`"):
        idle.send()
    with pytest.raises(ValueError, match="no flow is open"):
        idle.send(rate_pps=1000)


@pytest.fixture
def keyed(acknowledged):
    sink = TrunkSink(("127.0.0.1", 0), flows=FLOWS, run=RUN, acknowledged=acknowledged, key=KEY, key_id=2)
    thread = threading.Thread(target=sink.run, kwargs={"echo": True, "duration_ms": 20_000})
    thread.start()
    relay = Relay(sink)
    yield sink, relay.socket
    relay.socket.close()
    sink.stop()
    thread.join(timeout=5)
    sink.close()


def tagged(*payloads, key=KEY, key_id=2):
    head = wire.Header(epoch=1, sequence=0, tagged=True, key_id=key_id)
    made = [wire.Record(payload, Endpoint.parse("127.0.0.9:4000")) for payload in payloads]
    return wire.build_datagram(head, made, wire.direction_key(key, "up"))


def next_echo(relay, key=KEY):
    """Header and records of the next datagram that is no state record; its tag must hold. State records come
    when they like."""
    while True:
        data = relay.recv(65536)
        found = list(wire.parse_records(data[:-16]))
        if not found[0].control:
            assert wire.tag_holds(wire.direction_key(key, "down"), data)
            return wire.parse_header(data), found


def test_a_keyed_link_is_tagged_both_ways_with_a_key_a_direction(keyed):
    sink, relay = keyed
    relay.send(tagged(probe(1, 0)))
    header, found = next_echo(relay)
    assert (header.tagged, header.key_id) == (True, 2)
    assert [each.payload for each in found] == [probe(1, 0)]
    assert sink.counters()["bad"] == 0


def test_a_keyed_link_believes_nothing_else(keyed):
    sink, relay = keyed
    right = tagged(probe(1, 0))
    for wrong in (
        datagram(record(probe(1, 0))),
        right[:-1] + bytes([right[-1] ^ 1]),
        tagged(probe(1, 0), key=bytes(16)),
        tagged(probe(1, 0), key_id=1),
    ):
        relay.send(wrong)
    relay.send(right)
    next_echo(relay)
    assert sink.counters()["bad"] == 4
    assert sink.arrivals.counters()["received"] == 1


def test_a_key_is_replaced_while_it_runs(keyed):
    sink, relay = keyed
    new = bytes(range(50, 66))
    sink.learn_key(1, new)
    relay.send(tagged(probe(1, 0), key=new, key_id=1))
    assert next_echo(relay)[0].key_id == 2  # believes both, still signs with the old one
    sink.sign_with(1)
    relay.send(tagged(probe(1, 1)))
    assert next_echo(relay, new)[0].key_id == 1
    sink.forget_key(2)
    relay.send(tagged(probe(1, 2)))
    relay.send(tagged(probe(1, 3), key=new, key_id=1))
    assert [each.payload for each in next_echo(relay, new)[1]] == [probe(1, 3)]
    assert sink.counters()["bad"] == 1


def test_a_key_that_is_in_use_or_unknown(keyed):
    sink, _ = keyed
    with pytest.raises(ValueError, match="key 2 signs what is sent"):
        sink.forget_key(2)
    with pytest.raises(ValueError, match="key 3 is not known"):
        sink.sign_with(3)
    with pytest.raises(ValueError, match=r"key id 4: choose 0\.\.3"):
        sink.learn_key(4, KEY)


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        TrunkSink(("127.0.0.1", 0), key=bytes(15))
