"""One measurement: generator and sink in a network, somebody between them or nobody."""

import os
import socket
import threading
from contextlib import closing, contextmanager

import pytest

from bench.contestants import Running
from bench.load import CURVE, Load, Shape, Traffic
from bench.topology import Topology, topology
from tests.support.require import require

FLOWS = Traffic(flows=20)
UP, BOTH = Shape("up", echo=False, rate_pps=2000), Shape("both", echo=True, rate_pps=2000)


@contextmanager
def alone(there, traffic=FLOWS):
    with closing(Load("plain", there, traffic, alone=True)) as load:
        load.open_flows(Running(load.backend, 0))
        yield load


@pytest.mark.parametrize("name", ["loopback", "inline"])
def test_without_a_relay_everything_arrives(name):
    if name != "loopback":
        require("root", "namespaces")
    with topology(name) as there, alone(there) as load:
        for shape in (UP, BOTH, Shape("flood", echo=False)):
            sample = load.measure(shape, None, warmup_s=0.1, measure_s=0.3)
            assert sample.forwarded > 100
            assert (sample.lost, sample.duplicates, sample.misrouted, sample.reordered) == (0, 0, 0, 0)
            assert sample.cpu_ns == 0
            assert sample.curve_us == []
            assert sample.sent >= sample.sent_pps * sample.seconds


def test_both_ways_count_a_datagram_in_each_direction():
    with alone(Topology("loopback")) as load:
        sample = load.measure(BOTH, None, warmup_s=0.1, measure_s=0.4).as_dict()
    assert sample["forwarded_pps"] > 1.2 * sample["sent_pps"]  # about 2; a busy machine reads them apart


def test_latency_comes_as_a_curve_where_nobody_naps():
    with alone(Topology("loopback")) as load:
        sample = load.measure(Shape("up", echo=False, rate_pps=2000, naps=False), None, 0.1, 0.3)
    assert len(sample.curve_us) == len(CURVE)
    assert sample.curve_us == sorted(sample.curve_us)
    assert sample.p50_us == sample.curve_us[CURVE.index(0.5)]


def test_the_cpu_of_a_process_or_of_its_whole_core():
    with alone(Topology("loopback")) as load:
        stop = threading.Event()
        thread = threading.Thread(target=lambda: [None for _ in iter(stop.is_set, True)])
        thread.start()
        try:
            sample = load.measure(UP, os.getpid(), warmup_s=0.1, measure_s=0.3)
        finally:
            stop.set()
            thread.join()
    assert sample.cpu_ns > 0
    assert sample.others_share is not None
    with alone(Topology("loopback", clock="core")) as load:
        sample = load.measure(UP, None, warmup_s=0.1, measure_s=0.3)
    assert sample.cpu_ns > 0
    assert sample.others_share is None


def test_sizes_may_vary():
    with alone(Topology("loopback"), Traffic(flows=20, size_spread_bytes=24)) as load:
        sample = load.measure(UP, None, warmup_s=0.1, measure_s=0.3)
        assert sample.forwarded > 0
        counters = load.sink.counters()
    assert counters["bytes"] % 172 != 0


def test_flows_nobody_answers_are_an_error_and_everything_ends():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        threads = threading.active_count()
        load = Load("trunk", Topology("loopback"), FLOWS)
        with closing(load), pytest.raises(RuntimeError, match="only 0 of 20 flows"):
            load.open_flows(Running(silent.getsockname(), 0), timeout_ms=200)
        assert threading.active_count() == threads


def test_closing_in_the_middle_of_a_workload_ends_it():
    threads = threading.active_count()
    load = Load("plain", Topology("loopback"), FLOWS, alone=True)
    load.open_flows(Running(load.backend, 0))
    load._serve(echo=False, nap_us=0)
    load._sending = threading.Thread(target=load._generate, args=(UP, 60))
    load._sending.start()
    load.close()
    assert threading.active_count() == threads
