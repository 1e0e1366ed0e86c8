"""The load against its own sink and through a relay: what is sent is counted, once and where it belongs."""

import socket

import pytest

from pyfastpath.errors import SocketError
from pyfastpath.tools.bench.load import Load
from pyfastpath.tools.bench.meter import Glance, Work
from pyfastpath.tools.bench.opening import measure_opening
from pyfastpath.tools.bench.options import Part
from pyfastpath.tools.bench.streams import Crowd

LOOPBACK = ("127.0.0.1", 0)
MIX = (Part(172, 0, 0.75), Part(600, 0, 0.25))


@pytest.fixture
def load():
    """40 sessions of two sizes, straight to their sinks."""
    made = Load(MIX, 40, "plain", LOOPBACK)
    made.aim(made.backends, [f"ufrag{number:03d}" for number in range(40)], Crowd("127.1.0.1", 1), {})
    yield made
    made.close()


def test_a_mix_is_a_stream_for_each_size_with_clients_of_its_own(load):
    assert [stream.sessions for stream in load.streams] == [30, 10]
    assert len(set(load.backends)) == 2
    first, second = (stream.generator.clients for stream in load.streams)
    assert (first.source(0), first.source(29)) == ("127.1.0.1", "127.1.0.30")
    assert (second.source(0), second.source(9)) == ("127.1.0.31", "127.1.0.40")
    assert load.share(load.streams[0], 1000) + load.share(load.streams[1], 1000) == 1000
    assert load.share(load.streams[1], 0) == 0, "a flood stays one"
    assert load.share(load.streams[1], 1) == 1


@pytest.mark.parametrize("way", ["up", "down", "echo"])
@pytest.mark.parametrize("rate_pps", [0, 2000], ids=["flood", "schedule"])
def test_a_measurement(load, way, rate_pps):
    assert load.open(5) == 40
    seen: list[Glance] = []
    clock = iter(range(10_000))
    work = Work(
        way=way,
        rate_pps=rate_pps,
        seconds=0.5,
        warmup_s=0.1,
        cpu_ns=lambda: next(clock),
        watch=seen.append,
    )
    sample = load.run(work)
    assert sample.sent > 0
    assert sample.lost == sample.duplicates == sample.misrouted == sample.reordered == 0
    assert sample.forwarded == sample.sent * (2 if way == "echo" else 1)
    assert sample.latency.count == sample.sent, "the warm-up is in no histogram"
    assert sample.intervals
    assert sum(each.sent for each in sample.intervals) <= sample.sent
    assert sample.cpu_ns == sum(each.cpu_ns or 0 for each in sample.intervals) + 1
    assert seen[-1].sent > 0
    for stream in load.streams:
        assert stream.end(way).counters()["received"] > 0, "both sizes were sent"
    if rate_pps:
        assert sample.sent <= 0.5 * rate_pps + 2


def test_what_never_arrives_is_lost(load):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mute:
        mute.bind(LOOPBACK)
        targets = [load.backends[0], mute.getsockname()]
        load.aim(targets, [f"ufrag{number:03d}" for number in range(40)], Crowd("127.1.0.1", 1), {})
        assert load.open(0.5) == 30
        sample = load.run(Work(way="up", rate_pps=1000, seconds=0.4))
    assert sample.lost == pytest.approx(sample.sent / 4, rel=0.1)
    assert sample.forwarded == sample.sent - sample.lost


def test_sessions_are_opened_evenly():
    made = Load((Part(100),), 50, "plain", LOOPBACK)
    try:
        made.aim(made.backends, [f"ufrag{number:03d}" for number in range(50)], Crowd("127.1.0.1", 1), {})
        assert made.open(5, spread_s=0.3) == 50
        counters = made.streams[0].generator.setup_counters()
        assert counters["sent"] >= 45, "most of them on the schedule"
    finally:
        made.close()


@pytest.mark.parametrize(("rate_pps", "opened"), [(0, 400), (200, 61)], ids=["flood", "schedule"])
def test_opening_sessions_is_measured(rate_pps, opened):
    made = Load(MIX, 400, "plain", LOOPBACK)
    try:
        made.aim(made.backends, [f"ufrag{number:03d}" for number in range(400)], Crowd("127.1.0.1", 1), {})
        sample = measure_opening(made, Work(way="setup", rate_pps=rate_pps, seconds=0.3))
    finally:
        made.close()
    assert sample.forwarded == sample.sent == sample.latency.count
    assert sample.lost == 0
    assert 0 < sample.forwarded <= opened + 2
    assert sample.seconds <= 0.3
    if not rate_pps:
        assert sample.forwarded == 400
        assert sample.seconds < 0.3, "it ended when all of them were open"


def test_many_sessions_behind_few_addresses():
    made = Load((Part(100),), 20, "plain", LOOPBACK)
    try:
        made.aim(made.backends, [f"ufrag{number:03d}" for number in range(20)], Crowd("127.9.0.1", 8), {})
        clients = made.streams[0].generator.clients
        assert {clients.source(flow) for flow in range(20)} == {"127.9.0.1", "127.9.0.2", "127.9.0.3"}
        assert made.open(5) == 20
    finally:
        made.close()


def test_a_taken_address_is_one_sentence():
    made = Load((Part(100),), 1, "plain", LOOPBACK)
    try:
        with pytest.raises(SocketError, match=r"the sink cannot have 127\.0\.0\.1:\d+: Address already"):
            Load((Part(100),), 1, "plain", made.backends[0])
    finally:
        made.close()
