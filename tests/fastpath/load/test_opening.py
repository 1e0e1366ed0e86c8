"""Opening flows at a speed: against the sink, and against one that answers as a test wants."""

import socket
import struct
import threading
import time

import pytest
from fastpath.load.generator import Generator
from fastpath.load.sink import Sink

FLOWS = 3000


@pytest.fixture
def sink():
    sink = Sink(("127.0.0.1", 0), flows=FLOWS)
    thread = threading.Thread(target=sink.run, kwargs={"duration_ms": 20_000})
    thread.start()
    yield sink
    sink.stop()
    thread.join(timeout=5)
    assert not thread.is_alive()
    sink.close()


def opened_by(port, flows=FLOWS, **settings):
    return Generator(("127.0.0.1", port), [b"u%05d" % flow for flow in range(flows)], **settings)


@pytest.mark.parametrize("speed", [{"rate_pps": 20_000}, {"window": 100}])
@pytest.mark.parametrize("sockets", [1, 5])
def test_every_flow_is_opened_once_and_timed(sink, speed, sockets):
    generator = opened_by(sink.port, sockets=sockets)
    assert generator.open_at(duration_ms=5_000, **speed) == FLOWS
    counters = generator.setup_counters()
    assert (counters["sent"], counters["confirmed"]) == (FLOWS, FLOWS)
    assert FLOWS <= sink.counters()["requests"] <= FLOWS + counters["retried"]
    assert sum(count for _, count in generator.setup_histogram()) == FLOWS
    assert 0 < generator.setup_latency_ns(0.5) <= generator.setup_latency_ns(1.0)
    generator.close()


def test_the_next_run_goes_on_where_the_last_one_ended(sink):
    generator = opened_by(sink.port, sockets=3)
    assert generator.open_at(limit=1000, rate_pps=100_000) == 1000
    assert generator.open_at(limit=1000, rate_pps=100_000) == 1000
    assert generator.open_at(rate_pps=100_000) == FLOWS - 2000
    assert generator.open_at(rate_pps=100_000) == 0
    assert generator.setup_counters()["sent"] == FLOWS
    generator.close()


def test_a_rate_ends_with_its_duration(sink):
    generator = opened_by(sink.port)
    begun_s = time.monotonic()
    confirmed = generator.open_at(rate_pps=1000, duration_ms=100)
    assert time.monotonic() - begun_s < 5
    assert confirmed <= 101
    assert generator.setup_counters()["sent"] == confirmed
    generator.close()


class Deaf(threading.Thread):
    """Answers a flow's request only from the `ear`-th on, or with what `change` makes of the answer."""

    def __init__(self, ear, change=lambda answer: answer):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.05)
        self.ear, self.change, self.heard, self.stopping = ear, change, {}, False

    def run(self):
        while not self.stopping:
            try:
                data, client = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            requests = self.heard.setdefault(struct.unpack_from("=I", data, 8)[0], [])
            requests.append(data)
            if len(requests) >= self.ear:
                self.socket.sendto(self.change(b"\x01\x01\x00\x00" + data[4:20]), client)


@pytest.fixture
def deaf():
    made = []

    def start(*arguments):
        made.append(Deaf(*arguments))
        made[0].start()
        return made[0], made[0].socket.getsockname()[1]

    yield start
    made[0].stopping = True
    made[0].join(timeout=5)
    made[0].socket.close()


@pytest.mark.parametrize("speed", [{"rate_pps": 5000}, {"window": 16}])
def test_who_gets_no_answer_is_asked_again_with_the_same_request(deaf, speed):
    relay, port = deaf(3)
    generator = opened_by(port, 50, sockets=2)
    assert generator.open_at(retry_ms=30, drain_ms=4000, **speed) == 50
    assert generator.setup_counters()["retried"] >= 100
    assert generator.setup_latency_ns(0.1) >= 55_000_000  # from the first intention
    assert all(set(requests) == {requests[0]} for requests in relay.heard.values())
    generator.close()


@pytest.mark.parametrize(
    "change",
    [
        lambda answer: answer[:-1] + bytes([answer[-1] ^ 1]),  # another's transaction
        lambda answer: answer[:8] + struct.pack("=I", 7) + answer[12:],  # a flow there is not
        lambda answer: b"\x01\x11" + answer[2:],  # an error response
        lambda answer: answer[:19],
    ],
    ids=["transaction", "flow", "error", "short"],
)
def test_what_is_no_answer_confirms_nothing(deaf, change):
    _, port = deaf(1, change)
    generator = opened_by(port, 5)
    assert generator.open_at(duration_ms=100, drain_ms=100) == 0
    assert generator.setup(timeout_ms=100) == 0
    assert generator.setup_latency_ns(1.0) == 0
    generator.close()


def test_setup_asks_only_who_is_not_confirmed(sink):
    generator = opened_by(sink.port)
    generator.open_at(limit=2000, rate_pps=200_000)
    first = sink.counters()["requests"]
    assert generator.setup() == FLOWS
    assert sink.counters()["requests"] - first < 2000
    assert generator.setup() == FLOWS
    generator.close()
