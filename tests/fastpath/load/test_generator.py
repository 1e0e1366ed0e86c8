"""The generator straight to the sink, no relay between: what it claims to measure must come out exact."""

import select
import socket
import struct
import threading
import time
import zlib

import pytest
from fastpath.load.generator import Generator, binding_request
from fastpath.load.sink import Sink

FLOWS = 100
IP_PKTINFO = 8


@pytest.fixture
def acknowledged():
    return bytearray(8)


@pytest.fixture
def sink(acknowledged):
    sink = Sink(("127.0.0.1", 0), flows=FLOWS, run=7, acknowledged=acknowledged)
    yield sink
    sink.close()


@pytest.fixture
def generator(sink, acknowledged):
    ufrags = [b"flow%04d" % flow for flow in range(FLOWS)]
    generator = Generator(("127.0.0.1", sink.port), ufrags, sockets=3, run=7, acknowledged=acknowledged)
    yield generator
    generator.close()


@pytest.fixture
def serving(sink):
    """Runs the sink in a thread; the echo flag is its argument."""
    threads = []

    def start(*, echo):
        threads.append(threading.Thread(target=sink.run, kwargs={"echo": echo, "duration_ms": 20_000}))
        threads[0].start()

    yield start
    sink.stop()
    threads[0].join(timeout=5)
    assert not threads[0].is_alive()


def test_setup_confirms_every_flow(generator, sink, serving):
    serving(echo=False)
    assert generator.setup(timeout_ms=5000) == FLOWS
    assert sink.counters()["requests"] >= FLOWS


def test_setup_reports_flows_that_nobody_answers(generator):
    assert generator.setup(timeout_ms=250) == 0


@pytest.mark.parametrize("rate_pps", [0, 20_000])
def test_up_loses_nothing(generator, sink, serving, rate_pps):
    serving(echo=False)
    generator.setup()
    generator.run(limit=20_000, duration_ms=10_000, rate_pps=rate_pps)
    assert generator.counters()["sent"] == 20_000
    assert generator.counters()["written_off"] == 0
    assert sink.arrivals.counters() == {"received": 20_000, "duplicates": 0, "strangers": 0}
    assert sink.arrivals.reordered() == 0
    for flow in range(FLOWS):
        assert sink.arrivals.flow(flow)["received"] == generator.sent(flow) > 0, flow


@pytest.mark.parametrize("rate_pps", [0, 20_000])
def test_echo_loses_nothing_and_comes_back_to_its_own_address(generator, sink, serving, rate_pps):
    serving(echo=True)
    generator.setup()
    generator.run(echo=True, limit=20_000, duration_ms=10_000, rate_pps=rate_pps)
    assert generator.echoes.counters() == {"received": 20_000, "duplicates": 0, "strangers": 0}
    assert generator.counters()["misrouted"] == 0
    assert generator.echoes.reordered() == 0
    assert 0 < generator.echoes.latency_ns(0.5) <= generator.echoes.latency_ns(0.999)


def test_a_window_counts_only_its_own_run(generator, sink, serving):
    """Probes of an earlier run up never come back: they must not fill the window of an echo run."""
    serving(echo=True)
    generator.setup()
    generator.run(limit=3_000, duration_ms=10_000)
    up = generator.echoes.counters()["received"]
    generator.run(echo=True, limit=3_000, duration_ms=10_000)
    assert generator.counters()["written_off"] == 0
    assert generator.counters()["sent"] == 6_000
    assert generator.echoes.counters()["received"] >= up + 3_000


def test_every_flow_is_a_client_address_of_its_own(generator, sink):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.bind(("127.0.0.1", 0))
        relay.settimeout(0.2)
        ufrags = [b"flow%04d" % flow for flow in range(FLOWS)]
        direct = Generator(relay.getsockname(), ufrags, sockets=3, first_source="127.9.0.250")
        direct.setup(timeout_ms=350)
        seen = {}
        while len(seen) < FLOWS:
            data, client = relay.recvfrom(2048)
            seen[data[24:32]] = client
        assert len(set(seen.values())) == FLOWS
        assert seen[b"flow0000"][0] == "127.9.0.250"
        assert seen[b"flow0099"][0] == "127.9.1.27"
        direct.close()


