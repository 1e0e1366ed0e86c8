"""What arrived at one end of a load run, and what others may read of it."""

import pytest
from fastpath._testing.load import arrive, build_probe
from fastpath.load.arrivals import Arrivals

RUN = 9


def test_arrivals_are_counted_by_flow_and_published():
    acknowledged = bytearray(8)
    arrivals = Arrivals(3, RUN, acknowledged)
    for flow, sequence in ((0, 0), (2, 0), (2, 2), (2, 1), (2, 1)):
        assert arrive(arrivals, build_probe(flow, RUN, sequence, 1000), 3000)
    assert arrivals.counters() == {"received": 4, "duplicates": 1, "strangers": 0}
    assert arrivals.flow(0) == {"next": 1, "received": 1, "duplicates": 0, "reordered": 0}
    assert arrivals.flow(1) == {"next": 0, "received": 0, "duplicates": 0, "reordered": 0}
    assert arrivals.flow(2) == {"next": 3, "received": 3, "duplicates": 1, "reordered": 1}
    assert arrivals.reordered() == 1
    assert int.from_bytes(acknowledged, "little") == 4


@pytest.mark.parametrize("stranger", [b"", build_probe(3, RUN, 0, 0), build_probe(0, RUN + 1, 0, 0)])
def test_strangers_are_counted_apart(stranger):
    arrivals = Arrivals(3, RUN)
    assert not arrive(arrivals, stranger, 1)
    assert arrivals.counters() == {"received": 0, "duplicates": 0, "strangers": 1}


def test_latency_counts_first_arrivals_only():
    arrivals = Arrivals(1, RUN)
    arrive(arrivals, build_probe(0, RUN, 0, 1000), 1020)
    for _ in range(5):
        arrive(arrivals, build_probe(0, RUN, 0, 1000), 9000)
    assert arrivals.latency_ns(1.0) == 20
    arrivals.forget_latency()
    assert arrivals.latency_ns(1.0) == 0


def test_the_histogram_holds_what_the_quantiles_are_of():
    arrivals = Arrivals(1, RUN)
    for sequence, latency_ns in enumerate([7, 7, 7, 1000, 50_000]):
        arrive(arrivals, build_probe(0, RUN, sequence, 100), 100 + latency_ns)
    assert arrivals.histogram() == [(7, 3), (992, 1), (49_152, 1)]
    assert [arrivals.latency_ns(quantile) for quantile in (0.6, 0.8, 1.0)] == [7, 992, 49_152]
    arrivals.forget_latency()
    assert arrivals.histogram() == []


def test_a_flow_that_does_not_exist_is_an_index_error():
    with pytest.raises(IndexError, match="flow 1 of 1"):
        Arrivals(1, RUN).flow(1)


def test_no_flow_makes_every_probe_a_stranger():
    arrivals = Arrivals(0, RUN)
    assert not arrive(arrivals, build_probe(0, RUN, 0, 0), 1)
