"""The generator straight to the sink, no relay between: what it claims to measure must come out exact."""

import socket
import struct
import threading
import zlib

import pytest
from fastpath.generator import Generator, binding_request
from fastpath.sink import Sink

FLOWS = 100


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


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"size_bytes": 31}, "size_bytes is 31"),
        ({"size_bytes": 2049}, "size_bytes is 2049"),
        ({"sockets": 0}, "0 sockets for 2 flows"),
        ({"sockets": 3}, "3 sockets for 2 flows"),
    ],
)
def test_impossible_settings_are_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        Generator(("127.0.0.1", 9), [b"aaaa", b"bbbb"], **change)


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