def test_a_schedule_is_kept_to_the_datagram(generator, sink, serving):
    serving(echo=False)
    generator.run(rate_pps=10_000, limit=1_234, duration_ms=5_000)
    assert generator.counters()["sent"] == 1_234


def test_loss_does_not_hang_a_windowed_run(generator):
    generator.run(
        limit=2_000, duration_ms=3_000, drain_ms=10
    )  # the sink is not served: nothing is acknowledged
    assert generator.counters()["written_off"] > 0
    assert generator.counters()["sent"] > 512


def test_a_refused_datagram_ends_the_run_with_the_reason(sink, acknowledged):
    elsewhere = Generator(
        ("127.0.0.1", sink.port), [b"flow"], first_source="192.0.2.1", acknowledged=acknowledged
    )
    with pytest.raises(OSError, match="the kernel refused a probe"):
        elsewhere.run(duration_ms=1000)
    elsewhere.close()


def test_stop_ends_a_run_of_another_thread(generator, sink, serving):
    serving(echo=False)
    thread = threading.Thread(target=generator.run, kwargs={"duration_ms": 15_000, "rate_pps": 1000})
    thread.start()
    generator.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()


def test_a_flow_can_have_a_target_of_its_own():
    """A relay that gives every call a port: each probe must reach its flow's."""
    relays = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
    for relay in relays:
        relay.bind(("127.0.0.1", 0))
        relay.settimeout(2)
    names = [relay.getsockname() for relay in relays]
    generator = Generator(names, [b"aaaa", b"bbbb", b"cccc", b"dddd"])
    generator.run(rate_pps=10_000, limit=8, duration_ms=5_000, drain_ms=0)
    for flow, relay in enumerate(relays):
        assert [struct.unpack_from("=I", relay.recv(2048), 8)[0] for _ in range(2)] == [flow, flow]
        relay.close()
    generator.close()


def test_sizes_vary_the_same_in_every_run(sink, acknowledged):
    def sizes():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
            relay.bind(("127.0.0.1", 0))
            relay.settimeout(2)
            made = Generator(relay.getsockname(), [b"aaaa", b"bbbb"], size_bytes=172, size_spread=24)
            made.run(rate_pps=100_000, limit=120, duration_ms=5_000, drain_ms=0)
            made.close()
            return [len(relay.recv(2048)) for _ in range(120)]

    first = sizes()
    assert 148 <= min(first) < 155
    assert 189 < max(first) <= 196
    assert len(set(first)) > 30
    assert sizes() == first


class Turn(threading.Thread):
    """A TURN server of one run: strips number and length towards the sink, puts them before what returns."""

    def __init__(self, sink_port, numbers, changed=lambda number: number):
        super().__init__(daemon=True)
        self.clients = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.clients.bind(("127.0.0.1", 0))
        self.sink = ("127.0.0.1", sink_port)
        self.numbers, self.changed, self.bindings, self.stopping = numbers, changed, {}, False

    def run(self):
        while not self.stopping:
            ready, _, _ = select.select([self.clients, *self.bindings], [], [], 0.05)
            for sock in ready:
                data, sender = sock.recvfrom(4096)
                if sock is self.clients:
                    self.up(data, sender)
                else:
                    client, number = self.bindings[sock]
                    self.clients.sendto(struct.pack("!HH", self.changed(number), len(data)) + data, client)

    def up(self, data, client):
        number, length = struct.unpack_from("!HH", data)
        assert number in self.numbers
        assert length == len(data) - 4
        upstream = next((sock for sock, known in self.bindings.items() if known == (client, number)), None)
        if upstream is None:
            upstream = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.bindings[upstream] = (client, number)
        upstream.sendto(data[4:], self.sink)

    def end(self):
        self.stopping = True
        self.join(timeout=5)
        for sock in (self.clients, *self.bindings):
            sock.close()


@pytest.fixture
def turn(sink):
    made = []

    def start(changed=lambda number: number):
        numbers = [0x4000 + flow for flow in range(8)]
        made.append(Turn(sink.port, numbers, changed))
        made[0].start()
        return made[0].clients.getsockname(), numbers

    yield start
    made[0].end()


def test_turn_framing_goes_out_and_comes_back(turn, serving, acknowledged):
    serving(echo=True)
    relay, numbers = turn()
    generator = Generator(
        relay,
        [b"flow"] * 8,
        sockets=2,
        run=7,
        turn_numbers=numbers,
        size_spread=20,
        acknowledged=acknowledged,
    )
    assert generator.setup() == 8
    generator.run(echo=True, limit=500, duration_ms=5_000, window=64)
    assert generator.echoes.counters() == {"received": 500, "duplicates": 0, "strangers": 0}
    assert generator.counters()["misrouted"] == 0
    generator.close()


def test_another_flows_turn_number_is_misrouted(turn, serving):
    serving(echo=True)
    relay, numbers = turn(lambda number: number ^ 1)
    generator = Generator(relay, [b"flow"] * 8, run=7, turn_numbers=numbers)
    generator.run(echo=True, limit=100, duration_ms=5_000, window=64)
    assert generator.counters()["misrouted"] == 100
    generator.close()


def arrived(relay, count, ours):
    """So many of ours, and who sent them. The port may have been that of another test's relay, which somebody
    still sends to."""
    found, deadline_s = {}, time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < deadline_s, f"only {len(found)} of {count} arrived"
        data, client = relay.recvfrom(2048)
        if ours(data):
            found[data] = client
    return found


def test_a_set_up_of_its_own_uses_the_flows_socket_and_address():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as relay:
        relay.bind(("127.0.0.1", 0))
        relay.settimeout(2)
        generator = Generator(relay.getsockname(), [b"aaaa"] * 4, sockets=2, first_source="127.8.0.1", run=7)
        sock, source = generator.socket_of(3)
        assert source == "127.8.0.2"
        pktinfo = struct.pack("=I4s4s", 0, socket.inet_aton(source), bytes(4))
        sock.sendmsg([b"allocate"], [(socket.IPPROTO_IP, IP_PKTINFO, pktinfo)], 0, relay.getsockname())
        (client,) = arrived(relay, 1, lambda data: data == b"allocate").values()
        generator.run(rate_pps=10_000, limit=40, duration_ms=10_000, drain_ms=0)
        probes = arrived(relay, 40, lambda data: data[12:16] == struct.pack("=I", 7))
        assert {name for probe, name in probes.items() if probe[8:12] == struct.pack("=I", 3)} == {client}
        generator.close()


def test_flows_opened_elsewhere_need_no_set_up():
    generator = Generator(("127.0.0.1", 9), [b"aaaa"] * 4)
    generator.mark_confirmed()
    assert generator.setup(timeout_ms=50) == 4
    generator.close()


def test_a_window_without_a_count_of_arrivals_is_refused():
    generator = Generator(("127.0.0.1", 9), [b"aaaa"])
    with pytest.raises(ValueError, match="acknowledged"):
        generator.run()
    generator.close()


def test_the_binding_request_is_real_stun():
    message = binding_request(b"ufrg", bytes(range(12)), b"password")
    kind, length, cookie = struct.unpack_from("!HHI", message)
    assert (kind, length, cookie) == (1, len(message) - 20, 0x2112A442)
    assert message[20:34] == b"\x00\x06\x00\x0aufrg:bench"
    (fingerprint,) = struct.unpack("!I", message[-4:])
    assert fingerprint == zlib.crc32(message[:-8]) ^ 0x5354554E
